"""Pictures of the clips with the largest loss, and of what a block attends to there."""

import base64
import dataclasses
import io

import numpy as np
import tensorflow as tf
from PIL import Image

from keras_nonlocal import visualize
from keras_nonlocal.layers import BaseNonLocal
from trainers.video_classification.data import normalize, read_views
from trainers.video_classification.report.scores import Scores

_NUM_FRAMES, _HEIGHT = 8, 112  # of the strip
_PLACES = 4, 7, 7  # (t, y, x): positions that are looked at


@dataclasses.dataclass(frozen=True)
class HardClip:
    """A clip that the network is wrong, or unsure, about.

    Attributes:
        number: Of its video in `Scores`.
        frames: Some of its frames side by side, a `data:` URL.
        attention: Arrows in all of its frames, a `data:` URL; may be empty.
        block: Name of the block whose attention it is.
    """

    number: int
    frames: str
    attention: str
    block: str


def hardest_clips(task, model, scores: Scores, count: int) -> list[HardClip]:
    """The clips with the largest loss, the largest first."""
    config = task.task_config
    blocks = [x.name for x in model.layers if isinstance(x, BaseNonLocal)]
    block, clips = blocks[-1] if blocks else "", []
    for number in np.argsort(-scores.losses, kind="stable")[:count]:
        video = scores.videos[number]
        clip = read_views(video.path, config.validation_data, config.clip)[0]
        attention = _attention(model, clip, config.clip, block) if block else ""
        clips.append(HardClip(int(number), _strip(clip), attention, block))
    return clips


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


def _attention(model, clip: np.ndarray, clip_config, block: str) -> str:
    """Arrows from the position, of some, with the strongest single connection."""
    inputs = normalize(clip[None], clip_config, tf.float32)
    last = np.array(clip.shape[:3]) - 1
    axes = map(np.linspace, (0, 0, 0), last, _PLACES)
    places = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 3)
    maps = visualize.attention_maps(model, inputs, block, places)
    row = int(np.argmax(maps.scores[0].max(axis=1)))
    keys, weights = visualize.top_connections(
        maps.scores[0], row, min(20, maps.scores.shape[2])
    )
    keys, weights = keys[weights > 0], weights[weights > 0]
    if not len(keys):
        return ""
    source = np.clip(maps.queries.centres[maps.rows[row]], 0, last)
    points = np.clip(maps.keys.centres[keys], 0, last)
    figure = visualize.draw_arrows(clip, source, points, weights)
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=80)
    return _to_url(Image.open(file))
