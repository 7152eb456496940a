"""One network in the runtimes that it can be exported to, on this machine's CPU.

    python benchmarks/runtimes.py [--only time] [--networks FOLDER]

NL-I3D with ResNet-50, folded, on one clip of 8 x 224 x 224: as a SavedModel, with its
weights as variables and as constants, and as `--mode export` writes it for OpenVINO,
ONNX Runtime and LiteRT. All have the same weights and use all cores; int8 is calibrated
on four clips. Extras `[openvino,onnx,litert]`. The clock: harness/clock.py.
"""

import pathlib

from harness import options, workers
from harness.clock import Clock, Figure, progress
from harness.networks import BLOCKS, NETWORKS, Case
from harness.operation import relative_error
from harness.report import (
    Report,
    number,
    print_header,
    print_row,
    ratio,
    scientific,
)
from harness.workers import Subject

SUBJECTS = {
    # label, runtime, precision
    "folded": ("ours, batch norm folded", "folded", "float32"),
    "constants": ("ours, folded, weights as constants", "constants", "float32"),
    "openvino": ("OpenVINO", "openvino", "float32"),
    "onnx": ("ONNX Runtime", "onnx", "float32"),
    "litert": ("LiteRT", "litert", "float32"),
    "folded_bfloat16": ("ours, batch norm folded", "folded", "bfloat16"),
    "constants_bfloat16": (
        "ours, folded, weights as constants",
        "constants",
        "bfloat16",
    ),
    "openvino_bfloat16": ("OpenVINO", "openvino", "bfloat16"),
    "openvino_int8": ("OpenVINO", "openvino", "int8"),
}
MODULE = "harness.runtime_network"
LOADINGS = 3
QUICK = {"depth": 14, "width": 8, "frames": 4, "side": 32}
OURS = ("folded", "constants")
FIGURES = (
    "inference ms",
    "inference MiB",
    "import s",
    "load s",
    "first call s",
    "libraries MiB",
    "resident MiB",
)
HEADER = ("runtime", "dtype", "ms", "x ours", "peak MiB", *FIGURES[2:], "error")
LEGEND = """
x ours: by that of our fastest form of the dtype; int8 by that of bfloat16.
peak MiB: of a call, above the process with its libraries, weights included.
libraries MiB, resident MiB: the whole process after the import and the second call.
error: of the logits, against ours in float32."""


def main():
    args = parse_arguments()
    report, measuring = Report(__file__, args), Clock(args)
    folder = pathlib.Path(args.networks or measuring.folder).absolute()
    subjects = {key: _subject(args, key, folder) for key in args.subjects}
    written = {key: x for key, x in subjects.items() if _write(measuring, x)}
    measured = measuring.measure(written)
    if args.only != "time":
        for key, (figures, _) in measured.items():
            figures.update(_loading(written[key], 1 if args.quick else LOADINGS))
    print_table(measured)
    for key, (figures, _) in measured.items():
        case = Case(*subjects[key].arguments[1])
        report.add(", ".join(map(str, (key, *case))), figures)
    report.finish(measuring.loads)


def parse_arguments():
    parser = options.clock_parser(__doc__, rounds=7, seconds=120)
    add = parser.add_argument
    choices = options.choices_of(SUBJECTS)
    add("--subjects", type=choices, default=",".join(SUBJECTS))
    add("--networks", metavar="FOLDER", help="where they are written; or were, before")
    add("--model", choices=NETWORKS, default="NL-I3D")
    add("--depth", type=int, choices=BLOCKS, default=50)
    for name, value in {"width": 64, "batch": 1, "frames": 8, "side": 224}.items():
        add(f"--{name}", type=options.positive, default=value)
    return options.parse(parser, QUICK)


def _subject(args, key, folder):
    label, runtime, precision = SUBJECTS[key]
    sizes = {name: getattr(args, name) for name in Case._fields[2:-1]}
    case = Case(args.model, precision, **sizes)
    arguments = (runtime, case, str(folder / key))
    is_peer = runtime not in OURS
    return Subject(label, f"{MODULE}:make", arguments, is_peer=is_peer)


def _write(measuring, subject):
    """Writes the network unless it is there; False if its runtime is not."""
    progress(f"writing for {subject.label}")
    if pathlib.Path(subject.arguments[-1], "smallest").exists():
        return True
    written = measuring.attempt(subject._replace(function=f"{MODULE}:write"))
    return written is not None


def _loading(subject, count):
    """`Figure`s of as many processes that load the network."""
    progress(f"loading {subject.label}")
    load = subject._replace(function=f"{MODULE}:load")
    processes = [workers.call(load) for _ in range(count)]
    return {name: Figure.of([p[name] for p in processes]) for name in processes[0]}


def print_table(measured):
    print_header(HEADER)
    expected = measured["folded"].values if "folded" in measured else []
    for key, (figures, values) in measured.items():
        label, _, precision = SUBJECTS[key]
        ours = _fastest_of_ours(measured, precision)
        speed = ratio(figures.get("inference ms"), ours)
        error = relative_error(values, expected)
        cells = [number(figures.get(name)) for name in FIGURES]
        cells.insert(1, "-" if speed is None else f"{speed:.2f}x")
        print_row([label, precision, *cells, scientific(error)])
    print(LEGEND)


def _fastest_of_ours(measured, precision):
    """Its time, or None."""
    wanted = "bfloat16" if precision == "int8" else precision
    times = [
        figures["inference ms"]
        for key, (figures, _) in measured.items()
        if SUBJECTS[key][1] in OURS
        and SUBJECTS[key][2] == wanted
        and "inference ms" in figures
    ]
    return min(times, default=None)


if __name__ == "__main__":
    main()
