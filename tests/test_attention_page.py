"""The page of attention: what is in it, and how it works in a browser."""

import base64
import json
import re
import zlib

import numpy as np
import pytest

from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize import AttentionMaps, attention_page

pytest.importorskip("PIL.Image")


def random_maps(queries, keys, max_rows=1024, seed=0):
    """Attention that hardly compresses, on all frames of 4 pixels' stride and more."""
    grids = [Grid(shape, (0.5, 1.5, 1.5), (2.0, 4.0, 4.0)) for shape in (queries, keys)]
    rows = grids[0].even(max_rows)
    random = np.random.default_rng(seed)
    scores = random.random((1, len(rows), np.prod(keys)), "float32")
    return AttentionMaps(scores / scores.sum(2, keepdims=True), *grids, rows)


def random_frames(num_frames=4, size=32):
    random = np.random.default_rng(0)
    return random.integers(0, 256, (num_frames, size, size, 3), np.uint8)


def contents_of(page):
    found = re.search(r'<script id="data" type="application/json">(.*?)</script>', page)
    return json.loads(found[1])


def weights_of(block):
    packed = zlib.decompress(base64.b64decode(block["weights"]))
    rows = np.frombuffer(packed, "int8").reshape(len(block["rows"]), -1)
    return rows / 127 * np.array(block["peaks"])[:, None]


def test_weights_are_those_of_the_maps():
    maps = random_maps((2, 8, 8), (2, 4, 4))
    maps.scores[0, 3] *= -1
    page = attention_page(
        random_frames(), {"a": maps, "b": maps}, captions={"b": "<i>"}
    )
    a, b = contents_of(page)["blocks"]
    for block in (a, b):
        weights = weights_of(block)
        limit = np.abs(maps.scores[0]).max(axis=1, keepdims=True) / 127
        assert (np.abs(weights - maps.scores[0]) < limit).all()
        assert Grid(**{k: tuple(v) for k, v in block["keys"].items()}) == maps.keys
        assert block["rows"] == maps.rows.tolist()
    assert (a["caption"], b["caption"]) == ("", "<i>")
    assert "<i>" not in page


def test_texts_cannot_end_the_script_or_the_title():
    maps = {"</script><b>": random_maps((2, 4, 4), (2, 2, 2))}
    page = attention_page(random_frames(), maps, title="<b>&")
    assert page.count("</script>") == 2 and "<b>" not in page
    assert contents_of(page)["blocks"][0]["name"] == "</script><b>"
    assert "<title>&lt;b&gt;&amp;</title>" in page


def test_pages_of_long_clips_stay_below_5_mb():
    random = random_maps((16, 28, 28), (16, 14, 14))  # 3,136 keys, 784 rows
    maps = {f"block {i}": random for i in range(3)}
    frames = random_frames(32, 224)
    page = attention_page(frames, maps)
    assert 3e6 < len(page) < 5e6
    sums = []
    for block in contents_of(page)["blocks"]:
        weights = weights_of(block)
        assert weights.shape[1] == np.prod(block["keys"]["shape"])
        sums.append(weights.sum(axis=1))
    # Keys are summed over cells: the weight of a row remains.
    np.testing.assert_allclose(np.concatenate(sums), 1, atol=0.02)


def test_nothing_is_requested():
    page = attention_page(random_frames(), {"a": random_maps((2, 4, 4), (2, 2, 2))})
    policy = re.search(r'Content-Security-Policy" content="(.*?)"', page)[1]
    assert policy.startswith("default-src 'none'; img-src data:;")
    assert not re.search(r"(?:https?:)?//[a-z]", page.split("<script>")[0])


@pytest.mark.parametrize(
    ("frames", "maps", "message"),
    [
        (np.zeros((8, 8, 3)), {}, "Expected `frames`"),
        (np.zeros((1, 8, 8, 3)), {}, "at least one block"),
        (np.zeros((1, 8, 8, 3)), "images", "at least one block on video"),
    ],
)
def test_invalid_contents_are_refused(frames, maps, message):
    if maps == "images":
        grid = Grid((2, 2), (0.0, 0.0), (1.0, 1.0))
        maps = {"a": AttentionMaps(np.ones((1, 4, 4)), grid, grid)}
    with pytest.raises(ValueError, match=message):
        attention_page(frames, maps)


# === In a browser ===


@pytest.fixture(params=["light", "dark"])
def opened(request, open_page, tmp_path):
    """The page, and its colour scheme."""
    maps = random_maps((2, 8, 8), (2, 4, 4))
    maps = maps._replace(keys=Grid((2, 4, 4), (0.5, 3.5, 3.5), (2.0, 8.0, 8.0)))
    query = maps.queries.nearest(2, 20, 9)
    maps.scores[0] = 0.001
    maps.scores[0, query, 5] = 1  # at frame 0.5, row 11.5, column 11.5
    path = tmp_path / "page.html"
    path.write_text(attention_page(random_frames(), {"one": maps, "two": maps}))
    page = open_page(path, color_scheme=request.param)
    page.locator("#status:not(:empty)").wait_for()
    return page, request.param


@pytest.mark.browser
def test_a_click_and_the_keys_move_the_query(opened):
    page, _ = opened
    status, canvas = page.locator("#status"), page.locator("canvas").nth(4 + 2)
    box = canvas.bounding_box()
    x, y = ((box["width"] - 4) / 32 * (place + 0.5) for place in (9, 20))
    canvas.click(position={"x": x, "y": y})
    assert status.inner_text() == "Query: frame 2, row 20, column 9"
    found = "Query at frame 2, row 22, column 10: most weight, 1.00, on frame 0, row 12"
    for section in (0, 1):
        text = page.locator("section").nth(section).locator("p").first.inner_text()
        assert text.startswith(found)
    for key, place in {
        "ArrowRight": "frame 2, row 20, column 13",
        "ArrowUp": "frame 2, row 16, column 13",
        "PageDown": "frame 3, row 16, column 13",
        "ArrowLeft": "frame 3, row 16, column 9",
        "PageUp": "frame 2, row 16, column 9",
        "ArrowDown": "frame 2, row 20, column 9",
        "1": "frame 2, row 22, column 10",  # the only one that is interesting
    }.items():
        page.keyboard.press(key)
        assert status.inner_text() == f"Query: {place}"


READ_PIXELS = """canvas => {
    const copy = new OffscreenCanvas(32, 32);
    const context = copy.getContext("2d", {willReadFrequently: true});
    context.drawImage(canvas, 0, 0, 32, 32);
    return [...context.getImageData(0, 0, 32, 32).data];
}"""


@pytest.mark.browser
def test_heat_is_where_the_attention_is(opened):
    page, _ = opened
    page.keyboard.press("1")

    def changed(opacity):
        page.locator("#opacity").fill(str(opacity))
        canvas = page.locator("canvas").nth(1)
        pixels = canvas.evaluate(READ_PIXELS)
        return np.reshape(pixels, (32, 32, 4)).astype(int)

    heat = np.abs(changed(1) - changed(0)).sum(axis=2)
    rows, columns = np.nonzero(heat > 200)
    assert abs(rows.mean() - 11.5) < 2 and abs(columns.mean() - 11.5) < 2


@pytest.mark.browser
def test_colours_follow_the_scheme(opened):
    page, scheme = opened
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    brightness = np.mean([int(x) for x in re.findall(r"\d+", color)[:3]])
    assert (brightness > 200) if scheme == "light" else (brightness < 60)
