"""The report of a run: its numbers, and a page that needs nothing else."""

import html.parser
import json
import re
import types

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.util import event_pb2

from tests.trainers import runs
from trainers.core.curves import read_curves
from trainers.video_classification.report import charts, page
from trainers.video_classification.report.hardest import HardClip
from trainers.video_classification.report.scores import Scores, _spread
from trainers.video_classification.report.timing import where_time_went

NAMES = ("run", "a <b> & 'c'", "swim")


def make_scores(labels=(0, 0, 0, 1, 2, 2), best=(0, 1, 1, 1, 2, 0), names=NAMES):
    probabilities = np.full((len(best), len(names)), 0.2 / (len(names) - 1))
    probabilities[np.arange(len(best)), best] = 0.8
    is_label = np.eye(len(names), dtype=bool)[list(labels)]
    videos = tuple(
        types.SimpleNamespace(name=f"v{i}", path="") for i in range(len(best))
    )
    return Scores(names, videos[: len(best)], probabilities, is_label, {}, False)


def write_events(folder, name, points):
    """Event files: (session, time, step, {tag: value})."""
    (folder / name).mkdir(exist_ok=True)
    for session in sorted({point[0] for point in points}):
        path = str(folder / name / f"events.out.tfevents.{session}.v2")
        with tf.io.TFRecordWriter(path) as writer:
            for number, time, step, values in points:
                if number == session:
                    event = event_pb2.Event(wall_time=time, step=step)
                    for tag, value in values.items():
                        tensor = tf.make_tensor_proto(value, tf.float32)
                        event.summary.value.add(tag=tag, tensor=tensor)
                    writer.write(event.SerializeToString())


class Page(html.parser.HTMLParser):
    """Tags that are open, ids, links and sources of a page."""

    VOID = {"meta", "img", "path", "use", "rect"}

    def __init__(self, text):
        super().__init__()
        self.open, self.ids, self.links, self.sources, self.tags = [], [], [], [], []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append(tag)
        self.ids += filter(None, [attributes.get("id")])
        self.links += filter(None, [attributes.get("href")])
        self.sources += filter(None, [attributes.get("src")])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag


def assert_self_contained(text):
    found = Page(text)
    assert found.open == [] and len(set(found.ids)) == len(found.ids)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert all(link[1:] in found.ids and link[0] == "#" for link in found.links)
    assert all(source.startswith("data:image/") for source in found.sources)
    assert not re.search(r"url\((?!#)|@import", text)
    assert len(text.encode()) < page.MAX_BYTES
    return found


# === Numbers ===


def test_losses_are_those_of_the_labels():
    scores = make_scores()
    expected = -np.log([0.8, 0.1, 0.1, 0.8, 0.8, 0.1])
    np.testing.assert_allclose(scores.losses, expected)


def test_the_confusion_matrix_counts_labels_by_row():
    found = page._confusion(make_scores())
    rows = re.findall(r'<th scope="row">(.*?)</th>(.*?)</tr>', found)
    counts = [list(map(int, re.findall(r">(\d+)</td>", row))) for _, row in rows]
    assert counts == [[1, 2, 0], [0, 1, 0], [1, 0, 1]]
    assert rows[1][0] == "a &lt;b&gt; &amp; &#x27;c&#x27;"


def test_classes_are_sorted_by_accuracy():
    found = page._classes(make_scores())
    rows = re.findall(r"row\">(.*?)</th><td>(\d+)</td><td>(.*?)</td>", found)
    assert [(name[:4], count, value) for name, count, value in rows] == [
        ("run", "3", "33.3 %"),
        ("swim", "2", "50.0 %"),
        ("a &l", "1", "100.0 %"),
    ]


def test_many_classes_have_the_most_frequent_confusions_and_a_picture():
    names = tuple(f"class {k}" for k in range(400))
    labels, best = [7] * 5 + [9] * 3 + [1], [8] * 5 + [3] * 3 + [1]
    found = page._confusion(make_scores(labels, best, names))
    rows = re.findall(r'text">(.*?)</td><td class="text">(.*?)</td><td>(\d+)', found)
    assert rows == [("class 7", "class 8", "5"), ("class 9", "class 3", "3")]
    assert 'src="data:image/png;base64,' in found and len(found) < 20_000


def test_several_labels_have_average_precisions_and_no_matrix():
    is_label = np.array([[1, 0, 1], [0, 0, 1], [1, 0, 0]], bool)
    p = np.array([[0.9, 0.2, 0.8], [0.5, 0.1, 0.9], [0.4, 0.3, 0.1]])
    videos = (types.SimpleNamespace(name="v", path=""),) * 3
    scores = Scores(NAMES, videos, p, is_label, {}, True)
    np.testing.assert_allclose(page._precisions(scores), [(1 + 2 / 3) / 2, np.nan, 1])
    assert page._confusion(scores) == "" and "mAP" in page._tiles(scores)
    assert "91.7 %" in page._tiles(scores)
    own = np.where(is_label, p, 1 - p)
    np.testing.assert_allclose(scores.losses, -np.log(own).mean(axis=1))


def speeds(rate, wait):
    return {"steps_per_second": rate, "input_wait": wait}


def test_time_is_that_of_all_sessions_and_not_between_them(tmp_path):
    train = [
        (0, 110.0, 10, speeds(1.0, 0.2)),  # from 100 on
        (0, 140.0, 20, speeds(0.5, 0.1)),  # 20 s, after 10 s of something else
        (1, 1005.0, 25, speeds(1.0, 0.0)),  # resumed
        (1, 1016.0, 35, speeds(1.0, 0.0)),  # after 1 s
    ]
    write_events(tmp_path, "train", train)
    write_events(tmp_path, "validation", [(0, 1020.0, 35, {"top1": 0.5})])
    found = where_time_went(str(tmp_path), 10)
    assert found == pytest.approx(
        {
            "computing steps": 8 + 18 + 5 + 10,
            "waiting for input": 2 + 2,
            "evaluating and saving": 10 + 1 + 4,
        }
    )
    assert where_time_went(str(tmp_path / "none"), 10) == {}


def test_a_damaged_event_file_is_read_up_to_the_damage(tmp_path, capsys):
    write_events(tmp_path, "train", [(0, 1.0, step, {"loss": step}) for step in (1, 2)])
    [path] = (tmp_path / "train").iterdir()
    path.write_bytes(path.read_bytes()[:-3])
    points = read_curves(str(tmp_path), "train")["loss"]
    assert [(point.step, point.value) for point in points] == [(1, 1.0)]
    assert f"warning: {path} cannot be read to its end" in capsys.readouterr().err


# === The page ===


def test_charts_have_the_colour_of_the_page_and_ids_of_their_own():
    charted = [
        charts.lines(name, {"a": [(0, 0.0), (10, 1.0)], "b": [(5, 0.5)]}, percent=True)
        for name in ("One & two", "Three")
    ]
    charted.append(charts.shares("Time", {"computing": 3.0, "waiting": 1.0}))
    for text in charted:
        assert "currentColor" in text and charts._INK not in text
        assert 'role="img"' in text
    assert 'aria-label="One &amp; two"' in charted[0]
    assert "computing 75%" in charted[2]
    assert_self_contained("".join(charted))


def test_clips_are_left_out_where_the_page_would_be_too_large():
    frames = "data:image/jpeg;base64," + "A" * 1_500_000
    clips = [HardClip(number, frames, "", "") for number in range(6)]
    head = {"title": "c2d", "subtitle": "", "tiles": page._tiles(make_scores())}
    sections = {"Curves": "none", "Hardest clips": "", "Config": "none"}
    text = page.fitted(head, sections, make_scores(), clips)
    found = assert_self_contained(text)
    assert len(found.sources) == 3 and found.links == [
        "#curves",
        "#hardest-clips",
        "#config",
    ]


STEPS = ("trainer.train_steps=4", "trainer.steps_per_loop=2")
STEPS += ("trainer.validation_interval=2", "task.report_videos=500")


@pytest.fixture(scope="module")
def trained(config, tmp_path_factory):
    """The folder of a training that has ended."""
    folder = tmp_path_factory.mktemp("trained") / "run & <more>"
    assert runs.run("train_and_eval", folder, *STEPS, config=config) == 0
    return folder


@pytest.mark.slow
def test_a_training_ends_with_the_report_of_the_run(trained):
    folder = trained
    text = (folder / "report.html").read_text()
    found = assert_self_contained(text)
    assert text.count("<svg") == 4  # three curves, and where the time went
    results = json.loads((folder / "eval_results.json").read_text())
    accuracy = f"<b>{100 * results['top1']:.1f} %</b>top-1 accuracy"
    if "best-4" in text:  # of the last step
        assert accuracy in text
    assert found.tags.count("img") == 12  # frames and attention of six videos
    assert "val/red/text.mp4: cannot be decoded" in text
    assert '<th scope="row">res2_0_nonlocal</th><td>embedded_gaussian</td>' in text
    assert "Attention of res2_0_nonlocal" in text and "train_steps: 4" in text
    assert found.tags.count("summary") >= 8  # what is folded opens by keyboard
    # A second command scores all videos, and gives the same page.
    assert runs.run("report", folder) == 0
    again = (folder / "report.html").read_text()
    assert again[again.index("<main") :] == text[text.index("<main") :]


@pytest.mark.slow
def test_a_report_that_cannot_be_written_is_a_warning_of_the_training(
    config, trained, capsys
):
    path = trained / "report.html"
    path.rename(trained / "kept.html")
    path.mkdir()
    try:
        assert runs.run("train_and_eval", trained, *STEPS, config=config) == 0
    finally:
        path.rmdir()
        (trained / "kept.html").rename(path)
    errors = capsys.readouterr().err
    assert errors.count("the training is done, but the report was not written") == 1
    assert f"{path}" in errors and "--mode report" in errors


def test_videos_of_a_part_are_spread_over_the_list():
    assert _spread(range(10), None) == range(10) == _spread(range(10), 10)
    assert _spread(range(10), 4) == [0, 2, 5, 7]
    assert _spread(range(4), 0) == []


# === In a browser ===


@pytest.fixture
def report(trained):
    return trained / "report.html"


def brightness(opened, property_name):
    color = opened.evaluate(f"getComputedStyle(document.body).{property_name}")
    return np.mean([int(x) for x in re.findall(r"\d+", color)[:3]])


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_follow_the_scheme(open_page, report, scheme):
    opened = open_page(report, color_scheme=scheme)
    text, back = (brightness(opened, name) for name in ("color", "backgroundColor"))
    assert (text < 60 and back > 200) if scheme == "light" else (text > 200 > 60 > back)
    # Charts have the colours of the text.
    texts = "[...document.querySelectorAll('svg text')]"
    fills = opened.evaluate(f"{texts}.map(e => getComputedStyle(e).fill)")
    color = opened.evaluate("getComputedStyle(document.body).color")
    assert set(fills) == {color}


@pytest.mark.browser
@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_window(open_page, report, width):
    opened = open_page(report, viewport={"width": width, "height": 800})
    opened.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    sizes = opened.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(sizes) == 2 * 6 and min(sizes) > 0


@pytest.mark.browser
def test_a_page_of_many_classes_fits_a_phone(open_page, tmp_path):
    names = tuple(f"a class with a long name, number {k}" for k in range(400))
    scores = make_scores([7] * 5 + [9] * 3, [8] * 5 + [3] * 3, names)
    head = {"title": "c2d", "subtitle": "", "tiles": page._tiles(scores)}
    sections = {"Classes": page._classes(scores), "Confusion": page._confusion(scores)}
    path = tmp_path / "report.html"
    path.write_text(page.fitted(head, sections, scores, []))
    opened = open_page(path, viewport={"width": 390, "height": 800})
    assert opened.evaluate("document.documentElement.scrollWidth") <= 390
    image = opened.locator("img.pixels").bounding_box()
    assert image["width"] == image["height"] <= 390


@pytest.mark.browser
def test_the_keyboard_goes_to_sections_and_opens_what_is_folded(open_page, report):
    opened = open_page(report, viewport={"width": 1280, "height": 400})
    focused = "document.activeElement.textContent"
    opened.keyboard.press("Tab")
    assert opened.evaluate(focused) == "Curves"
    for _ in range(3):
        opened.keyboard.press("Tab")
    assert opened.evaluate(focused) == "Confusion"
    opened.keyboard.press("Enter")
    assert opened.url.endswith("#confusion")
    top = "document.getElementById('confusion').getBoundingClientRect().top"
    assert abs(opened.evaluate(top)) < 5
    for _ in range(30):
        opened.keyboard.press("Tab")
        if opened.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    opened.keyboard.press("Enter")
    assert opened.evaluate("document.activeElement.parentElement.open")
