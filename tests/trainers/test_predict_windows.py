"""Windows of long videos and of live input, and the files that predict writes."""

import io
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction

import av
import numpy as np
import pytest

from trainers.core.errors import UserError
from trainers.video_classification import predict, predictors, timeline
from trainers.video_classification.ahead import Ahead
from trainers.video_classification.data import write_video
from trainers.video_classification.data.configs import ClipConfig, DataConfig
from trainers.video_classification.data.views import TestViews
from trainers.video_classification.modes import Options
from trainers.video_classification.predictors import Predictor

CLASSES = ("red", "green", "blue & <co>")
LOSSLESS = {"codec": "ffv1", "pix_fmt": "bgr0"}
RATE = 25
ROOT = pathlib.Path(__file__).parents[2]


def weighted_means(views):
    """Scores that depend on every pixel and on the order of frames."""
    weights = np.arange(1, views.shape[1] + 1)[:, None, None, None]
    means = (views / 255 * weights).mean(axis=(0, 1, 2, 3))
    return np.exp(means) / np.exp(means).sum(), means


def make_predictor(score=weighted_means, clip=None, **data):
    clip = clip or ClipConfig(num_frames=4, temporal_stride=3)
    data = DataConfig(min_short_side=16, max_short_side=16, crop_size=16, **data)
    return Predictor("net", CLASSES, data, clip, TestViews(data, clip), score)


def run(predictor, *paths, **options):
    options = {"top_k": 3, **options}
    paths = tuple(map(str, paths))
    return predict.run(predictor, Options("", paths=paths, **options))


@pytest.fixture
def predicted(capsys):
    """Function that gives the records of a run without errors."""

    def records(predictor, *paths, **options):
        assert run(predictor, *paths, as_json=True, **options) == 0
        output = capsys.readouterr().out
        if "window" in options:
            return [json.loads(line) for line in output.splitlines()]
        return json.loads(output)

    return records


def noise(count, height=20, width=28, seed=0):
    random = np.random.default_rng(seed)
    return random.integers(0, 256, (count, height, width, 3), np.uint8)


def write(path, frames, **options):
    write_video(str(path), frames, RATE, **(options or LOSSLESS))
    return str(path)


def scores(record):
    return {row["class"]: row["score"] for row in record["predictions"]}


def spans(records):
    return [(record["start"], record["end"]) for record in records]


# === Windows ===


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"num_test_clips": 2, "num_test_crops": 3},
        {"clip": ClipConfig(num_frames=4, temporal_stride=None, fps=10.0)},
        {"test_protocol": "pyslowfast", "num_test_clips": 3, "num_test_crops": 3},
    ],
    ids=["one view", "six views", "by time", "pyslowfast"],
)
def test_scores_of_windows_are_those_of_the_cut_out_parts(
    tmp_path, predicted, settings
):
    if "test_protocol" in settings:
        settings = {**settings, "clip": ClipConfig(num_frames=4, temporal_stride=2)}
    predictor, frames = make_predictor(**settings), noise(80)
    video = write(tmp_path / "long.mkv", frames)
    records = predicted(predictor, video, window=1.0, step=0.6)
    assert spans(records) == [
        (0, 1), (0.6, 1.6), (1.2, 2.2), (1.8, 2.8), (2.2, 3.2)
    ]  # fmt: skip
    for record in records:
        first = round(record["start"] * RATE)
        part = write(tmp_path / "part.mkv", frames[first : first + RATE])
        [alone] = predicted(predictor, part)
        assert scores(record) == scores(alone)
        assert record["score"] == max(scores(record).values())


def test_windows_do_not_overlap_unless_asked_and_the_last_ends_with_the_video(
    tmp_path, predicted
):
    video = write(tmp_path / "a.mkv", noise(60))
    found = predicted(make_predictor(), video, window=1.0)
    assert spans(found) == [(0, 1), (1, 2), (1.4, 2.4)]
    apart = predicted(make_predictor(), video, window=0.4, step=0.8)
    assert spans(apart) == [(0, 0.4), (0.8, 1.2), (1.6, 2)]
    for window in (2.399, 2.4):  # the rest is less than a frame
        whole = predicted(make_predictor(), video, window=window)
        assert spans(whole) == [(0, window)]


def test_windows_of_uneven_frames_are_in_time(tmp_path, predicted):
    """Two seconds at 25 frames a second, then two at 5."""
    path, frames = tmp_path / "uneven.mkv", noise(60)
    times = [*np.arange(50) / 25, *(2 + np.arange(10) / 5)]
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.height, stream.width, stream.pix_fmt = 20, 28, "bgr0"
        for pixels, time_shown in zip(frames, times, strict=True):
            frame = av.VideoFrame.from_ndarray(pixels, "rgb24")
            frame.pts, frame.time_base = round(time_shown * 1000), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    predictor = make_predictor(clip=ClipConfig(num_frames=5, temporal_stride=1))
    records = predicted(predictor, path, window=1.0)
    assert spans(records)[:4] == [(0, 1), (1, 2), (2, 3), (3, 4)]
    for record, part in zip(records[2:], (frames[50:55], frames[55:60]), strict=False):
        part = write(tmp_path / "part.mkv", part)
        [alone] = predicted(predictor, part)
        assert scores(record) == scores(alone)


def test_a_folder_of_frames_has_windows_if_its_rate_is_known(
    tmp_path, predicted, capsys
):
    import cv2

    frames, folder = noise(10), tmp_path / "frames"
    folder.mkdir()
    for number, pixels in enumerate(frames):
        cv2.imwrite(str(folder / f"img_{number:05d}.png"), pixels[..., ::-1])
    clip = ClipConfig(num_frames=2, temporal_stride=1)
    predictor = make_predictor(clip=clip, frame_rate=5.0)
    assert spans(predicted(predictor, folder, window=1.0)) == [(0, 1), (1, 2)]
    unknown = make_predictor(clip=clip)
    assert run(unknown, folder, window=1.0) == 1
    assert "task.validation_data.frame_rate" in capsys.readouterr().err


def test_a_damaged_part_is_an_error_of_its_windows(tmp_path, capsys):
    """Bytes in the middle of an MPEG-4 video are zero."""
    path = tmp_path / "damaged.mp4"
    options = {"codec": "mpeg4", "options": {"g": "5", "qscale": "2"}}
    write(path, noise(75, 64, 64), **options)
    content = bytearray(path.read_bytes())
    with av.open(str(path)) as container:
        packets = [(p.pos, p.size) for p in container.demux(video=0) if p.size]
    for position, size in packets[25:50]:
        content[position : position + size] = bytes(size)
    path.write_bytes(content)
    assert run(make_predictor(), path, window=1.0, as_json=True) == 1
    output, errors = capsys.readouterr()
    first, second, third = map(json.loads, output.splitlines())
    assert "score" in first and "score" in third
    assert "could be decoded" in second["error"] and second["start"] == 1
    assert errors == f"error: {path}: 1 to 2 s: {second['error']}\n"


# === Live input ===


def feed(fifo, content, pause=0.0):
    """Writes to a pipe in another thread, a kilobyte at a time."""

    def write_all():
        with open(fifo, "wb") as file:
            for start in range(0, len(content), 1000):
                file.write(content[start : start + 1000])
                file.flush()
                time.sleep(pause)

    thread = threading.Thread(target=write_all)
    thread.start()
    return thread


@pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi"])
@pytest.mark.parametrize(("window", "step"), [(1.0, 1.0), (1.0, 0.3), (0.4, 0.8)])
def test_a_pipe_has_the_scores_of_the_file(tmp_path, predicted, suffix, window, step):
    codec = {"codec": "mpeg4"} if suffix == ".avi" else {"codec": "libx264"}
    video = write(tmp_path / f"a{suffix}", noise(63, 32, 48), **codec)
    predictor, fifo = make_predictor(num_test_clips=2), tmp_path / "pipe"
    os.mkfifo(fifo)
    windows = {"window": window, "step": step}
    file = predicted(predictor, video, **windows)
    feeding = feed(fifo, pathlib.Path(video).read_bytes())
    live = predicted(predictor, fifo, **windows, queue=100)
    feeding.join()
    assert [record.pop("dropped") for record in live] == [0] * len(live)
    for a, b in zip(file, live, strict=True):
        assert spans([a])[0] == pytest.approx(spans([b])[0], abs=2e-3)
        assert scores(a) == scores(b)


def test_stdin_is_live_input(tmp_path, predicted):
    video = write(tmp_path / "a.mkv", noise(50))
    expected = predicted(make_predictor(), video, window=1.0)
    saved = os.dup(0)
    with open(video, "rb") as file:
        os.dup2(file.fileno(), 0)
    try:
        found = predicted(make_predictor(), "-", window=1.0, output_dir=str(tmp_path))
    finally:
        os.dup2(saved, 0)
        os.close(saved)
    assert [scores(x) for x in found] == [scores(x) for x in expected]
    [written] = tmp_path.glob("stdin-*.jsonl")
    assert [json.loads(line) for line in written.read_text().splitlines()] == found


def test_a_slow_network_drops_the_oldest_windows_and_counts_them(tmp_path, capsys):
    video = write(tmp_path / "a.mkv", noise(200))
    assert run(make_predictor(), video, window=0.4, as_json=True) == 0
    expected = list(map(json.loads, capsys.readouterr().out.splitlines()))
    begun, fifo = threading.Event(), tmp_path / "pipe"
    os.mkfifo(fifo)

    def slow(views):
        if not begun.is_set():
            feeding.join()  # all of the input has come
            time.sleep(0.5)
            begun.set()
        return weighted_means(views)

    feeding = feed(fifo, pathlib.Path(video).read_bytes())
    options = {"window": 0.4, "queue": 2, "as_json": True}
    assert run(make_predictor(slow), fifo, **options) == 0
    output, errors = capsys.readouterr()
    found = list(map(json.loads, output.splitlines()))
    number_dropped = found[-1]["dropped"]
    assert number_dropped == len(expected) - len(found) > 0
    assert f"warning: {number_dropped} windows were dropped" in errors
    by_start = {record["start"]: scores(record) for record in expected}
    assert all(by_start[record["start"]] == scores(record) for record in found)
    assert spans(found)[-2:] == spans(expected)[-2:]  # the newest are kept


def test_without_a_queue_the_input_waits_for_a_slow_network(tmp_path, predicted):
    video, fifo = write(tmp_path / "a.mkv", noise(50)), tmp_path / "pipe"
    expected = predicted(make_predictor(), video, window=0.4)
    os.mkfifo(fifo)

    def slow(views):
        time.sleep(0.1)
        return weighted_means(views)

    feeding = feed(fifo, pathlib.Path(video).read_bytes())
    found = predicted(make_predictor(slow), fifo, window=0.4, queue=0)
    feeding.join()
    assert [scores(x) for x in found] == [scores(x) for x in expected]
    assert found[-1]["dropped"] == 0


def test_ahead_waits_for_room_unless_it_drops():
    made = []

    def items():
        for number in range(6):
            made.append(number)
            yield number

    waiting = Ahead(items(), size=2)
    assert waiting.take() == [0]
    assert list(waiting) == [1, 2, 3, 4, 5] and waiting.dropped == 0
    dropping = Ahead(items(), size=2, drops_oldest=True)
    while len(made) < 12 or not dropping._ended:
        time.sleep(0.01)
    assert list(dropping) == [4, 5] and dropping.dropped == 4


def test_an_error_ahead_is_raised_after_the_items_before_it():
    def items():
        yield 1
        raise UserError("broken")

    found = Ahead(items(), size=3)
    assert found.take() == [1]
    with pytest.raises(UserError, match="broken"):
        found.take()


class Camera(threading.Thread):
    """An RTSP server: sends a file of MPEG-TS to one client, over its connection."""

    def __init__(self, content):
        super().__init__(daemon=True)
        self.content, self.socket = content, socket.create_server(("127.0.0.1", 0))
        self.url = f"rtsp://127.0.0.1:{self.socket.getsockname()[1]}/camera"
        self.start()

    def run(self):
        with self.socket:
            client, _ = self.socket.accept()
        with client, client.makefile("rb") as requests:
            while line := requests.readline():
                method, headers = line.split()[0].decode(), {}
                while (header := requests.readline().strip()) != b"":
                    name, _, value = header.decode().partition(":")
                    headers[name.lower()] = value.strip()
                self._answer(client, method, headers)

    def _answer(self, client, method, headers):
        lines, body = [f"CSeq: {headers['cseq']}", "Session: 1"], b""
        if method == "DESCRIBE":
            body = (
                b"v=0\r\ns=camera\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:0\r\n"
            )
            lines += ["Content-Type: application/sdp", f"Content-Length: {len(body)}"]
        elif method == "SETUP":
            lines += [f"Transport: {headers['transport']}"]
        text = "\r\n".join(["RTSP/1.0 200 OK", *lines, "", ""])
        client.sendall(text.encode() + body)
        if method == "PLAY":
            for number, start in enumerate(range(0, len(self.content), 7 * 188)):
                part = self.content[start : start + 7 * 188]
                rtp = bytes([0x80, 33]) + number.to_bytes(2, "big") + bytes(8) + part
                client.sendall(b"$\0" + len(rtp).to_bytes(2, "big") + rtp)
            client.shutdown(socket.SHUT_RDWR)


def test_a_network_camera_has_the_scores_of_its_recording(tmp_path, predicted):
    video = write(tmp_path / "a.ts", noise(75, 32, 48), codec="libx264")
    expected = predicted(make_predictor(), video, window=1.0)
    camera = Camera(pathlib.Path(video).read_bytes())
    found = predicted(make_predictor(), camera.url, window=1.0, queue=100)
    # The connection ends before the last frame is known to be whole.
    assert [scores(x) for x in found][:2] == [scores(x) for x in expected][:2]
    assert len(found) == 3


def test_a_camera_that_does_not_answer_is_one_line(capsys):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    url = f"rtsp://127.0.0.1:{port}/camera"
    assert run(make_predictor(), url, window=1.0) == 1
    errors = capsys.readouterr().err
    assert errors.startswith(f"error: {url}: ") and len(errors.splitlines()) == 1


# === Files ===


def fixed(*best):
    """A score function of one best class after the other."""
    rows = iter(best)
    return lambda views: (np.eye(3)[next(rows)] * 0.7 + 0.1, np.arange(2.0))


def test_subtitles_show_each_window_until_the_next(tmp_path):
    video = write(tmp_path / "a.mkv", noise(75))
    options = {"outputs": ("srt", "vtt"), "top_k": 1, "output_dir": str(tmp_path)}
    predictor = make_predictor(fixed(0, 2, 1))
    assert run(predictor, video, window=2.0, step=0.5, **options) == 0
    assert (tmp_path / "a.srt").read_text() == (
        "1\n00:00:00,000 --> 00:00:01,250\nred 0.80\n\n"
        "2\n00:00:01,250 --> 00:00:01,750\nblue & <co> 0.80\n\n"
        "3\n00:00:01,750 --> 00:00:03,000\ngreen 0.80\n\n"
    )
    assert (tmp_path / "a.vtt").read_text() == (
        "WEBVTT\n\n"
        "1\n00:00:00.000 --> 00:00:01.250\nred 0.80\n\n"
        "2\n00:00:01.250 --> 00:00:01.750\nblue &amp; &lt;co&gt; 0.80\n\n"
        "3\n00:00:01.750 --> 00:00:03.000\ngreen 0.80\n\n"
    )


def test_players_read_the_subtitles(tmp_path):
    video = write(tmp_path / "a.mkv", noise(50))
    options = {"outputs": ("srt", "vtt"), "output_dir": str(tmp_path)}
    assert run(make_predictor(fixed(0, 2)), video, window=1.0, **options) == 0
    for kind in ("srt", "vtt"):
        with av.open(str(tmp_path / f"a.{kind}")) as container:
            packets = [p for p in container.demux(subtitles=0) if p.size]
        shown = [(float(p.pts * p.time_base), bytes(p).decode()) for p in packets]
        assert [start for start, _ in shown] == [0, 1]
        assert shown[0][1].startswith("red 0.80\n")


def test_hours_are_in_the_times():
    assert timeline.clock_time(3725.0405, ".") == "01:02:05.040"
    assert timeline.clock_time(59.9996, ",") == "00:01:00,000"


def test_lines_are_written_as_they_come(tmp_path):
    video = write(tmp_path / "a.mkv", noise(250))
    seen = []

    def score(views):
        [part] = [p for p in tmp_path.iterdir() if ".jsonl." in p.name]
        seen.append(len(part.read_text().splitlines()))
        return weighted_means(views)

    options = {"output_dir": str(tmp_path), "window": 1.0}
    assert run(make_predictor(score), video, **options) == 0
    # A few windows are read and scored ahead.
    assert all(lines >= number - 3 for number, lines in enumerate(seen))
    lines = (tmp_path / "a.jsonl").read_text().splitlines()
    found = [(x["start"], x["end"]) for x in map(json.loads, lines)]
    assert found == [(start, start + 1) for start in range(10)]


def test_videos_are_scored_two_at_once_and_written_in_their_order(tmp_path, predicted):
    videos = [write(tmp_path / f"{i}.mkv", noise(20, seed=i)) for i in range(4)]
    both, passed = threading.Barrier(2, timeout=60), threading.Event()

    def score(views):
        if not passed.is_set():  # later ones need not be read in pairs
            both.wait()  # an error if no other thread gets here
            passed.set()
        return weighted_means(views)

    found = predicted(make_predictor(score), *videos)
    assert [record["path"] for record in found] == videos
    assert found == [predicted(make_predictor(), video)[0] for video in videos]


def test_threads_together_have_no_more_views_in_the_network_than_one_alone():
    inside, most, change = 0, [], threading.Lock()

    def network(views):
        nonlocal inside
        with change:
            inside += len(views)
            most.append(inside)
        time.sleep(0.01)
        with change:
            inside -= len(views)
        return [views]

    def score(count):
        views = np.arange(count)
        [scored] = predictors.in_parts(network, views)
        return np.array_equal(scored, views)

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(score, [1, 5, 2, 12, 3, 1, 4, 1, 1]))
    assert max(most) == 4 and len(most) == 18


def test_two_videos_of_thirty_views_are_in_the_network_at_once():
    both = threading.Barrier(2, timeout=10)

    def network(views):
        both.wait()  # an error if the other video has to wait for this one
        return [views]

    def score(count):
        return predictors.in_parts(network, np.arange(count))[0].tolist()

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(score, [30, 30])) == [list(range(30))] * 2


def test_the_annotated_video_has_all_frames_with_the_caption_in_a_corner(tmp_path):
    grey = np.full((50, 97, 161, 3), 128, np.uint8)  # odd sides
    video = write(tmp_path / "a.mkv", grey)
    options = {"outputs": ("mp4",), "top_k": 1, "output_dir": str(tmp_path / "out")}
    assert run(make_predictor(fixed(0, 1)), video, window=1.0, **options) == 0
    with av.open(str(tmp_path / "out" / "a.annotated.mp4")) as container:
        frames = list(container.decode(video=0))
        times = [float(frame.pts * frame.time_base) for frame in frames]
        pictures = [frame.to_ndarray(format="rgb24") for frame in frames]
    np.testing.assert_allclose(times, np.arange(50) / RATE, atol=1e-3)
    assert pictures[0].shape == (96, 160, 3)
    for picture in pictures:
        assert np.abs(picture[:60].astype(int) - 128).max() < 12
        assert picture[-12:, :40].min() < 70 and picture[-12:, :40].max() > 180
    same, other = pictures[20].astype(int), pictures[30].astype(int)
    assert np.abs(pictures[10] - same).mean() < 1 < np.abs(other - same)[-12:].mean()


def test_features_are_those_of_the_score_function(tmp_path, predicted):
    video = write(tmp_path / "a.mkv", noise(50))
    folder = str(tmp_path)
    options = {"window": 1.0, "output_dir": folder}
    records = predicted(make_predictor(), video, features="npz", **options)
    found = np.load(tmp_path / "a.features.npz")
    assert found["features"].dtype == np.float32 and found["features"].shape == (2, 3)
    shares = np.exp(found["features"])
    shares /= shares.sum(axis=1, keepdims=True)
    expected = [[scores(r)[name] for name in CLASSES] for r in records]
    np.testing.assert_allclose(shares, expected, rtol=1e-6)
    assert found["start"].tolist() == [0, 1] and found["end"].tolist() == [1, 2]
    assert found["class"].tolist() == [r["class"] for r in records]
    parquet = pytest.importorskip("pyarrow.parquet")
    predicted(make_predictor(), video, features="parquet", **options)
    table = parquet.read_table(tmp_path / "a.features.parquet").to_pydict()
    assert table["features"] == found["features"].tolist()
    assert table["end"] == [1, 2] and table["path"] == [video] * 2


def test_whole_videos_have_features_and_lines_too(tmp_path, predicted):
    video = write(tmp_path / "a.mkv", noise(50))
    [record] = predicted(
        make_predictor(), video, features="npz", output_dir=str(tmp_path / "out")
    )
    found = np.load(tmp_path / "out" / "a.features.npz")
    assert found["features"].shape == (1, 3) and np.isnan(found["start"][0])
    assert json.loads((tmp_path / "out" / "a.jsonl").read_text()) == record


def test_a_stopped_run_goes_on_with_what_is_not_done(tmp_path, capsys):
    folder, out = tmp_path / "videos", tmp_path / "out"
    (folder / "deep").mkdir(parents=True)
    write(folder / "a.mkv", noise(25))
    write(folder / "b.mkv", noise(25) // 2)
    write(folder / "deep/a.mkv", noise(25, seed=2))
    calls, interrupts = [], [KeyboardInterrupt]

    def stopped(views):
        calls.append(views)
        if views.mean() < 100 and interrupts:  # of b.mkv, the first time
            raise interrupts.pop()
        return weighted_means(views)

    options = {"window": 1.0, "outputs": ("srt", "mp4"), "output_dir": str(out)}
    with pytest.raises(KeyboardInterrupt):
        run(make_predictor(stopped), folder, **options)
    whole = {"a.jsonl", "a.srt", "a.annotated.mp4", "predict.json", ".lock"}
    assert {path.name for path in out.iterdir()} == whole
    before = {p: p.stat().st_mtime_ns for p in out.glob("a.*")}
    (out / ".b.srt.0123456789abcdef.part").write_text("of a killed run")
    calls.clear()
    assert run(make_predictor(stopped), folder, **options) == 0
    assert len(calls) == 2
    assert "1 of 3 videos were done before." in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in before} == before
    found = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()}
    assert found == whole | {
        f"{stem}{ending}"
        for stem in ("b", "deep/a")
        for ending in (".jsonl", ".srt", ".annotated.mp4")
    }
    write(folder / "a.mkv", noise(25, seed=9))  # a new video of this name
    assert run(make_predictor(stopped), folder, **options) == 0
    assert len(calls) == 3


def test_results_of_other_settings_are_not_mixed(tmp_path):
    video, out = write(tmp_path / "a.mkv", noise(50)), str(tmp_path / "out")
    assert run(make_predictor(), video, window=1.0, output_dir=out) == 0
    with pytest.raises(UserError, match=r"other settings \(window 1.0 -> 2.0\)"):
        run(make_predictor(), video, window=2.0, output_dir=out)


def test_the_output_folder_can_be_the_folder_of_the_videos(tmp_path, predicted):
    write(tmp_path / "a.mkv", noise(50))
    write(tmp_path / "a.avi", noise(50), codec="mpeg4")
    options = {"window": 1.0, "outputs": ("mp4",), "output_dir": str(tmp_path)}
    assert len(predicted(make_predictor(), tmp_path, **options)) == 4
    made = {"a.mkv.jsonl", "a.avi.jsonl", "a.mkv.annotated.mp4", "a.avi.annotated.mp4"}
    assert made < {path.name for path in tmp_path.iterdir()}
    assert predicted(make_predictor(), tmp_path, **options) == []  # none is new


def test_two_videos_are_never_written_to_the_same_file(tmp_path):
    for name in ("x", "y"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.mkv", noise(5))
    paths = [tmp_path / name / "a.mkv" for name in ("x", "y")]
    with pytest.raises(UserError, match="same files of --output_dir, a.mkv.*two runs"):
        run(make_predictor(), *paths, output_dir=str(tmp_path))


def test_a_pattern_names_files_and_folders(tmp_path, predicted, capsys):
    for name in ("a1.mkv", "a2.mkv", "b.mkv", "[c].mkv"):
        write(tmp_path / name, noise(5))
    found = predicted(make_predictor(), tmp_path / "a?.mkv", tmp_path / "[c].mkv")
    names = [os.path.basename(record["path"]) for record in found]
    assert names == ["a1.mkv", "a2.mkv", "[c].mkv"]
    assert run(make_predictor(), tmp_path / "z*.mkv") == 1
    assert "z*.mkv: no such file" in capsys.readouterr().err


# === Errors ===


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 8000), np.float32), "fltp")
        frame.rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


def test_each_bad_video_is_one_line_and_the_others_go_on(tmp_path, capsys):
    good = write(tmp_path / "good.mkv", noise(50))
    short = write(tmp_path / "short.mkv", noise(20))
    (tmp_path / "text.mp4").write_text("not a video")
    write_sound(tmp_path / "sound.mp4")
    paths = ["missing.mp4", "short.mkv", "text.mp4", "sound.mp4"]
    paths = [str(tmp_path / name) for name in paths]
    out = tmp_path / "out"
    options = {"window": 1.0, "outputs": ("srt",), "output_dir": str(out)}
    assert run(make_predictor(), *paths, good, as_json=True, **options) == 1
    output, errors = capsys.readouterr()
    lines = errors.splitlines()
    assert len(lines) == 4
    for path, line in zip(paths, lines, strict=True):
        assert line.startswith(f"error: {path}: "), line
    assert lines[0].endswith("no such file")
    assert "lasts 0.8 s, which is less than a window of 1 s" in lines[1]
    assert "cannot be decoded" in lines[2] and "no video stream" in lines[3]
    found = list(map(json.loads, output.splitlines()))
    assert [record["path"] for record in found] == [*paths, good, good]
    assert {p.name for p in out.iterdir()} == {
        ".lock", "good.jsonl", "good.srt", "predict.json"
    }  # fmt: skip
    assert short in paths


def test_a_full_disk_is_one_line_a_video_and_nothing_half_is_left(
    tmp_path, small_disk, capsys
):
    frames = noise(50, 96, 96)
    videos = [write(tmp_path / f"{name}.mkv", frames) for name in "ab"]
    disk = small_disk(64 * 1024)  # the annotated videos have 100s of kilobytes
    options = {"window": 1.0, "outputs": ("mp4",), "output_dir": str(disk)}
    assert run(make_predictor(), *videos, **options) == 1
    output, errors = capsys.readouterr()
    assert len(output.splitlines()) == 4
    for video, line in zip(videos, errors.splitlines(), strict=True):
        assert line.startswith(f"error: {video}: {disk}/") and "No space left" in line
    assert {path.name for path in disk.iterdir()} == {".lock", "predict.json"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0.0}, "--window must be a positive number"),
        ({"window": 1.0, "step": float("nan")}, "--step must be a positive number"),
        ({"step": 1.0}, "give --window, too"),
        ({"outputs": ("srt",), "output_dir": "x"}, "--outputs=srt needs --window"),
        ({"outputs": ("smi",)}, "--outputs is 'smi'"),
        ({"outputs": ("srt",), "window": 1.0}, "need a folder: --output_dir"),
        ({"features": "npz"}, "need a folder: --output_dir"),
        ({"features": "csv", "output_dir": "x"}, "--features is 'csv'"),
        ({"window": 1.0, "queue": -1}, "--queue must be at least 0"),
    ],
)
def test_flags_that_contradict_one_another_are_an_error(options, message):
    with pytest.raises(UserError, match=message):
        run(make_predictor(), "a.mp4", **options)


def test_live_input_needs_a_window_and_is_alone():
    with pytest.raises(UserError, match="give --window"):
        run(make_predictor(), "-")
    with pytest.raises(UserError, match="give it alone"):
        run(make_predictor(), "rtsp://camera/1", "a.mp4", window=1.0)
    with pytest.raises(UserError, match="mp4 needs a file"):
        options = {"outputs": ("mp4",), "output_dir": "x"}
        run(make_predictor(), "/dev/null", window=1.0, **options)


def test_parquet_without_pyarrow_is_one_clear_error():
    code = (
        "import importlib.util, sys\n"
        "sys.meta_path.insert(0, type('No', (), {'find_spec': staticmethod(\n"
        "    lambda name, *_: (_ for _ in ()).throw(ImportError(name))\n"
        "    if name.startswith('pyarrow') else None)}))\n"
        "from trainers.video_classification import timeline\n"
        "try:\n    timeline.check_kinds(['jsonl'], 'parquet')\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "needs pyarrow: pip install pyarrow" in done.stdout, done.stderr


_SLOW = """
import sys, time
from tests.trainers.test_predict_windows import make_predictor, run, weighted_means

def slow(views):
    time.sleep(0.05)
    return weighted_means(views)

options = {"outputs": ("srt", "mp4"), "features": "npz", "output_dir": sys.argv[2]}
sys.exit(run(make_predictor(slow), sys.argv[1], window=1.0, **options))
"""


@pytest.mark.hostile
def test_files_of_a_run_that_is_killed_at_any_moment_are_complete_or_absent(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    for number in range(12):
        write(folder / f"{number}.mkv", noise(75, 64, 80, number))
    whole, killed = tmp_path / "whole", tmp_path / "killed"

    def start(out):
        command = [sys.executable, "-c", _SLOW, str(folder), str(out)]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)

    assert start(whole).wait() == 0
    expected = {path.name: path.read_bytes() for path in whole.iterdir()}
    random = np.random.default_rng(0)
    for attempt in range(4):
        process = start(killed)
        before = len(list(killed.glob("*.jsonl"))) if killed.exists() else 0
        while process.poll() is None and before == len(list(killed.glob("*.jsonl"))):
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.2))
        process.kill()
        process.wait()
        for path in killed.glob("[!.]*"):
            assert_same_file(path, expected[path.name])
        assert len(list(killed.glob("*.jsonl"))) > before, attempt
    assert start(killed).wait() == 0
    found = {path.name for path in killed.iterdir()}
    assert found == expected.keys()


def assert_same_file(path, expected):
    """Pictures may be encoded, and the time in NPZ files be, another way."""
    if path.suffix == ".npz":
        found, other = np.load(path), np.load(io.BytesIO(expected))
        assert all(np.array_equal(found[name], other[name]) for name in other.files)
    elif path.suffix == ".mp4":
        with av.open(str(path)) as container:
            assert sum(1 for _ in container.decode(video=0)) == 75, path
    else:
        assert path.read_bytes() == expected, path
