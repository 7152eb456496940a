"""The demo on generated videos: `make demo`, or `python examples/demo.py`.

1. Writes H.264 videos for a task that needs long-range space-time reasoning: does
   the box have the same colour as the ball before it? (demo_videos.py)
2. Trains the same small network without (c2d) and with (nl_c2d) one non-local
   block, and tests both on unseen videos, 2 clips x 3 crops each.
3. Exports the better one and predicts with the export.
4. Draws training curves, and the attention of the block (demo_pictures.py), and
   writes a report of the better network: an HTML page.

Why c2d cannot learn it: no frame shows both objects, no two frames that pool2
combines do, and pool5 averages over frames. So its logit is a(ball) + b(box). Each
colour alone is equally frequent in both classes, so the mean logit is the same in
both: by Jensen's inequality no a and b have a cross-entropy below ln 2, that of
chance (the accuracy may differ a little from 50 %). i3d, a control with temporal
convolutions, could learn it, as its receptive field covers the clip in res5; it does
not in the number of steps that the block needs.

Every step is a command that is printed and can be run by hand. Finished steps are
kept in --output: a second run continues from there, also after a kill. Remove the
folder to start again. `--seeds 3` repeats step 2 with other initial weights and data
orders; `--networks c2d nl_c2d i3d` adds that control.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import pathlib
import shlex
import shutil
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONFIGS = ROOT / "configs/demo"
NETWORKS = ("c2d", "nl_c2d")
TEST_VIEWS = {"num_test_clips": 2, "num_test_crops": 3}


class StepFailed(Exception):
    """A command of the demo did not succeed."""


def run_command(command):
    """Prints and runs `python <command>` in the repository.

    Raises:
        StepFailed: It exited with another code than 0.
    """
    print(f"$ {shlex.join(['python', *command])}", flush=True)
    environment = {"TF_CPP_MIN_LOG_LEVEL": "3", **os.environ}  # only errors
    with subprocess.Popen([sys.executable, *command], cwd=ROOT, env=environment) as run:
        try:
            code = run.wait()
        except KeyboardInterrupt:  # the command receives it too, and may save its state
            run.wait()
            raise
    if code:
        raise StepFailed(f"exit code {code} of: {shlex.join(['python', *command])}")


class Steps:
    """Runs commands once: finished steps whose command is unchanged are kept.

    Args:
        state_file: JSON, step -> its key and whether it is finished.
        run_command: Function of a command; raises `StepFailed`.
    """

    def __init__(self, state_file: pathlib.Path, run_command=run_command):
        self._file = state_file
        self._run_command = run_command
        self._state = {}
        if state_file.is_file():
            self._state = json.loads(state_file.read_text(encoding="utf-8"))

    def run(self, title, command, output, depends_on=()) -> str:
        """Runs a command unless its output exists already.

        Args:
            title: Name of the step.
            command: Arguments, the first a script of the repository.
            output: File or folder that the command writes. Removed first if it was
                written by another command; kept if the step was interrupted.
            depends_on: Keys of earlier steps, and files, that it reads.

        Returns:
            Key of the step, for `depends_on`.
        """
        key = _digest(command, depends_on)
        before = self._state.get(title, {})
        print(f"\n== {title}", flush=True)
        if before == {"key": key, "done": True} and output.exists():
            print(f"Finished before: using {relative(output)}.")
            return key
        if before.get("key") != key:
            _remove(output)
        self._save(title, key, done=False)
        self._run_command(command)
        self._save(title, key, done=True)
        return key

    def _save(self, title, key, done):
        self._state[title] = {"key": key, "done": done}
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps(self._state, indent=1), encoding="utf-8")
        os.replace(part, self._file)


def _digest(command, depends_on):
    digest = hashlib.sha256(json.dumps(command).encode())
    for item in depends_on:
        is_file = isinstance(item, pathlib.Path)
        digest.update(item.read_bytes() if is_file else item.encode())
    return digest.hexdigest()


def _remove(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def relative(path):
    return os.path.relpath(path, ROOT)


# === The steps ===


def demo(output: pathlib.Path, networks, num_seeds: int, configs, video_options=()):
    """Runs all steps; prints the accuracies at the end.

    Args:
        output: Folder of all results.
        networks: Names of configs.
        num_seeds: How often each is trained.
        configs: Folder of the configs.
        video_options: Flags of demo_videos.py.
    """
    output.mkdir(parents=True, exist_ok=True)
    steps = Steps(output / "steps.json")
    videos = output / "videos"
    script = ROOT / "examples/demo_videos.py"
    command = ["examples/demo_videos.py", relative(videos), *video_options]
    key = steps.run("Write videos", command, videos, [script])
    runs = [
        train_and_test(
            steps, Run(network, seed, output), configs / f"{network}.yaml", videos, key
        )
        for seed in range(num_seeds)
        for network in networks
    ]
    print(f"\n== Accuracy on {_count(videos)} unseen videos\n{table(runs)}")
    serve(steps, max(runs, key=lambda run: run.accuracy), output, videos)
    draw(steps, output, networks, runs)
    report(steps, max(runs, key=lambda run: run.accuracy), videos)


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
    def test_file(self) -> pathlib.Path:
        return self.folder / "test.json"

    @property
    def accuracy(self) -> float:
        return json.loads(self.test_file.read_text(encoding="utf-8"))["top1"]


def train_and_test(steps, run, config, videos, key) -> Run:
    """Trains a network and tests its best checkpoint with several views."""
    trainer = ["trainers/video.py", "--model_dir", relative(run.folder)]
    data = {
        f"task.{split}_data.input_path": relative(videos / folder)
        for split, folder in (("train", "train"), ("validation", "val"))
    }
    train = [*trainer, "--mode", "train_and_eval", "--config", relative(config)]
    train += overrides({"runtime.seed": run.seed, **data})
    name = f"{run.network}, seed {run.seed}"
    key = steps.run(f"Train {name}", train, run.folder, [key, config])
    test = [*trainer, "--mode", "eval", *overrides(test_views(videos))]
    run.key = steps.run(f"Test {name}", test, run.test_file, [key])
    if not run.test_file.exists():
        shutil.copy(run.folder / "eval_results.json", run.test_file)
    return run


def test_views(videos):
    """The overrides of a test on the unseen videos."""
    views = {f"task.validation_data.{name}": n for name, n in TEST_VIEWS.items()}
    return views | {"task.validation_data.input_path": relative(videos / "test")}


def serve(steps, best, output, videos):
    """Exports the best network and predicts with the export, without Keras."""
    export = output / "export"
    command = ["trainers/video.py", "--mode", "export"]
    command += ["--model_dir", relative(best.folder)]
    command += ["--export_dir", relative(export)]
    steps.run(f"Export {best.network}", command, export, [best.key])
    print("\n== Predict held-out videos with the exported network")
    held_out = [sorted((videos / "test" / c).iterdir())[0] for c in _classes(videos)]
    script = "examples/predict_with_saved_model.py"
    run_command([script, relative(export), *map(relative, held_out)])


def draw(steps, output, networks, runs):
    """Training curves and attention, as pictures."""
    script = ROOT / "examples/demo_pictures.py"
    pictures = output / "pictures"
    command = ["examples/demo_pictures.py", relative(output), *networks]
    steps.run("Draw pictures", command, pictures, [script, *(run.key for run in runs)])
    for picture in sorted(pictures.iterdir()):
        print(relative(picture))


def report(steps, best, videos):
    """The page about the best network, on the same views as its test."""
    page = best.folder / "report.html"
    command = ["trainers/video.py", "--mode", "report"]
    command += ["--model_dir", relative(best.folder)]
    views = {**test_views(videos), "task.validation_data.views_in_training": "all"}
    command += overrides(views)
    steps.run(f"Report on {best.network}", command, page, [best.key])
    print(relative(page))


def table(runs) -> str:
    """Accuracies by network and seed, as Markdown."""
    seeds = sorted({run.seed for run in runs})
    cells = {(run.network, run.seed): f"{100 * run.accuracy:.1f} %" for run in runs}
    rows = [["network", *(f"seed {seed}" for seed in seeds)]]
    for network in dict.fromkeys(run.network for run in runs):
        rows += [[network, *(cells[network, seed] for seed in seeds)]]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    rows.insert(1, ["-" * width for width in widths])
    return "\n".join(
        "| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |"
        for row in rows
    )


def overrides(values):
    return [f"--params_override={name}={value}" for name, value in values.items()]


def _classes(videos):
    return sorted(path.name for path in (videos / "test").iterdir())


def _count(videos):
    return sum(1 for _ in (videos / "test").glob("*/*.mp4"))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "demo")
    parser.add_argument("--seeds", type=int, default=1, help="how many")
    choices = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    parser.add_argument("--networks", nargs="+", default=NETWORKS, choices=choices)
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
