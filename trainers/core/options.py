"""The flags of a command, as the modes receive them."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Options:
    """The flags that the scripts of all trainers have."""

    model_dir: str
    config_files: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    experiment: str | None = None
    checkpoint: str = ""
    export_dir: str = ""
    paths: tuple[str, ...] = ()
    as_json: bool = False
    print_config: bool = False
