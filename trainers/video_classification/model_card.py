"""`metadata.json` and `model_card.md` of an exported network."""

from collections.abc import Mapping

from keras_nonlocal import describe
from trainers.core import provenance

_TEXT = """# {title}

{summary}

| | |
|---|---|
{rows}

## Input

{num_frames} frames of RGB, {distance}; the short side is scaled to {short_side} pixels
(antialiased) and the central {crop_size} x {crop_size} pixels are taken; then
(x - mean) / std with mean {mean} and std {std}. The signatures of the SavedModel scale,
crop and normalise whole frames themselves.

## Output

One of {num_classes} classes ({activation}): `classes.txt`. The scores are those of one
clip; the metrics below average over the views of the test protocol, unless it is said
otherwise in the config.

## Metrics

{metrics}

## Limits of use

The network knows only the classes that it was trained with: any other video gets one of
them, too. Measure it on your own videos before you rely on it. `metadata.json` has the
whole config of the training.
"""


def metadata(model, task, preprocessing, training: Mapping, signatures) -> dict:
    """All that is known of an exported network, for JSON.

    Args:
        model: That is exported.
        task: It was trained for.
        preprocessing: What clients need to cut a clip.
        training: Of `provenance.describe`; empty: only the versions are known.
        signatures: Functions by name; None in formats without signatures.
    """
    clip, side = task.task_config.clip, task.task_config.validation_data.crop_size
    size = describe(model, (clip.num_frames, side, side, 3))
    return {
        "name": model.name,
        "parameters": model.count_params(),
        "gmacs": size.gmacs,
        "classes": list(task.class_names),
        "preprocessing": preprocessing,
        "signatures": sorted(signatures or ()),
        "top_k": min(task.task_config.export.top_k, len(task.class_names)),
        "limits": task.task_config.export.limits,
        **(dict(training) or provenance.versions()),
    }


def text(about: Mapping) -> str:
    """The model card, in Markdown."""
    clip, config = about["preprocessing"], about.get("config", {})
    stride, fps = clip["temporal_stride"], clip["fps"]
    start = about.get("starting_weights")
    licence = about.get("starting_weights_licence") or (
        "not stated (task.init_checkpoint_licence)" if start else "does not apply"
    )
    facts = {
        "Parameters": f"{about['parameters']:,}",
        "Multiply-adds of a clip, 10^9": f"{about['gmacs']:.3g}",
        "Training step": about.get("step"),
        "Checkpoint": about.get("checkpoint"),
        "Training videos": _at(config, "task", "train_data", "input_path"),
        "Starting weights": start or "none: initialised at random",
        "Licence of the starting weights": licence,
        "Versions": ", ".join(f"{x} {y}" for x, y in about["versions"].items()),
        "Git revision": about["git_revision"],
    }
    return _TEXT.format(
        **clip | {"mean": _listed(clip["mean"]), "std": _listed(clip["std"])},
        title=f"{about['name']}: video classifier",
        summary="A convolutional network for video clips, with non-local blocks where "
        "its config has them (Wang et al., CVPR 2018).",
        rows="\n".join(f"| {x} | {_cell(y)} |" for x, y in facts.items()),
        distance=f"{stride} apart in the video" if stride else f"{fps} a second",
        num_classes=len(about["classes"]),
        metrics=_metrics(about.get("metrics")),
    )


def _metrics(values) -> str:
    if not values:
        return "No evaluation of this checkpoint is saved: run `--mode eval`."
    rows = "\n".join(f"| {_cell(name)} | {x:g} |" for name, x in values.items())
    return f"| metric | value |\n|---|---|\n{rows}"


def _at(values, *keys):
    for key in keys:
        values = values.get(key) or {}
    return values or None


def _listed(values) -> str:
    return ", ".join(f"{x:g}" for x in values)


def _cell(value) -> str:
    """Text that does not end a cell of the table."""
    text = "unknown" if value is None else str(value)
    return " ".join(text.split()).replace("|", "\\|")
