"""The floor in time, energy and money: what bytes and operations alone cost on a device.

A floor, not a forecast: memory is read at its stated bandwidth, arithmetic runs at its stated
dense peak, bytes and FLOPs divide evenly over the devices, and communication, launches and
scheduling are free. Each result carries these assumptions. A step has two phases, which need not
be bound by the same thing: products with the weights, and attention over the cache. In each the
slower of memory and arithmetic counts; the phases follow one another (Austin et al. 2025,
"How to Scale Your Model", the chapter on inference).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from sizewise.models.architecture import Model
from sizewise.validation import least, most, positive, real, whole

from . import weights as weight_parts
from .formats import Format, cache_format
from .memory import kv_cache_bytes, spans_bits, state_bits, stated
from .training import Range, peak_operations, stated_peak

STATE_OPERATIONS = 6  # decay, outer product and read-out: a multiply and an add for each


@dataclass(frozen=True)
class Phase:
    """Bytes and operations of one part of a step, over all devices, and its seconds."""

    bytes: float
    operations: float
    memory_seconds: float
    compute_seconds: float

    @property
    def seconds(self) -> float:
        return most(self.memory_seconds, self.compute_seconds)

    @property
    def bound(self) -> str:
        return "memory" if self.memory_seconds >= self.compute_seconds else "compute"


@dataclass(frozen=True)
class Floor:
    """The least time of one step, with energy and money for a million tokens.

    ``tokens`` is what the step yields: one a sequence in decode, all prompt tokens in prefill.
    ``bound`` is what most of the time goes to.
    """

    step: str
    model: str
    device: str
    devices: int
    context: int
    batch: int
    tokens: int
    weights: Phase
    attention: Phase
    joules_per_million_tokens: float | None
    dollars_per_million_tokens: Range | None
    assumptions: tuple[str, ...]

    @property
    def bytes(self) -> float:
        return self.weights.bytes + self.attention.bytes

    @property
    def operations(self) -> float:
        return self.weights.operations + self.attention.operations

    @property
    def seconds(self) -> float:
        return self.weights.seconds + self.attention.seconds

    @property
    def bound(self) -> str:
        phases = (self.weights, self.attention)
        memory = sum(phase.seconds for phase in phases if phase.bound == "memory")
        return "memory" if 2 * memory >= self.seconds else "compute"

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds


def decode(
    model: Model,
    device,
    context: int,
    batch: int = 1,
    *,
    weights: "str | Format | weight_parts.Stored | None" = "bf16",
    kv: str = "bf16",
    absorbed: bool = True,
    compute: str = "bf16",
    devices: int = 1,
    price=None,
) -> Floor:
    """The floor for one new token in each of ``batch`` sequences of ``context`` tokens.

    Read: the weights (of routed experts the expected number that the batch touches) and every
    sequence's cache; a recurrent state is read and written. ``compute`` is the format in which
    products run, ``price`` the dollars for a device and hour, a number or (low, high).
    Raises ValueError for sizes that are no whole numbers above 0, unknown formats, and a model
    that states no parameter counts.
    """
    context, batch = whole("context", context), whole("batch", batch)
    return _floor(
        "decode",
        (model, device),
        (context, batch, batch),
        (touched_bytes(model, batch, weights), real(2 * _multiplied(model) * batch)),
        (
            kv_read_bytes(model, context, batch, kv, absorbed=absorbed),
            real(batch * _work(model, keys_met, context, absorbed, tokens=1)),
        ),
        (weights, kv),
        compute=compute,
        devices=devices,
        price=price,
    )


def prefill(
    model: Model,
    device,
    context: int,
    batch: int = 1,
    *,
    weights: "str | Format | weight_parts.Stored | None" = "bf16",
    kv: str = "bf16",
    compute: str = "bf16",
    devices: int = 1,
    price=None,
) -> Floor:
    """The floor for reading ``batch`` prompts of ``context`` tokens at once.

    Each weight is read once and the cache written once; activations stay on the chip. The causal
    mask and windows are made use of: a query meets only the keys that it may see. Latent layers
    attend with keys and values expanded for every head, which takes fewer operations here.
    ``compute`` and ``price`` are as in `decode`.
    """
    context, batch = whole("context", context), whole("batch", batch)
    tokens, multiplied = batch * context, _multiplied(model)
    heads = min(multiplied, model.vocab_size * model.hidden_size)  # scores the last token only
    products = 2 * ((multiplied - heads) * tokens + heads * batch)
    scores = _work(model, keys_seen, context, absorbed=False, tokens=context)
    return _floor(
        "prefill",
        (model, device),
        (context, batch, tokens),
        (touched_bytes(model, tokens, weights), float(products)),
        (float(kv_cache_bytes(model, context, batch, kv)), float(batch * scores)),
        (weights, kv),
        compute=compute,
        devices=devices,
        price=price,
    )


def expected_experts(experts: int, used: int, tokens: int) -> float:
    """Distinct experts that ``tokens`` tokens reach, each choosing ``used`` of ``experts``.

    Exact for choices that are uniform and independent between tokens: an expert is missed by one
    token with probability 1 - k/E. Real routers are uneven and reach fewer.
    """
    experts, used = whole("experts", experts), whole("experts a token", used)
    if used > experts:
        raise ValueError(f"a token cannot use {used} of {experts} experts")
    return experts * (1 - (1 - used / experts) ** whole("tokens", tokens))


def touched_parameters(model: Model, tokens: int) -> float:
    """Parameters read for one step over ``tokens`` tokens: all, minus the experts not chosen.

    Of embeddings only the rows looked up count, at most the table; towers for images and sound
    are read when there is an image, not at every token.
    """
    total: float = stated(model, "total") - model.vision
    lookup = model.lookup
    rows = least(lookup, tokens * lookup / model.vocab_size)
    if model.experts:
        stated(model, "active")
        reached = expected_experts(*model.expert_choice, tokens)
        total -= model.routed * (1 - reached / model.experts)
    return total - lookup + rows


class Read(NamedTuple):
    """Bytes of weights by how a step of text reads them: whole, a row a token, the chosen, not."""

    always: float
    tables: float
    routed: float
    vision: float


def read_parts(model: Model, weights="bf16") -> Read:
    """How a step of ``model`` reads its weights, each tensor in the format that it is stored in.

    Of a model whose tensors are not known, the embedding and the head stay in 16 bits where the
    format's quantizers leave them.
    """
    stored_as = weight_parts.scheme(model, weights)
    if not model.inventory:
        bits, head = stored_as.format.bits, model.vocab_size * model.hidden_size
        kept_bits = 16 if "output head" in stored_as.format.keeps else bits
        return bare_parts(
            stated(model, "total"), head, model.lookup, model.routed, model.vision, bits, kept_bits
        )
    kinds = weight_parts.bytes_by_kind(model, stored_as)
    elements = sum(row.parameters for row in model.inventory if "embedding" in row.kind)
    embeddings = kinds["input embedding"] + kinds["other embeddings"]
    tables = embeddings * min(1, model.lookup / max(1, elements))
    routed = kinds["routed experts"] if model.experts else 0.0
    rest = sum(kinds.values()) - kinds["vision"] - tables - routed
    return Read(rest, tables, routed, kinds["vision"])


def bare_parts(total, head, lookup, routed, vision, bits, kept_bits) -> Read:
    """`read_parts` of counts alone: ``head`` and ``lookup`` have ``kept_bits`` a parameter."""
    linear = total - head - lookup - routed - vision
    return Read(
        (linear * bits + head * kept_bits) / 8,
        lookup * kept_bits / 8,
        routed * bits / 8,
        vision * kept_bits / 8,
    )


def read_bytes(parts: Read, tokens: int, vocabulary: int, experts: int = 1, used: int = 1):
    """Bytes that a step over ``tokens`` tokens reads: of tables rows, of experts those reached."""
    rows = least(1, tokens / vocabulary)
    reached = expected_experts(experts, used, tokens) / experts
    return parts.always + rows * parts.tables + reached * parts.routed


def touched_bytes(model: Model, tokens: int, weights="bf16") -> float:
    """Bytes of weights read for one step over ``tokens`` tokens, in the format of each tensor."""
    parts = read_parts(model, weights)
    return read_bytes(parts, tokens, model.vocab_size, *model.expert_choice)


def kv_read_bytes(
    model: Model,
    context: int,
    batch: int = 1,
    format: str | Format = "bf16",
    *,
    absorbed: bool = True,
) -> float:
    """Bytes of cache that one decode step moves.

    Unlike what is held (`memory.kv_cache_bytes`): a layer that shares keys and values reads them
    all the same, an indexed layer reads its index and the chosen tokens only, and a recurrent
    state is read and written back.
    """
    context, batch = whole("context", context), whole("batch", batch)
    form, bits = cache_format(format), 0.0
    for layer, count in model.distinct_layers:
        spans = [span for part in layer.attentions for span in part.read(absorbed)]
        bits += count * (spans_bits(spans, context, form) + 2 * state_bits(layer, form))
    return batch * bits / 8


def ridge(device) -> float:
    """Operations in bf16 a byte at which a device's arithmetic and memory take equally long."""
    return stated_peak(device, "bf16") / device.bandwidth


def phase(moved: float, operations: float, device, compute: str, devices: int) -> Phase:
    """Bytes and operations of one part of a step, shared evenly by ``devices`` of one kind.

    Where the device states no peak in ``compute``, arithmetic takes no time.
    """
    peak = peak_operations(device, compute)
    bandwidth = positive("bandwidth", device.bandwidth) * devices
    return Phase(
        moved, operations, moved / bandwidth, operations / (peak * devices) if peak else 0.0
    )


def joules_per_million(watts: float, devices: int, seconds: float, tokens: int) -> float:
    """Joules for a million tokens, of ``devices`` that take ``seconds`` for ``tokens``."""
    return watts * devices * seconds / tokens * 1e6


def hours_per_million(devices: int, seconds: float, tokens: int) -> float:
    """Device-hours for a million tokens, of ``devices`` that take ``seconds`` for ``tokens``."""
    return devices * seconds / 3600 / tokens * 1e6


def full_read_seconds(device) -> float:
    """Seconds to read a device's whole memory once.

    A model that fills its devices cannot decode faster for one sequence, however many devices
    there are, if every weight is read.
    """
    return device.memory_bytes / device.bandwidth


def score_operations(attention, keys: Callable, context: int, absorbed: bool = True) -> float:
    """Operations of one layer's attention at ``context`` tokens.

    ``keys`` says how many keys are met: `keys_met` by one token, `keys_seen` by those of a prompt.
    """
    return sum(e.operations * keys(context, e.limit, e.stride) for e in attention.scores(absorbed))


def keys_met(context: int, limit: int | None = None, stride: int = 1) -> int:
    """min(context // stride, limit)."""
    keys = context // stride
    return keys if limit is None else least(keys, limit)


def keys_seen(context: int, limit: int | None = None, stride: int = 1) -> int:
    """The sum of min(t // stride, limit) over t = 1 ... context."""
    if limit is not None and context // stride > limit:
        inside = limit * stride - 1  # tokens before the limit is reached
        return keys_seen(inside, None, stride) + (context - inside) * limit
    entries, rest = divmod(context + 1, stride)
    return stride * entries * (entries - 1) // 2 + rest * entries


def _work(model: Model, keys: Callable, context: int, absorbed: bool, tokens: int) -> float:
    """Operations of attention over ``keys``, and of states at each of ``tokens`` tokens."""
    work: float = 0
    for layer, count in model.distinct_layers:
        for part in layer.attentions:
            work += count * score_operations(part, keys, context, absorbed)
        if state := layer.state:
            each = 2 * state.conv_values + STATE_OPERATIONS * state.recurrent_values
            work += count * tokens * each
    return work


def _multiplied(model: Model) -> int:
    """Parameters that a token of text is multiplied with."""
    return stated(model, "active") - model.lookup - model.vision


def _floor(
    step: str,
    pair: tuple,
    sizes: tuple[int, int, int],
    products: tuple[float, float],
    attended: tuple[float, float],
    formats: tuple,
    *,
    compute: str = "bf16",
    devices: int = 1,
    price=None,
) -> Floor:
    """The floor of a step whose two phases take these (bytes, operations)."""
    (model, device), (context, batch, tokens), (form, kv) = pair, sizes, formats
    devices, peak = whole("devices", devices), peak_operations(device, compute)
    notes = [f"weights in {weight_parts.scheme(model, form).name}, cache in {kv}"]
    if step == "prefill":
        notes.append("the causal mask halves attention")
    if model.experts:
        notes.append("tokens choose experts uniformly and independently")
    notes += [
        "bytes and FLOPs divide evenly over devices; communication is ignored",
        f"memory at the stated {device.bandwidth / 1e12:g} TB/s a device",
        f"compute at the stated dense {compute} peak of {peak / 1e12:,.0f} "
        f"{'TOP/s' if compute.startswith('int') else 'TFLOP/s'}"
        if peak
        else f"compute ignored: {device.name} states no {compute} peak",
    ]
    weights, attention = (phase(*p, device, compute, devices) for p in (products, attended))
    seconds = weights.seconds + attention.seconds
    joules = dollars = None
    if device.tdp_watts:
        joules = joules_per_million(device.tdp_watts, devices, seconds, tokens)
        notes.append(f"energy at the stated {device.tdp_watts:g} W a device, devices only")
    if price is not None:
        dollars = Range.cast(price, "price") * hours_per_million(devices, seconds, tokens)
        notes.append("every device is paid for while it works, not while it waits")
    names = (model.name, device.name, devices, context, batch, tokens)
    return Floor(step, *names, weights, attention, joules, dollars, tuple(notes))
