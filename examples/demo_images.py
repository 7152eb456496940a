"""Generates the images of the detection demo, with COCO annotations.

    python examples/demo_images.py OUTPUT [--train 600] [--val 100]

- `shapes/`: circles, squares and triangles; triangles have three keypoints.
- `keys/`: squares whose class is the colour of a disc at the other end of the image.

Each has a folder `train` and `val` of `images/` and `instances.json`, shapes also
`keypoints.json`. They are the same on every run.
"""

import argparse
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))

from trainers.core import cli

cli.quiet_start()

from trainers.core import files  # noqa: E402
from trainers.detection.shapes import TASKS, write_images  # noqa: E402

SPLITS = {"train": 600, "val": 100}


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("output", help="folder to write to")
    for split, count in SPLITS.items():
        parser.add_argument(f"--{split}", type=int, default=count, help="how many")
    options = vars(parser.parse_args(arguments))
    for task in TASKS:
        for seed, split in enumerate(SPLITS):
            folder = files.join(options["output"], task, split)
            write_images(folder, options[split], task, seed)
            print(f"{folder}: {options[split]} images")


if __name__ == "__main__":
    cli.run(main)
