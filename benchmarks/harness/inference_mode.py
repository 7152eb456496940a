"""Milliseconds a clip of the network, or of a mode that runs it.

    python -m harness.inference_mode folded|eval|predict CASE BATCHES

prints `[CPU, wall]` for each line on stdin: what `BATCHES` more batches take, divided
by the number of their clips.
"""

import ast
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness import network_tensorflow
from harness.networks import Case, pixels


def main(subject, case, num_batches):
    case, num_batches = Case(*ast.literal_eval(case)), int(num_batches)
    run = {"folded": _folded, "eval": _eval, "predict": _predict}[subject](case)
    run(2)  # traces, compiles, fills caches
    for _ in sys.stdin:
        # What an evaluation costs once, whatever its length, cancels out.
        spent = zip(_timed(run, 1 + num_batches), _timed(run, 1), strict=True)
        num_clips = num_batches * case.batch
        print(json.dumps([1e3 * (x - y) / num_clips for x, y in spent]), flush=True)


def _timed(run, count):
    cpu, wall = time.process_time(), time.perf_counter()
    run(count)
    return time.process_time() - cpu, time.perf_counter() - wall


def _repeated(step):
    def run(count):
        for _ in range(count):
            step()

    return run


def _folded(case):
    return _repeated(network_tensorflow.inference("folded", case).run)


def _eval(case):
    return network_tensorflow.evaluation(case)


def _predict(case):
    score, views = network_tensorflow.prediction(case), pixels(case)
    return _repeated(lambda: score(views))


if __name__ == "__main__":
    main(*sys.argv[1:])
