"""The HTML of a report."""

import base64
import html
import io
import pathlib
import string

import keras
import numpy as np
import tensorflow as tf
from PIL import Image
from sklearn.metrics import average_precision_score, confusion_matrix

import keras_nonlocal
from trainers.core import checkpoints, config, files
from trainers.core.curves import read_curves
from trainers.video_classification.report import charts
from trainers.video_classification.report.hardest import HardClip, hardest_clips
from trainers.video_classification.report.scores import Scores, score_videos
from trainers.video_classification.report.timing import where_time_went

MAX_BYTES = 5_000_000
_NUM_HARDEST = 12
_MAX_TABLE = 30  # classes of a confusion matrix with numbers
_MAX_PAIRS = 20
_MAX_BROKEN = 100
_TEMPLATE = pathlib.Path(__file__).with_name("page.html")


def write_page(
    task, model, experiment, checkpoint: str, model_dir: str, max_videos: int | None
) -> str:
    """The page, below `MAX_BYTES`; see `report.run`."""
    scores = score_videos(task, model, max_videos)
    clips, measures = hardest_clips(task, model, scores, _NUM_HARDEST)
    sections = {
        "Curves": _curves(model_dir),
        "Time": _time(model_dir, experiment.trainer.steps_per_loop),
        "Classes": _classes(scores),
        "Confusion": _confusion(scores),
        "Hardest clips": "",
        "Attention": _attention(measures, model),
        "Videos left out": _broken(scores.broken),
        "Network": _folded("Layers and costs", task.describe_model()),
        "Config": _config(experiment, model_dir),
    }
    head = {
        "title": _text(f"{experiment.task.model.name} in {model_dir}"),
        "subtitle": _text(_subtitle(task, scores, checkpoint)),
        "tiles": _tiles(scores),
    }
    return fitted(head, sections, scores, clips)


def fitted(
    head: dict[str, str],
    sections: dict[str, str],
    scores: Scores,
    clips: list[HardClip],
) -> str:
    """The page with as many of the hardest clips as keep it below `MAX_BYTES`.

    Args:
        head: `title`, `subtitle` and `tiles`, as HTML.
        sections: HTML by title; that of "Hardest clips" is made here.
        scores: Of the clips.
        clips: The hardest first.
    """
    for count in range(len(clips), -1, -1):
        sections = {**sections, "Hardest clips": _hardest(scores, clips[:count])}
        page = _page(head, sections)
        if len(page.encode()) < MAX_BYTES:
            break
    return page


def _page(head: dict[str, str], sections: dict[str, str]) -> str:
    shown = {name: body for name, body in sections.items() if body}
    ids = {name: name.lower().replace(" ", "-") for name in shown}
    links = "".join(f'<a href="#{ids[name]}">{name}</a>\n' for name in shown)
    body = "".join(
        f'<section aria-labelledby="{ids[name]}">\n<h2 id="{ids[name]}">{name}</h2>\n'
        f"{text}\n</section>\n"
        for name, text in shown.items()
    )
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    return template.substitute(head, links=links, sections=body)


def _text(text) -> str:
    return html.escape(files.printable(str(text)))


def _subtitle(task, scores: Scores, checkpoint: str) -> str:
    views = task.task_config.validation_data.describe_views()
    weights = checkpoints.describe_weights(checkpoint)
    scored, count = len(scores.videos) + len(scores.broken), len(task.validation_index)
    part = f" of {count}, evenly chosen (--mode report scores all)"
    return (
        f"{checkpoint}: {weights}. Scored on {len(scores.videos)} validation videos"
        f"{part if scored < count else ''}, {views}."
    )


def _tiles(scores: Scores) -> str:
    tiles = {"videos": str(len(scores.videos)), "classes": str(len(scores.class_names))}
    if scores.is_multilabel:
        precisions = _precisions(scores)
        tiles["mAP"] = _percent(np.nanmean(precisions) if len(precisions) else 0.0)
    else:
        tiles["top-1 accuracy"] = _percent((scores.best == scores.labels).mean())
        if len(scores.class_names) > 5:
            order = np.argsort(-scores.probabilities, axis=1, kind="stable")[:, :5]
            hits = (order == scores.labels[:, None]).any(axis=1)
            tiles["top-5 accuracy"] = _percent(hits.mean())
    tiles["mean loss"] = f"{scores.losses.mean():.3f}"
    return "".join(f"<li><b>{v}</b>{name}</li>" for name, v in tiles.items())


def _percent(value: float) -> str:
    return f"{100 * value:.1f} %"


# === The training ===


def _curves(model_dir: str) -> str:
    train, test = (read_curves(model_dir, name) for name in ("train", "validation"))
    drawn = []
    for title, percent, wanted in (
        ("Loss", False, {"training": (train, "loss"),
                         "validation": (test, "validation_loss")}),
        ("Accuracy", True, {"training": (train, "accuracy"),
                            "validation, top 1": (test, "top1"),
                            "validation, top 5": (test, "top5"),
                            "validation, mAP": (test, "mAP")}),
        ("Learning rate", False, {"learning rate": (train, "learning_rate")}),
    ):  # fmt: skip
        series = {
            name: [(point.step, point.value) for point in curves[tag]]
            for name, (curves, tag) in wanted.items()
            if curves.get(tag)
        }
        if series:
            drawn.append(charts.lines(title, series, percent))
    if not drawn:
        return "<p>The model directory has no curves.</p>"
    return f'<div class="charts">{"".join(drawn)}</div>'


def _time(model_dir: str, steps_per_loop: int) -> str:
    parts = where_time_went(model_dir, steps_per_loop)
    if not parts:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{name}</th><td>{_duration(seconds)}</td>'
        f"<td>{seconds / (sum(parts.values()) or 1):.1%}</td></tr>"
        for name, seconds in parts.items()
    )
    total = f'<tr><th scope="row">all</th><td>{_duration(sum(parts.values()))}</td>'
    return (
        f'<div class="wide">{charts.shares("Where the time went", parts)}</div>'
        f"<table>{rows}{total}<td>100 %</td></tr></table>"
        "<p>From the first step to the last evaluation of each session; without "
        "start-up, and without the time between sessions.</p>"
    )


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02d}:{seconds:04.1f}"


def _config(experiment, model_dir: str) -> str:
    path = files.join(model_dir, config.PARAMS_FILE)
    found = files.read_text(path) if files.is_file(path) else ""
    packages = f"keras_nonlocal {keras_nonlocal.__version__}, Keras {keras.__version__}"
    return f"<p>{packages}, TensorFlow {tf.__version__} wrote this page.</p>" + _folded(
        config.PARAMS_FILE, found or "There is none."
    )


def _folded(title: str, text: str) -> str:
    return (
        f"<details><summary>{_text(title)}</summary>"
        f'<pre tabindex="0">{html.escape(text)}</pre></details>'
    )


# === Classes ===


def _precisions(scores: Scores) -> np.ndarray:
    """Average precision of each class; NaN where it does not occur."""
    found = np.full(len(scores.class_names), np.nan)
    for k in np.flatnonzero(scores.is_label.any(axis=0)):
        is_label, p = scores.is_label[:, k], scores.probabilities[:, k]
        found[k] = average_precision_score(is_label, p)
    return found


def _classes(scores: Scores) -> str:
    counts = scores.is_label.sum(axis=0)
    if scores.is_multilabel:
        name, values = "average precision", _precisions(scores)
    else:
        hits = scores.best == scores.labels
        right = np.bincount(scores.labels, hits, len(counts))
        name, values = "accuracy", right / np.where(counts, counts, np.nan)
    rows = "".join(
        f'<tr><th scope="row">{_text(scores.class_names[k])}</th><td>{counts[k]}</td>'
        f'<td>{_percent(values[k])}</td><td class="bar">'
        f'<span style="width:{100 * values[k]:.1f}%"></span></td></tr>'
        for k in np.argsort(values, kind="stable")
        if counts[k]
    )
    header = f"<tr><th>class</th><th>videos</th><th>{name}</th><th></th></tr>"
    return _scrolling(f"Classes by {name}", f"<table>{header}{rows}</table>")


def _scrolling(label: str, body: str) -> str:
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">{body}'
        "</div>"
    )


def _confusion(scores: Scores) -> str:
    if scores.is_multilabel:
        return ""
    count = len(scores.class_names)
    matrix = confusion_matrix(scores.labels, scores.best, labels=range(count))
    if count <= _MAX_TABLE:
        return _matrix_table(scores.class_names, matrix)
    return _pairs(scores.class_names, matrix) + _matrix_image(matrix)


def _matrix_table(names, matrix) -> str:
    columns = "".join(f'<th scope="col">{_text(name)}</th>' for name in names)
    rows = ""
    for k, name in enumerate(names):
        share = matrix[k] / max(matrix[k].sum(), 1)
        cells = "".join(
            f'<td style="background:rgba(var(--{"good" if j == k else "bad"}),'
            f'{0.75 * share[j]:.2f})">{matrix[k, j]}</td>'
            for j in range(len(names))
        )
        rows += f'<tr><th scope="row">{_text(name)}</th>{cells}</tr>'
    table = f"<table><tr><th>label \\ best class</th>{columns}</tr>{rows}</table>"
    return _scrolling("Confusion matrix", table)


def _pairs(names, matrix) -> str:
    """The classes that are taken for one another most often."""
    wrong = matrix - np.diag(np.diag(matrix))
    rows = ""
    for place in np.argsort(-wrong, axis=None, kind="stable")[:_MAX_PAIRS]:
        k, j = np.unravel_index(place, wrong.shape)
        if wrong[k, j]:
            rows += (
                f'<tr><td class="text">{_text(names[k])}</td>'
                f'<td class="text">{_text(names[j])}</td><td>{wrong[k, j]}</td></tr>'
            )
    header = "<tr><th>label</th><th>best class</th><th>videos</th></tr>"
    return _scrolling("Most frequent confusions", f"<table>{header}{rows}</table>")


def _matrix_image(matrix) -> str:
    shares = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)
    image, file = Image.fromarray((255 * shares).round().astype(np.uint8)), io.BytesIO()
    image.save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    side = max(400, len(matrix))
    return (
        f'<figure><img class="pixels" width="{side}" height="{side}" '
        f'alt="Confusion matrix" src="data:image/png;base64,{data}"><figcaption>A row '
        "for each label, a column for each best class, in label order; white: all "
        "videos of the label.</figcaption></figure>"
    )


# === Videos ===


def _hardest(scores: Scores, clips: list[HardClip]) -> str:
    return "".join(_clip(scores, clip) for clip in clips)


def _clip(scores: Scores, clip: HardClip) -> str:
    row = scores.probabilities[clip.number]
    names, video = scores.class_names, scores.videos[clip.number]
    own = np.flatnonzero(scores.is_label[clip.number])
    labels = ", ".join(f"{_text(names[k])} ({row[k]:.3f})" for k in own)
    best = int(row.argmax())
    images = f'<img src="{clip.frames}" alt="Frames of the clip">'
    if clip.attention:
        images += (
            f"<details><summary>Attention of {_text(clip.block)}: the 20 strongest "
            "connections of one position</summary>"
            f'<img src="{clip.attention}" alt="Frames with arrows"></details>'
        )
    return (
        f"<figure><figcaption><b>{_text(video.name)}</b>: labelled "
        f"{labels or 'nothing'}; best {_text(names[best])} ({row[best]:.3f}); loss "
        f"{scores.losses[clip.number]:.2f}</figcaption>{images}</figure>"
    )


def _attention(measures: dict, model) -> str:
    """How much the attention of each block depends on the query."""
    if not measures:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{_text(name)}</th><td>{model.get_layer(name).mode}</td>'
        f"<td>{measure.divergence:.3f}</td>"
        f"<td>{measure.cosine_distance:.3f}</td><td>{measure.entropy:.3f}</td></tr>"
        for name, measure in measures.items()
    )
    header = (
        "<tr><th>block</th><th>mode</th><th>divergence of two queries</th>"
        "<th>cosine distance</th><th>entropy</th></tr>"
    )
    return (
        "<p>Means over the hardest clips. Divergence and distance are 0 where all "
        "queries attend to the same keys (as in GCNet's global context block); entropy "
        "is 0 for one key, and 1 for all alike.</p>"
    ) + _scrolling("Attention by block", f"<table>{header}{rows}</table>")


def _broken(broken: dict[str, str]) -> str:
    shown = [*broken.items()][:_MAX_BROKEN]
    rows = "".join(f"<li>{_text(path)}: {_text(why)}</li>" for path, why in shown)
    more = len(broken) - len(shown)
    return f"<ul>{rows}</ul>" + f"<p>And {more} more.</p>" * (more > 0) if rows else ""
