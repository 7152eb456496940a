"""Fields of the Model Garden's configs that have no effect here.

A YAML written for the Model Garden may hold them. The error for such a key explains
that it is not read, and what takes its place.
"""

import dataclasses

from official.core import config_definitions as model_garden
from official.modeling.optimization.configs import optimizer_config

from trainers.core import config_definitions as ours

_COUNTERPARTS = {
    ours.DataConfig: model_garden.DataConfig,
    ours.TaskConfig: model_garden.TaskConfig,
    ours.TrainerConfig: model_garden.TrainerConfig,
    ours.RuntimeConfig: model_garden.RuntimeConfig,
    ours.SGDConfig: optimizer_config.SGDConfig,
    ours.AdamWConfig: optimizer_config.AdamWeightDecayConfig,
}

# By class and field. Fields without an entry are to be left out, and that is all.
_REPLACEMENTS = {
    ours.DataConfig: {
        "tfds_name": "Data are read from `input_path`.",
        "tfds_split": "Data are read from `input_path`.",
        "drop_remainder": "Training batches are always full, and evaluation covers "
        "the whole set.",
        "shuffle_buffer_size": "Every epoch is shuffled whole, without a buffer.",
        "enable_shared_tf_data_service_between_parallel_trainers": "Each training "
        "has jobs of its own.",
        "sharding": "Every input pipeline reads its own part of each batch.",
    },
    ours.TrainerConfig: {
        "summary_interval": "Curves have a point every `steps_per_loop` steps.",
        "loss_upper_bound": "A loss that is not finite ends the run.",
        "preemption_on_demand_checkpoint": "A run that is stopped by a signal saves "
        "a checkpoint.",
    },
    ours.RuntimeConfig: {
        "dataset_num_private_threads": "Set `task.train_data.num_parallel_decodes`.",
    },
    ours.SGDConfig: {
        "clipnorm": "Use `global_clipnorm`.",
        "decay": "Use `trainer.optimizer_config.learning_rate`.",
    },
    ours.AdamWConfig: {
        "clipnorm": "Use `global_clipnorm`.",
        "gradient_clip_norm": "Use `global_clipnorm`.",
        "weight_decay_rate": "Use `weight_decay`.",
        "exclude_from_weight_decay": "Normalisation layers are never decayed.",
    },
}


def explain(config, key: str) -> str | None:
    """Why a key of the Model Garden is not a field of `config`, and what to do.

    Args:
        config: A `hyperparams.Config` without a field `key`.
        key: The key in a YAML file or an override.

    Returns:
        A message to follow the name of the key; None if the Model Garden has no such
        field either.
    """
    for kind, counterpart in _COUNTERPARTS.items():
        names = {field.name for field in dataclasses.fields(counterpart)}
        if isinstance(config, kind) and key in names:
            replacement = _REPLACEMENTS.get(kind, {}).get(key)
            message = "is a field of the Model Garden that has no effect here: leave it"
            return " ".join(filter(None, (f"{message} out.", replacement)))
    return None
