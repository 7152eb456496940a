"""Initialises the network of a training from `task.init_checkpoint`."""

from keras_nonlocal.convert import CheckpointError, Spelling, load_weights
from keras_nonlocal.layers import BaseNonLocal
from keras_nonlocal.models import STAGES
from trainers.core import checkpoints, init_checkpoint
from trainers.core.classes import describe_changes
from trainers.core.errors import UserError

# How arguments of `load_weights` and of the network are set here.
KEYS = Spelling(
    "task.model.{argument}={value}",
    special={
        "model": "task.model.name={value}",
        "num_classes": "{value} classes",
        "skip_classifier": "task.init_checkpoint_modules=backbone",
        "source": "task.init_checkpoint_source={value}",
        "epsilon": "task.init_checkpoint_epsilon={value}",
        "strict": None,
    },
    verb="Set",
)


def initialize_from_checkpoint(model, config, class_names) -> str:
    """Loads `init_checkpoint`; returns what to log about it.

    Args:
        model: Of the task.
        config: `DetectionConfig`.
        class_names: By label; compared with those in a model directory.

    Raises:
        UserError: It cannot be read, or does not fit. Names the key of the config to
            change.
    """
    path, changed = config.init_checkpoint, ""
    content, prefix = path, init_checkpoint.find_prefix(path)
    if prefix is not None:
        content = checkpoints.read_model(prefix)
        old = init_checkpoint.read_classes(prefix)
        if old and old != tuple(class_names):
            changed = f"its classes were others ({describe_changes(old, class_names)})"
    try:
        report = load_weights(
            model,
            content,
            source=config.init_checkpoint_source,
            skip_classifier=config.init_checkpoint_modules == "backbone",
            epsilon=config.init_checkpoint_epsilon,
        )
    except CheckpointError as error:
        where = "" if prefix is None else f"{path}: "
        message = f"task.init_checkpoint: {where}{error.describe(KEYS)}"
        raise UserError(
            f"{message}\nNote: {changed}." if changed else message
        ) from error
    lines = [f"Starting from {path}", report.describe(KEYS)]
    if changed and config.init_checkpoint_modules == "all":
        lines.append(f"! {changed}, and its heads are kept")
    return "\n".join(lines)


def freeze_layers(model, freeze_at: int):
    """Keeps the backbone from being trained up to a stage: 1 is conv1, 2 res2, ...

    Non-local blocks are trained.
    """
    frozen = ("conv1", *STAGES)[:freeze_at]
    for layer in model.backbone.layers:
        if isinstance(layer, BaseNonLocal):
            continue
        if layer.name.split("_")[0] in frozen:
            layer.trainable = False
