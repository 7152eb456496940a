"""The network, or a mode that runs it: milliseconds a clip."""

from harness import network_tensorflow
from harness.networks import Case, pixels
from harness.process import Made, timed


def make(subject, case, num_batches):
    """The subject `"folded"`, `"eval"` or `"predict"`, on `num_batches` a round."""
    case = Case(*case)
    run = {"folded": _folded, "eval": _eval, "predict": _predict}[subject](case)

    def measure():
        run(1)
        # What an evaluation costs once, whatever its length, cancels out.
        more, one = timed(lambda: run(1 + num_batches)), timed(lambda: run(1))
        wall, cpu = (
            1e3 * (x - y) / (num_batches * case.batch)
            for x, y in zip(more, one, strict=True)
        )
        return {"clip ms": wall, "clip CPU ms": cpu}

    return Made({"batches": lambda: run(2)}, measure=measure)


def _repeated(step):
    def run(count):
        for _ in range(count):
            step()

    return run


def _folded(case):
    return _repeated(network_tensorflow.folded(case))


def _eval(case):
    return network_tensorflow.evaluation(case)


def _predict(case):
    score, views = network_tensorflow.prediction(case), pixels(case)
    return _repeated(lambda: score(views))
