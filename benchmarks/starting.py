"""How long commands take to say that a flag is wrong, and to predict one small clip.

    python benchmarks/starting.py [--commands predict_export,import_keras]

Each is a command in a new interpreter, whose files the system has in memory. `predict`
scores a clip of 24 frames with the network of configs/demo/nl_c2d.yaml, which is
trained for one step before. CPU time is of all threads. The clock: harness/clock.py.
"""

import pathlib

from harness.clock import Clock
from harness.options import choices_of, clock_parser, parse
from harness.report import Report, number, print_header, print_row
from harness.starting import TRAINERS, make_network
from harness.workers import Subject

VIDEO = f"{TRAINERS}/video.py"
COMMANDS = {
    "unknown_mode": (VIDEO, "--mode", "trian"),
    "unknown_flag": (VIDEO, "--modle", "train"),
    "help": (VIDEO, "--help"),
    "no_config": (VIDEO, "--mode", "train", "--model_dir", "none"),
    "unknown_experiment": (VIDEO, "--mode", "dry_run", "--experiment", "kinetic400"),
    "detection": (f"{TRAINERS}/detection.py", "--mode", "trian"),
    "prepare_video": (f"{TRAINERS}/prepare_video.py", "--output", "x"),
    "data_worker": (f"{TRAINERS}/data_worker.py", "--mode", "wroker"),
    "describe": ("-m", "keras_nonlocal.describe", "i4d"),
    "import_tensorflow": ("-c", "import tensorflow"),
    "import_keras": ("-c", "import keras"),
    "import_keras_nonlocal": ("-c", "import keras, keras_nonlocal"),
    "predict_export": (VIDEO, "--mode", "predict", "--export_dir", "export", "a.mp4"),
    "predict_model_dir": (VIDEO, "--mode", "predict", "--model_dir", "model", "a.mp4"),
}
QUICK = {"commands": ["unknown_mode"]}


def main():
    args = parse_arguments()
    report, clock = Report(__file__, args), Clock(args)
    if any(name.startswith("predict") for name in args.commands):
        make_network(clock.folder)
    measured = clock.measure(
        {
            name: Subject(
                name, "harness.starting:make", (str(clock.folder), COMMANDS[name])
            )
            for name in args.commands
        }
    )
    print_header(("command", "s", "CPU s"))
    for name, (figures, _) in measured.items():
        report.add(name, figures)
        print_row((shown(COMMANDS[name]), *map(number, figures.values())))
    report.finish(clock.loads)


def shown(command):
    root = str(pathlib.Path(TRAINERS).parent)
    return f"`python {' '.join(command)}`".replace(f"{root}/", "")


def parse_arguments():
    parser = clock_parser(__doc__, rounds=7, seconds=200, memory=False)
    names = list(COMMANDS)
    add = parser.add_argument
    add("--commands", type=choices_of(names), default=names, metavar=",".join(names))
    return parse(parser, QUICK)


if __name__ == "__main__":
    main()
