"""Converts weights of other projects: `python -m keras_nonlocal.convert`."""

import argparse
import dataclasses
import json
import pathlib
import shlex
import sys
from collections.abc import Mapping

from keras_nonlocal.command_line import clip_sizes, fail, json_value
from keras_nonlocal.convert.completion import CHOICES
from keras_nonlocal.convert.conversion import convert_file
from keras_nonlocal.convert.errors import CheckpointError, Spelling
from keras_nonlocal.convert.sources import SOURCES


def main(argv=None):
    """Converts the file that the arguments name; returns the exit status."""
    options = vars(_parser().parse_args(argv))
    as_json = options.pop("json")
    try:
        names = options.pop("class_names")
        names = None if names is None else _read_names(names)
        conversion = convert_file(class_names=names, **options)
    except CheckpointError as error:
        return fail(error.describe(FLAGS), 1)
    except (ValueError, OSError) as error:
        return fail(error, 1)
    text = _to_json(conversion) if as_json else _to_text(conversion, options["path"])
    print(text)
    return 0


def _flag_value(value):
    if isinstance(value, Mapping):
        return shlex.quote(json.dumps(value))
    return "x".join(map(str, value)) if isinstance(value, tuple) else str(value)


FLAGS = Spelling(
    "--{argument} {value}",
    write=_flag_value,
    special={
        "clip": "--input {value}",
        "num_classes": "--num-classes {value}",
        "non_local": "--non-local {value}",
        "temporal_kernel": "--temporal-kernel {value}",
        "skip_classifier": "--skip-classifier",
        "overwrite": "--overwrite",
        # Arguments without a flag.
        "group_size": "group_size={value}",
        **dict.fromkeys(["non_local_options", "strict", "stride_in_1x1", "width"]),
    },
    verb="Use",
)


class _Parser(argparse.ArgumentParser):
    """Reports an error in one line."""

    def error(self, message):
        self.exit(1, f"error: {message}\n")


def _parser():
    parser = _Parser(
        prog="python -m keras_nonlocal.convert",
        description="Builds the network that a file's weights are of, and saves it. "
        "Options confirm what the weights determine, or say what they do not.",
    )
    add, sources = parser.add_argument, ("auto", *SOURCES)
    add("weights", metavar="SRC", help="file of any of the sources")
    add("path", metavar="DST", help="what to write: *.keras")
    add("--source", choices=sources, default="auto", help="default: by the names")
    images = "for ImageNet weights: inflate to"
    add("--model", choices=CHOICES["model"], help=images)
    add("--depth", type=int, help=f"one of {tuple(CHOICES['depth'])}")
    places = """1, 5, 10 or JSON such as '{"res3": [1, 3]}'; new if SRC has none"""
    add("--non-local", type=json_value, metavar="N", help=places)
    blocks = "of the non-local blocks, where names leave it"
    add("--mode", choices=CHOICES["mode"], help=blocks)
    add("--num-classes", type=int, help="of the classifier, or of a new one")
    add("--skip-classifier", action="store_true", help="start a new classifier")
    project = "project whose paddings, strides and blocks to follow; default: SRC's"
    add("--convention", choices=CHOICES["convention"], help=project)
    stem = "default: that of the source's released models"
    add("--stem", choices=CHOICES["stem"], help=stem)
    kernels = "for ImageNet weights, i3d only"
    add("--temporal-kernel", choices=CHOICES["temporal_kernel"], help=kernels)
    size = "clip that DST takes; default: the stem's frames of 224x224"
    add("--input", dest="clip", type=clip_sizes, metavar="TxHxW", help=size)
    add("--class-names", metavar="FILE", help="one name per line, in label order")
    recorded = "a clip and the logits that the source project gave: compare"
    add("--check-with", metavar="NPZ", help=recorded)
    add("--overwrite", action="store_true", help="replace DST")
    add("--json", action="store_true", help="print JSON")
    return parser


def _read_names(path):
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", "not UTF-8 text")
        raise CheckpointError(f"Cannot read {path!r}: {reason}.") from error
    names = [line.strip() for line in lines if line.strip()]
    for name in (x for x in names if names.count(x) > 1):
        raise CheckpointError(f"{path!r} lists the class {name!r} twice.")
    return names


def _to_text(conversion, path):
    arguments = conversion.metadata["architecture"].items()
    lines = [f"network: {', '.join(f'{x}={y!r}' for x, y in arguments)}"]
    lines += [f"! {note.describe(FLAGS)}" for note in conversion.notes]
    lines.append(conversion.report.describe(FLAGS))
    if conversion.difference is not None:
        lines.append(
            f"checked: the logits differ by {conversion.difference:.1e} of the largest"
        )
    return "\n".join([*lines, f"wrote {path}"])


def _to_json(conversion):
    report = conversion.report
    texts = {"notes": [note.describe(FLAGS) for note in report.notes]}
    return json.dumps(
        {
            **conversion.metadata,
            "notes": [note.describe(FLAGS) for note in conversion.notes],
            "report": dataclasses.asdict(report) | texts,
            "difference": conversion.difference,
        },
        indent=2,
    )


if __name__ == "__main__":
    sys.exit(main())
