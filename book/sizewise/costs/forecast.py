"""A forecast: the floor with fitted kernel efficiencies, launches, collectives and load::

    step(b) = sum over layers of products + attention over the cache + experts + two sums over the
              GPUs + small kernels, then the logits
    TPOT    = step(b) + (b - 1) / output x prompt(input) + host

The second line is a closed loop: a step moves every sequence by one token, so b / output of them
end in it and as many new prompts have to be read, which the others wait for. A model is taken
from its `Model` description alone; what that leaves open (the projections of latent queries, a
shared expert, the first dense layers) is spread evenly over the layers as one gated mlp.

The numbers were fitted on kernels, never on servings. They come in two grades: one set for every
device (`numbers()`), and one for a GPU and framework (`numbers(device, framework)`).
"""

import re
from collections import Counter
from dataclasses import asdict, dataclass, field
from functools import cache

from sizewise import units
from sizewise.costs import kernel_fits as kf
from sizewise.costs import memory, roofline
from sizewise.costs.formats import cache_format, weight_format
from sizewise.data import records
from sizewise.models.architecture import Grouped, Latent, Model
from sizewise.validation import positive, whole

SMALL = 2e-6  # seconds of a small kernel (norm, rotation, activation, routing) from a graph
SMALL_DENSE = 5  # such kernels in a layer with a dense mlp
SMALL_EXPERTS = 2  # more in one with experts: routing and the weighted sum
SMALL_LATENT = 3  # more where keys and values are latent
SMALL_STATE = 3  # more where a recurrent state is kept
SMALL_PASSES = 4  # bytes of a residual value that a small kernel moves: read and write, 16 bits
SMALL_END = 4  # after the last layer: norm, logits to probabilities, sampling
STATE_SHARE = 0.8  # of the bandwidth, for reading and writing recurrent states
STATE_CHUNK = 64  # prompt tokens for which a recurrent state is read and written once
CHUNK = 8192  # prompt tokens that a server reads at once
USABLE = 0.9  # of the memory, for weights and cache
HOSTS = ("none", "synchronous")  # a server that schedules while the GPU works, one that waits
KINDS = {  # weight format -> kind of product; others go by their bits
    "fp8": "fp8",
    "fp8-block": "fp8-block",
    "mxfp8": "fp8-block",
    "int8": "w8a8",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4-bf16",
}


def kind_of(format: str) -> str:
    """How a weight format is multiplied: listed, or weight-only by its bits a weight.

    Raises ValueError for a format that is unknown.
    """
    entry = weight_format(format)
    if entry.name in KINDS:
        return KINDS[entry.name]
    return "int4" if entry.bits < 6 else "int8-weight-only" if entry.bits < 12 else "bf16"


@dataclass(frozen=True)
class Plan:
    """How a model is served: formats, GPUs, and who talks to it.

    ``experts`` and ``kv`` are formats of the routed experts and of the cache; ``tensor`` and
    ``expert`` say how many GPUs share an expert's width and the experts (None: width alone).
    ``batch`` sequences are in a step; ``concurrency`` requests are in flight.
    """

    devices: int = 1
    batch: int = 1
    concurrency: int | None = None
    input: int = 1024
    output: int = 1024
    weights: str = "bf16"
    experts: str | None = None
    kv: str = "bf16"
    expert: int = 1
    host: str | tuple[float, float] = "none"


@dataclass(frozen=True)
class Forecast:
    """Seconds a token for one user, with its band and what it consists of.

    ``queues`` is true where the requests in flight do not fit at once or exceed the batch: the
    time to the first token is then a matter of the queue, and only its floor is given.
    """

    model: str
    device: str
    devices: int
    framework: str | None
    grade: int
    batch: int
    seconds: float
    low: float
    high: float
    nominal: float
    floor_seconds: float
    first_token_floor: float
    parts: dict[str, float] = field(default_factory=dict)
    queues: bool = False
    resembles: tuple[dict, ...] = ()
    notes: tuple[str, ...] = ()

    def as_dict(self) -> dict:
        return asdict(self)


@dataclass(frozen=True)
class Blocks:
    """What a step multiplies, an average layer of it."""

    layers: int
    hidden: int
    vocabulary: int
    matrices: tuple[tuple[str, float, float, float], ...]  # name, n, k, GPUs that may share: 1 no
    experts: int
    used: int
    inner: float  # width of one expert, spread over all layers


@cache
def distinct_layers(model: Model) -> tuple[tuple, ...]:
    """Each kind of layer with how many there are of it."""
    return tuple(Counter(model.layers).items())


@cache
def blocks(model: Model) -> Blocks:
    """The products of an average layer, from the model's counts and its attention.

    Raises ValueError if the model states no parameter counts.
    """
    layers, hidden = len(model.layers), model.hidden_size
    active, routed = memory.stated(model, "active"), model.routed
    used_share = model.experts_per_token / model.experts if model.experts else 0
    head = hidden * model.vocab_size
    rest = active - model.lookup - head - routed * used_share
    matrices: dict[tuple, float] = {}

    def add(name, n, k, shared=True):
        nonlocal rest
        rest -= n * k
        key = (name, n, k, shared)
        matrices[key] = matrices.get(key, 0) + 1

    for layer in model.layers:
        match layer.attention:
            case Grouped(query_heads=heads, kv_heads=kv, head_dim=dim, value_dim=value):
                own = 0 if layer.attention.shares_kv else kv * (dim + value)
                add("qkv", heads * dim + own, hidden)
                add("output", hidden, heads * value)
            case Latent(heads=heads, kv_lora_rank=rank) as latent:
                add("latent", rank + latent.rope_dim, hidden, shared=False)
                add("absorb", heads * rank, latent.key_dim)
                add("expand", heads * latent.value_dim, rank)
                add("output", hidden, heads * latent.value_dim)
    if model.experts:
        for _ in range(layers):
            add("router", model.experts, hidden, shared=False)
    width = max(rest, 0) / (3 * hidden * layers)
    listed = [(*key, count / layers) for key, count in matrices.items()]
    if width >= 64:  # less is norms and biases
        listed += [("gate-up", 2 * width, hidden, True, 1), ("down", hidden, width, True, 1)]
    inner = routed / (model.experts * 3 * hidden * layers) if model.experts else 0
    return Blocks(
        layers, hidden, model.vocab_size, tuple(listed), model.experts or 0,
        model.experts_per_token or 0, inner,
    )  # fmt: skip


class Numbers:
    """Fitted numbers by kernel and format, with what stands in where a table is missing.

    A fit is looked up for the GPU and framework, then for the GPU under any framework, then in
    the global set. The launch of a product is the least that any framework's table of that GPU
    shows: a server fuses the quantization that some tables time with it.
    """

    def __init__(self, rows: list[dict], device: str | None, framework: str | None):
        usable = [row for row in rows if row["numbers"]]
        self.everywhere = {
            (row["kernel"], row["format"]): row["numbers"] for row in usable if row["gpu"] == "any"
        }
        self.own, self.launches = {}, {}
        here = [row for row in usable if device is not None and row["gpu"] == device]
        for row in sorted(here, key=lambda r: (r["framework"] == framework, _age(r["version"]))):
            if _trusted(row):
                key = (row["kernel"], row["format"])
                self.own[key] = row["numbers"]
                launch = row["numbers"]["launch"]
                self.launches[key] = min(self.launches.get(key, launch), launch)
        self.grade = 2 if framework is not None and self.own else 1
        if self.grade == 1:
            self.own = {}

    def of(self, kernel: str, format: str) -> dict[str, float]:
        """The numbers of a kernel in a format. Raises ValueError where neither grade has any."""
        fit = self.own.get((kernel, format))
        if fit is None:
            fit = self.everywhere.get((kernel, format)) or self.everywhere.get((kernel, "any"))
            if fit is None:
                raise ValueError(f"no numbers for {kernel} in {format}")
            return fit
        if kernel == "gemm":
            return fit | {"launch": self.launches[kernel, format]}
        return fit


def _age(version: str) -> tuple[int, ...]:
    """Versions in their order: 1.3.0rc20 after 1.3.0rc10, 0.5.10 after 0.5.6.post2."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


WORST_FIT = 30.0  # percent, median on held-out shapes: above it a table's fit is not used


def _trusted(row: dict) -> bool:
    return row["error_median"] <= WORST_FIT


@cache
def _kernel_rows() -> tuple[dict, ...]:
    rows = records.read("silicon")
    if not rows:
        raise ValueError("data/silicon.jsonl is missing: record it with scripts/silicon.py")
    return tuple(rows)


@cache
def numbers(device: str | None = None, framework: str | None = None) -> Numbers:
    """Grade 1 without a framework; with one, grade 2 where the GPU has tables, else grade 1.

    Raises ValueError for an unknown framework.
    """
    if framework is not None and framework not in FRAMEWORKS:
        raise units.unknown("framework", framework, FRAMEWORKS)
    return Numbers(list(_kernel_rows()), device, framework)


FRAMEWORKS = ("vllm", "sglang", "trtllm")


def step_parts(
    model: Model,
    device,
    plan: Plan,
    numbers: Numbers,
    *,
    tokens: int,
    context: float = 0,
    prompt: int = 0,
) -> dict[str, float]:
    """Seconds of one pass over ``tokens`` tokens, by part.

    In decode each token is of its own sequence of ``context`` tokens; in a prompt (``prompt`` its
    length) the tokens attend to those before them and only the last is scored.
    """  # fmt: skip
    shape, gpus = blocks(model), plan.devices
    m, bandwidth = tokens, positive("bandwidth", device.bandwidth)
    dense = kind_of(plan.weights)
    routed = kind_of(plan.experts or plan.weights)
    if plan.experts == "mxfp4" and device.flops.get("fp4"):
        routed = "mxfp4-fp8"  # cards with 4-bit arithmetic multiply it by 8-bit activations
    cache_kind = "fp8" if cache_format(plan.kv).bits <= 8 else "bf16"
    parts = dict.fromkeys(("products", "attention", "experts", "collectives", "small"), 0.0)

    for name, n, k, shared, count in shape.matrices:
        kind = "bf16" if name == "router" else dense
        if shared:
            n, k = (n, k / gpus) if name in ("output", "down") else (n / gpus, k)
        parts["products"] += shape.layers * count * _gemm(m, n, k, kind, device, numbers)
    scored = 1 if prompt else tokens
    parts["logits"] = _gemm(scored, shape.vocabulary / gpus, shape.hidden, "bf16", device, numbers)

    small = SMALL_DENSE + (SMALL_EXPERTS if shape.experts else 0)
    for layer, count in distinct_layers(model):
        if layer.attention:
            parts["attention"] += count * _attention(
                layer, device, plan, numbers, cache_kind, tokens, context, prompt
            )
        if layer.state:
            passes = tokens / STATE_CHUNK if prompt else tokens
            moved = 2 * memory.state_bits(layer, cache_format(plan.kv)) / 8 * passes / gpus
            parts["attention"] += count * moved / (STATE_SHARE * bandwidth)
    if shape.experts and shape.inner:
        kind = kf.KINDS[routed]
        seconds = kf.moe_seconds(
            m, shape.hidden, shape.inner, shape.used, shape.experts, gpus / plan.expert,
            plan.expert, kind, bandwidth, _peak(device, kind), numbers.of("moe", routed),
        )  # fmt: skip
        parts["experts"] = shape.layers * seconds
    latent = sum(isinstance(layer.attention, Latent) for layer in model.layers)
    states = sum(layer.state is not None for layer in model.layers)
    kernels = shape.layers * small + latent * SMALL_LATENT + states * SMALL_STATE + SMALL_END
    parts["small"] = kernels * (SMALL + m * shape.hidden * SMALL_PASSES / bandwidth)
    if gpus > 1:
        link = device.link_bandwidth or 64e9
        fit = numbers.of("all-reduce", str(gpus))
        one = kf.reduce_seconds(m * shape.hidden * 2, gpus, link, fit)
        parts["collectives"] = (2 * shape.layers + 1) * one
    return parts


def _peak(device, kind: kf.Kind) -> float:
    """The peak that counts for a kind of product; where there is none, that of 16 bits."""
    peaks = device.flops
    peak = (
        peaks.get(kind.compute)
        or peaks.get("fp8" if kind.compute == "fp4" else "")
        or (peaks.get("bf16"))
    )
    if peak is None:
        raise ValueError(f"{device.name} states no peak of arithmetic for it")
    return peak


def _gemm(m, n, k, format: str, device, numbers: Numbers) -> float:
    kind = kf.KINDS[format]
    return kf.gemm_seconds(
        m, n, k, kind, device.bandwidth, _peak(device, kind), device.sms,
        numbers.of("gemm", format),
    )  # fmt: skip


def _attention(layer, device, plan, numbers, kind, tokens, context, prompt) -> float:
    """Seconds of one layer's attention on one GPU."""
    gpus, attention = plan.devices, layer.attention
    if isinstance(attention, Latent):
        shared = 1  # every GPU reads the whole latents, for its own heads
        name = "latent"
    else:
        heads = attention.kv_heads if isinstance(attention, Grouped) else 1
        shared = min(gpus, heads)
        name = "attention"
    if prompt:
        flops = _prompt_flops(attention, prompt) / gpus
        width = _prompt_width(attention)
        fit = numbers.of(f"prompt-{name}", "bf16")
        return kf.prompt_seconds(
            prompt * width / gpus, flops, device.bandwidth, _peak(device, kf.KINDS["bf16"]), fit
        )
    spans = attention.read(True)
    moved = tokens * memory.spans_bits(spans, int(context), cache_format(plan.kv)) / 8 / shared
    fit = numbers.of(f"{name}-decode", kind)
    if name == "attention":
        return kf.attention_seconds(moved, device.bandwidth, fit)
    flops = tokens * _token_flops(attention, int(context)) / gpus
    return kf.latent_seconds(moved, flops, device.bandwidth, _peak(device, kf.KINDS["bf16"]), fit)


def _token_flops(attention, context: int) -> float:
    """FLOPs of one query that sees ``context`` tokens, latents absorbed."""
    return sum(
        score.operations * min(context // score.stride, score.limit or context)
        for score in attention.scores(True)
    )


def _prompt_flops(attention, length: int) -> float:
    """FLOPs of a causal prompt, latents expanded for every head."""
    return sum(
        score.operations * roofline.keys_seen(length, score.limit, score.stride)
        for score in attention.scores(False)
    )


def _prompt_width(attention) -> float:
    """Bytes a prompt's attention moves a token: queries, keys, values and results in 16 bits."""
    match attention:
        case Grouped(query_heads=heads, kv_heads=kv, head_dim=key, value_dim=value):
            return 2 * (key + value) * (heads + kv)
        case Latent(heads=heads, key_dim=key, rope_dim=rope, value_dim=value):
            return 2 * 2 * heads * (key + rope + value)
    return 4 * attention.head_dim * (attention.query_heads + 1)


def tpot_seconds(
    model: Model, device, plan: Plan, numbers: Numbers, *, share: float = 1.0
) -> tuple[float, dict[str, float]]:
    """Seconds a token of a user in the closed loop, and its parts.

    ``share`` scales the lengths where they are drawn from below the nominal ones. The batch is
    ``plan.batch``; see `fitting` for how many sequences the memory holds.
    """
    batch, length, output = plan.batch, plan.input * share, plan.output * share
    parts = step_parts(model, device, plan, numbers, tokens=batch, context=length + output / 2)
    parts["load"] = (batch - 1) / output * prompt_seconds(model, device, plan, numbers, share)
    base, each = host_seconds(plan.host, numbers.grade)
    parts["host"] = base + each * batch
    return sum(parts.values()), parts


@cache
def host_seconds(host: str | tuple[float, float], grade: int) -> tuple[float, float]:
    """Seconds of the host in a step, and more for each sequence.

    "synchronous": sampling, detokenizing and streaming between steps, as fitted on ML.ENERGY's
    vLLM; it belongs to the stack, not to the model. A pair is taken as it is.
    Raises ValueError for another name.
    """
    if not isinstance(host, str):
        return host
    if host not in HOSTS:
        raise units.unknown("host", host, HOSTS)
    if host == "none":
        return 0.0, 0.0
    row = next(
        row
        for row in records.read("silicon_energy")
        if row["what"] == "time" and row["host"] and row["column"] == f"grade{grade}"
    )
    return row["numbers"]["base"], row["numbers"]["each"]


def prompt_seconds(model, device, plan, numbers, share: float = 1.0) -> float:
    """Seconds to read one prompt of ``plan.input`` tokens, in chunks of `CHUNK`."""
    length = int(plan.input * share)
    whole_chunks, left = divmod(length, CHUNK)
    lengths = [CHUNK] * whole_chunks + ([left] if left else [])
    seconds = 0.0
    for chunk in lengths:
        seconds += sum(
            step_parts(model, device, plan, numbers, tokens=chunk, prompt=chunk).values()
        )
    return seconds


def weight_bytes(model: Model, plan: Plan) -> float:
    """Bytes of all weights, the routed experts in their own format."""
    routed = model.routed
    rest = memory.stated(model, "total") - routed
    expert_bits = weight_format(plan.experts or plan.weights).bits
    return (rest * weight_format(plan.weights).bits + routed * expert_bits) / 8


def fitting(model: Model, device, plan: Plan) -> int:
    """Sequences of input + output tokens that fit beside the weights in `USABLE` of the memory."""
    free = USABLE * plan.devices * device.memory_bytes - weight_bytes(model, plan)
    each = memory.kv_cache_bytes(model, plan.input + plan.output, 1, plan.kv)
    if layers := [layer.attention for layer in model.layers if layer.attention]:
        heads = layers[0].kv_heads if isinstance(layers[0], Grouped) else 1
        each *= plan.devices / min(plan.devices, heads)  # keys that no head is left to share
    return max(int(free / each), 0)


def floor_parts(model: Model, device, plan: Plan, share: float = 1.0) -> tuple[float, float]:
    """Seconds that a decode step's bytes and its FLOPs take at the stated rates.

    Of the experts those count that a uniform router reaches: an uneven one reaches fewer, so this
    is a floor for uniform routers.
    """
    context = max(int((plan.input + plan.output / 2) * share), 1)
    expert_bits = weight_format(plan.experts or plan.weights).bits
    reached = 0.0
    if model.experts:
        distinct = kf.expected_experts(model.experts, model.experts_per_token, plan.batch)
        reached = model.routed * distinct / model.experts
    rest = roofline.touched_parameters(model, plan.batch) - reached
    moved = (rest * weight_format(plan.weights).bits + reached * expert_bits) / 8
    moved += roofline.kv_read_bytes(model, context, plan.batch, plan.kv)
    formats = {plan.weights, plan.experts or plan.weights}
    peak = max(_peak(device, kf.KINDS[kind_of(name)]) for name in formats)
    flops = 2 * (memory.stated(model, "active") - model.lookup) * plan.batch
    return moved / device.bandwidth / plan.devices, flops / peak / plan.devices


def floor_seconds(model: Model, device, plan: Plan, share: float = 1.0) -> float:
    """The larger of `floor_parts`: bytes and FLOPs overlap perfectly."""
    return max(floor_parts(model, device, plan, share))


def forecast(
    model: Model,
    device,
    plan: Plan,
    *,
    framework: str | None = None,
    family: str = "",
) -> Forecast:
    """Seconds a token with floor, band and the measured servings that resemble the question.

    Raises ValueError for sizes that are no whole numbers above 0, unknown formats, hosts and
    frameworks, a model without counts, and weights that do not fit.
    """
    for name in ("devices", "batch", "input", "output", "expert"):
        whole(name, getattr(plan, name))
    fitted = numbers(device.name, framework)
    room = fitting(model, device, plan)
    if room < 1:
        raise ValueError(
            f"{model.name} with one sequence of {plan.input + plan.output:,} tokens does not fit "
            f"in {USABLE:.0%} of {plan.devices} x {device.name}"
        )
    requests = plan.concurrency or plan.batch
    queues = requests > min(plan.batch, room)
    plan = _with(plan, batch=min(plan.batch, room))
    seconds, parts = tpot_seconds(model, device, plan, fitted)
    band = bands(fitted.grade)
    return Forecast(
        model=model.name, device=device.name, devices=plan.devices,
        framework=framework if fitted.grade == 2 else None, grade=fitted.grade, batch=plan.batch,
        seconds=seconds, low=seconds * band["low"], high=seconds * band["high"],
        nominal=band["nominal"], floor_seconds=floor_seconds(model, device, plan),
        first_token_floor=prompt_seconds(model, device, plan, fitted), parts=parts, queues=queues,
        resembles=resembling(family or model.name, device.name, framework),
        notes=_notes(fitted, room, requests, plan),
    )  # fmt: skip


def _with(plan: Plan, **changes) -> Plan:
    from dataclasses import replace

    return replace(plan, **changes)


def _notes(fitted: Numbers, room: int, requests: int, plan: Plan) -> tuple[str, ...]:
    notes = [
        "kernel numbers of this GPU and framework" if fitted.grade == 2 else
        "one set of kernel numbers for every device and framework",
        "fitted on kernels alone; nothing was fitted on servings",
    ]  # fmt: skip
    if requests > room:
        notes.append(f"{requests} requests in flight, {room} fit: the others queue")
    elif requests > plan.batch:
        notes.append(f"{requests} requests in flight, {plan.batch} in a step: the others queue")
    notes.append("the time to the first token is given as a floor: under load it is a queue's")
    return tuple(notes)


@cache
def _scores() -> tuple[dict, ...]:
    """The scores of the latest attempt on the servings."""
    rows = records.read("silicon_servings")
    if not rows:
        raise ValueError(
            "data/silicon_servings.jsonl is missing: record it with scripts/silicon_servings.py"
        )
    latest = max(row["attempt"] for row in rows)
    return tuple(row for row in rows if row["attempt"] == latest)


def bands(grade: int) -> dict[str, float]:
    """The factors of a nominal 80 % band, from all kept servings of this grade."""
    row = next(row for row in _scores() if row["what"] == "all" and row["grade"] == grade)
    return {"low": row["band_low"], "high": row["band_high"], "nominal": 0.8}


def floor_factor() -> dict[str, float]:
    """How many times its floor a served token takes: median and ends of the middle 80 %."""
    row = next(row for row in _scores() if row["what"] == "all" and row["grade"] == 1)
    return {
        "low": 1 / row["floor_share_high"],
        "typical": 1 / row["floor_share_median"],
        "high": 1 / row["floor_share_low"],
    }


def resembling(family: str, device: str, framework: str | None, most: int = 3) -> tuple[dict, ...]:
    """The groups of measured servings closest to a question: family, then GPU, then framework."""
    name = family.lower().rsplit("/", 1)[-1].replace("_", "-")

    def closeness(row: dict) -> tuple[float, int]:
        maker = row["family"].split("-")[0]
        same = 4 if name.startswith(row["family"]) else 1 if name.startswith(maker) else 0
        score = same + 2 * (row["gpu"] == device) + (row["framework"] == framework)
        return score, row["rows"]

    groups = [row for row in _scores() if row["what"] == "group" and row["grade"] == 2]
    ranked = sorted(groups, key=closeness, reverse=True)
    near = [row for row in ranked if closeness(row)[0] >= 2][:most]
    names = ("family", "gpu", "framework", "precision", "rows", "error_median", "error_p90",
             "ratio_median", "floor_share_median")  # fmt: skip
    return tuple({name: row[name] for name in names} for row in near)
