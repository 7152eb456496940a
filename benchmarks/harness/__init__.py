"""What the benchmark scripts share."""

import pathlib
import sys

sys.path.insert(1, str(pathlib.Path(__file__).parents[2]))  # of this checkout
