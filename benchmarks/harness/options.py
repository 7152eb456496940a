"""Command-line options."""

import argparse
import shutil
import sys


def choices_of(choices):
    """An argparse type: names among `choices`, joined by commas."""

    def parse(text):
        names = text.split(",")
        for name in names:
            if name not in choices:
                raise argparse.ArgumentTypeError(
                    f"{name!r} is not one of {', '.join(choices)}"
                )
        return names

    return parse


def positive(text):
    """An argparse type: a whole number above 0."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return int(text)


def _program(text):
    found = shutil.which(text)
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r}: no such program")
    return found


def clock_parser(description, rounds, seconds, memory=True, **options):
    """A parser with the options of the clock and of the record.

    Args:
        description: Of the script; its first line is shown.
        rounds: Default of `--rounds`.
        seconds: Default of `--seconds`.
        memory: Whether the script measures memory, too.
        options: Of the parser.
    """
    parser = argparse.ArgumentParser(description=description.split("\n")[0], **options)
    add = parser.add_argument
    add("--rounds", type=positive, default=rounds, help=f"at most; default: {rounds}")
    add(
        "--seconds",
        type=float,
        default=seconds,
        help="for the rounds of one group of subjects, of which there are at least "
        f"three; default: {seconds}",
    )
    if memory:
        add("--only", choices=("time", "memory"), help="measure nothing else")
    parser.set_defaults(only=None if memory else "time")
    add("--any-load", action="store_true", help="go on while others use the machine")
    add("--record", action="store_true", help="keep the figures in benchmarks/records/")
    add("--quick", action="store_true", help="smoke test: one round, tiny subjects")
    add(
        "--peer-python",
        type=_program,
        default=sys.executable,
        metavar="PYTHON",
        help="the interpreter that imports the peers' frameworks; default: this one",
    )
    return parser


def parse(parser, quick):
    """The options; with `--quick` those of `quick` in their place."""
    args = parser.parse_args()
    if args.quick:
        vars(args).update(quick, rounds=1)
        args.record = False
    return args
