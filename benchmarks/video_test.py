"""The whole test of a video, thirty views from file to label, beside other projects'.

    python benchmarks/video_test.py [--clips FILES] [--dtypes bfloat16]

Ours are `--mode predict` and `--mode eval` on `--videos` files, from the first one
opened to the last label; `--ours export` is `predict` with an exported network,
which scores one view. The others are the test loops of PySlowFast, which decodes a
clip for each of its crops, and of mmaction2, which decodes each video once and has all
its views in the network at once; a round takes a video's views of their steady state.
All score ten clips x three crops with the same network and weights, with as many
decoding threads as PyTorch's DataLoader has workers. The error is that of the class
probabilities, against `predict` with the views of the loop. The clock:
harness/clock.py.
"""

import itertools
import os
import pathlib
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.clock import Clock, Figure
from harness.input_clips import VIDEOS, link_clips, make_clips
from harness.network_run import save_weights
from harness.networks import BLOCKS, NETWORKS, POLICIES, THEIRS, Case
from harness.operation import relative_error
from harness.options import choices_of, clock_parser, parse, positive
from harness.process import THREADS
from harness.report import (
    Report,
    number,
    print_header,
    print_row,
    ratio,
    scientific,
)
from harness.video_test_job import PROTOCOLS, Job, views_of
from harness.workers import Subject

LABELS = {
    "predict": "ours, `--mode predict`",
    "eval": "ours, `--mode eval`",
    "export": "ours, `--mode predict --export_dir`",
}
TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
QUICK = {
    "depth": 14,
    "width": 8,
    "frames": 4,
    "stride": 2,
    "side": 96,
    "train_side": 64,
    "batch": 4,
    "videos": 2,
}
HEADER = (
    "test",
    "dtype",
    "s a video",
    "x `predict`",
    "CPU s a video",
    "% of the cores",
    "process MiB",
    "error",
)


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    wrong = []
    print_header(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        clips, plans = prepare(args, folder)
        for dtype in args.dtypes:
            wrong += measure(args, clock, report, dtype, clips, plans)
    report.finish(clock.loads)
    if wrong:
        sys.exit("error: not the probabilities of `predict`: " + "; ".join(wrong))


def parse_arguments():
    parser = clock_parser(__doc__, rounds=5, seconds=180, memory=False)
    add = parser.add_argument
    add(
        "--clips",
        type=pathlib.Path,
        nargs="+",
        help="files of as many rows as --side: if frames are scaled, the loops, which "
        "do it without antialiasing, have other probabilities; default: generated",
    )
    add("--ours", type=choices_of(LABELS), default="predict,eval")
    add("--peers", type=choices_of(PROTOCOLS), default=",".join(PROTOCOLS))
    add("--no-peers", action="store_true", help="measure ours only; needs no PyTorch")
    forms = THEIRS["inference"]
    add("--forms", type=choices_of(forms), default="channels_last", help="of PyTorch")
    add("--dtypes", type=choices_of(POLICIES), default="float32")
    add("--model", choices=NETWORKS, default="NL-I3D")
    add("--depth", type=int, choices=BLOCKS, default=50)
    add("--workers", type=positive, default=len(os.sched_getaffinity(0)))
    sizes = {"width": 64, "frames": 8, "stride": 8, "side": 256, "train_side": 224}
    views = {"num_clips": 10, "num_crops": 3}
    for name, value in (sizes | views | {"batch": 8, "videos": 2}).items():
        add(f"--{name.replace('_', '-')}", type=positive, default=value)
    args = parse(parser, QUICK)
    if "export" in args.ours and args.num_clips * args.num_crops > 1:
        parser.error("an export scores one view: --num-clips 1 --num-crops 1")
    if args.no_peers:
        args.peers = []
    return args


def prepare(args, folder):
    """The folder of videos, and the `Views` of the originals by protocol."""
    for path in args.clips or ():
        if not path.is_file():
            sys.exit(f"error: {path}: no such file")
    if args.clips:
        clips = link_clips(folder, args.clips, args.videos)
    else:
        size = args.side, args.side * 4 // 3 // 2 * 2  # of Kinetics: 256 x 340
        video = VIDEOS["340x256"]._replace(size=size)
        clips = make_clips(folder, video, args.videos)
    num_originals = len(args.clips or [clips])
    originals = sorted(pathlib.Path(clips).rglob("*.*"))[:num_originals]
    plans = {
        p: [views_of(args, p, str(x)) for x in originals]
        for p in map(PROTOCOLS.get, args.peers)
    }
    return clips, plans


def measure(args, clock, report, dtype, clips, plans):
    """Prints the rows of a dtype; returns the errors."""
    names = "depth", "width", "frames", "side"
    sizes = {name: getattr(args, name) for name in names}
    case = Case(args.model, dtype, batch=1, **sizes)
    weights = None
    if args.peers:
        weights = save_weights(args, clock, case, str(clock.folder / "weights.npz"))
        args.peers = args.peers if weights else []
    job = Job(
        case,
        args.train_side,
        args.stride,
        args.num_clips,
        args.num_crops,
        clips,
        plans,
        protocols_of(args),
        weights,
        args.batch,
        args.workers,
        args.videos,
    )
    path = clock.folder / f"{dtype}.json"
    job.write(path)
    measured = clock.measure(subjects_of(args, str(path)))
    return print_rows(report, job, measured)


def subjects_of(args, job):
    """By (name, form); first `predict`, with which the others are compared."""
    modes = dict.fromkeys(("predict", *args.ours))
    subjects = {
        (mode, ""): Subject(LABELS[mode], "harness.video_test_ours:make", (mode, job))
        for mode in modes
    }
    for key in itertools.product(args.peers, args.forms):
        made = "harness.video_test_peers:make", (*key, job), args.peer_python
        subjects[key] = Subject(label_of(*key), *made, is_peer=True)
    return subjects


def protocols_of(args):
    """Of the subjects; those of ours have the same."""
    names = [mode for mode in args.ours if mode != "predict"] + args.peers
    return list(dict.fromkeys(map(protocol_of, names))) or ["spread"]


def protocol_of(name):
    return PROTOCOLS.get(name, "spread")


def label_of(name, form):
    """Of a row of the table."""
    if name in LABELS:
        return LABELS[name]
    return f"{name}'s loop, {THEIRS['inference'][form].label}"


def print_rows(report, job, measured):
    """Prints a row for each subject; returns those with wrong probabilities."""
    ours, wrong = measured["predict", ""], []
    expected = dict(zip(job.protocols, ours.values, strict=True))
    for (name, form), (figures, values) in measured.items():
        protocol = job.protocols[0] if name == "predict" else protocol_of(name)
        error = relative_error(values[:1], [expected[protocol]])
        row = name, form, *job.case, job.num_views, f"{job.workers} workers"
        report.add(", ".join(map(str, filter(None, row))), figures)
        time, cpu = figures["video ms"], figures["video CPU ms"]
        speed = ratio(time, ours.figures["video ms"])
        label = label_of(name, form)
        cells = [label, job.case.dtype, seconds(time), f"{speed:.2f}", seconds(cpu)]
        busy = 100 * cpu.median / time.median / THREADS
        cells += [number(busy), number(figures["process MiB"]), scientific(error)]
        print_row(cells)
        if not error < TOLERANCE[job.case.dtype]:
            wrong.append(f"{label}, {job.case.dtype}: {error:.1e}")
    return wrong


def seconds(figure):
    return number(Figure(*(x / 1e3 for x in figure)))


if __name__ == "__main__":
    main()
