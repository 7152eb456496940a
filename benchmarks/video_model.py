"""Time and memory of whole networks in inference, beside PySlowFast's in PyTorch.

    python benchmarks/video_model.py [--models NL-I3D] [--dtypes bfloat16]

The peer is PySlowFast's C2D and I3D ResNet, written from its published
configuration, in PyTorch's modes; ours has its conventions and its weights, and the
logits are compared. Forms take turns in this process. KERAS_BACKEND=jax measures ours
on JAX.
"""

import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from harness import network_run

DEFAULTS = {"batch": 1, "frames": 8, "side": 224, "seconds": 20}

if __name__ == "__main__":
    warnings.filterwarnings("ignore", module="torch")
    network_run.main("inference", __doc__.split("\n")[0], DEFAULTS)
