"""Bytes: weights by format, key-value caches and recurrent states, activations, and their sum.

Conventions. Weights count every parameter once. A windowed
layer is counted at its full window, which is what a fixed allocation and the step itself need;
`transformers`' growing cache holds one token less between steps. Quantized formats are for keys
and values: recurrent states stay in fp32 and convolution inputs in 16 bits.
Nothing is added for allocator blocks, pages, fragmentation or the runtime itself.
"""

import math
from dataclasses import asdict, dataclass

from sizewise.models.architecture import Grouped, Layer, Model, Span
from sizewise.validation import least, most, positive, whole

from .formats import Format, cache_format, weight_format


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

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes

    def as_dict(self) -> dict:
        return asdict(self) | {"total_bytes": self.total_bytes}


def weights_bytes(
    parameters: int | Model,
    format: str = "bf16",
    *,
    kept: int = 0,
    kept_format: str = "bf16",
    row: int | None = None,
) -> int:
    """Bytes of ``parameters`` weights, of which ``kept`` stay in ``kept_format``.

    Quantizers usually keep embeddings, the head and norms. ``row`` is the typical row length of
    a matrix, for formats that store a scale a row (int8); without it those scales, under half a
    per cent, are left out.
    Raises ValueError for an unknown format, and for ``kept`` above ``parameters``.
    """
    if isinstance(parameters, Model):
        parameters = stated(parameters, "total")
    parameters = whole("parameters", parameters, 10**18)
    kept = whole("kept parameters", kept, 10**18, least=0)
    if kept > parameters:
        raise ValueError(f"{kept} kept parameters are more than all {parameters}")
    one = weight_format(format)
    bits = one.bits + (one.per_row / whole("row", row) if row else 0)
    return math.ceil(((parameters - kept) * bits + kept * weight_format(kept_format).bits) / 8)


def kv_cache_bytes(
    model: Model,
    context: int,
    batch: int = 1,
    format: str = "bf16",
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
    format: str = "bf16",
    *,
    absorbed: bool = True,
    windows: bool = True,
) -> list[int]:
    """`kv_cache_bytes`, layer by layer."""
    context, batch = whole("context", context), whole("batch", batch)
    one, memo = cache_format(format), {}
    for layer in set(model.layers):
        spans = layer.attention.held(absorbed) if layer.attention else ()
        limited = windows or not isinstance(layer.attention, Grouped)
        bits = spans_bits(spans, context, one, limited) + state_bits(layer, one)
        memo[layer] = layer_bytes(batch, bits)
    return [memo[layer] for layer in model.layers]


def layer_bytes(batch: int, bits: float) -> int:
    """Whole bytes of one layer's cache for ``batch`` sequences of ``bits`` each."""
    return math.ceil(batch * bits / 8)


def kv_bytes_per_token(
    model: Model, format: str = "bf16", *, absorbed: bool = True, windows: bool = True
) -> float:
    """Bytes that one more token adds to one sequence's cache, once every window is full.

    ``windows=False`` counts windowed layers as if they kept everything, as many tables do.
    """
    one = cache_format(format)
    bits = 0.0
    for layer in model.layers:
        grows_on = not windows and isinstance(layer.attention, Grouped)
        for span in layer.attention.held(absorbed) if layer.attention else ():
            if span.limit is None or grows_on:
                bits += span.vectors * (span.width * one.bits + one.per_row) / span.stride
    return bits / 8


def activation_bytes(
    model: Model, context: int, batch: int = 1, *, prefill_tokens: int = 8192, bits: float = 16
) -> int:
    """Peak of intermediate tensors while prompts are read: an estimate, not a count.

    The larger of two moments. In a gated mlp, for each token in flight (``prefill_tokens`` at
    most, the rest of a long prompt follows in chunks): the residual, its copy and its normalized
    form, and gate, up and product of ``mlp_width``. At the head: fp32 logits of the last token of
    each sequence, and the residual. Attention scores are never stored whole (Dao et al. 2022).
    `transformers`' eager classes peak at 1.0 to 1.5 times this, as the tests measure.
    """
    tokens = least(
        whole("context", context) * whole("batch", batch), whole("prefill tokens", prefill_tokens)
    )
    mlp = tokens * 3 * (model.hidden_size + model.mlp_width) * bits
    head = batch * model.vocab_size * 32 + tokens * model.hidden_size * bits
    return math.ceil(most(mlp, head) / 8)


def total_memory(
    model: Model,
    weights: str = "bf16",
    kv: str = "bf16",
    context: int = 8192,
    batch: int = 1,
    device=None,
    *,
    usable: float = 1.0,
    kept: int = 0,
    absorbed: bool = True,
    prefill_tokens: int = 8192,
) -> Total:
    """Weights, cache and activations of one deployment, and the devices that hold them.

    ``device`` has ``name`` and ``memory_bytes``. ``usable`` is the share of a device's memory
    that is really free for this; 1.0 makes ``devices`` a lower bound, servers take about 0.9.
    Raises ValueError for what the parts refuse, and for a ``usable`` outside (0, 1].
    """
    if positive("usable share of memory", usable) > 1:
        raise ValueError(f"usable share of memory must be above 0 and at most 1, got {usable!r}")
    parts = (
        weights_bytes(model, weights, kept=kept),
        kv_cache_bytes(model, context, batch, kv, absorbed=absorbed),
        activation_bytes(model, context, batch, prefill_tokens=prefill_tokens),
    )
    notes = [
        f"{usable:.0%} of each device's memory is free for it",
        f"at most {prefill_tokens:,} prompt tokens in flight",
        "weights and cache divide evenly over devices; pages and the runtime are not counted",
    ]
    if model.max_context and context > model.max_context:
        notes.append(f"the model states a context of {model.max_context:,} tokens only")
    devices = None
    if device is not None:
        devices = least_devices(sum(parts), device.memory_bytes, usable)
    return Total(
        model=model.name,
        weights=weights,
        kv=kv,
        context=context,
        batch=batch,
        weights_bytes=parts[0],
        kv_bytes=parts[1],
        activation_bytes=parts[2],
        device=None if device is None else device.name,
        device_bytes=None if device is None else device.memory_bytes,
        devices=devices,
        fits=None if devices is None else devices == 1,
        assumptions=tuple(notes),
    )


def least_devices(total: int, memory: float, usable: float = 1.0) -> int:
    """The fewest devices of ``memory`` bytes, ``usable`` as a share, that hold ``total`` bytes."""
    return math.ceil(total / (positive("memory_bytes", memory) * usable))


def fits(total: int, memory: float, usable: float = 1.0) -> bool:
    """Whether one device of ``memory`` bytes holds ``total`` bytes, as `Total.fits` says it."""
    return least_devices(total, memory, usable) <= 1


def spans_bits(spans: tuple[Span, ...], context: int, one: Format, windows: bool = True) -> float:
    """Bits of one sequence's ``spans`` at ``context`` tokens."""
    bits = 0.0
    for vectors, width, limit, stride in spans:
        places = context // stride
        if windows and limit is not None:
            places = least(places, limit)
        bits += places * vectors * (width * one.bits + one.per_row)
    return bits


def state_bits(layer: Layer, one: Format) -> float:
    """Bits of one sequence's recurrent state: fp32, and at least 16-bit convolution inputs."""
    if layer.state is None:
        return 0
    plain = most(one.bits, 16)
    recurrent = plain if layer.state.in_model_format else 32
    return layer.state.conv_values * plain + layer.state.recurrent_values * recurrent


def stated(model: Model, field: str) -> int:
    """A count that the model's description must have, else ValueError."""
    value = getattr(model, field)
    if value is None:
        raise ValueError(f"{model.name}: this description states no {field} parameter count")
    return value
