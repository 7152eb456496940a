"""Initialisers for the sublayers of one layer."""

import zlib


def clone_for(initializer, name):
    """A copy of `initializer` that draws differently for each sublayer `name`.

    One seeded initialiser must not give theta, phi and g the same weights: an
    integer seed is offset by a hash of the name.
    """
    if not hasattr(initializer, "get_config"):  # a plain callable
        return initializer
    config = initializer.get_config()
    if isinstance(config.get("seed"), int):
        config["seed"] = (config["seed"] + zlib.crc32(name.encode())) % 2**31
    return type(initializer).from_config(config)
