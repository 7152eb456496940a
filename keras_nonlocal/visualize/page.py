"""A web page in one file: a click on a pixel shows its attention everywhere."""

import base64
import dataclasses
import html
import importlib.resources
import io
import json
import math
import zlib

import numpy as np

from keras_nonlocal.receptive_field import Grid
from keras_nonlocal.visualize.analysis import interesting_queries

_MAX_BYTES = 4_800_000  # of a page
_MAX_SIDE = 256  # of a frame, in pixels


def attention_page(frames, maps, *, title="Attention", captions=None) -> str:
    """A page of HTML in which a click shows the attention of a place in a clip.

    The place that is clicked is the query: all frames are shown once for each block,
    with the attention of the block's query nearest to it. The arrow keys move the
    query, Page Up and Page Down change the frame, digits go to `interesting_queries`.
    The page is one file without external requests, below 5 MB: weights are rounded to
    1/127 of their row's largest; where they take too much room, the keys of the
    largest map are summed over 2x2 cells, then every other of its rows is left out.

    Args:
        frames: Images of the clip, `(T, H, W, 3)`, uint8, or floats in [0, 1].
        maps: Dict from names of blocks to `AttentionMaps`, such as
            `attention_of_blocks` returns, of which clip 0 is shown; with
            `max_rows=1024` one can click at about every tenth of a frame's width.
        title: Of the page.
        captions: Dict from names of blocks to lines of text, or None.

    Returns:
        The page; write it to a file in UTF-8.

    Raises:
        ImportError: Pillow is not installed.
        ValueError: Frames that are no images; no maps, or maps that are not of videos.

    Example:
    >>> model = C2D(14, 2, (4, 32, 32, 3), width=8, non_local={"res3": [0]})
    >>> clips = np.zeros((1, 4, 32, 32, 3), "float32")
    >>> maps = keras_nonlocal.visualize.attention_of_blocks(model, clips)
    >>> attention_page(clips[0], maps)[:15]
    '<!doctype html>'
    """
    frames = _to_bytes(np.asarray(frames))
    if not maps or any(len(m.queries.shape) != 3 for m in maps.values()):
        raise ValueError(
            "Expected `maps` of at least one block on video, {name: AttentionMaps}. "
            f"Received: {[*maps]}."
        )
    captions = captions or {}
    contents = {
        "shape": frames.shape[:3],
        "frames": [_to_jpeg(frame) for frame in frames],
        "suggestions": _suggestions(maps),
    }
    template = (
        importlib.resources.files(__package__)
        .joinpath("page.html")
        .read_text(encoding="utf-8")
    )
    room = _MAX_BYTES - len(json.dumps(contents)) - len(template)
    contents["blocks"] = [
        block.to_json(name, captions.get(name, ""))
        for name, block in _fitted(maps, room).items()
    ]
    data = json.dumps(contents, ensure_ascii=True).replace("<", "\\u003c")
    return template.replace("TITLE", html.escape(title)).replace("DATA", data)


# === Frames ===


def _to_bytes(frames):
    if frames.ndim != 4 or frames.shape[-1] != 3:
        raise ValueError(
            f"Expected `frames` (T, H, W, 3). Received shape {frames.shape}."
        )
    if frames.dtype.kind == "f":
        frames = np.rint(frames.clip(0, 1) * 255)
    return frames.astype("uint8")


def _to_jpeg(frame) -> str:
    """base64 of a JPEG, reduced to `_MAX_SIDE`."""
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError("The page needs Pillow: pip install pillow.") from error
    image = Image.fromarray(frame)
    image.thumbnail((_MAX_SIDE, _MAX_SIDE))
    file = io.BytesIO()
    image.save(file, "JPEG", quality=80)
    return base64.b64encode(file.getvalue()).decode()


# === Weights ===


@dataclasses.dataclass(frozen=True)
class _Block:
    """The rows of a block, with keys that may have been summed."""

    queries: Grid
    rows: np.ndarray
    keys: Grid
    weights: np.ndarray  # (K, M)

    def __post_init__(self):
        object.__setattr__(self, "packed", self._pack())

    def _pack(self) -> str:
        """base64 of the compressed rows in int8, each relative to its largest."""
        rounded = np.rint(127 * self.weights / self._peaks[:, None]).astype("int8")
        return base64.b64encode(zlib.compress(rounded.tobytes())).decode()

    @property
    def _peaks(self):
        return np.abs(self.weights).max(axis=1).clip(1e-30)

    def smaller(self) -> "_Block":
        """With fewer keys if there are many, else with fewer rows."""
        frames, height, width = self.keys.shape
        if height < 8 or width < 8:
            rows, weights = self.rows[::2], self.weights[::2]
            return dataclasses.replace(self, rows=rows, weights=weights)
        height, width = height // 2, width // 2
        cells = self.weights.reshape(len(self.weights), *self.keys.shape)
        cells = cells[:, :, : 2 * height, : 2 * width]
        cells = cells.reshape(len(cells), frames, height, 2, width, 2).sum(axis=(3, 5))
        keys = self.keys.pooled((1, 2, 2))
        return _Block(self.queries, self.rows, keys, cells.reshape(len(cells), -1))

    def to_json(self, name, caption) -> dict:
        return {
            "name": name,
            "caption": caption,
            "queries": dataclasses.asdict(self.queries),
            "rows": self.rows.tolist(),
            "keys": dataclasses.asdict(self.keys),
            "peaks": [float(f"{peak:.3g}") for peak in self._peaks],
            "weights": self.packed,
        }


def _fitted(maps, room) -> dict[str, _Block]:
    """The blocks of maps, in at most `room` bytes."""
    blocks = {}
    for name, m in maps.items():
        rows = np.arange(m.scores.shape[1]) if m.rows is None else m.rows
        weights = np.asarray(m.scores[0], "float32")
        blocks[name] = _Block(m.queries, np.asarray(rows), m.keys, weights)
    while sum(map(_size, blocks.values())) > room:
        largest = max(blocks, key=lambda name: _size(blocks[name]))
        if len(blocks[largest].rows) == 1:
            break
        blocks[largest] = blocks[largest].smaller()
    return blocks


def _size(block) -> int:
    return len(block.packed) + 20 * len(block.rows) + 1000


def _suggestions(maps):
    """Places that are interesting to the last blocks, at most nine."""
    each = math.ceil(9 / len(maps))
    places = []
    for m in reversed(maps.values()):
        chosen = m.centres[interesting_queries(m, each)]
        places += np.round(chosen, 1).tolist()
    return places[:9]
