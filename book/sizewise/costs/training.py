"""What training holds and takes: optimizer state, sharding, activations, time, energy, money.

Each figure that rests on an assumption (utilization, power, price) is a `Range`; every result
names its assumptions. Per-device figures divide evenly; real shards are rounded up to whole
rows (FSDP) or whole tensors (ZeroRedundancyOptimizer).
"""

import math
from dataclasses import asdict, dataclass

from sizewise import units
from sizewise.models.architecture import Latent, Model
from sizewise.validation import positive, whole

from . import weights as weight_parts


@dataclass(frozen=True)
class Range:
    """A quantity known to lie from ``low`` to ``high``, both included."""

    low: float
    high: float

    @classmethod
    def cast(cls, value: "float | tuple[float, float] | Range", label: str = "value") -> "Range":
        """A number, a pair or a Range. Raises ValueError unless 0 < low <= high < infinity."""
        if isinstance(value, Range):
            value = (value.low, value.high)
        pair = value if isinstance(value, tuple | list) else (value, value)
        if len(pair) != 2:
            raise ValueError(f"{label} must be a number or (low, high), got {value!r}")
        low, high = (positive(label, end) for end in pair)
        if low > high:
            raise ValueError(f"{label}: the low end {low:g} is above the high end {high:g}")
        return cls(low, high)

    def __mul__(self, other: "float | Range") -> "Range":
        other = Range.cast(other)
        return Range(self.low * other.low, self.high * other.high)

    def __truediv__(self, other: "float | Range") -> "Range":
        other = Range.cast(other)
        return Range(self.low / other.high, self.high / other.low)


@dataclass(frozen=True)
class State:
    """Bytes of the weights used in a step, of gradients, and of what the optimizer keeps."""

    weights: float
    gradients: float
    optimizer: float
    note: str = ""

    @property
    def total(self) -> float:
        return self.weights + self.gradients + self.optimizer


OPTIMIZERS = {  # bytes a parameter
    "adam-fp32": State(4, 4, 4 + 4, "everything fp32, as torch.optim.Adam keeps it"),
    "adam-mixed": State(2, 2, 4 + 4 + 4, "16-bit, fp32 master and moments: ZeRO, section 3.1"),
    "adam-bf16": State(2, 2, 2 + 2, "everything bf16, no master weights"),
    "adam-8bit": State(
        2,
        2,
        4 + 2 * (1 + 4 / 256),
        "fp32 master, 8-bit moments, fp32 scale for 256 as in bitsandbytes (Dettmers et al. 2022)",
    ),
}


def state_bytes(
    parameters: int, optimizer: str = "adam-mixed", *, stage: int = 0, data: int = 1
) -> State:
    """Bytes of training state on each device (on the fullest, where sizes do not divide).

    ZeRO's ``stage`` divides optimizer state (1), gradients too (2), weights too (3) among ``data``
    replicas: Rajbhandari et al. 2020, section 5. Tensor and pipeline parallelism divide all of it.
    Activations, communication buffers and gathered weights come on top. Raises ValueError for a
    stage outside 0 to 3, an unknown optimizer, and sizes that are no whole numbers above 0.
    """
    parameters, data = whole("parameters", parameters, 10**18), whole("data parallel", data)
    if stage not in (0, 1, 2, 3):
        raise ValueError(f"ZeRO has stages 0 to 3, got {stage!r}")
    each, part = _optimizer(optimizer), math.ceil(parameters / data)
    return State(
        weights=math.ceil((part if stage >= 3 else parameters) * each.weights),
        gradients=math.ceil((part if stage >= 2 else parameters) * each.gradients),
        optimizer=math.ceil((part if stage >= 1 else parameters) * each.optimizer),
    )


def _optimizer(name: str) -> State:
    if name not in OPTIMIZERS:
        raise units.unknown("optimizer", name, OPTIMIZERS)
    return OPTIMIZERS[name]


def training_operations(active: float, tokens: float) -> float:
    """Operations of a training run without attention's: 6 for each active parameter and token."""
    return 6 * positive("active parameters", active) * positive("tokens", tokens)


@dataclass(frozen=True)
class Run:
    """A training run on a cluster. Energy of the devices alone, and of the building."""

    operations: Range
    devices: int
    seconds: Range
    device_hours: Range
    device_joules: Range | None
    building_joules: Range | None
    dollars: Range | None
    assumptions: tuple[str, ...]


def training_run(
    operations,
    device,
    devices: int,
    *,
    utilization=(0.3, 0.5),
    format: str = "bf16",
    power=1.0,
    overhead=(1.1, 1.3),
    price=None,
) -> Run:
    """Time, energy and money of ``operations`` on ``devices`` of one kind.

    ``utilization`` is the share of the stated dense peak that training reaches (MFU), ``power``
    the mean draw as a share of the stated maximum, ``overhead`` the building's energy for one
    of its computers' (PUE), ``price`` dollars for one device and hour. Each is a number or a
    pair (low, high). Raises ValueError for a device that states no peak in ``format``.
    """
    count = whole("devices", devices)
    used, operations = Range.cast(utilization, "utilization"), Range.cast(operations, "operations")
    if used.high > 1:
        raise ValueError(f"utilization is a share of the peak, at most 1, got {used.high:g}")
    peak = stated_peak(device, format)
    seconds = operations / (used * (peak * count))
    hours = seconds * (count / 3600)
    notes = [
        f"{used.low:.0%} to {used.high:.0%} of {peak / 1e12:,.0f} TFLOP/s ({format})",
        "no restarts, no failed experiments",
    ]
    joules = building = dollars = None
    if device.tdp_watts:
        power, overhead = Range.cast(power, "power"), Range.cast(overhead, "overhead")
        if power.high > 1:
            raise ValueError(f"power is a share of the stated watts, at most 1, got {power.high:g}")
        if overhead.low < 1:
            raise ValueError(f"overhead (PUE) is at least 1, got {overhead.low:g}")
        joules = seconds * (count * float(device.tdp_watts)) * power
        building = joules * overhead
        notes.append(f"{power.low:.0%} to {power.high:.0%} of {device.tdp_watts:g} W a device")
        notes.append(f"building: {overhead.low:g} to {overhead.high:g} times its devices (PUE)")
    if price is not None:
        price = Range.cast(price, "price")
        dollars = hours * price
        notes.append(f"${price.low:g} to ${price.high:g} for a device and hour")
    return Run(operations, count, seconds, hours, joules, building, dollars, tuple(notes))


def utilization(operations: float, device_hours: float, device) -> float:
    """The share of the peak in bf16 (MFU) that a run of so many device-hours reached."""
    hours = positive("device hours", device_hours)
    return positive("operations", operations) / (hours * 3600 * stated_peak(device, "bf16"))


def peak_operations(device, format: str) -> float | None:
    """A device's stated dense peak in ``format``, operations a second; None where unpublished.

    Raises ValueError for a format that the device does not list.
    """
    if format not in device.flops:
        raise units.unknown(f"format of {device.name}", format, device.flops)
    return device.flops[format]


def stated_peak(device, format: str) -> float:
    """`peak_operations`, else ValueError."""
    peak = peak_operations(device, format)
    if peak is None:
        raise ValueError(f"{device.name} states no peak in {format}")
    return peak


@dataclass(frozen=True)
class FineTuning:
    """Bytes of one device that fine-tunes a whole model: what is stored and what a step keeps."""

    model: str
    method: str
    trained: int  # parameters
    weights: int
    adapters: int
    gradients: int
    optimizer: int
    activations: int
    assumptions: tuple[str, ...]

    @property
    def total(self) -> int:
        parts = (self.weights, self.adapters, self.gradients, self.optimizer, self.activations)
        return sum(parts)

    def as_dict(self) -> dict:
        return asdict(self) | {"total": self.total}


METHODS = ("full", "lora", "qlora")
# Bytes a value of LoRA's matrices: fp32, as peft keeps them, with gradient and two moments.
LORA = State(4, 4, 8)


def fine_tuning(
    model: Model,
    method: str = "full",
    *,
    optimizer: str = "adam-mixed",
    rank: int = 16,
    sequence: int = 2048,
    batch: int = 1,
    checkpointing: bool = True,
) -> FineTuning:
    """What fine-tuning ``model``, whose tensors are known, takes on one device.

    ``full`` trains every parameter with one of `OPTIMIZERS`. ``lora`` keeps the model in 16 bits
    and trains two matrices of ``rank`` beside each linear layer of attention and MLPs (Hu et al.
    2021, section 4); ``qlora`` keeps it in nf4 with double quantization (Dettmers et al. 2023).
    Activations are those that `transformers`' Llama saves for the backward pass.
    Raises ValueError for an unknown method or optimizer, a model whose tensors are not known, and
    sizes that are no whole numbers above 0.
    """
    if method not in METHODS:
        raise units.unknown("method", method, METHODS)
    states = _optimizer(optimizer)
    if not model.inventory:
        raise ValueError(f"{model.name}: its tensors are not known")
    rank, total = whole("rank", rank), sum(row.parameters for row in model.inventory)
    if method == "full":
        trained, stored, adapters = total, math.ceil(total * states.weights), 0
        notes = [f"{optimizer}: {states.note}"]
    else:
        states, trained = LORA, lora_parameters(model, rank)
        name = "nf4-dq" if method == "qlora" else "bf16"
        stored = sum(part.bytes for part in weight_parts.parts(model, name))
        adapters = math.ceil(trained * states.weights)
        notes = [
            f"rank {rank} beside the linear layers of attention and MLPs, experts left out",
            "adapters, their gradients and Adam's moments in fp32",
        ]
    saved = saved_activation_bytes(model, sequence, batch, checkpointing=checkpointing)
    notes += [
        f"activations {'recomputed layer by layer' if checkpointing else 'all kept'}",
        "activations in bf16 as transformers' Llama keeps them, fp32 logits and loss",
        "without buffers of the allocator and of communication",
    ]
    return FineTuning(
        model=model.name,
        method=method,
        trained=trained,
        weights=stored,
        adapters=adapters,
        gradients=math.ceil(trained * states.gradients),
        optimizer=math.ceil(trained * states.optimizer),
        activations=saved,
        assumptions=(*model.assumptions, *notes),
    )


def lora_parameters(model: Model, rank: int) -> int:
    """Parameters of two matrices of ``rank`` beside each linear layer of attention and MLPs."""
    kinds = ("attention", "mlp", "shared experts", "state space")
    targets = [row for row in model.inventory if row.kind in kinds and row.is_matrix]
    return sum(row.count * rank * sum(row.shape[-2:]) for row in targets)


def saved_activation_bytes(
    model: Model, sequence: int, batch: int = 1, *, checkpointing: bool = False
) -> int:
    """Bytes that a forward pass in bf16 saves for the backward pass, logits in fp32 included.

    A token of a layer saves 16 bytes for each value of its width (two norms: input in fp32,
    normalized and scaled in bf16), 4 for each of queries and attention's output together, 4 for
    each of keys and values together, 8 for each of the MLP's inner width (gate, its activation,
    up, product), and a fp32 sum for each head. With ``checkpointing`` only each layer's input in
    bf16, and one layer whole. The tests hold it against what torch's autograd keeps.
    """
    tokens, layers = whole("sequence", sequence) * whole("batch", batch), []
    for layer in model.layers:
        size = 16 * model.hidden_size + 8 * model.mlp_width + 8
        for part in layer.attentions:
            if isinstance(part, Latent):
                heads, width = part.heads, part.key_dim + part.rope_dim
            else:
                heads, width = part.query_heads, part.head_dim
            size += 4 * (heads + getattr(part, "kv_heads", heads)) * width + 4 * heads
        layers.append(size)
    saved = sum(layers)
    if checkpointing:
        saved = 2 * model.hidden_size * len(layers) + max(layers)
    return tokens * (saved + 8 * model.hidden_size + 4 * model.vocab_size)
