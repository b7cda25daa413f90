"""What each device of a deployment holds, and what fits: parallelism, limits, offload.

Tensor parallelism divides matrices by heads and columns: keys and values of one head cannot be
divided, so beyond as many devices as there are key-value heads each holds a copy; a latent cache
(DeepSeek's) has no heads and is whole on every rank. Pipeline parallelism gives each stage its
layers. Expert parallelism gives each rank whole experts. Source: the layouts of Megatron-LM
(Shoeybi et al. 2019; Narayanan et al. 2021) as vLLM and SGLang use them.
"""

import math
import re
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from itertools import pairwise

from sizewise.models.architecture import Grouped, Layer, Model, Tensors
from sizewise.validation import whole

from . import formats, memory, roofline
from . import weights as weight_parts

MOST_DEVICES = 1024
MOST_CONTEXT = 1 << 30
MOST_REQUESTS = 1 << 20
# Small projections into a latent space, which every rank of a tensor group holds whole.
WHOLE = re.compile(r"q_a_proj|kv_a_proj|wq_a|wkv_a|indexer|compressor|fused_qkv_a")
KEYS = re.compile(r"k_proj|v_proj")
# From the best quality to the fewest bytes: what `best_format` tries in turn.
LADDER = (
    "bf16",
    "q8_0",
    "fp8",
    "q6_k",
    "q5_k_m",
    "q4_k_m",
    "iq4_xs",
    "int4-g128-zero",
    "nf4-dq",
    "q3_k_m",
    "q2_k",
)


@dataclass(frozen=True)
class Layout:
    """How devices share a model: ``tensor`` x ``pipeline`` x ``data`` of them."""

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    expert: int | None = None

    @property
    def devices(self) -> int:
        return self.tensor * self.pipeline * self.data

    def __str__(self) -> str:
        parts = [f"TP {self.tensor}", f"PP {self.pipeline}", f"DP {self.data}"]
        return ", ".join([*parts, f"EP {self.expert}"] if self.expert else parts)


@dataclass(frozen=True)
class Load:
    """Bytes on each device of one pipeline stage, and what there is room for."""

    stage: int
    devices: int
    layers: int
    weights_bytes: int
    kv_bytes: int
    activation_bytes: int
    room_bytes: int
    host_bytes: int = 0  # of weights left in host memory

    @property
    def total_bytes(self) -> int:
        return self.weights_bytes + self.kv_bytes + self.activation_bytes

    @property
    def fits(self) -> bool:
        return self.total_bytes <= self.room_bytes

    def as_dict(self) -> dict:
        return asdict(self) | {"total_bytes": self.total_bytes, "fits": self.fits}


def layout(
    model: Model,
    devices: int | None = None,
    *,
    tensor: int | None = None,
    pipeline: int = 1,
    expert: int | None = None,
) -> Layout:
    """A checked `Layout` of what was stated; ``tensor`` defaults to all devices of a stage.

    Raises ValueError, with the nearest numbers that work, for heads, layers or experts that do
    not divide, and for parts that do not make up ``devices``.
    """
    whole("pipeline parallel", pipeline, MOST_DEVICES)
    for name, ranks in (("tensor", tensor), ("expert", expert)):
        if ranks is not None:
            whole(f"{name} parallel", ranks, MOST_DEVICES)
    devices = (tensor or 1) * pipeline if devices is None else devices
    if whole("devices", devices, MOST_DEVICES) % pipeline:
        raise ValueError(f"{devices} devices do not make {pipeline} equal pipeline stages")
    tensor = tensor or devices // pipeline
    if devices % (tensor * pipeline):
        raise ValueError(f"{devices} devices are no multiple of TP {tensor} x PP {pipeline}")
    if pipeline > len(model.layers):
        raise ValueError(f"{pipeline} pipeline stages for {len(model.layers)} layers")
    _check_heads(model, tensor)
    stage = devices // pipeline
    if expert is not None:
        if not model.experts:
            raise ValueError(f"{model.name} has no routed experts to share out")
        _check_divides(model.experts, "experts", f"EP {expert}", expert)
        if stage % expert:
            raise ValueError(f"EP {expert} does not divide the {stage} devices of a stage")
    return Layout(tensor, pipeline, stage // tensor, expert)


def _check_heads(model: Model, tensor: int) -> None:
    for part in {part for layer, _ in model.distinct_layers for part in layer.attentions}:
        heads = getattr(part, "query_heads", None) or getattr(part, "heads", None)
        cached = getattr(part, "kv_heads", None)
        if heads:
            _check_divides(heads, "attention heads", f"TP {tensor}", tensor)
        if cached and cached % tensor and tensor % cached:
            raise ValueError(f"{cached} key-value heads do not divide by TP {tensor}")


def _check_divides(number: int, what: str, by: str, ranks: int) -> None:
    if number % ranks:
        divisors = [n for n in range(1, number + 1) if number % n == 0]
        below = max(n for n in divisors if n <= ranks)
        above = min((n for n in divisors if n >= ranks), default=below)
        near = " and ".join(str(n) for n in dict.fromkeys((below, above)))
        raise ValueError(f"{number} {what} do not divide by {by}; {near} do")


def plan(
    model: Model,
    device,
    layout: Layout,
    *,
    weights=None,
    kv: str = "bf16",
    context: int = 8192,
    batch: int = 1,
    usable: float | None = None,
    offload: bool = False,
) -> list[Load]:
    """What the devices of each stage hold; ``batch`` requests are spread over the replicas.

    With ``offload`` weights that do not fit stay in host memory.
    Raises ValueError for what `memory` and `weights` refuse.
    """
    stored_as = weight_parts.scheme(model, weights)
    room = int(device.memory_bytes * memory.share_of(device, usable))
    requests = math.ceil(whole("batch", batch) / layout.data)
    slim = replace(
        model,
        mlp_width=-(-model.mlp_width // layout.tensor),
        vocab_size=-(-model.vocab_size // layout.tensor),
    )
    peak = memory.activation_bytes(slim, context, requests)
    loads, ranks = [], layout.tensor * layout.data
    for stage, size in enumerate(_stage_weights(model, stored_as, layout)):
        part = _stage_model(model, layout, stage)
        cache = _cache_bytes(part, context, requests, kv)
        host = max(0, min(size, size + cache + peak - room)) if offload else 0
        loads.append(Load(stage, ranks, len(part.layers), size - host, cache, peak, room, host))
    return loads


_cache_bytes = lru_cache(maxsize=4096)(memory.kv_cache_bytes)  # of the same parts, many times


def _stages(model: Model, pipeline: int) -> list[range]:
    """The numbers of each stage's layers, the first stages one more where they do not divide."""
    depth, more = divmod(len(model.layers), pipeline)
    starts = [stage * depth + min(stage, more) for stage in range(pipeline + 1)]
    return [range(a, b) for a, b in pairwise(starts)]


@lru_cache(maxsize=512)
def _stage_model(model: Model, layout: Layout, stage: int) -> Model:
    """The layers of one stage, each with one rank's part of its cache and state."""
    numbers = _stages(model, layout.pipeline)[stage]
    parts = {layer: _divided(layer, layout.tensor) for layer in set(model.layers)}
    return replace(model, layers=tuple(parts[model.layers[n]] for n in numbers))


def _divided(layer: Layer, tensor: int) -> Layer:
    def each(number: int) -> int:
        return -(-number // tensor)

    attention, cross, state = layer.attention, layer.cross, layer.state
    if isinstance(attention, Grouped):
        heads, cached = each(attention.query_heads), each(attention.kv_heads)
        attention = replace(attention, query_heads=heads, kv_heads=cached)
    if cross is not None:
        cross = replace(cross, kv_heads=each(cross.kv_heads))
    if state is not None:
        conv, recurrent = (
            (each(shape[0]), *shape[1:]) if shape else ()
            for shape in (state.conv_shape, state.recurrent_shape)
        )
        state = replace(state, conv_shape=conv, recurrent_shape=recurrent)
    return Layer(attention, state, cross)


@lru_cache(maxsize=2048)
def _stage_weights(model: Model, stored_as: formats.Stored, layout: Layout) -> tuple[int, ...]:
    """Bytes of weights on one device of each stage."""
    stages = _stages(model, layout.pipeline)
    stage_of = {number: stage for stage, numbers in enumerate(stages) for number in numbers}
    totals = [0.0] * len(stages)
    for row, _, _, size in weight_parts.assigned(model, stored_as):
        size /= _shards(row, model, layout)
        if row.layers and row.kind != "vision" and row.layers[-1] in stage_of:
            for number in row.layers:
                totals[stage_of[number]] += size / len(row.layers)
            continue
        # What belongs to no layer is in the first stage or the last; a tied embedding in both.
        places = {-1} if row.kind in ("output head", "norm", "other") else {0}
        if row.kind == "input embedding" and not model.lookup:
            places = {0, len(stages) - 1}
        for stage in places:
            totals[stage] += size
    return tuple(math.ceil(total) for total in totals)


def _shards(row: Tensors, model: Model, layout: Layout) -> float:
    """Among how many devices a tensor is divided; 1 where each holds it whole."""
    if row.kind == "routed experts":
        return max(layout.tensor, layout.expert or 1)
    if row.kind in ("norm", "router", "vision", "other") or WHOLE.search(row.name):
        return 1
    if row.kind == "attention" and KEYS.search(row.name):
        heads = (getattr(layer.attention, "kv_heads", 0) for layer, _ in model.distinct_layers)
        return min(layout.tensor, max(heads, default=0) or layout.tensor)
    return layout.tensor


def fits(loads: list[Load]) -> bool:
    return all(load.fits for load in loads)


def largest(quantity: str, model: Model, device, layout: Layout, **options) -> int | None:
    """The largest ``context`` or ``batch`` that fits, the rest as given; None if not even one."""

    def holds(n: int) -> bool:
        return fits(plan(model, device, layout, **(options | {quantity: n})))

    return last_holding(holds, MOST_CONTEXT if quantity == "context" else MOST_REQUESTS)


def last_holding(holds: Callable[[int], bool], most: int) -> int | None:
    """The largest number from 1 to ``most`` for which ``holds``, which only ever turns false.

    None if it is false for 1.
    """
    return bisect_left(range(1, most + 1), True, key=lambda n: not holds(n)) or None


def best_format(model: Model, device, layout: Layout, **options) -> str | None:
    """The first format of `LADDER`, from most to fewest bits, that fits; None if none does."""
    plans = ((n, plan(model, device, layout, **(options | {"weights": n}))) for n in LADDER)
    return next((name for name, loads in plans if fits(loads)), None)


def fewest_devices(model: Model, device, **options) -> tuple[int, Layout] | None:
    """The fewest devices that hold it and how they share it; None beyond `MOST_DEVICES`.

    Within a number of devices, tensor parallelism up to eight is preferred to pipeline stages.
    """
    # Shared out evenly, and without what a step needs, it takes so many at least.
    room = int(device.memory_bytes * memory.share_of(device, options.get("usable")))
    sizes = weight_parts.assigned(model, weight_parts.scheme(model, options.get("weights")))
    cache = memory.kv_cache_bytes(model, *(options[n] for n in ("context", "batch", "kv")))
    evenly = (sum(size for *_, size in sizes) + cache) / max(room, 1)
    for devices in [*range(1, 65), *range(72, MOST_DEVICES + 1, 8)]:
        if devices < evenly:
            continue
        for tensor in (8, 4, 2, 1, 7, 6, 5, 3):
            if devices % tensor or devices // tensor > len(model.layers):
                continue
            try:
                shared = layout(model, devices, tensor=tensor, pipeline=devices // tensor)
            except ValueError:
                continue
            if fits(plan(model, device, shared, **options)):
                return devices, shared
    return None


def offload_seconds(loads: list[Load], link: float, model: Model, batch: int) -> float:
    """Seconds that a decode step spends at least on reading weights over ``link`` (bytes/s).

    Of routed experts the share that the batch reaches is read, dense weights whole.
    """
    moved = max(load.host_bytes for load in loads)
    share = 1.0
    if model.experts:
        reached = roofline.expected_experts(*model.expert_choice, batch)
        routed = model.routed / memory.stated(model, "total")
        share = 1 - routed * (1 - reached / model.experts)
    return moved * share / link
