"""Translates names by pairs of templates, such as `"layer{s}.{i}.conv1.weight"`."""

import re

# What stands in a field of a source's template, and in ours.
STAGES = {digit: digit for digit in "2345"}
BRANCHES = ("branch1", "branch2a", "branch2b", "branch2c")
CONVS = {"1": "a", "2": "b", "3": "c"}
LAYERS = {f"layer{k}": f"res{k + 1}" for k in (1, 2, 3, 4)}
BN = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
DENSE = {"weight": "kernel", "bias": "bias"}


def branches(*names):
    """A source's names of a residual block's convolutions, shortcut first."""
    return dict(zip(names, BRANCHES, strict=True))


USUAL = {"s": STAGES, "branch": branches(*BRANCHES), "c": CONVS, "bn": BN, "w": DENSE}


def translator(names, fields):
    """A function from a source's name to our path, or None.

    A field that `fields` does not have is a whole number, which is kept.

    Example:
    >>> translator({"layer{s}.{i}.w": "res{s}_{i}/kernel"}, {"s": {"1": "2"}})(
    ...     "layer1.12.w"
    ... )
    'res2_12/kernel'
    """
    rules = [(_pattern(name, fields), path) for name, path in names.items()]

    def translate(name):
        for pattern, path in rules:
            if match := pattern.fullmatch(name):
                found = match.groupdict().items()
                ours = {x: fields.get(x, {}).get(text, text) for x, text in found}
                return path.format(**ours)
        return None

    return translate


def _pattern(template, fields):
    parts = re.split(r"{(\w+)}", template)
    parts[::2] = map(re.escape, parts[::2])
    for i, field in enumerate(parts[1::2]):
        choices = "|".join(map(re.escape, fields.get(field, ())))
        parts[2 * i + 1] = f"(?P<{field}>{choices or '[0-9]{1,3}'})"
    return re.compile("".join(parts))
