"""How far training scales, from measured costs: a model on paper, not a measurement.

    python benchmarks/scaling.py [--tflops 100] [--gbits 100] [--cores 96] ...

A step on n hosts, each with `devices` devices of `batch` clips, takes

    compute = batch * 6 * multiply-adds of a clip / tflops
    reduction = 2 (n - 1) / n * bytes / bandwidth + 2 (n - 1) * latency
    input = devices * batch * CPU seconds of a clip / cores
    step = max(compute + reduction, input)

There are three passes of two operations per multiply-add. Hosts form a ring; the bytes
are those of gradients and moving statistics in float32. They are summed once the last
gradient is known, so nothing overlaps. The cores prepare input meanwhile. The defaults
of `--cpu-ms` were measured (docs/training.md); those of hosts and storage are
assumptions to replace by one's own.
"""

import argparse
import math
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness.report import number, print_header, print_row

FRAMES = {"8x8": 8, "32x2": 32}
HOSTS = (1, 2, 4, 8, 16, 32, 64, 128)
MUCH = 0.1  # of a step: above it, the network is said to limit


def main():
    args = parse_arguments()
    models = {stem: count(stem) for stem in FRAMES}
    print_needs(args, models)
    print()
    print_header(["hosts", *(f"{stem}, clips/s (devices busy)" for stem in models)])
    for hosts in HOSTS:
        print_row([f"{hosts}", *(speed(args, *item, hosts) for item in models.items())])


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--tflops", type=float, default=100, help="sustained, of one device")
    add("--devices", type=int, default=8, help="of a host")
    add("--batch", type=int, default=8, help="clips of one device in a step")
    add("--cores", type=int, default=96, help="of a host")
    add("--gbits", type=float, default=100, help="network of a host, Gbit/s")
    add("--latency-us", type=float, default=30, help="of one message")
    add("--cpu-ms", type=float, nargs=2, default=(102, 110), help="8x8 and 32x2")
    add("--storage-gbytes", type=float, default=10, help="shared by all hosts, GB/s")
    add("--video-mbytes", type=float, default=0.6, help="read for a clip")
    return parser.parse_args()


def count(stem):
    """(multiply-adds of a clip, bytes summed over replicas in a step)."""
    import keras_nonlocal

    shape = (FRAMES[stem], 224, 224, 3)
    model = keras_nonlocal.I3D(depth=50, stem=stem, non_local=5, input_shape=shape)
    description = keras_nonlocal.describe(model)
    variables = (*model.trainable_variables, *model.non_trainable_variables)
    size = sum(math.prod(v.shape) for v in variables if "seed" not in v.path)
    return description.gmacs * 1e9, 4 * size


# === Model: seconds of a step ===


def compute(args, model):
    return args.batch * 6 * model[0] / (args.tflops * 1e12)


def reduction(args, model, hosts):
    others = hosts - 1
    transfer = 2 * others / hosts * model[1] / (args.gbits * 1e9 / 8)
    return transfer + 2 * others * args.latency_us * 1e-6


def reading(args, stem):
    cpu = dict(zip(FRAMES, args.cpu_ms, strict=True))[stem] / 1e3
    return args.devices * args.batch * cpu / args.cores


def step(args, stem, model, hosts):
    busy = compute(args, model) + reduction(args, model, hosts)
    return max(busy, reading(args, stem))


def speed(args, stem, model, hosts):
    """Clips per second of all hosts, and the fraction of a step that is `compute`."""
    seconds = step(args, stem, model, hosts)
    clips = hosts * args.devices * args.batch / seconds
    return f"{clips:,.0f} ({compute(args, model) / seconds:.0%})"


# === Limits ===


def network_limit(args, model):
    """The least number of hosts that wait for the network for `MUCH` of a step."""
    for hosts in range(2, 10_000):
        wait = reduction(args, model, hosts)
        if wait > MUCH * (wait + compute(args, model)):
            return f"{hosts} hosts"
    return "none"


def storage_limit(args, model):
    """The least number of hosts that together read faster than the storage gives."""
    clips = args.devices * args.batch / compute(args, model)
    hosts = args.storage_gbytes / (clips * args.video_mbytes / 1e3)
    return f"{math.floor(hosts) + 1} hosts"


def pixel_rate(args, stem, model):
    """Gbit/s of uint8 clips, if a host decodes none itself."""
    clips = args.devices * args.batch / compute(args, model)
    return clips * FRAMES[stem] * 224 * 224 * 3 * 8 / 1e9


def print_needs(args, models):
    """What one host needs, and from how many on something else limits."""
    print_header(["NL-I3D-R50", *models])
    for name, cell in {
        "multiply-adds of a clip, 10^9": lambda _, model: f"{model[0] / 1e9:.1f}",
        "summed over replicas in a step, MB": lambda _, model: f"{model[1] / 1e6:.0f}",
        "compute, ms": lambda _, model: number(1e3 * compute(args, model)),
        "reduction over 2 hosts, ms": lambda _, x: number(1e3 * reduction(args, x, 2)),
        "input, ms": lambda stem, _: number(1e3 * reading(args, stem)),
        "cores that a host needs": lambda stem, model: number(
            math.ceil(args.cores * reading(args, stem) / compute(args, model))
        ),
        f"network takes {MUCH:.0%} from": lambda _, model: network_limit(args, model),
        "storage is too slow from": lambda _, model: storage_limit(args, model),
        "pixels to a host from a tf.data service, Gbit/s": lambda stem, model: number(
            pixel_rate(args, stem, model)
        ),
    }.items():
        print_row([name, *(cell(*item) for item in models.items())])


if __name__ == "__main__":
    main()
