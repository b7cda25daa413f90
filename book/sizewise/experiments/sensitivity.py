"""Groups of layers that are quantized one at a time, to see which of them matter."""

import re

from sizewise import units
from sizewise.quantization.weights import convert

GROUPINGS = {
    "layer": lambda path: re.match(r"(.*?\.\d+)?", path).group() or path,
    "module": lambda path: path,
}


def groups(model, by: str = "layer") -> dict[str, list[str]]:
    """The convertible layers of a model, without its head, by ``layer`` or by ``module``.

    Raises ValueError for another word.
    """
    if by not in GROUPINGS:
        raise units.unknown("grouping", by, GROUPINGS)
    found: dict[str, list[str]] = {}
    for path in convert.linear_layers(model):
        if path not in convert.head(model):
            found.setdefault(GROUPINGS[by](path), []).append(path)
    return found
