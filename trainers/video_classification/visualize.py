"""Pictures of what a trained network attends to in videos.

Of the middle one of a video's test views, in OUTPUT_DIR/NAME/: `attention.html`, a page
to click on, and for each block and query `BLOCK_T_Y_X.png` with arrows to the keys of
the largest weights (paper, Fig. 3), and `.gif` with the weights as heat. A video that
cannot be read does not end the run.
"""

import io
import math
import os
import sys

import numpy as np
import tensorflow as tf

from keras_nonlocal import visualize
from trainers.core import files
from trainers.core.errors import UserError, did_you_mean
from trainers.video_classification.data import VideoError, normalize, read_views
from trainers.video_classification.data.decoding import is_live
from trainers.video_classification.prediction_inputs import find_videos

_SUFFIX = "_nonlocal"  # which names of blocks end with
_MAX_ROWS = 1024  # of each block on a page
_ARROWS = 20  # as in the paper
_FRAMES = 8  # in a picture of arrows
_SIDE = 256  # pixels, to which small animations are enlarged
_QUERIES = 3  # that are chosen if none is given


def check(options) -> list[tuple[float, ...]]:
    """The positions (t, y, x) of `--query`.

    Args:
        options: `modes.Options`.

    Raises:
        UserError: Another format; live input.
    """
    for path in map(os.fspath, options.paths):
        if is_live(path):
            raise UserError(f"{path} is live input: visualize needs a file.")
    return options.positions()


def run(task, model, options) -> int:
    """Writes the pictures of videos, and prints how their attention is distributed.

    Args:
        task: Task the model was trained for.
        model: Keras model from normalised clips to logits, weights loaded.
        options: `modes.Options`: `paths` as in `predict`; `output_dir`, by default
            MODEL_DIR/visualize; `blocks`, by default all; `queries`, by default
            interesting ones of the last block; `as_json`.

    Returns:
        Exit code: 0, or 1 if any video could not be read.

    Raises:
        UserError: Unknown blocks, none in the network, or a query outside the clip.
    """
    queries, names = check(options), _block_names(model, options.blocks)
    folder = options.output_dir or files.join(options.model_dir, "visualize")
    results = []
    for video in find_videos(options.paths, folder):
        result = _visualize(task, model, video, names, queries, folder)
        results.append(result)
        if "error" in result:
            error = f"error: {result['path']}: {result['error']}"
            print(files.printable(error), file=sys.stderr)
        elif not options.as_json:
            print(_table(result), flush=True)
    if options.as_json:
        print(files.to_json(results))
    return int(any("error" in result for result in results))


def _block_names(model, wanted) -> list[str]:
    names = list(visualize.non_local_blocks(model))
    if not names:
        raise UserError("The network has no non-local blocks: nothing attends.")
    for name in wanted:
        if name not in names and name + _SUFFIX not in names:
            short = [name.removesuffix(_SUFFIX) for name in names]
            raise UserError(
                f"--block={name} is not a block of the network."
                f"{did_you_mean(name, short)}"
            )
    full = [name if name in names else name + _SUFFIX for name in wanted]
    return [name for name in names if name in full] if wanted else names


def _visualize(task, model, video, names, queries, folder) -> dict:
    config = task.task_config
    if video.problem:
        return {"path": video.path, "error": video.problem}
    try:
        views = read_views(video.path, config.validation_data, config.clip)
    except VideoError as error:
        return {"path": video.path, "error": error.reason}
    frames = views[len(views) // 2]
    _check_inside(queries, frames.shape[:3])
    clips = normalize(frames[None], config.clip, tf.float32)
    maps = visualize.attention_of_blocks(model, clips, names, max_rows=_MAX_ROWS)
    blocks = [_describe(model, name, maps[name]) for name in names]
    folder = files.join(folder, video.name)
    page = visualize.attention_page(
        frames,
        maps,
        title=f"Attention: {files.printable(os.path.basename(video.path.rstrip('/')))}",
        captions={block["block"]: _caption(block) for block in blocks},
    )
    page_path = files.join(folder, "attention.html")
    files.write_text(page_path, page, durable=False)
    last = maps[names[-1]]
    if not queries:
        chosen = visualize.interesting_queries(last, _QUERIES)
        queries = [tuple(map(float, point)) for point in last.centres[chosen]]
    rows = visualize.attention_of_blocks(model, clips, names, positions=queries)
    pictures = [
        path
        for name in names
        for path in _draw(frames, name, rows[name], queries, folder)
    ]
    return {
        "path": video.path,
        "blocks": blocks,
        "queries": queries,
        "files": [page_path, *pictures],
    }


def _check_inside(queries, shape):
    for query in queries:
        if not all(0 <= place < size for place, size in zip(query, shape, strict=True)):
            raise UserError(
                f"--query={_text(query, ',')} is outside the clip, which has "
                f"{shape[0]} frames of {shape[1]} rows and {shape[2]} columns."
            )


# === How attention is distributed ===


def _describe(model, name: str, maps) -> dict:
    layer, found = model.get_layer(name), visualize.query_independence(maps)
    values = {
        key: value if math.isfinite(value) else None  # JSON has no NaN
        for key, value in found._asdict().items()
    }
    return {"block": name, "mode": layer.mode, "scope": layer.scope, **values}


def _caption(block: dict) -> str:
    return (
        f"{block['mode']}, {block['scope']}. Between queries: divergence "
        f"{_number(block['divergence'])}, cosine distance "
        f"{_number(block['cosine_distance'])}; entropy {_number(block['entropy'])}."
    )


def _number(value) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(result: dict) -> str:
    rows = [("block", "mode", "scope", "divergence", "cosine", "entropy")]
    for block in result["blocks"]:
        measures = ("divergence", "cosine_distance", "entropy")
        rows.append(
            (block["block"], block["mode"], block["scope"])
            + tuple(_number(block[measure]) for measure in measures)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [result["path"]]
    for row in rows:
        cells = (f"{cell:<{n}}" for cell, n in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    lines.append(f"  queries: {' '.join(_text(q, ',') for q in result['queries'])}")
    lines.append(f"  {result['files'][0]} and {len(result['files']) - 1} pictures")
    return "\n".join(map(files.printable, lines))


# === Pictures ===


def _draw(frames, name: str, maps, queries, folder: str):
    """Writes the pictures of a block; yields their paths."""
    for row, query in enumerate(queries):
        path = files.join(folder, f"{name}_{_text(query, '_')}")
        figure = draw_query(frames, maps, row)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=110)
        files.write_bytes(f"{path}.png", file.getvalue(), durable=False)
        place = {"query": maps.centres[row]}
        heat = visualize.draw_heat(frames, maps.scores[0, row], maps.keys, **place)
        contents = visualize.encode_animation(_enlarged(heat), ".gif")
        files.write_bytes(f"{path}.gif", contents, durable=False)
        yield from (f"{path}.png", f"{path}.gif")


def _enlarged(images):
    """By a whole number, if they are small on a screen."""
    times = max(_SIDE // max(images.shape[1:3]), 1)
    return images.repeat(times, axis=1).repeat(times, axis=2)


def draw_query(frames, maps, row: int):
    """The strongest arrows of a query, in the frames that most of them are in.

    Args:
        frames: Of clip 0 of `maps`, `(T, H, W, 3)` uint8.
        maps: `visualize.AttentionMaps`.
        row: Of its scores.

    Returns:
        `matplotlib.figure.Figure`, of eight frames at most.
    """
    scores, last = maps.scores[0], np.array(frames.shape[:3]) - 1
    keys, weights = visualize.top_connections(
        scores, row, min(_ARROWS, int(maps.attends[row].sum()))
    )
    source = np.clip(maps.centres[row], 0, last)
    ends = np.clip(maps.keys.centres[keys], 0, last)
    shown = _shown_frames(source, ends, weights, len(frames))
    inside = np.isin(np.floor(ends[:, 0]), shown)
    ends, weights = ends[inside], weights[inside]
    # (frame of the clip) to (picture in the row)
    source[0] = np.searchsorted(shown, np.floor(source[0]))
    ends[:, 0] = np.searchsorted(shown, np.floor(ends[:, 0]))
    labels = [f"frame {t}" for t in shown]
    return visualize.draw_arrows(frames[shown], source, ends, weights, labels=labels)


def _shown_frames(source, ends, weights, num_frames: int):
    """The frame of the query, those of the largest weights, and others between."""
    first = int(np.floor(source[0]))
    sums = {}
    for t, weight in zip(np.floor(ends[:, 0]).astype(int), weights, strict=True):
        sums[t] = sums.get(t, 0.0) + max(weight, 0.0)
    by_weight = sorted((t for t in sums if sums[t]), key=lambda t: -sums[t])
    even = np.linspace(0, num_frames - 1, min(_FRAMES, num_frames)).round().astype(int)
    wanted = dict.fromkeys([first, *by_weight, *even.tolist()])
    return np.sort([*wanted][:_FRAMES])


def _text(point, separator: str) -> str:
    return separator.join(f"{place:g}" for place in point)
