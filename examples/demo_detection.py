"""The detection demo: `make demo-detection`, or `python examples/demo_detection.py`.

1. Writes images with COCO annotations. (demo_images.py)
2. Trains Mask R-CNN and Keypoint R-CNN on circles, squares and triangles, each without
   and with non-local blocks, and evaluates them.
3. Does the same for a task that needs the block: the class of a square is the colour
   of a disc at the other end of the image. Without a block, no feature of a square
   depends on the disc, whatever the weights: it is outside of the receptive field.
   `wide_keys` is the control with more parameters than `nl_keys`, but no block.
4. Draws what the networks with blocks detect.
5. Exports one of them and detects with the export. (detect_with_saved_model.py)

Every step is a command that is printed and can be run by hand. Finished steps are
kept in --output: a second run continues from there, also after a kill. Remove the
folder to start again. `--seeds 3` repeats steps 2 and 3 with other initial weights and
data orders.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import time

from demo import ROOT, StepFailed, Steps, overrides, relative, run_command

CONFIGS = ROOT / "configs/demo_detection"
NETWORKS = (
    "mask_rcnn",
    "nl_mask_rcnn",
    "keypoint_rcnn",
    "nl_keypoint_rcnn",
    "keys",
    "wide_keys",
    "nl_keys",
)
METRICS = ("box_AP", "box_AP50", "mask_AP", "keypoint_AP")
DRAWN = ("nl_mask_rcnn", "nl_keypoint_rcnn", "nl_keys")
NUM_PICTURES = 8
TRAINER = "trainers/detection.py"


@dataclasses.dataclass
class Run:
    """One training: a network, with one seed."""

    network: str
    seed: int
    output: pathlib.Path
    key: str = ""

    @property
    def folder(self) -> pathlib.Path:
        return self.output / f"seed{self.seed}" / self.network

    @property
    def task(self) -> str:
        return "keys" if "keys" in self.network else "shapes"

    @property
    def metrics(self) -> dict:
        path = self.folder / "eval_results.json"
        return json.loads(path.read_text(encoding="utf-8"))


def demo(output: pathlib.Path, networks, num_seeds: int, configs, image_options=()):
    """Runs all steps; prints the average precisions.

    Args:
        output: Folder of all results.
        networks: Names of configs.
        num_seeds: How often each is trained.
        configs: Folder of the configs.
        image_options: Flags of demo_images.py.
    """
    output.mkdir(parents=True, exist_ok=True)
    steps = Steps(output / "steps.json")
    images = output / "images"
    sources = [ROOT / "examples/demo_images.py", ROOT / "trainers/detection/shapes.py"]
    command = ["examples/demo_images.py", relative(images), *image_options]
    key = steps.run("Write images", command, images, sources)
    runs = [
        train_and_evaluate(
            steps, Run(network, seed, output), configs / f"{network}.yaml", images, key
        )
        for seed in range(num_seeds)
        for network in networks
    ]
    print(f"\n== Average precision on unseen images\n{table(runs)}")
    for run in runs:
        if run.seed == 0 and run.network in DRAWN:
            draw(steps, run, images)
    serve(
        steps, next((r for r in runs if r.network == "nl_mask_rcnn"), runs[0]), images
    )


def train_and_evaluate(steps, run, config, images, key) -> Run:
    """Trains a network, and evaluates it on the images for validation."""
    values = {"runtime.seed": run.seed}
    file = "keypoints" if "keypoint" in run.network else "instances"
    for split, folder in (("train", "train"), ("validation", "val")):
        data = images / run.task / folder
        values[f"task.{split}_data.input_path"] = relative(data / "images")
        annotations = relative(data / f"{file}.json")
        values[f"task.{split}_data.annotation_file"] = annotations
    command = [TRAINER, "--mode", "train_and_eval", "--config", relative(config)]
    command += ["--model_dir", relative(run.folder), *overrides(values)]
    name = f"{run.network}, seed {run.seed}"
    run.key = steps.run(f"Train {name}", command, run.folder, [key, config])
    return run


def draw(steps, run, images):
    """Pictures of what a network detects."""
    pictures = run.output / "pictures" / run.network
    command = [TRAINER, "--mode", "predict", "--model_dir", relative(run.folder)]
    command += ["--output_dir", relative(pictures), *some_images(run, images)]
    steps.run(f"Draw detections of {run.network}", command, pictures, [run.key])


def serve(steps, run, images):
    """Exports a network and detects with the export, without Keras."""
    export = run.output / "export"
    command = [TRAINER, "--mode", "export", "--model_dir", relative(run.folder)]
    command += ["--export_dir", relative(export)]
    steps.run(f"Export {run.network}", command, export, [run.key])
    print("\n== Detect objects in unseen images with the exported network")
    script = "examples/detect_with_saved_model.py"
    run_command([script, relative(export), *some_images(run, images)[:3]])


def some_images(run, images) -> list[str]:
    """Images for validation."""
    found = sorted((images / run.task / "val/images").iterdir())
    return [relative(path) for path in found[:NUM_PICTURES]]


def table(runs) -> str:
    """Metrics by network and seed, as Markdown, in percent."""
    rows = [["network", "seed", *METRICS]]
    for run in sorted(runs, key=lambda run: NETWORKS.index(run.network)):
        found = [run.metrics.get(name) for name in METRICS]
        cells = ["" if value is None else f"{100 * value:.1f}" for value in found]
        rows.append([run.network, str(run.seed), *cells])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    output = ROOT / "demo_detection"
    parser.add_argument("--output", type=pathlib.Path, default=output)
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=NETWORKS)
    options = parser.parse_args(arguments)
    if options.seeds < 1:
        parser.error(f"argument --seeds: invalid count, at least 1: {options.seeds}")
    start = time.monotonic()
    try:
        demo(options.output.resolve(), options.networks, options.seeds, CONFIGS)
    except StepFailed as error:
        sys.exit(f"error: {error}\nRun the demo again to go on from there.")
    except KeyboardInterrupt:
        sys.exit("\nInterrupted. Run the demo again to go on from there.")
    print(f"\nDone in {(time.monotonic() - start) / 60:.1f} minutes.")


if __name__ == "__main__":
    main()
