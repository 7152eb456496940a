"""A file that takes too long to read is given up by name."""

import itertools
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from trainers.video_classification.data import (
    FailureLog,
    VideoError,
    load_index,
    make_dataset,
    read_views,
    watchdog,
)
from trainers.video_classification.data.configs import MediaLimits
from trainers.video_classification.data.reading import Views
from trainers.video_classification.data.samples import SampleReader

QUICK = MediaLimits(seconds=0.3)


def seconds_of(function):
    start = time.monotonic()
    function()
    return time.monotonic() - start


def test_a_file_whose_disk_does_not_answer_is_named(
    tmp_path, clips, data_config, clip_config, stall
):
    path = clips.write(tmp_path / "a.mp4", 12)
    stall(path)

    def read():
        with pytest.raises(VideoError) as raised:
            read_views(path, data_config(limits=QUICK), clip_config)
        assert raised.value.path == path
        assert raised.value.reason.startswith("not read within 0.3 s (limits.seconds")

    assert seconds_of(read) < 5


def test_training_goes_on_without_a_file_whose_disk_does_not_answer(
    data_config, clip_config, stall
):
    data = data_config(limits=QUICK, global_batch_size=9)
    failures, index = FailureLog(0.5), load_index(data)
    stalled = index.videos[4].path
    stall(stalled)
    batch = next(iter(make_dataset(index, data, clip_config, failures=failures)))
    assert list(failures.failures) == [stalled]
    assert "not read within 0.3 s" in failures.failures[stalled]
    assert 4 not in batch["video"].numpy()


def test_every_way_to_make_views_is_watched(data_config, clip_config):
    data = data_config(limits=QUICK)
    failures, index = FailureLog(1), load_index(data)
    failures.expect(len(index))
    blocked, end = [], threading.Event()

    def cut(path, *args):
        if not blocked:
            blocked.append(path)
            end.wait(60)
        return Views(np.zeros((1, 4, 28, 28, 3), np.uint8), np.zeros((1, 4), int), 25.0)

    reader = SampleReader(index, data, clip_config, 0, failures, cut)
    assert seconds_of(lambda: reader.read_sample(0)) < 5
    end.set()
    assert list(failures.failures) == blocked


def test_a_slow_file_ends_its_thread_too(tmp_path, clips, data_config, clip_config):
    path = clips.write(tmp_path / "a.mp4", 12)
    read_views(path, data_config(), clip_config)
    before = threading.active_count()
    data = data_config(limits=MediaLimits(seconds=1e-9))
    for _ in range(3):
        with pytest.raises(VideoError, match="not read within 1e-09 s"):
            read_views(path, data, clip_config)
    assert threading.active_count() == before


def test_results_and_errors_are_passed_on():
    assert watchdog.within("a", 60, divmod, 7, 3) == (2, 1)
    with pytest.raises(ZeroDivisionError):  # not an error of the file
        watchdog.within("a", 60, divmod, 7, 0)
    with pytest.raises(VideoError, match="^b: broken$"):
        watchdog.within("b", 60, _fail)


def _fail():
    raise VideoError("b", "broken")


def test_threads_are_used_again():
    def name():
        return threading.current_thread().ident

    names = {watchdog.within("a", 60, name) for _ in range(20)}
    assert len(names) == 1 and names != {name()}


def test_calls_side_by_side_have_threads_of_their_own():
    both = threading.Barrier(2, timeout=30)
    threads = [
        threading.Thread(target=watchdog.within, args=("a", 60, both.wait))
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not both.broken


def test_each_batch_of_items_has_its_own_time():
    def items():
        for number in itertools.count():
            if number % watchdog._BATCH == 0:
                time.sleep(0.2)
            yield number

    def first(count):  # inside a call, whose deadline moves
        return list(itertools.islice(watchdog.iterate("a", 0.5, items()), count))

    count = 3 * watchdog._BATCH + 1  # 0.8 s
    assert watchdog.within("a", 0.01, first, count) == list(range(count))


def test_items_that_do_not_come_are_an_error():
    end = threading.Event()

    def items():
        yield from range(150)
        end.wait(60)

    got = []
    with pytest.raises(VideoError, match="^a: not read within 0.3 s"):
        got.extend(watchdog.iterate("a", 0.3, items()))
    end.set()


_BLOCKED = """
import sys, threading
from trainers.video_classification.data import VideoError, watchdog
try:
    watchdog.within("a", 0.1, threading.Event().wait)
except VideoError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_blocked_thread_does_not_keep_the_process():
    child = subprocess.run(
        [sys.executable, "-c", _BLOCKED], capture_output=True, text=True, timeout=120
    )
    assert child.returncode == 0
    assert child.stdout.startswith("a: not read within 0.1 s")
