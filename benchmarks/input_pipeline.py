"""Clips per second from video files to batches, beside PyTorch-side pipelines.

    python benchmarks/input_pipeline.py [--clips DIR] [--peers pyav_cv2,torchcodec_cv2]

Every pipeline cuts the same training clips (32 frames, every second one, scaled to a
short side of 256 to 320, cropped to a square of 224, flipped or not; uint8) out of the
same files and makes batches of them, ours with as many decoding threads as PyTorch's
DataLoader has worker processes. All antialias where frames are scaled down. Each runs
in processes of its own, which are stopped while another is measured; the first batches
of a turn are not timed, because they may have been prefetched. Figures are medians over
turns. PSNR and mean difference are relative to a reference: every frame decoded, scaled
as a whole by Pillow (bicubic, antialiased), cropped.
"""

import argparse
import os
import pathlib
import statistics
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1]))

import numpy as np
from harness import machine
from harness.input_clips import SIZES, cuts, link_clips, make_clips
from harness.input_process import OURS, Job, Pipeline
from harness.options import choices_of
from harness.processes import end_in_order
from harness.tables import number, print_header, print_row

PEERS = (
    "pyav_cv2",
    "pyav_torch",
    "decord_cv2",
    "torchcodec_cv2",
    "torchcodec_torch",
    "torchcodec_resize",
)
LEAST_PSNR = 30  # dB; another frame, or the same one flipped, is below 25
HEADER = (
    "clips",
    "pipeline",
    "clips/s",
    "ours / it",
    "CPU ms/clip",
    "MiB",
    "PSNR dB",
    "mean difference",
)


def main():
    args = parse_arguments()
    end_in_order()
    print(f"{machine.machine_line()} {args.workers} workers, batch {args.batch}.\n")
    print_header(HEADER)
    wrong = []
    for name, originals in sources(args):
        with tempfile.TemporaryDirectory() as folder:
            clips = prepare(folder, name, originals, args.copies)
            wrong += measure(args, name, clips, folder)
    if wrong:
        sys.exit("error: not the clips of the reference: " + "; ".join(wrong))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--clips", type=pathlib.Path, nargs="+", help="files, or folders of them")
    add("--sizes", type=choices_of(SIZES), default=",".join(SIZES), help="generated")
    add("--peers", type=choices_of(PEERS), default=",".join(PEERS))
    add("--no-peers", action="store_true", help="measure ours only; needs no PyTorch")
    add("--workers", type=int, default=len(os.sched_getaffinity(0)))
    add("--batch", type=int, default=8)
    add("--copies", type=int, default=256, help="links to the files of a data set")
    add("--frames", type=int, default=32)
    add("--stride", type=int, default=2)
    add("--short-side", type=int, nargs=2, default=(256, 320))
    add("--crop", type=int, default=224)
    add("--turns", type=int, default=5)
    add("--take", type=int, default=8, help="batches timed in a turn")
    add("--quick", action="store_true", help="smoke test: one small turn")
    args = parser.parse_args()
    if args.no_peers:
        args.peers = []
    if args.quick:
        args.turns, args.take, args.copies, args.batch = 1, 2, 4, 2
    return args


def sources(args):
    """(name, files) of each data set; no files for those that are generated."""
    if not args.clips:
        yield from ((size, None) for size in args.sizes)
        return
    for path in args.clips:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if not path.exists() or not files:
            sys.exit(f"error: {path}: no such file, or an empty folder")
        yield path.name, files


def prepare(folder, name, originals, copies):
    if originals is None:
        return make_clips(folder, SIZES[name], copies)
    return link_clips(folder, originals, copies)


def measure(args, name, clips, folder):
    """Prints the rows of one data set; returns the errors."""
    job = make_job(args, clips)
    expected = reference(job.cuts[: args.batch])
    pipelines = start(args, job, folder)
    try:
        quality = {p.name: compare(p.first_clips(folder), expected) for p in pipelines}
        turns = {p.name: [] for p in pipelines}
        for _ in range(args.turns):
            for pipeline in pipelines:
                turns[pipeline.name].append(
                    pipeline.turn(discard=2 * args.workers + 2, count=args.take)
                )
    finally:
        for pipeline in pipelines:
            pipeline.close()
    print_rows(name, turns, quality)
    return [
        f"{p}, {name}: {q[0]:.1f} dB" for p, q in quality.items() if q[0] < LEAST_PSNR
    ]


def make_job(args, clips):
    from trainers.video_classification.data import load_index
    from trainers.video_classification.data.configs import ClipConfig, DataConfig

    data = {
        "input_path": clips,
        "is_training": True,
        "global_batch_size": args.batch,
        "min_short_side": args.short_side[0],
        "max_short_side": args.short_side[1],
        "crop_size": args.crop,
    }
    clip = {"num_frames": args.frames, "temporal_stride": args.stride}
    config = DataConfig(**data)
    index = load_index(config)
    count = max(args.copies, args.batch) * 4
    samples = list(cuts(index, config, ClipConfig(**clip), count, seed=0))
    return Job(samples, data, clip, args.batch, args.workers, seed=0)


def start(args, job, folder):
    """The pipelines that can run here; prints why the others cannot."""
    pipelines = [Pipeline(OURS, job, folder)]
    for name in args.peers:
        try:
            pipelines.append(Pipeline(name, job, folder))
        except RuntimeError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    return pipelines


def reference(samples):
    """The reference clips: uint8 (B, T, size, size, 3)."""
    return np.stack([_reference_clip(cut) for cut in samples])


def _reference_clip(cut):
    import av
    from PIL import Image

    wanted, found = set(cut.frames), {}
    with av.open(cut.path) as container:
        for place, frame in enumerate(container.decode(video=0)):
            if place in wanted:
                image = frame.to_image().resize((cut.width, cut.height), Image.BICUBIC)
                right, bottom = cut.left + cut.size, cut.top + cut.size
                found[place] = np.asarray(
                    image.crop((cut.left, cut.top, right, bottom))
                )
    clip = np.stack([found[place] for place in cut.frames])
    return clip[:, :, ::-1] if cut.flip else clip


def compare(clips, expected):
    """(PSNR in dB, mean difference) of uint8 clips."""
    difference = clips.astype(np.float32) - expected
    error = max(float(np.mean(difference**2)), 1e-9)
    return 10 * np.log10(255**2 / error), float(difference.mean())


def print_rows(name, turns, quality):
    def median(pipeline, field):
        return statistics.median(getattr(turn, field) for turn in turns[pipeline])

    ours = median(OURS, "clips_per_second")
    for pipeline in turns:
        speed = median(pipeline, "clips_per_second")
        psnr, mean = quality[pipeline]
        cells = speed, ours / speed, median(pipeline, "cpu_ms_per_clip")
        memory = max(turn.memory for turn in turns[pipeline])
        print_row(
            [name, pipeline, f"{speed:.1f}", f"{cells[1]:.2f}", number(cells[2])]
            + [number(memory), f"{psnr:.1f}", f"{mean:+.2f}"]
        )


if __name__ == "__main__":
    main()
