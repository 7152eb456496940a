import pytest
from absl import logging

from trainers.video_classification.data import FailureLog, TooManyBroken


def read(log, good=0, broken=0):
    for i in range(good):
        log.attempt(f"good{i}.mp4")
    for i in range(broken):
        log.attempt(f"broken{i}.mp4")
        log.record(f"broken{i}.mp4", "no such file")


def test_too_many_broken_videos_are_named():
    log = FailureLog(0.1)
    log.expect(100)
    read(log, good=18, broken=2)
    log.check()
    read(log, good=18, broken=3)
    with pytest.raises(TooManyBroken, match="3 of the 21") as raised:
        log.check()
    assert "  broken2.mp4: no such file" in str(raised.value)
    assert "max_broken_fraction` allows 0.1" in str(raised.value)


def test_the_first_few_videos_decide_nothing():
    log = FailureLog(0.1)
    log.expect(100)
    read(log, good=4, broken=5)
    log.check()
    read(log, good=5, broken=5)
    with pytest.raises(TooManyBroken):
        log.check()


def test_one_broken_video_ends_a_run_only_at_limit_zero_or_when_alone():
    for limit, good, ends in [(0.1, 3, False), (0.0, 3, True), (0.1, 0, True)]:
        log = FailureLog(limit)
        log.expect(good + 1)
        read(log, good, broken=1)
        if ends:
            with pytest.raises(TooManyBroken):
                log.check()
        else:
            log.check()


def test_a_video_counts_and_is_logged_once(monkeypatch):
    lines = []
    monkeypatch.setattr(
        logging, "warning", lambda text, *args: lines.append(text % args)
    )
    log = FailureLog(0.5)
    for _ in range(3):
        read(log, good=1, broken=1)
        log.warn("good0.mp4", "2 of 8 frames lost")
    assert log.num_read == 2
    assert log.failures == {"broken0.mp4": "no such file"}
    assert log.damaged == {"good0.mp4": "2 of 8 frames lost"}
    assert lines == [
        "Skipped a broken video, broken0.mp4: no such file",
        "A damaged video, good0.mp4: 2 of 8 frames lost",
    ]


def test_a_long_list_is_cut_short():
    log = FailureLog(0.1)
    log.expect(100)
    read(log, broken=25)
    with pytest.raises(TooManyBroken, match="and 15 more"):
        log.check()
