"""Which layers of a model a weight format converts, and how they are seen as linear ones."""

from collections.abc import Collection, Iterable
from typing import Any

from sizewise import units

HEADS = ("lm_head", "embed_out")  # of models that do not say which module is their head


def linear_layers(model) -> dict[str, tuple[int, int]]:
    """Name and (rows, columns) = (out, in) of every layer that can be converted."""
    found = {path: shape(module) for path, module in model.named_modules() if path}
    return {path: sizes for path, sizes in found.items() if sizes}


def head(model) -> tuple[str, ...]:
    """The names of the modules that are the output head; none for an encoder."""
    module = getattr(model, "get_output_embeddings", lambda: None)()
    if module is not None:
        return tuple(path for path, one in model.named_modules() if one is module)
    return tuple(path for path in linear_layers(model) if path.split(".")[-1] in HEADS)


def shape(module) -> tuple[int, int] | None:
    """(out, in) of a linear layer in plain precision, None for anything else.

    Layers of other libraries derive from `torch.nn.Linear` too, so the class must be its own.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.nn.Parameter) or not weight.is_floating_point():
        return None
    if type(module) is torch.nn.Linear and type(weight) is torch.nn.Parameter:
        plain = type(weight.data) is torch.Tensor  # not one of torchao's
        return (weight.shape[0], weight.shape[1]) if plain else None
    return (weight.shape[1], weight.shape[0]) if type(module) is Conv1D else None


def linear(module):
    """A `torch.nn.Linear` with the same weights; GPT-2's Conv1D stores them (in, out)."""
    import torch

    if type(module) is torch.nn.Linear:
        return module
    rows, columns = shape(module)
    made = torch.nn.Linear(columns, rows, bias=module.bias is not None, device="meta")
    made.weight = torch.nn.Parameter(module.weight.data.T.contiguous(), requires_grad=False)
    made.bias = module.bias
    return made


def choose(model, wanted, skip, only) -> tuple[set[str], list[str]]:
    """The names of the layers to convert, and a note on those that do not fit."""
    every = linear_layers(model)
    if wanted.cast:
        if skip or only:
            raise ValueError(f"{wanted.name} casts the whole model: it takes no skip and no only")
        return set(), []
    skip = head(model) if skip is None else _named(skip, every, "skip")
    kept = {path for path in every if _ends(path, skip)}
    if only is not None:
        kept |= {path for path in every if not _ends(path, _named(only, every, "only"))}
    fit = {path for path in every if path not in kept and not every[path][1] % wanted.group}
    if not fit:
        raise ValueError(f"the model has no linear layer that can be converted to {wanted.name}")
    misfits = len(every) - len(kept) - len(fit)
    if not misfits:
        return fit, []
    return fit, [f"{misfits} layers are no multiple of {wanted.group} wide and stay as they are"]


def _named(suffixes: Iterable[str], every: Collection[str], what: str) -> tuple[str, ...]:
    suffixes = (suffixes,) if isinstance(suffixes, str) else tuple(suffixes)
    for one in suffixes:
        if not any(_ends(path, (one,)) for path in every):
            raise units.unknown(f"layer in {what}", one, every)
    return suffixes


def _ends(path: str, suffixes: Iterable[str]) -> bool:
    return any(path == one or path.endswith(f".{one}") for one in suffixes)


def parents(model) -> dict[str, list[tuple[Any, str]]]:
    """Where each module hangs: a shared one in several places."""
    places: dict[int, list] = {}
    for parent in model.modules():
        for attribute, child in parent._modules.items():
            places.setdefault(id(child), []).append((parent, attribute))
    return {path: places.get(id(module), []) for path, module in model.named_modules()}
