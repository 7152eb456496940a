"""Detection, or a step of training, by one library, in its own process.

    python -m harness.detection_run ours|torchvision|compiled NETWORK HxW THREADS \
        detection|training [memory]

For each line on stdin it prints JSON: [seconds, seconds of CPU, detections or loss] of
the second of two calls. With `memory` it prints the peak of a call instead: [MiB above
the process with its libraries, MiB of the whole process]. Weights are those of
tests/parity; the library's own transform resizes no image of this size.
"""

import importlib
import json
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from harness import detection_networks
from harness.measure import PeakMemory, peak_of_process
from harness.processes import be_killed_first, die_with_parent


def main(subject, network, size, threads, task, measured="time"):
    be_killed_first()
    die_with_parent()
    side = "ours" if subject == "ours" else "torchvision"
    library = importlib.import_module(f"harness.detection_{side}")
    library.set_threads(int(threads))
    arguments = network, *inputs(network, *map(int, size.split("x")), task)

    def make():
        return getattr(library, task)(*arguments, compiled=subject == "compiled")

    if measured == "memory":
        print(json.dumps(peaks(make)))
        return
    step = make()
    step()  # traces, compiles
    for _ in sys.stdin:
        step()  # fills caches that the other process emptied
        print(json.dumps(timed(step)), flush=True)


def inputs(network, height, width, task):
    """Images, and for training what they show."""
    if task == "detection":
        return [[detection_networks.image(height, width)]]
    seeds = range(detection_networks.IMAGES)
    images = [detection_networks.image(height, width, seed) for seed in seeds]
    objects = [detection_networks.objects(network, height, width, x) for x in seeds]
    return [images, objects]


def timed(step):
    start, cpu = time.perf_counter(), time.process_time()
    result = step()
    return time.perf_counter() - start, time.process_time() - cpu, result


def peaks(make):
    """MiB above the libraries in the third call; of the process, whenever."""
    memory = PeakMemory()
    step = make()
    step()
    step()
    whole = peak_of_process()
    above = memory.mib(step, 0)
    return above, max(whole, peak_of_process())


if __name__ == "__main__":
    main(*sys.argv[1:])
