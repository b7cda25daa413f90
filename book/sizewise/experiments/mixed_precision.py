"""Bits where they matter: groups of weights rounded one at a time, and bits given out by it.

The formats are NormalFloat of 3, 4 and 5 bits in blocks of 64, rounded and put back, so that a
mixture has the bytes of an even format exactly. No library stores them mixed like this.
"""

import copy
from functools import cache

from .weight_quality import LAB, Row, compared, subject

BLOCK = 64


def in_group(row: Row) -> Row:
    """A row of `layers`: one group of weights in NormalFloat of ``bits``, all others in fp32."""
    model = copy.deepcopy(subject(row).model)
    paths = groups(row)[row["group"]]
    elements = sum(_round(model.get_submodule(path), row["bits_of_group"]) for path in paths)
    return compared(row, model) | {"elements": elements}


def mixed(row: Row) -> Row:
    """A row of `mixed`: a number of bits for each group, in the order of `groups`."""
    model = copy.deepcopy(subject(row).model)
    each = [int(bits) for bits in row["bits_of_groups"].split()]
    parts = groups(row).values()
    codes = elements = 0
    for bits, paths in zip(each, parts, strict=True):
        some = sum(_round(model.get_submodule(path), bits) for path in paths)
        codes, elements = codes + bits * some, elements + some
    return compared(row, model) | {"elements": elements, "bits": codes / elements + 32 / BLOCK}


def groups(row: Row) -> dict[str, list[str]]:
    """The groups of weights of a row's model that get bits of their own, with their layers."""
    from . import sensitivity

    return sensitivity.groups(subject(row).model, by(row["model"]))


def by(name: str) -> str:
    """Layers of pretrained models, single matrices of the laboratory's, which have few layers."""
    return "module" if name.startswith(LAB) else "layer"


def names(name: str) -> list[str]:
    """The names of the groups, without the model's weights."""
    import torch
    from transformers import AutoModelForCausalLM

    from sizewise.models import config as configs
    from sizewise.training import models

    from . import sensitivity

    if name.startswith(LAB):
        config = configs.build(models.spec("dense", int(name.removeprefix(LAB))))
    else:
        config = configs.build(name)
    with torch.device("meta"):
        return list(sensitivity.groups(AutoModelForCausalLM.from_config(config), by(name)))


def allocate(elements: list[int], losses: list[float], bits: int) -> list[int]:
    """Bits for each group: one fewer or one more than ``bits``, at ``bits`` for a weight in all.

    ``losses`` are those of the groups at the fewest bits. A further bit divides a loss as it
    divides the error of NormalFloat on normal weights; where the next bit wins most for a weight,
    there it goes, until none is left that fits. Groups of different sizes may leave a few bits.
    """
    choices = (bits - 1, bits, bits + 1)
    errors = [_error(one) for one in choices]
    chosen, left = [0] * len(elements), sum(elements)
    while True:
        gains = [
            (loss * (errors[at] - errors[at + 1]) / errors[0] / size, -number)
            for number, (at, size, loss) in enumerate(zip(chosen, elements, losses, strict=True))
            if at < 2 and size <= left
        ]
        if not gains:
            return [choices[at] for at in chosen]
        number = -max(gains)[1]
        chosen[number], left = chosen[number] + 1, left - elements[number]


@cache
def _error(bits: int) -> float:
    """The error of NormalFloat on normal weights, as a share of their variance."""
    from sizewise.quantization.weights import codebooks

    return codebooks.expected_error(codebooks.normal_float(bits), BLOCK)


def shuffled(elements: list[int], bits: list[int], seed: int) -> list[int]:
    """The same bits on other groups of the same size, so that the bytes are equal."""
    import numpy

    draw, moved = numpy.random.default_rng(seed), list(bits)
    for size in sorted(set(elements)):
        places = [place for place, one in enumerate(elements) if one == size]
        for place, other in zip(places, draw.permutation(places), strict=True):
            moved[place] = bits[other]
    return moved


def _round(module, bits: int) -> int:
    """Round a layer's weights to NormalFloat of ``bits`` and back, in place; their number."""
    import torch

    from sizewise.quantization.weights import blockwise, codebooks

    with torch.no_grad():
        stored = blockwise.quantize(module.weight, codebooks.normal_float(bits), BLOCK)
        module.weight.copy_(blockwise.dequantize(stored))
    return module.weight.numel()
