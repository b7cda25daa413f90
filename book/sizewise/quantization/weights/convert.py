"""The door to weight formats: convert a model in place, and say what stayed as it was.

Linear layers are replaced one by one, so that a model is never held twice. Embeddings, norms,
biases, experts that are stored as one 3-D parameter, and by default the output head stay in the
precision they came in; how much that is is part of the answer.
"""

import importlib.util
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from sizewise import units
from sizewise.quantization import tensor_bytes

from . import layers, select_layers
from .select_layers import head, linear_layers

__all__ = ["FORMATS", "Converted", "convert", "expected", "head", "linear_layers", "refusal"]
FORMATS = tuple(layers.TABLE)
Fill = Callable[[str, Any], None]


@dataclass(frozen=True)
class Converted:
    """A model in its new format, the bytes it holds and what was left out.

    ``parameters`` counts the weights of the model before, tied ones once; ``layers`` and
    ``weights`` count what was converted; ``left`` the matrices that were not, by class.
    """

    model: Any = field(repr=False)
    format: str
    held: tensor_bytes.Held
    seconds: float
    parameters: int
    layers: int
    weights: int
    left: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """Bits really held for each parameter of the whole model."""
        return 8 * self.held.total / self.parameters


def refusal(name: str, device: str = "cpu") -> str | None:
    """Why this machine cannot hold or run a format on a device; None if it can.

    Raises ValueError for a name that is none, with the nearest one.
    """
    wanted, kind = _format(name), str(device).split(":")[0]
    if kind not in ("cpu", "cuda"):
        return f"weight formats are tried on cpu and cuda, not on {device!r}"
    if wanted.package and importlib.util.find_spec(wanted.package) is None:
        return f"the package {wanted.package} is not installed"
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no GPU here"
        if torch.cuda.get_device_capability(device) < wanted.capability:
            return wanted.gpu
    return wanted.gpu if wanted.gpu and kind == "cpu" else None


def convert(
    model,
    name: str,
    *,
    device=None,
    skip: Iterable[str] | None = None,
    only: Iterable[str] | None = None,
    fill: Fill | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Convert the linear layers of a torch ``model`` to a format, in place and one by one.

    ``skip`` and ``only`` are suffixes of module names; by default all layers but the output head
    are converted, as `transformers` does it. A plain format casts every parameter and no buffer
    (rotary frequencies stay in fp32). With ``device``, each tensor moves there when its turn
    comes. ``fill(name, tensor)`` gives values to the tensors of a model made on the meta device,
    one layer at a time, so that a model larger than memory can be made in its small format.
    ``progress`` is told (modules done, modules).
    Raises ValueError for an unknown or refused format, suffixes that name no layer, a model on
    the meta device without ``fill``, and a model that has no layer to convert.
    """
    import torch

    wanted, started = _format(name), time.perf_counter()
    on = torch.device(device) if device is not None else _device(model)
    if on.type == "meta":
        raise ValueError("the model is on the meta device: name the device that will hold it")
    if reason := refusal(name, str(on)):
        raise ValueError(f"{name} cannot be used here: {reason}")
    if fill is None and any(one.is_meta for one in model.parameters()):
        raise ValueError("the model has no weights yet (meta device), and no fill was given")
    parameters = sum(one.numel() for one in model.parameters())
    chosen, notes = select_layers.choose(model, wanted, skip, only)
    weights = _count(model, chosen)
    parents, made, names = (
        select_layers.parents(model),
        {},
        [path for path, _ in model.named_modules()],
    )
    with torch.no_grad():
        for number, path in enumerate(names, 1):
            module = model.get_submodule(path)
            for key in list(module._parameters):
                _settle(module, key, path, on, wanted.cast, fill, made, path in chosen)
            for key, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[key] = buffer.to(on)
            if path in chosen:
                replaced = wanted.make(select_layers.linear(module), on)
                for parent, attribute in parents[path]:
                    setattr(parent, attribute, replaced)
            if progress:
                progress(number, len(names))
    left = {} if wanted.cast else _left(model, chosen)
    seconds = time.perf_counter() - started
    return Converted(
        model,
        name,
        tensor_bytes.of(model),
        seconds,
        parameters,
        len(chosen),
        weights,
        left,
        (*notes, *_said(left, parameters)),
    )


def expected(model, name: str, *, skip=None, only=None) -> tensor_bytes.Held:
    """The bytes that `convert` would leave, by arithmetic on shapes alone.

    The model may be on the meta device. Raises ValueError as `convert` does, but not for what
    this machine lacks.
    """
    wanted = _format(name)
    chosen, _ = select_layers.choose(model, wanted, skip, only)
    codes = scales = tables = 0
    taken: set[int] = set()
    for path in chosen:
        module = model.get_submodule(path)
        rows, columns = select_layers.shape(module)
        sizes = wanted.sizes(rows, columns, module.weight.element_size())
        codes, scales, tables = (
            codes + sizes.codes,
            scales + sizes.scales,
            tables + sizes.codebooks,
        )
        taken.add(id(module.weight))
    shared = {
        id(one)
        for path, module in model.named_modules()
        if path not in chosen
        for one in module._parameters.values()
    }
    plain = sum(
        one.numel() * (_itemsize(wanted.cast) or one.element_size())
        for one in model.parameters()
        if id(one) not in taken or id(one) in shared
    )
    buffers = {one.untyped_storage()._cdata: one.untyped_storage() for one in model.buffers()}
    plain += sum(one.nbytes() for one in buffers.values())
    return tensor_bytes.Held(codes, scales, tables, plain)


def _format(name: str) -> layers.Format:
    if name not in layers.TABLE:
        raise units.unknown("weight format", name, FORMATS)
    return layers.TABLE[name]


def _device(model):
    import torch

    return next((one.device for one in model.parameters()), torch.device("cpu"))


def _settle(module, key, path, on, cast, fill, made, chosen) -> None:
    """One parameter filled, cast and moved. What is quantized next is moved by its maker."""
    import torch

    old = module._parameters[key]
    if old is None:
        return
    dtype = getattr(torch, cast) if cast else old.dtype
    if not old.is_meta:
        if not (chosen and key == "weight"):
            old.data = old.data.to(on, dtype)  # the parameter stays, and with it what is tied
        return
    if id(old) not in made:
        new = torch.empty(old.shape, dtype=dtype, device=on)
        fill(f"{path}.{key}" if path else key, new)
        # The old one is kept beside it, so that nothing else gets its id.
        made[id(old)] = (old, torch.nn.Parameter(new, requires_grad=False))
    module._parameters[key] = made[id(old)][1]
    if chosen and key == "weight":
        made.pop(id(old))


def _count(model, chosen) -> int:
    return sum(
        rows * columns
        for rows, columns in map(select_layers.shape, map(model.get_submodule, chosen))
    )


def _left(model, chosen) -> dict[str, int]:
    """Elements of matrices that stayed in high precision, by the class of their module."""
    found, seen, last = {}, set(), head(model)
    for path, module in model.named_modules():
        if path in chosen or any(path.startswith(f"{one}.") for one in chosen):
            continue
        for one in module._parameters.values():
            if one is not None and one.ndim >= 2 and id(one) not in seen:
                seen.add(id(one))
                kind = "output head" if path in last else type(module).__name__
                kind += f" ({one.ndim}-D)" if one.ndim > 2 else ""
                found[kind] = found.get(kind, 0) + one.numel()
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _said(left: dict[str, int], parameters: int) -> list[str]:
    if not left:
        return []
    share = sum(left.values()) / parameters
    words = ", ".join(f"{kind} {units.si(number, 'params')}" for kind, number in left.items())
    return [f"{share:.1%} of the parameters are matrices left in high precision: {words}"]


def _itemsize(cast: str) -> int:
    import torch

    return getattr(torch, cast).itemsize if cast else 0
