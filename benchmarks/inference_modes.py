"""Whether `--mode eval` and `--mode predict` run at the speed of the network.

    python benchmarks/inference_modes.py [--batch 5] [--dtype bfloat16]

Three programs score the same clips, from memory: the network of `video_model.py`'s row
"batch norm folded" alone, on normalised clips; and the two modes of
`trainers/video.py`, from uint8 views to scores on the host. What an evaluation does
once, as folding the present weights, is not counted. CPU time is of all threads. The
clock: harness/clock.py.
"""

from harness.clock import Clock
from harness.networks import BLOCKS, NETWORKS, POLICIES, Case
from harness.options import clock_parser, parse, positive
from harness.report import Report, number, print_header, print_row, ratio
from harness.workers import Subject

SUBJECTS = {
    "folded": "the folded network alone",
    "eval": "`--mode eval`",
    "predict": "`--mode predict`",
}
QUICK = {"depth": 14, "width": 8, "frames": 4, "side": 32, "batches": 1}
FIGURES = ("clip CPU ms", "clip ms")


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    sizes = {name: getattr(args, name) for name in Case._fields[2:-1]}
    case = Case(args.model, args.dtype, **sizes)
    measured = clock.measure(
        {
            key: Subject(name, "harness.inference_mode:make", (key, case, args.batches))
            for key, name in SUBJECTS.items()
        }
    )
    print_header(("a clip", "CPU ms", "speed", "ms", "speed"))
    alone = measured["folded"].figures
    for key, (figures, _) in measured.items():
        report.add(", ".join(map(str, (*case, key))), figures)
        cells = []
        for name in FIGURES:
            speed = ratio(alone[name], figures[name])
            cells += [number(figures[name]), f"{speed:.2f}x"]
        print_row([SUBJECTS[key], *cells])
    report.finish(clock.loads)


def parse_arguments():
    parser = clock_parser(__doc__, rounds=11, seconds=180, memory=False)
    add = parser.add_argument
    add("--model", choices=NETWORKS, default="NL-I3D")
    add("--dtype", choices=POLICIES, default="float32")
    add("--depth", type=int, choices=BLOCKS, default=50)
    add("--width", type=positive, default=64, help="channels after conv1")
    add("--batch", type=positive, default=1, help="views in the network at once")
    add("--frames", type=positive, default=8)
    add("--side", type=positive, default=224)
    add("--batches", type=positive, default=5, help="in a round")
    return parse(parser, QUICK)


if __name__ == "__main__":
    main()
