"""Progress: a bar on terminals, plain lines elsewhere."""

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time

from trainers.core.progress import ProgressBar


def test_elsewhere_than_on_a_terminal_progress_is_plain_lines(capsys):
    bar = ProgressBar("train", total=8, start=4, seconds_per_line=0)
    bar.show(loss=1.25, input_wait=0.5)
    bar.advance()
    bar.write("Step 5")
    bar.advance(2)
    bar.close()
    output, errors = capsys.readouterr()
    assert output == "Step 5\n"
    first, second = errors.splitlines()
    assert re.fullmatch(
        r"train: 5/8 \(62%\), loss=1.25, input_wait=50%, [\d.e+]+ steps/s, "
        r"0:00:00 left",
        first,
    )
    assert second.startswith("train: 7/8 (88%), loss=1.25")
    assert not {"\r", "\x1b"} & set(errors)


def test_the_remaining_time_is_that_of_the_steps_of_this_run(capsys):
    bar = ProgressBar("train", total=1040, start=1000, seconds_per_line=0.1)
    time.sleep(0.2)
    bar.advance(2)  # 10 steps/s
    speed, hours, minutes, seconds = re.search(
        r"([\d.]+) steps/s, (\d+):(\d+):(\d+) left", capsys.readouterr().err
    ).groups()
    assert 2 < float(speed) <= 10
    left = int(hours) * 3600 + int(minutes) * 60 + int(seconds)
    assert abs(left - 38 / float(speed)) < 1


def test_lines_come_now_and_then_and_at_the_end(capsys):
    bar = ProgressBar("prepare", total=500, unit="video")
    for _ in range(500):
        bar.advance()
    assert capsys.readouterr().err == ""
    bar.close()
    assert re.match(r"prepare: 500/500 \(100%\), .* videos/s", capsys.readouterr().err)


def test_without_a_total_steps_are_counted(capsys):
    bar = ProgressBar("eval", seconds_per_line=0)
    bar.update_of(None)
    assert re.fullmatch(r"eval: 1 steps, [\d.e+]+ steps/s\n", capsys.readouterr().err)


def test_disabled_progress_shows_nothing(capsys):
    bar = ProgressBar("train", total=8, enabled=False)
    bar.show(loss=1.0)
    bar.advance()
    bar.close()
    assert capsys.readouterr() == ("", "")


def test_on_a_terminal_it_is_a_bar(monkeypatch):
    terminal, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("4H", 24, 100, 0, 0))
    with open(end, "w") as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        bar = ProgressBar("train", total=8)
        bar.show(loss=1.25)
        bar.advance()
        bar.close()
        shown = ""
        while "loss=1.25" not in shown:
            assert select.select([terminal], [], [], 10)[0], shown
            shown += os.read(terminal, 10_000).decode()
    os.close(terminal)
    assert "\rtrain" in shown and "1/8" in shown
