"""Clips per second from video files to batches, beside PyTorch-side pipelines.

    python benchmarks/input_pipeline.py [--clips DIR] [--peers pyav_cv2,torchcodec_cv2]

Every pipeline cuts the same training clips (32 frames, every second one, scaled to a
short side of 256 to 320, cropped to a square of 224, flipped or not; uint8) out of the
same files and makes batches of them, ours with as many decoding threads as PyTorch's
DataLoader has worker processes. All antialias where frames are scaled down. The first
batches of a round are not timed, because they may have been prefetched. PSNR and mean
difference are relative to a reference: every frame decoded, scaled as a whole by Pillow
(bicubic, antialiased), cropped. `decoder` is libavcodec, which decodes the frames of
the same clips that are needed, and does nothing else, one file in each worker;
`decoder_by_file` has one file after the other and as many threads of the decoder. The
clock: harness/clock.py.
"""

import json
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from harness.clock import Clock
from harness.input_clips import VIDEOS, cuts, link_clips, make_clips
from harness.options import choices_of, clock_parser, parse, positive
from harness.report import Report, number, print_header, print_row
from harness.workers import Subject

OURS = "ours"
FLOORS = ("decoder", "decoder_by_file")
PEERS = (
    "pyav_cv2",
    "pyav_torch",
    "decord_cv2",
    "torchcodec_cv2",
    "torchcodec_torch",
    "torchcodec_resize",
)
COMPARED = 2  # clips of the first batch, with the reference
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
    report, clock = Report(__file__, args), Clock(args)
    print(f"{args.workers} workers, batch {args.batch}\n")
    print_header(HEADER)
    wrong = []
    for name, originals in sources(args):
        with tempfile.TemporaryDirectory() as folder:
            clips = prepare(folder, name, originals, args.copies)
            wrong += measure(args, clock, report, name, clips)
    report.finish(clock.loads)
    if wrong:
        sys.exit("error: not the clips of the reference: " + "; ".join(wrong))


def parse_arguments():
    parser = clock_parser(__doc__, rounds=7, seconds=240, memory=False)
    add = parser.add_argument
    add("--clips", type=pathlib.Path, nargs="+", help="files, or folders of them")
    add("--videos", type=choices_of(VIDEOS), default=",".join(VIDEOS), help="generated")
    add("--peers", type=choices_of(PEERS), default=",".join(PEERS))
    add("--floors", type=choices_of(FLOORS), default=",".join(FLOORS))
    add("--no-peers", action="store_true", help="measure ours only; needs no PyTorch")
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)))
    add("--batch", type=positive, default=8)
    add("--copies", type=positive, default=256, help="links to the files of a data set")
    add("--frames", type=positive, default=32)
    add("--stride", type=positive, default=2)
    add("--short-side", type=int, nargs=2, default=(256, 320))
    add("--crop", type=positive, default=224)
    add("--take", type=positive, default=8, help="batches timed in a round")
    args = parse(parser, {"take": 2, "copies": 4, "batch": 2})
    if args.no_peers:
        args.peers = []
    return args


def sources(args):
    """(name, files) of each data set; no files for those that are generated."""
    if not args.clips:
        yield from ((name, None) for name in args.videos)
        return
    for path in args.clips:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        if not path.exists() or not files:
            sys.exit(f"error: {path}: no such file, or an empty folder")
        yield path.name, files


def prepare(folder, name, originals, copies):
    if originals is None:
        return make_clips(folder, VIDEOS[name], copies)
    return link_clips(folder, originals, copies)


def measure(args, clock, report, name, clips):
    """Prints the rows of one data set; returns the errors."""
    job = make_job(args, clips)
    path = clock.folder / "job.json"
    path.write_text(json.dumps(job))
    subjects = {
        pipeline: Subject(
            pipeline,
            "harness.input_subject:make",
            (pipeline, str(path), args.take),
            args.peer_python if pipeline in args.peers else sys.executable,
            is_peer=pipeline in args.peers,
        )
        for pipeline in (OURS, *args.floors, *args.peers)
    }
    measured = clock.measure(subjects)
    expected = reference(job["cuts"][: min(args.batch, COMPARED)])
    wrong = []
    for pipeline, (figures, values) in measured.items():
        psnr, mean = (
            compare(values[0][: len(expected)], expected) if values else (None, None)
        )
        sizes = f"{args.frames} x {args.stride}, {args.crop}, batch {args.batch}"
        row = f"{name}, {sizes}, {args.workers} workers, {pipeline}"
        report.add(row, figures)
        ours = measured[OURS].figures["clip ms"]
        print_row([name, pipeline, *cells(figures, ours, psnr, mean)])
        if psnr is not None and psnr < LEAST_PSNR:
            wrong.append(f"{pipeline}, {name}: {psnr:.1f} dB")
    return wrong


def make_job(args, clips):
    """What all pipelines read (harness/input_subject.py)."""
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
    sizes = {"batch_size": args.batch, "workers": args.workers, "seed": 0}
    return {"cuts": samples, "data": data, "clip": clip, **sizes}


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
            if len(found) == len(wanted):
                break
    clip = np.stack([found[place] for place in cut.frames])
    return clip[:, :, ::-1] if cut.flip else clip


def compare(clips, expected):
    """(PSNR in dB, mean difference) of uint8 clips."""
    difference = clips.astype(np.float32) - expected
    error = max(float(np.mean(difference**2)), 1e-9)
    return 10 * np.log10(255**2 / error), float(difference.mean())


def cells(figures, ours, psnr, mean):
    """Clips a second, CPU time, memory and quality of one pipeline."""
    time = figures["clip ms"]
    speed, times_ours = f"{1e3 / time.median:.1f}", time.median / ours.median
    spread = f"{(time.high - time.low) / time.median:.0%}"
    measured = number(figures["clip CPU ms"]), number(figures["MiB"])
    quality = ("-", "-") if psnr is None else (f"{psnr:.1f}", f"{mean:+.2f}")
    return [f"{speed} ({spread})", f"{times_ours:.2f}", *measured, *quality]


if __name__ == "__main__":
    main()
