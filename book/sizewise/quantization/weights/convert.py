"""The door to weight formats: convert a model in place, and say what stayed as it was.

Linear layers are replaced one by one, so that a model is never in memory twice; so are the
matrices of experts, which `transformers` keeps in one 3-D parameter a layer. Embeddings, norms,
biases, routers and by default the output head stay in the precision they came in; how much that
is is part of the answer.
"""

import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sizewise import units
from sizewise.quantization import tensor_bytes

from . import layers
from .layers import Format

FORMATS = tuple(layers.FORMATS)
HEADS = ("lm_head", "embed_out")  # of models that do not say which module is their head
Fill = Callable[[str, Any], None]


@dataclass(frozen=True)
class Converted:
    """A model in its new format, the bytes it holds and what was left out.

    ``parameters`` counts the weights of the model before, tied ones once; ``layers`` and
    ``weights`` count what was converted (a layer's experts are one of ``layers`` a parameter);
    ``left`` the matrices that were not, by class.
    """

    model: Any = field(repr=False)
    format: str
    stored: tensor_bytes.TensorBytes
    seconds: float
    parameters: int
    layers: int
    weights: int
    left: dict[str, int]
    notes: tuple[str, ...] = ()

    @property
    def bits(self) -> float:
        """Bits in memory for each parameter of the whole model."""
        return 8 * self.stored.total / self.parameters


def refusal(name: str | Format, device: str = "cpu") -> str | None:
    """Why this machine cannot hold or run a format on a device; None if it can.

    Raises ValueError for an unknown name, with the nearest one.
    """
    form, kind = _format(name), str(device).split(":")[0]
    if kind not in ("cpu", "cuda"):
        return f"weight formats are tried on cpu and cuda, not on {device!r}"
    if form.package and importlib.util.find_spec(form.package) is None:
        return f"the package {form.package} is not installed"
    if kind == "cuda":
        import torch

        if not torch.cuda.is_available():
            return "torch sees no GPU here"
    return None


def convert(
    model,
    name: str | Format,
    *,
    device=None,
    fill: Fill | None = None,
    calibration=None,
    progress: Callable[[int, int], None] | None = None,
) -> Converted:
    """Convert the linear layers and experts of a torch ``model``, in place and one by one.

    The output head stays. A plain format casts every parameter and no buffer (rotary frequencies
    stay in fp32). With ``device``, each tensor moves there when its turn comes.
    ``fill(name, tensor)`` gives values to the tensors of a model made on the meta device, one
    layer at a time, so that a model larger than memory can be made in its small format.
    ``calibration``, windows of tokens (n, T), is what GPTQ and AWQ look at. ``progress`` gets
    (modules done, modules). ``name`` may also be a `layers.Format`.
    Raises ValueError for an unknown or refused format, a model on the meta device without
    ``fill``, a calibrated format without ``calibration`` or of a model with experts, a model with
    nothing to convert, and weights that are not finite.
    """
    import torch

    form, started = _format(name), time.perf_counter()
    first = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    position = first if device is None else torch.device(device)
    if position.type == "meta":
        raise ValueError("the model is on the meta device: name the device that will hold it")
    if reason := refusal(name, str(position)):
        raise ValueError(f"{form.name} cannot be used here: {reason}")
    if fill is None and any(parameter.is_meta for parameter in model.parameters()):
        raise ValueError("the model has no weights yet (meta device), and no fill was given")
    parameters = sum(parameter.numel() for parameter in model.parameters())
    selected, notes = select_layers(model, form)
    moments = _moments(model, form, selected, calibration)
    linear, experts = linear_layers(model), expert_matrices(model)
    weights = sum(math.prod(experts.get(path) or linear[path]) for path in selected)
    filled, names = {}, [path for path, _ in model.named_modules()]
    with torch.no_grad():
        for number, path in enumerate(names, 1):
            module = model.get_submodule(path)
            for key in list(module._parameters):
                full = f"{path}.{key}" if path else key
                coded = full in selected or (path in selected and key == "weight")
                _settle(module, key, full, position, form.cast, fill, filled, coded)
            for key, buffer in list(module._buffers.items()):
                if buffer is not None:
                    module._buffers[key] = buffer.to(position)
            if path in selected:
                layer = form.make(_as_linear(module, path), position, moments.get(path))
                for parent in list(model.modules()):  # a shared layer hangs in several places
                    for attribute, child in parent._modules.items():
                        if child is module:
                            parent._modules[attribute] = layer
            for key in [key for key in module._parameters if f"{path}.{key}" in selected]:
                _replace_experts(module, key, form, position, f"{path}.{key}")
            if progress:
                progress(number, len(names))
    left = {} if form.cast else _left(model, selected)
    seconds = time.perf_counter() - started
    stored = tensor_bytes.measure_bytes(model)
    if left:
        share = sum(left.values()) / parameters
        classes = ", ".join(f"{kind} {units.si(n, 'params')}" for kind, n in left.items())
        notes.append(
            f"{share:.1%} of the parameters are matrices left in high precision: {classes}"
        )
    counts = (parameters, len(selected), weights, left)
    return Converted(model, form.name, stored, seconds, *counts, tuple(notes))


# --- what can be converted


def linear_layers(model) -> dict[str, tuple[int, int]]:
    """Name and (rows, columns) = (out, in) of every linear layer in plain precision."""
    shapes = {path: _shape(module) for path, module in model.named_modules() if path}
    return {path: shape for path, shape in shapes.items() if shape}


def expert_matrices(model) -> dict[str, tuple[int, int, int]]:
    """Name and (experts, out, in) of every 3-D parameter that holds one matrix an expert."""
    matrices = {}
    for path, module in model.named_modules():
        count = getattr(module, "num_experts", getattr(module, "num_local_experts", None))
        for key, parameter in module._parameters.items():
            if parameter is not None and parameter.ndim == 3 and parameter.shape[0] == count:
                sizes = tuple(parameter.shape)
                if getattr(module, "is_transposed", False):
                    sizes = (sizes[0], sizes[2], sizes[1])
                matrices[f"{path}.{key}"] = sizes
    return matrices


def head(model) -> tuple[str, ...]:
    """The names of the modules that are the output head; none for an encoder."""
    module = getattr(model, "get_output_embeddings", lambda: None)()
    if module is not None:
        return tuple(path for path, other in model.named_modules() if other is module)
    return tuple(path for path in linear_layers(model) if path.split(".")[-1] in HEADS)


def select_layers(model, form: Format) -> tuple[set[str], list[str]]:
    """The names of the layers and experts to convert, and a note on those that do not fit."""
    if form.cast:
        return set(), []
    last = head(model)
    every = linear_layers(model) | expert_matrices(model)
    widths = {path: shape[-1] for path, shape in every.items() if path not in last}
    fit = {path for path, width in widths.items() if not width % form.group}
    if not fit:
        raise ValueError(f"the model has no linear layer that can be converted to {form.name}")
    if len(fit) == len(widths):
        return fit, []
    misfits = f"{len(widths) - len(fit)} layers are no multiple of {form.group} wide"
    return fit, [f"{misfits} and stay as they are"]


def _shape(module) -> tuple[int, int] | None:
    """(out, in) of a linear layer in plain precision, None for anything else.

    Layers of other libraries derive from `torch.nn.Linear` too, so the class must be its own.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    weight = getattr(module, "weight", None)
    if not isinstance(weight, torch.nn.Parameter) or not weight.is_floating_point():
        return None
    if type(module) is torch.nn.Linear and type(weight) is torch.nn.Parameter:
        plain = type(weight.data) is torch.Tensor  # not a subclass that is quantized already
        return (weight.shape[0], weight.shape[1]) if plain else None
    return (weight.shape[1], weight.shape[0]) if type(module) is Conv1D else None


def _format(name: str | Format) -> Format:
    if isinstance(name, Format):
        return name
    if name not in layers.FORMATS:
        raise units.unknown("weight format", name, FORMATS)
    return layers.FORMATS[name]


# --- how it is done


def _moments(model, form: Format, selected: set[str], calibration) -> dict:
    if not form.calibrated:
        return {}
    from . import calibrated

    if calibration is None:
        raise ValueError(f"{form.name} looks at a layer's inputs: it needs a calibration text")
    if not selected <= set(linear_layers(model)):
        raise ValueError(f"{form.name} is not made for experts: which tokens reach them differs")
    return calibrated.second_moments(model, calibration, sorted(selected))


def _as_linear(module, path: str):
    """A `torch.nn.Linear` with the same weights; GPT-2's Conv1D stores them (in, out)."""
    import torch

    if not module.weight.isfinite().all():
        raise ValueError(f"{path} holds weights that are not finite")
    if type(module) is torch.nn.Linear:
        return module
    return layers.linear_of(module.weight.data.T.contiguous(), module.bias)


def _replace_experts(module, key: str, form: Format, position, full: str) -> None:
    """Put coded matrices where a 3-D parameter was, and have the experts run one by one."""
    from .coded import ExpertMatrices

    parameter, transposed = module._parameters.pop(key), getattr(module, "is_transposed", False)
    if not parameter.isfinite().all():
        raise ValueError(f"{full} holds weights that are not finite")
    matrices = (matrix.T.contiguous() if transposed else matrix for matrix in parameter.data)
    coded = [form.make(layers.linear_of(matrix), position) for matrix in matrices]
    setattr(module, key, ExpertMatrices(coded, form.decode, transposed, parameter.dtype))
    if hasattr(module, "config"):  # other implementations multiply the 3-D parameter at once
        module.config._experts_implementation = "eager"


def _settle(module, key, full, position, cast, fill, filled, coded) -> None:
    """One parameter filled, cast and moved. What is quantized next is moved by its maker."""
    import torch

    old = module._parameters[key]
    if old is None:
        return
    dtype = getattr(torch, cast) if cast else old.dtype
    if not old.is_meta:
        if not coded:
            old.data = old.data.to(position, dtype)  # the parameter stays, and with it what is tied
        return
    if id(old) not in filled:
        new = torch.empty(old.shape, dtype=dtype, device=position)
        fill(full, new)
        # The old one is kept beside it, so that nothing else gets its id.
        filled[id(old)] = (old, torch.nn.Parameter(new, requires_grad=False))
    module._parameters[key] = filled[id(old)][1]
    if coded:
        filled.pop(id(old))


def _left(model, selected: set[str]) -> dict[str, int]:
    """Elements of matrices that stayed in high precision, by the class of their module."""
    left, observed, last = {}, set(), head(model)
    for path, module in model.named_modules():
        if any(path == name or path.startswith(f"{name}.") for name in selected):
            continue
        for parameter in module._parameters.values():
            if parameter is not None and parameter.ndim >= 2 and id(parameter) not in observed:
                observed.add(id(parameter))
                kind = "output head" if path in last else type(module).__name__
                kind += f" ({parameter.ndim}-D)" if parameter.ndim > 2 else ""
                left[kind] = left.get(kind, 0) + parameter.numel()
    return dict(sorted(left.items(), key=lambda item: -item[1]))
