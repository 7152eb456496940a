"""Time of whole non-local blocks, in training and inference, beside PyTorch's.

    python benchmarks/non_local_block.py [--maps res3] [--modes dot_product]

A block is theta, phi, g, pooling, the operation, W_z, batch normalisation and the
sum. The peers are written from the published formulas of PySlowFast, AlexHex7's
Non-local_pytorch and mmcv; our layer gets the conventions and weights of each, and
the values are compared (errors of z, dx and all weight gradients, against the peer
in float32; the peer's own is that of its channels-last form). Times are medians, in
ms, of calls taken turn by turn in this process.
"""

import argparse
import itertools
import os
import sys
from typing import NamedTuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

import numpy as np
from harness import block_subjects, machine, op_peers
from harness.block_conventions import CONVENTIONS
from harness.measure import medians
from harness.op_subjects import MODES
from harness.operands import OpShape, eighths, relative_error
from harness.options import choices_of
from harness.tables import QUICK_NOTE, number, print_header, print_row, scientific

TOLERANCE = {"float32": 1e-3, "bfloat16": 1e-1}
FORMS = ("ours", "contiguous", "channels last", "compiled")
LEGEND = """\
Times: medians, in ms. "best / ours": time of the fastest of PyTorch's forms over ours.
Errors: the largest of z, dx and the weight gradients, relative; the peer's own is that
of its channels-last form.
"""
HEADER = (
    "map",
    "mode",
    "block of",
    "step",
    *(f"{form}, ms" for form in FORMS),
    "best / ours",
    "our error",
    "peer's",
)


class Map(NamedTuple):
    """The block's input; an 8x8 clip of 224x224 has these maps at res3 and res4."""

    frames: int
    side: int
    channels: int

    def op_shape(self):
        keys = self.frames * (self.side // 2) ** 2
        return OpShape(self.frames * self.side**2, keys, self.channels // 2)


MAPS = {"res3": Map(4, 28, 512), "res4": Map(4, 14, 1024), "tiny": Map(2, 6, 16)}


def main():
    args = parse_arguments()
    machine.use_all_threads("tensorflow", *("torch",) * machine.installed("torch"))
    args.compile = args.compile and can_compile()
    print(QUICK_NOTE if args.quick else LEGEND)
    if not machine.installed("torch"):
        print("PyTorch is not installed (extra [backends]): our times only.\n")
    disagreeing = []
    for dtype in args.dtypes:
        print(f"{machine.machine_line()} {dtype}, batch 1.\n")
        print_header(HEADER)
        for case in cases(args, dtype):
            error, peers_error = measure(args, dtype, *case)
            if error is not None and not error < max(TOLERANCE[dtype], 2 * peers_error):
                disagreeing.append(f"{', '.join(case)}, {dtype}: {error:.1e}")
        print()
    if disagreeing:
        sys.exit("error: not the values of the peer: " + "; ".join(disagreeing))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--maps", type=choices_of(MAPS), default="res3,res4")
    add("--modes", type=choices_of(MODES), default=",".join(MODES))
    add("--peers", type=choices_of(CONVENTIONS), default=",".join(CONVENTIONS))
    add("--dtypes", type=choices_of(TOLERANCE), default="float32,bfloat16")
    add("--repeats", type=int, default=15, help="turns at most")
    add("--seconds", type=float, default=2, help="per line; three turns at least")
    add("--compile", action="store_true", help="torch.compile, channels last, too")
    add("--quick", action="store_true", help="smoke test: a tiny map, three turns")
    args = parser.parse_args()
    if args.quick:
        args.maps, args.repeats = ["tiny"], 3
    return args


def can_compile():
    if not machine.installed("torch"):
        return False
    reason = machine.why_no_compile()
    if reason:
        print(f"torch.compile does not work here ({reason}): left out.\n")
    return not reason


def cases(args, dtype):
    """(map, mode, peer), without combinations that a peer does not have."""
    for name, mode, peer in itertools.product(args.maps, args.modes, args.peers):
        fits = op_peers.pairs_fit(mode, MAPS[name].op_shape(), dtype)
        if mode in CONVENTIONS[peer].modes and fits:
            yield name, mode, peer


def measure(args, dtype, name, mode, peer):
    """Prints the lines of one case; returns the errors of ours and of the peer."""
    steps, expected = build(args, dtype, name, mode, CONVENTIONS[peer])
    errors = {form: error_of(s, expected) for form, s in steps.items()}
    for step in ("inference", "training"):
        run = {form: getattr(s, step) for form, s in steps.items()}
        ms = medians(run, args.repeats, args.seconds)
        peers = [ms[form] for form in ms if form != "ours"]
        ratio = min(peers) / ms["ours"] if peers else None
        cells = [number(value) for value in (*map(ms.get, FORMS), ratio)]
        cells += [scientific(errors.get(form)) for form in ("ours", "channels last")]
        print_row([name, mode, peer, step, *cells])
    return errors["ours"], errors.get("channels last")


def build(args, dtype, name, mode, convention):
    """Steps by form, all with the same weights; and the expected values."""
    frames, side, channels = MAPS[name]
    shape = (1, frames, side, side, channels)
    rng = np.random.default_rng(0)
    clip = [eighths(rng, shape) for _ in ("x", "dz")]
    layer = block_subjects.our_layer(mode, convention, shape, dtype)
    if not machine.installed("torch"):
        weights = layer.trainable_variables
        return {"ours": block_subjects.keras_steps(layer, weights, *clip, dtype)}, None
    from harness.block_peers import seeded_block

    def peer(dtype="float32", **options):
        block = seeded_block(channels, mode, convention)
        return block_subjects.torch_steps(block, *clip, dtype, **options)

    weights = block_subjects.load_weights(
        layer, seeded_block(channels, mode, convention)
    )
    steps = {
        "ours": block_subjects.keras_steps(layer, weights, *clip, dtype),
        "contiguous": peer(dtype),
        "channels last": peer(dtype, channels_last=True),
    }
    if args.compile:
        steps["compiled"] = peer(dtype, channels_last=True, compiled=True)
    return steps, values(peer())


def values(steps):
    """Of inference and training, as a list; also the first call of both."""
    inference = steps.to_numpy([steps.inference()])
    return inference + steps.to_numpy(steps.training())


def error_of(steps, expected):
    found = values(steps)
    return None if expected is None else relative_error(found, expected)


if __name__ == "__main__":
    main()
