"""Bytes: weights by format, key-value caches and recurrent states, activations, and their sum.

Conventions. Weights count every parameter once, in the format that a quantizer gives its tensor.
A windowed layer is counted at its full window, which is what a fixed allocation and the step need;
`transformers`' growing cache holds one token less between steps. Quantized formats are for keys
and values: recurrent states stay in fp32 and convolution inputs in 16 bits.
Nothing is added for allocator blocks, pages, fragmentation or the runtime itself.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from sizewise.models.architecture import Grouped, Latent, Layer, Model, Span
from sizewise.validation import least, most, positive, whole

from . import weights as weight_parts
from .formats import Format, Stored, cache_format, weight_format

USABLE = 0.9  # of a device's memory: what servers claim; the rest is the runtime's and its pages'
EVENLY = "weights and cache divide evenly over devices"
IN_FLIGHT = 8192  # prompt tokens that are read at once
UNIFIED = 0.75  # of memory shared with the processor: what macOS lets a GPU hold


@dataclass(frozen=True)
class Total:
    """What one deployment holds. ``fits``: all of it in one device. None without a device."""

    model: str
    weights: str
    kv: str
    context: int
    batch: int
    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    device: str | None
    device_bytes: float | None
    devices: int | None
    fits: bool | None
    assumptions: tuple[str, ...]
    warnings: tuple[str, ...] = ()
    parts: tuple[weight_parts.Part, ...] = ()  # of the weights: what has which format
    usable: float = USABLE
    state_bytes: int = 0  # of ``kv_bytes``: states of recurrent layers, whatever the context
    mtp_bytes: int = 0  # of layers for multi-token prediction, stored beside: not in the total

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes

    def as_dict(self) -> dict:
        plain = asdict(self) | {"total_bytes": self.total_bytes}
        plain["parts"] = [part._asdict() for part in self.parts]
        return plain


def weights_bytes(
    parameters: int | Model,
    format: "str | Format | Stored | None" = "bf16",
    *,
    kept: int = 0,
) -> int:
    """Bytes of a model's weights, or of ``parameters`` of which ``kept`` stay in bf16.

    Of a `Model` whose tensors are known, each has the format that a quantizer gives it
    (`weights.parts`). For a bare number the scales of formats that store one a row (int8), under
    half a per cent, are left out. Raises ValueError for an unknown format, and for more kept than
    there are.
    """
    if isinstance(parameters, Model):
        if parameters.inventory and not kept:
            return sum(part.bytes for part in weight_parts.parts(parameters, format))
        format = weight_parts.scheme(parameters, format)
        parameters = stated(parameters, "total")
    form = format.format if isinstance(format, Stored) else weight_format(format or "")
    parameters = whole("parameters", parameters, 10**18)
    kept = whole("kept parameters", kept, 10**18, least=0)
    if kept > parameters:
        raise ValueError(f"{kept} kept parameters are more than all {parameters}")
    return math.ceil(((parameters - kept) * form.bits + kept * 16) / 8)


def kv_cache_bytes(
    model: Model,
    context: int,
    batch: int = 1,
    format: str | Format = "bf16",
    *,
    absorbed: bool = True,
    windows: bool = True,
) -> int:
    """Bytes of keys, values and states held for ``batch`` sequences of ``context`` tokens.

    A windowed layer holds at most its window; a latent layer its compressed vector and rotary
    key (or, with ``absorbed=False``, the keys and values of every head); a state-space layer its
    state whatever the context; a layer that shares another's keys and values nothing.
    ``windows=False`` gives what a calculator that ignores windows would say.
    Raises ValueError if context or batch is no whole number from 1 to 1e12, and for an unknown
    format.
    """
    return sum(kv_cache_by_layer(model, context, batch, format, absorbed=absorbed, windows=windows))


def kv_cache_by_layer(
    model: Model,
    context: int,
    batch: int = 1,
    format: str | Format = "bf16",
    *,
    absorbed: bool = True,
    windows: bool = True,
) -> list[int]:
    """`kv_cache_bytes`, layer by layer."""
    context, batch = whole("context", context), whole("batch", batch)
    form, memo = cache_format(format), {}
    for layer in set(model.layers):
        bits = state_bits(layer, form)
        for attention in layer.attentions:
            limited = windows or not isinstance(attention, Grouped)
            bits += spans_bits(attention.stored(absorbed), context, form, limited)
        memo[layer] = layer_bytes(batch, bits)
    return [memo[layer] for layer in model.layers]


def layer_bytes(batch: int, bits: float) -> int:
    """Whole bytes of one layer's cache for ``batch`` sequences of ``bits`` each."""
    return math.ceil(batch * bits / 8)


def kv_bytes_per_token(model: Model, format: str = "bf16") -> float:
    """Bytes that one more token adds to one sequence's cache, once every window is full."""
    form, bits = cache_format(format), 0.0
    for span in (span for part in model.attentions for span in part.stored()):
        if span.limit is None:
            bits += span.vectors * (span.width * form.bits + form.per_row) / span.stride
    return bits / 8


def activation_bytes(model: Model, context: int, batch: int = 1) -> int:
    """Peak of intermediate tensors while prompts are read: an estimate, not a count.

    The larger of two moments. In a gated mlp, for each token in flight (`IN_FLIGHT` at
    most, the rest of a long prompt follows in chunks): the residual, its copy and its normalized
    form, and gate, up and product of ``mlp_width``. At the head: fp32 logits of the last token of
    each sequence, and the residual. Attention scores are never stored whole (Dao et al. 2022).
    `transformers`' eager classes peak at 1.0 to 1.5 times this, as the tests measure.
    """
    tokens = least(whole("context", context) * whole("batch", batch), IN_FLIGHT)
    mlp = tokens * 3 * (model.hidden_size + model.mlp_width) * 16
    head = batch * model.vocab_size * 32 + tokens * model.hidden_size * 16
    return math.ceil(most(mlp, head) / 8)


def total_memory(
    model: Model,
    weights: "str | Stored | None" = "bf16",
    kv: str = "bf16",
    context: int = 8192,
    batch: int = 1,
    device=None,
    *,
    usable: float | None = None,
    kept: int = 0,
) -> Total:
    """Weights, cache and activations of one deployment, and the devices that hold them.

    ``weights=None`` takes the format that the checkpoint's own configuration states. ``device``
    has ``name`` and ``memory_bytes``; ``usable`` is the share of its memory that is free for this
    (default: `share_of`). ``devices`` divides the bytes evenly and so is a lower bound;
    `deployment.plan` says what each device really holds. ``kept`` is as in `weights_bytes`.
    Raises ValueError for what the parts refuse, and for a ``usable`` outside (0, 1].
    """
    usable = share_of(device, usable)
    scheme = weight_parts.scheme(model, weights)
    weight_bytes = weights_bytes(model, scheme, kept=kept)
    peak = activation_bytes(model, context, batch)
    kv_bytes = kv_cache_bytes(model, context, batch, kv)
    states = sum(state_bits(layer, cache_format(kv)) for layer in model.layers)
    total = weight_bytes + kv_bytes + peak
    devices = None if device is None else least_devices(total, device.memory_bytes, usable)
    return Total(
        model=model.name,
        weights=scheme.name,
        kv=kv,
        context=context,
        batch=batch,
        weights_bytes=weight_bytes,
        kv_bytes=kv_bytes,
        activation_bytes=peak,
        device=None if device is None else device.name,
        device_bytes=None if device is None else device.memory_bytes,
        devices=devices,
        fits=None if devices is None else devices == 1,
        assumptions=(*assumed(model, weights, usable), EVENLY),
        warnings=tuple(warnings(model, context)),
        parts=tuple(weight_parts.parts(model, scheme)) if model.inventory else (),
        usable=usable,
        state_bytes=math.ceil(batch * states / 8),
        mtp_bytes=weight_parts.mtp_bytes(model, scheme),
    )


def share_of(device, usable: float | None = None) -> float:
    """The share of a device's memory that weights, cache and activations may take.

    Given as a number it is checked. Raises ValueError outside (0, 1].
    """
    if usable is None:
        return UNIFIED if getattr(device, "unified", False) else USABLE
    if positive("usable share of memory", usable) > 1:
        raise ValueError(f"usable share of memory must be above 0 and at most 1, got {usable!r}")
    return usable


def assumed(model: Model, weights, usable: float) -> list[str]:
    """What an answer assumes because it is not stated, one line each."""
    stated = model.quantization or model.stored
    reason = "as its checkpoint states" if stated else "since its configuration states no other"
    lines = {
        f"weights in {weight_parts.scheme(model, weights).name}, {reason}": weights is None,
        f"{usable:.0%} of each device's memory is free for it; the rest is for the runtime, pages "
        "and an engine's own buffers": True,
        f"activations at their peak: at most {IN_FLIGHT:,} prompt tokens in flight": True,
        "one latent a token is cached; an engine without it, which is the engine's choice, caches "
        "the keys and values of every head": any(isinstance(p, Latent) for p in model.attentions),
        "an encoder: nothing is cached": model.kind == "encoder",
        "an encoder-decoder: the context is that of each of its parts": (
            model.kind == "encoder-decoder"
        ),
        f"{model.mtp:,} parameters for multi-token prediction are stored beside the model and not "
        "loaded": bool(model.mtp),
    }
    return [*model.assumptions, *(line for line, holds in lines.items() if holds)]


def warnings(model: Model, context: int) -> list[str]:
    """Why a model cannot be run as the answer assumes, one line each."""
    longest = model.max_context
    if longest and context > longest:
        return [f"{context:,} tokens are beyond the model's longest context of {longest:,}"]
    return []


def least_devices(total: int, memory: float, usable: float = 1.0) -> int:
    """The fewest devices of ``memory`` bytes, ``usable`` as a share, that hold ``total`` bytes."""
    return math.ceil(total / (positive("memory_bytes", memory) * usable))


def fits(total: int, memory: float, usable: float = 1.0) -> bool:
    """Whether one device of ``memory`` bytes holds ``total`` bytes, as `Total.fits` says it."""
    return least_devices(total, memory, usable) <= 1


def spans_bits(spans: Iterable[Span], context: int, form: Format, windows: bool = True) -> float:
    """Bits of one sequence's ``spans`` at ``context`` tokens."""
    bits = 0.0
    for vectors, width, limit, stride in spans:
        positions = context // stride
        if windows and limit is not None:
            positions = least(positions, limit)
        bits += positions * vectors * (width * form.bits + form.per_row)
    return bits


def state_bits(layer: Layer, form: Format) -> float:
    """Bits of one sequence's recurrent state: fp32, and at least 16-bit convolution inputs."""
    if layer.state is None:
        return 0
    plain = most(form.bits, 16)
    recurrent = plain if layer.state.in_model_format else 32
    return layer.state.conv_values * plain + layer.state.recurrent_values * recurrent


def stated(model: Model, field: str) -> int:
    """A count that the model's description must have, else ValueError."""
    value = getattr(model, field)
    if value is None:
        raise ValueError(f"{model.name}: this description states no {field} parameter count")
    return value
