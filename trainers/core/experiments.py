"""Names of experiments, and the files that a config is built from.

Imports nothing that takes seconds: a wrong name or file is found before TensorFlow is
imported. Modules of factories do the same, and are imported to register them.
"""

from collections.abc import Callable, Mapping, Sequence

from trainers.core import files
from trainers.core.errors import UserError, did_you_mean
from trainers.core.yaml_io import parse_overrides, read_yaml

PARAMS_FILE = "params.yaml"
FACTORY_KEY = "experiment"
_FACTORIES = {}  # name -> function, see `register_experiment`


def register_experiment(name: str) -> Callable[[Callable], Callable]:
    """Decorates a function that returns an `ExperimentConfig`.

    The Model Garden's own registry refuses a second experiment of a name, and its
    video models register a `video_classification`: with that registry, programs
    could not import them and these trainers together.
    """

    def register(factory):
        _FACTORIES[name] = factory
        return factory

    return register


def build_experiment(name: str):
    """The config of a registered factory.

    Raises:
        UserError: No factory has this name.
    """
    _check_name(name)
    return _FACTORIES[name]()


def _check_name(name):
    if name not in _FACTORIES:
        raise UserError(f"Unknown experiment {name!r}.{did_you_mean(name, _FACTORIES)}")


def read_layers(
    config_files: Sequence[str] = (),
    overrides: Sequence[str] = (),
    experiment: str | None = None,
) -> tuple[str, list[tuple[str, dict]]]:
    """Reads what a config is built from; see `config.load_experiment`.

    Returns:
        `(name of the factory, layers)`: each layer is `(file or flag, mappings)`.

    Raises:
        UserError: A file that cannot be read, or is not YAML; no factory, or an
            unknown one.
    """
    layers = [(str(path), read_yaml(path)) for path in config_files]
    named = {
        source: values.pop(FACTORY_KEY)
        for source, values in layers
        if FACTORY_KEY in values
    }
    layers += parse_overrides(overrides)
    name = experiment or _the_factory(named)
    _check_name(name)
    return name, layers


def _the_factory(named: Mapping[str, str]) -> str:
    if not named:
        raise UserError(
            "No experiment is named: give --experiment, or a --config YAML with a "
            "line such as `experiment: video_classification`."
        )
    for source, name in named.items():
        if not isinstance(name, str):
            raise UserError(
                f"{source}: `experiment` must be a name, such as video_classification. "
                f"Received: {name!r}."
            )
    if len(set(named.values())) > 1:
        listed = ", ".join(f"{source}: {name}" for source, name in named.items())
        raise UserError(f"The configs name different experiments ({listed}).")
    return next(iter(named.values()))


# === The config of a model directory ===


def find_config(options) -> list[str]:
    """The files of --config; without them, the config saved in the model directory.

    Args:
        options: `modes.Options`.

    Raises:
        UserError: There is neither, and no --experiment; the saved one is damaged.
    """
    folder = options.model_dir
    if options.config_files or options.experiment or not folder:
        return list(options.config_files)
    saved = files.join(folder, PARAMS_FILE)
    if not files.is_file(saved):
        raise UserError(
            f"No --config, and no {PARAMS_FILE} in {folder}: nothing has been trained "
            "there. To train, give --config or --experiment."
        )
    try:
        read_params(folder)
    except UserError as error:
        advice = "Give the --config and overrides of the training."
        raise UserError(f"{error} {advice}") from error
    return [saved]


def read_params(model_dir) -> dict:
    """Reads the config saved in `model_dir`.

    Raises:
        UserError: It is damaged.
    """
    path = files.join(model_dir, PARAMS_FILE)
    saved = read_yaml(path)
    keys = (FACTORY_KEY, "task", "trainer", "runtime")
    missing = [key for key in keys if key not in saved]
    if missing:
        found = f"has no `{missing[0]}`" if saved else "is empty"
        raise files.FileError(path, f"{found}: the file is damaged.")
    return saved
