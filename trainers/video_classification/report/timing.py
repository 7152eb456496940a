"""Where the time of a training went, from the times in its event files."""

from collections.abc import Sequence

from trainers.core.curves import Point, read_curves


def where_time_went(model_dir: str, steps_per_loop: int) -> dict[str, float]:
    """Seconds by what was done, of all sessions of a run; empty without curves.

    A session ends where the training was stopped; the time until the next is left out.

    Args:
        model_dir: Folder of the run.
        steps_per_loop: The most steps between two points of the curves.
    """
    curves = read_curves(model_dir, "train")
    speeds, waits = curves.get("steps_per_second"), curves.get("input_wait")
    if not speeds or not waits:
        return {}
    found = {"computing steps": 0.0, "waiting for input": 0.0}
    found["evaluating and saving"] = between = 0.0
    previous = None
    for speed, wait in zip(speeds, waits, strict=False):
        seconds = _num_steps(previous, speed, steps_per_loop) / max(speed.value, 1e-9)
        found["waiting for input"] += wait.value * seconds
        found["computing steps"] += (1 - wait.value) * seconds
        if previous and previous.session == speed.session:
            between += max(speed.time - seconds - previous.time, 0.0)
        previous = speed
    last = _last_time(read_curves(model_dir, "validation"))
    found["evaluating and saving"] = between + max(last - previous.time, 0.0)
    return found


def _num_steps(previous: Point | None, point: Point, steps_per_loop: int) -> int:
    done = point.step - (previous.step if previous else 0)
    return min(done, steps_per_loop) if done > 0 else steps_per_loop


def _last_time(curves: dict[str, Sequence[Point]]) -> float:
    return max((points[-1].time for points in curves.values()), default=0.0)
