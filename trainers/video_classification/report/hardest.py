"""Pictures of the clips with the largest loss, and of what a block attends to there."""

import base64
import dataclasses
import io

import numpy as np
from PIL import Image

from keras_nonlocal import visualize
from trainers.video_classification.data import normalize, read_views
from trainers.video_classification.report.scores import Scores
from trainers.video_classification.visualize import draw_query

_NUM_FRAMES, _HEIGHT = 8, 112  # of the strip
_MAX_ROWS = 200  # queries of a block that are looked at


@dataclasses.dataclass(frozen=True)
class HardClip:
    """A clip that the network is wrong, or unsure, about.

    Attributes:
        number: Of its video in `Scores`.
        frames: Some of its frames side by side, a `data:` URL.
        attention: Arrows in some of its frames, a `data:` URL; empty without blocks.
        block: Name of the block whose attention it is.
    """

    number: int
    frames: str
    attention: str
    block: str


def hardest_clips(task, model, scores: Scores, count: int):
    """The clips with the largest loss, and what the blocks of the network do there.

    Returns:
        `HardClip`s, the largest loss first; and for each non-local block by name the
        mean `visualize.QueryIndependence` over these clips.
    """
    config = task.task_config
    blocks, clips = visualize.non_local_blocks(model), []
    measures = {name: [] for name in blocks}
    for number in np.argsort(-scores.losses, kind="stable")[:count]:
        path = scores.videos[number].path
        clip = read_views(path, config.validation_data, config.clip)[0]
        inputs, attention, block = normalize(clip[None], config.clip), "", ""
        if blocks:
            found = visualize.attention_of_blocks(model, inputs, max_rows=_MAX_ROWS)
            for block, maps in found.items():  # the last one is drawn
                measures[block].append(visualize.query_independence(maps))
            attention = _arrows(clip, maps)
        clips.append(HardClip(int(number), _strip(clip), attention, block))
    means = {
        name: visualize.QueryIndependence(*np.mean(values, axis=0).tolist())
        for name, values in measures.items()
    }
    return clips, means


def _strip(clip: np.ndarray) -> str:
    chosen = np.linspace(0, len(clip) - 1, min(len(clip), _NUM_FRAMES)).round()
    image = Image.fromarray(np.hstack(clip[chosen.astype(int)]))
    if image.height > _HEIGHT:
        image = image.resize((round(image.width * _HEIGHT / image.height), _HEIGHT))
    return _to_url(image)


def _to_url(image: Image.Image) -> str:
    file = io.BytesIO()
    image.convert("RGB").save(file, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"


def _arrows(clip: np.ndarray, maps) -> str:
    """Arrows from the most interesting query to the keys that it weighs most."""
    row = int(visualize.interesting_queries(maps, 1)[0])
    file = io.BytesIO()
    draw_query(clip, maps, row).savefig(file, format="png", dpi=80)
    return _to_url(Image.open(file))
