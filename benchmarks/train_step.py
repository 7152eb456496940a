"""Time and memory of a training step, beside PySlowFast's networks in PyTorch.

    python benchmarks/train_step.py [--models NL-I3D] [--dtypes bfloat16]

A step is forward, backward and an update by SGD with Nesterov's momentum. Ours is the
trainer's own, `trainers/video.py --mode train` on one batch (on JAX, which has no
trainer here, the same as one compiled function). The peer is PySlowFast's C2D and I3D
ResNet, written from its published configuration, on the same weights, without
dropout on either side; loss and gradient norm are compared. In bfloat16 the peer
converts everything (`.to(bfloat16)`); with `--peers autocast` it keeps float32 weights,
as ours does. The clock: harness/clock.py.
"""

from harness import network_run

DEFAULTS = {"batch": 2, "frames": 8, "side": 112}

if __name__ == "__main__":
    network_run.main("training", __file__, __doc__, DEFAULTS)
