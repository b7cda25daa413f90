"""Build layers of one shape once.

A stack of layers is written ``[Layer(config, layer_idx) for layer_idx in range(L)]`` in nearly
every model class. Whether two layers have one shape follows from what the configuration says
about their numbers: lists with an entry a layer, patterns, periods, and how many come first or
last. `shared` keys each layer by all of that and lets equal ones share their tensors. A key that
tells too many layers apart only costs time; the tests compare every class with a full build.
"""

import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INDEX = ("layer_idx", "layer_id", "layer_index", "layer_number")
ABOUT_LAYERS = re.compile(
    r"layer|period|offset|freq|step|interval|every|pattern|dense|sparse|skip|start|first|last|index"
)
MARK = "_sizewise_shared"  # on every layer that has, or lends, shared tensors


@contextmanager
def shared(model_class: type):
    """Within this block, layers of ``model_class``'s modeling file share equal layers' tensors."""
    built: dict[tuple, object] = {}
    inside = False  # building a layer: what it contains is its own

    def sharing(plain):
        signature = inspect.signature(plain)

        def init(self, *args, **kwargs):
            nonlocal inside
            key = None if inside else _key(type(self), signature, (self, *args), kwargs)
            if key is not None and key in built:
                self.__dict__.update(built[key].__dict__)
                return
            was, inside = inside, inside or key is not None
            try:
                plain(self, *args, **kwargs)
            finally:
                inside = was
            if key is not None:
                setattr(self, MARK, True)
                built[key] = self

        return init

    original = {cls: vars(cls)["__init__"] for cls in _layer_classes(model_class)}
    try:
        for cls, plain in original.items():
            setattr(cls, "__init__", sharing(plain))  # noqa: B010 - mypy refuses an assignment
        yield
    finally:
        for cls, plain in original.items():
            setattr(cls, "__init__", plain)  # noqa: B010


def modules(model) -> Iterator[tuple[str, Any, bool]]:
    """Every (path, module, whether a layer starts here that may share its tensors).

    Unlike ``named_modules``, it comes to a shared layer's insides once for each such layer.
    """

    def walk(module, path):
        yield path, module, getattr(module, MARK, False)
        for name, child in module._modules.items():
            if child is not None:
                yield from walk(child, f"{path}{name}.")

    return walk(model, "")


def tensors(model) -> Iterator[tuple[str, Any, Any]]:
    """Every (path, parameter, module that holds it) of a model.

    A tensor tied inside the model comes once; a tensor that layers share only because `shared`
    built them once comes once for each of them.
    """
    everywhere: set[int] = set()
    layer, here = "\0", everywhere  # the layer we are in, and the tensors seen in it
    for path, module, starts in modules(model):
        if starts:
            layer, here = path, set()
        seen = here if path.startswith(layer) else everywhere
        for name, tensor in module._parameters.items():
            if tensor is not None and id(tensor) not in seen:
                seen.add(id(tensor))
                yield path + name, tensor, module


def buffers(model) -> int:
    """Elements of the buffers that are stored with the weights."""
    return sum(
        tensor.numel()
        for _, module, _ in modules(model)
        for name, tensor in module._buffers.items()
        if tensor is not None and name not in module._non_persistent_buffers_set
    )


def ties_layers(model) -> bool:
    """Whether the class itself ties tensors of different layers (Zamba's shared block, say)."""
    ties = getattr(model, "all_tied_weights_keys", None) or {}
    return any(re.search(r"\.\d+\.", name) for name in ties)


def _layer_classes(model_class: type) -> list[type]:
    """The module classes of the modeling file that are told which layer they are."""
    import torch

    members = vars(sys.modules[model_class.__module__]).values()
    return [
        cls
        for cls in members
        if isinstance(cls, type)
        and issubclass(cls, torch.nn.Module)
        and "__init__" in vars(cls)
        and set(INDEX) & inspect.signature(cls.__init__).parameters.keys()
    ]


def _key(cls, signature, args, kwargs) -> tuple | None:
    """What decides the shape of the layer that this call builds; None if it is told no number."""
    try:
        arguments = dict(signature.bind(*args, **kwargs).arguments)
    except TypeError:  # the class's own __init__ will say what is wrong
        return None
    arguments.pop("self", None)
    number = next((arguments.pop(name) for name in INDEX if name in arguments), None)
    config = next((v for v in arguments.values() if hasattr(v, "to_dict")), None)
    if not isinstance(number, int) or config is None:
        return None
    others = tuple((k, id(v) if hasattr(v, "to_dict") else repr(v)) for k, v in arguments.items())
    return cls, others, position(config, number)


def position(config, number: int) -> tuple:
    """Everything that ``config`` says about layer ``number`` rather than about all layers."""
    fields = vars(config)
    depth = getattr(config, "num_hidden_layers", None) or 0
    place_of: list = [number == 0, number == depth - 1]
    for name, value in fields.items():
        if isinstance(value, str | list | tuple) and value:
            place_of.append(_in_list(value, number, depth))
        elif isinstance(value, dict) and number in value:
            place_of.append(repr(value[number]))
        elif ABOUT_LAYERS.search(name) and type(value) is int and 0 < value < depth:
            place_of.append((number < value, number >= depth - value, number == value))
            if not name.startswith(("num_", "n_")):  # a period rather than a number of layers
                place_of.append(number % value)
    return tuple(place_of)


def _in_list(value, number: int, depth: int):
    """The entry for this layer, its place in a shorter pattern, or whether it is listed."""
    if isinstance(value, str):
        return value[number] if len(value) == depth and number < depth else None
    if depth and len(value) >= depth:  # a convolution takes what the one before gives
        return repr(value[max(0, number - 1) : number + 1])
    return number in value, repr(value[number % len(value)])
