"""Experiment configs: built from a factory, YAML files and overrides; saved, compared.

    experiment: video_classification      # the factory, in one of the YAML files
    trainer: {train_steps: 1000}          # fields of its ExperimentConfig

Every key and every type is checked against the dataclasses before anything
runs. The error names the file, the key and the nearest valid one.
"""

import math
import types
import typing
from collections.abc import Mapping, Sequence

import yaml
from official.modeling import hyperparams

from trainers.core import files
from trainers.core.config_definitions import WarmupConfig
from trainers.core.errors import UserError, check_key, did_you_mean, errors_of
from trainers.core.experiments import (
    FACTORY_KEY,
    PARAMS_FILE,
    build_experiment,
    read_layers,
    read_params,
)

_CLUSTER_FIELDS = ("worker_hosts", "task_index")
_YAML_NAMES = {dict: "mapping", type(None): "null"}  # others as in Python


def load_experiment(
    config_files: Sequence[str] = (),
    overrides: Sequence[str] = (),
    experiment: str | None = None,
):
    """Builds an `ExperimentConfig`.

    Args:
        config_files: YAML files; later ones override earlier ones.
        overrides: `a.b=c` or `a.b=c,d.e=f`; later ones override earlier ones, and
            all override the files. The values are parsed as YAML.
        experiment: Name of the factory; by default the `experiment` key of
            the files.

    Returns:
        `(name of the factory, config)`.

    Raises:
        UserError: Unknown factory, unknown key, wrong type, unreadable file.
    """
    name, layers = read_layers(config_files, overrides, experiment)
    config = build_experiment(name)
    for source, values in layers:
        override(config, values, source)
    return name, config


def override(config, values: Mapping, source: str, prefix: str = ""):
    """Sets fields of a config from nested mappings, strictly.

    A field that determines others has a method `set_FIELD(value)`, which is called
    before the other fields are set: those named beside it are kept. A config whose
    fields exclude each other has a method `check_together(values)`.

    Args:
        config: `hyperparams.Config` to change.
        values: Field name -> value, or mapping for a config within it.
        source: File or flag that the values come from, for errors.
        prefix: Path of `config` in the experiment, for errors.

    Raises:
        UserError: Unknown key or wrong type.
    """
    hints = config._get_annotations()
    fields = [name for name in vars(config) if not name.startswith("_")]
    if hasattr(config, "check_together"):
        with errors_of(f"{source}: {prefix.removesuffix('.')}"):
            config.check_together(values)
    for key, value in sorted(values.items(), key=lambda x: not _setter(config, x[0])):
        where = f"{source}: `{prefix}{key}`"
        if key not in fields:
            raise UserError(f"{where} {_unknown_key(config, key, fields)}")
        _set_field(config, key, value, hints.get(key, typing.Any), where, prefix)
    _check_type(config, fields, f"{source}: `{prefix}type`")


def _unknown_key(config, key: str, fields: Sequence[str]) -> str:
    from trainers.core import model_garden  # imports 0.3 s of the Model Garden

    kind = type(config).__name__
    return (
        model_garden.explain(config, key)
        or f"is not a field of {kind}.{did_you_mean(key, fields)}"
    )


def _set_field(config, key, value, hint, where, prefix):
    current = getattr(config, key)
    if value is None and isinstance(current, hyperparams.OneOfConfig):
        return _set_field(current, "type", None, str | None, where, prefix)
    if _is_group(current):
        if isinstance(value, Mapping):
            return override(current, value, where.split(": `")[0], f"{prefix}{key}.")
        raise UserError(f"{where} {_describe_group(current, f'{prefix}{key}', value)}")
    if not _matches(value, hint):
        raise UserError(
            f"{where} must be {_describe(hint)}. Received: {value!r} "
            f"({type(value).__name__})."
        )
    _check_finite(value, where)
    if setter := _setter(config, key):
        with errors_of(f"{where.split(': `')[0]}: {prefix.removesuffix('.')}"):
            return setter(value)
    setattr(config, key, None)  # free-form mappings are replaced, not merged
    setattr(config, key, float(value) if _is_float(value, hint) else value)


def _is_group(value) -> bool:
    """Whether it is a config of its own; free-form mappings are plain `Config`s."""
    is_config = isinstance(value, hyperparams.Config)
    return is_config and type(value) is not hyperparams.Config


def _setter(config, key: str):
    """The method that sets a field together with others, or None."""
    return getattr(config, f"set_{key}", None)


def _check_type(config, fields, where):
    """Raises unless the `type` of a oneof is one of its members."""
    if not isinstance(config, hyperparams.OneOfConfig) or config.type is None:
        return
    choices = [name for name in fields if name != "type"]
    if config.type not in choices and isinstance(config, WarmupConfig):
        raise UserError(
            f"{where} is {config.type!r}. Expected one of: {', '.join(choices)}; or "
            "null for no warm-up."
        )
    check_key(where, config.type, choices)


def _check_finite(value, where: str):
    """Raises for numbers, also in lists and mappings, that nothing can compute with."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            _check_finite(item, f"{where}, {key!r},")
    elif isinstance(value, list | tuple):
        for item in value:
            _check_finite(item, where)
    elif isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} must be a finite number. Received: {value}.")
    elif isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise UserError(f"{where} is too large: it must fit in 64 bits.")


def _matches(value, hint) -> bool:
    """Whether a YAML value fits a type annotation."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is typing.Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_matches(value, arg) for arg in args)
    if hint in (None, type(None)):
        return value is None
    if origin in (list, tuple, Sequence):
        kinds = [arg for arg in args if arg is not Ellipsis] or [typing.Any]
        return isinstance(value, list | tuple) and all(
            _matches(item, kinds[0]) for item in value
        )
    kind = origin or hint
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if kind is dict or (
        isinstance(kind, type) and issubclass(kind, hyperparams.Config)
    ):
        return isinstance(value, Mapping)
    return isinstance(value, kind)


def _is_float(value, hint) -> bool:
    """Whether the value is an int but the annotation has float only."""
    return type(value) is int and not _matches(0, _without_float(hint))


def _without_float(hint):
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        rest = [arg for arg in typing.get_args(hint) if arg is not float]
        return typing.Union[tuple(rest)]  # noqa: UP007 (built at run time)
    return type(None) if hint is float else hint


def _describe(hint) -> str:
    """A type annotation in words of YAML: `of type str | list of float | null`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [_describe(arg) for arg in typing.get_args(hint)]
        return f"of type {' | '.join(kind.removeprefix('of type ') for kind in kinds)}"
    origin, args = typing.get_origin(hint) or hint, typing.get_args(hint)
    if origin in (list, tuple, Sequence):
        items = f" of {args[0].__name__}" if args else ""
        return f"of type list{items}"
    return f"of type {_YAML_NAMES.get(origin) or origin.__name__}"


def _describe_group(config, key: str, value) -> str:
    """What a config within a config is: the fields to set instead, with an example."""
    hints = config._get_annotations()
    fields = [name for name in vars(config) if not name.startswith("_")]
    fits = [x for x in fields if value is not None and _matches(value, hints[x])]
    example = f"{fits[0]}={value}" if fits else f"{fields[0]}=VALUE"
    return (
        f"is a group of settings: {', '.join(fields)}. Set them one by one, such as "
        f"{key}.{example}. Received: {value!r}."
    )


def to_dict(config) -> dict:
    """The config as plain dicts, lists and numbers."""
    return _plain(config.as_dict())


def _plain(value):
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def to_yaml(config, experiment: str) -> str:
    """The config as YAML text that `load_experiment` can read."""
    return yaml.safe_dump(_saved(config, experiment), sort_keys=False)


def _saved(config, experiment: str) -> dict:
    """What is saved: all but which process of which cluster this is."""
    values = {FACTORY_KEY: experiment, **to_dict(config)}
    runtime = values.get("runtime", {})
    rest = {key: runtime[key] for key in runtime if key not in _CLUSTER_FIELDS}
    return {**values, "runtime": rest}


def lines(config, experiment: str) -> list[str]:
    """What is saved, as lines `a.b: value`."""
    values = _flatten(_saved(config, experiment))
    return [f"{key}: {value}" for key, value in values.items()]


def save_params(config, experiment: str, model_dir):
    """Writes the resolved config to `MODEL_DIR/params.yaml`."""
    files.write_text(files.join(model_dir, PARAMS_FILE), to_yaml(config, experiment))


def differences(config, experiment: str, model_dir) -> list[str]:
    """Compares a config with the one saved in `model_dir`.

    Returns:
        Lines `a.b: old -> new`; none if they are equal or nothing is saved. Where the
        training runs (`runtime.distribution_strategy`) may differ.

    Raises:
        UserError: The saved one is damaged.
    """
    if not files.is_file(files.join(model_dir, PARAMS_FILE)):
        return []
    changed = _compare(read_params(model_dir), _saved(config, experiment))
    return [x for x in changed if not x.startswith("runtime.distribution_strategy:")]


def changed_settings(config, experiment: str) -> list[str]:
    """Lines `a.b: default -> value` of the fields that the factory sets otherwise."""
    return _compare(to_dict(build_experiment(experiment)), to_dict(config))


def _compare(old: Mapping, new: Mapping) -> list[str]:
    old, new = _flatten(old), _flatten(new)
    return [
        f"{key}: {old.get(key, '(absent)')} -> {new.get(key, '(absent)')}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


def _flatten(values: Mapping, prefix: str = "") -> dict:
    flat = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat
