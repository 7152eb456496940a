"""Weights from elsewhere to a `.keras` file: `python -m keras_nonlocal.convert`."""

import argparse
import dataclasses
import json
import pathlib
import re
import sys

from keras_nonlocal.command_line import clip_sizes, json_value
from keras_nonlocal.convert.conversion import convert_file
from keras_nonlocal.convert.errors import CheckpointError
from keras_nonlocal.convert.sources import SOURCES
from keras_nonlocal.models.conventions import CONVENTIONS
from keras_nonlocal.models.inflation import TEMPORAL_KERNELS
from keras_nonlocal.models.resnet import DEPTHS
from keras_nonlocal.models.video_resnet import STEMS
from keras_nonlocal.ops.non_local import MODES


def main(argv=None):
    """Converts the file that the arguments name; returns the exit status."""
    options = vars(_parser().parse_args(argv))
    as_json = options.pop("json")
    try:
        names = options.pop("class_names")
        names = None if names is None else _read_names(names)
        conversion = convert_file(class_names=names, **options)
    except (ValueError, OSError) as error:
        print(f"error: {_with_flags(str(error))}", file=sys.stderr)
        return 1
    text = _with_flags(_to_text(conversion, options["path"]))
    print(_to_json(conversion) if as_json else text)
    return 0


# What the functions below call their arguments, and what the command does.
_FLAGS = (
    (r"\n?strict=False loads what fits all the same\.", ""),
    (r"\bskip_head=True|\b(?<=with )skip_head\b", "--skip-head"),
    (r"\bsee non_local_options=\{'mode': \.\.\.\}", "see --mode"),
    (r"\bchoose num_classes\b", "choose --num-classes"),
    (r"\bChoose non_local\b", "Choose --non-local"),
    (r"\bsee `(convention|stem)`", r"see --\1"),
    (r"(: |: see |; )(build [^\n]*|`(non_local_options|stride_in_1x1|width)`)", ""),
    (r"\n! build the model with stride_in_1x1=[^\n]*", ""),
    (r"\n! build the model with convention='(\w+)'[^\n]*", r"\n! see --convention \1"),
)


def _with_flags(message):
    """A message that names the command's flags for the arguments of functions."""
    for argument, flag in _FLAGS:
        message = re.sub(argument, flag, message)
    return message


class _Parser(argparse.ArgumentParser):
    """Says in one line what is wrong."""

    def error(self, message):
        self.exit(1, f"error: {message}\n")


def _parser():
    parser = _Parser(
        prog="python -m keras_nonlocal.convert",
        description="Builds the network that a file's weights are of, and saves it. "
        "Options confirm what the file tells, or say what it does not.",
    )
    add = parser.add_argument
    add("weights", metavar="SRC", help="file of any of the sources")
    add("path", metavar="DST", help="what to write: *.keras")
    add(
        "--source",
        choices=("auto", *SOURCES),
        default="auto",
        help="project that the weights are of; default: found by their names",
    )
    add("--model", choices=("c2d", "i3d"), help="for ImageNet weights: inflate to")
    add("--depth", type=int, help=f"one of {tuple(DEPTHS)}")
    add(
        "--non-local",
        type=json_value,
        metavar="N",
        help="""1, 5, 10 or JSON such as '{"res3": [1, 3]}'; new if it has none""",
    )
    add("--mode", choices=MODES, help="of the non-local blocks, where no name tells")
    add("--num-classes", type=int, help="of the classifier, or of a new one")
    add("--skip-head", action="store_true", help="start a new classifier")
    add(
        "--convention",
        choices=CONVENTIONS,
        help="project whose paddings, strides and blocks to follow; default: SRC's",
    )
    add("--stem", choices=STEMS, help="default: that of the source's released models")
    add(
        "--temporal-kernel",
        choices=TEMPORAL_KERNELS,
        help="for ImageNet weights, i3d only",
    )
    add(
        "--input",
        dest="clip",
        type=clip_sizes,
        metavar="TxHxW",
        help="clip that DST takes; default: the stem's frames of 224x224",
    )
    add("--class-names", metavar="FILE", help="one name per line, in label order")
    add(
        "--verify",
        dest="verifies",
        action="store_true",
        help="compare what was written with the source's own formulas",
    )
    add("--overwrite", action="store_true", help="replace DST")
    add("--json", action="store_true", help="print JSON")
    return parser


def _read_names(path):
    try:
        lines = pathlib.Path(path).read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise CheckpointError(f"Cannot read {path!r}: {error.strerror}.") from error
    except ValueError as error:
        raise CheckpointError(f"Cannot read {path!r}: not UTF-8 text.") from error
    names = [line.strip() for line in lines if line.strip()]
    for name in names:
        if names.count(name) > 1:
            raise CheckpointError(f"{path!r} lists the class {name!r} twice.")
    return names


def _to_text(conversion, path):
    chosen = [f"{x}={y!r}" for x, y in conversion.metadata["architecture"].items()]
    lines = [f"network: {', '.join(chosen)}"]
    lines += [f"! {note}" for note in conversion.notes]
    lines.append(str(conversion.report))
    if conversion.verification:
        lines.append(f"verified: {conversion.verification}")
    return "\n".join([*lines, f"wrote {path}"])


def _to_json(conversion):
    verification = conversion.verification
    return json.dumps(
        {
            **conversion.metadata,
            "notes": conversion.notes,
            "report": dataclasses.asdict(conversion.report),
            "verification": verification and dataclasses.asdict(verification),
        },
        indent=2,
    )


if __name__ == "__main__":
    sys.exit(main())
