"""Time and memory of whole networks in inference, beside PySlowFast's in PyTorch.

    python benchmarks/video_model.py [--models NL-I3D] [--dtypes bfloat16]

The peer is PySlowFast's C2D and I3D ResNet, written from its published
configuration, in PyTorch's modes; ours has its conventions and its weights, and the
logits are compared. KERAS_BACKEND=jax measures ours on JAX. The clock:
harness/clock.py.
"""

from harness import network_run

DEFAULTS = {"batch": 1, "frames": 8, "side": 224}

if __name__ == "__main__":
    network_run.main("inference", __file__, __doc__, DEFAULTS)
