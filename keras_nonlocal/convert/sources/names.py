"""Name tables: the names of a source's weights, and ours, as pairs of templates."""

import re

# The names of layers' weights in PyTorch and in Keras.
BN = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}
DENSE = {"weight": "kernel", "bias": "bias"}
TRACKED = r".*\bnum_batches_tracked"  # counts steps, for momentum=None

NUMBER = object()  # a field for any whole number, which is kept


class NameTable:
    """Translates names by templates such as `"layer{stage}.{i}.conv1.weight"`.

    Args:
        names: Mapping from the source's templates to ours.
        fields: Mapping from each field in braces to a dict, from what stands there
            in the source's names to what stands there in ours. The field `i`, a
            whole number, needs none.

    Example:
    >>> table = NameTable({"layer{s}.{i}.w": "res{s}_{i}/kernel"}, {"s": {"1": "2"}})
    >>> table.translate("layer1.12.w")
    'res2_12/kernel'
    """

    def __init__(self, names, fields=()):
        self._fields = {"i": NUMBER, **dict(fields)}
        self._rules = [(self._pattern(name), path) for name, path in names.items()]

    def translate(self, name):
        """Our path for a source's name, or None."""
        for pattern, path in self._rules:
            match = pattern.fullmatch(name)
            if match:
                return path.format(**self._ours(match.groupdict()))
        return None

    def _pattern(self, template):
        # Odd parts are the names of fields.
        parts = re.split(r"{(\w+)}", template)
        parts[::2] = map(re.escape, parts[::2])
        parts[1::2] = map(self._group, parts[1::2])
        return re.compile("".join(parts))

    def _group(self, field):
        choices = self._fields[field]
        if choices is NUMBER:
            return rf"(?P<{field}>[0-9]{{1,3}})"
        return rf"(?P<{field}>{'|'.join(map(re.escape, choices))})"

    def _ours(self, found):
        return {
            field: text if self._fields[field] is NUMBER else self._fields[field][text]
            for field, text in found.items()
        }
