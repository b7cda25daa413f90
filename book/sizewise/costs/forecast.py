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
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

from sizewise import units
from sizewise.costs import energy, memory, roofline
from sizewise.costs import kernel_fits as kf
from sizewise.costs.formats import Format, Stored, cache_format, weight_format
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
LINK = 64e9  # bytes/s one way of a card without a stated link: PCIe 5.0
LEAST_WIDTH = 64  # of the mlp that is left over: less is norms and biases
WORST_FIT = 30.0  # percent, median on held-out shapes: above it a table's fit is not used
HOSTS = ("none", "synchronous")  # a server that schedules while the GPU works, one that waits
FRAMEWORKS = ("vllm", "sglang", "trtllm")
ONLY_EXPERTS = ("mxfp4",)  # formats that released sparse models have in their experts alone
KINDS = {  # weight format -> kind of product; others go by their bits
    "fp8": "fp8",
    "fp8-block": "fp8-block",
    "mxfp8": "fp8-block",
    "int8": "w8a8",
    "nvfp4": "nvfp4",
    "mxfp4": "mxfp4-bf16",
}


def kind_of(format: str | Format) -> str:
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

    ``experts`` and ``kv`` are formats of the routed experts and of the cache; ``expert`` says how
    many groups of GPUs share the experts (1: all share each expert's width). ``batch`` sequences
    are in a step; ``concurrency`` requests are in flight.
    """

    devices: int = 1
    batch: int = 1
    concurrency: int | None = None
    input: int = 1024
    output: int = 1024
    weights: str | Format = "bf16"
    experts: str | Format | None = None
    kv: str | Format = "bf16"
    expert: int = 1
    host: str = "none"

    @property
    def stored(self) -> Stored:
        """The formats of the weights, the routed experts in their own."""
        experts = self.experts
        special = None if experts is None or experts == self.weights else weight_format(experts)
        return Stored(weight_format(self.weights), experts=special)


@dataclass(frozen=True)
class Forecast:
    """Seconds a token for one user, with its band and what it consists of.

    ``queues`` is true where the requests in flight do not fit at once or exceed the batch: the
    time to the first token is then a matter of the queue, and only its floor is given.
    """

    framework: str | None
    grade: int
    batch: int
    seconds: float
    low: float
    high: float
    nominal: float
    floor_seconds: float
    first_token_floor: float
    parts: dict[str, float]
    queues: bool
    resembles: tuple[dict, ...]
    notes: tuple[str, ...]


# ------------------------------------------------------------------ what a step multiplies


class Matrix(NamedTuple):
    """An (n, k) matrix; ``split`` names the side that the GPUs share, "" where each has it all."""

    n: float
    k: float
    split: str = "n"


class Blocks(NamedTuple):
    """What a step multiplies: matrices with their number, and the routed experts of a layer."""

    layers: int
    matrices: tuple[tuple[Matrix, int], ...]
    router: Matrix | None  # in 16 bits, one a layer
    head: Matrix
    inner: float  # width of one expert, spread over all layers


def projections(attention, hidden: int) -> tuple[Matrix, ...]:
    """The matrices around one layer's attention, latents absorbed."""
    match attention:
        case Grouped(query_heads=heads, kv_heads=kv, head_dim=dim, value_dim=value):
            keys = 0 if attention.shares_kv else kv * (dim + value)
            return Matrix(heads * dim + keys, hidden), Matrix(hidden, heads * value, "k")
        case Latent(heads=heads, kv_lora_rank=rank, value_dim=value):
            return (
                Matrix(rank + attention.rope_dim, hidden, ""),
                Matrix(heads * rank, attention.key_dim),
                Matrix(heads * value, rank),
                Matrix(hidden, heads * value, "k"),
            )
    return ()


@cache
def blocks(model: Model) -> Blocks:
    """The products of a step, from the model's counts and its attention.

    Raises ValueError if the model states no parameter counts.
    """
    layers, hidden = len(model.layers), model.hidden_size
    counts: Counter[Matrix] = Counter()
    for layer, count in model.distinct_layers:
        for matrix in projections(layer.attention, hidden):
            counts[matrix] += count
    router = Matrix(model.experts, hidden, "") if model.experts else None
    head = Matrix(model.vocab_size, hidden)
    experts, used = model.expert_choice
    left: float = memory.stated(model, "active") - model.lookup - model.vision
    left -= model.routed * used / experts
    left -= sum(n * k * count for (n, k, _), count in counts.items()) + head.n * head.k
    left -= layers * router.n * router.k if router else 0
    width = max(left, 0) / (3 * hidden * layers)
    if width >= LEAST_WIDTH:
        counts += Counter({Matrix(2 * width, hidden): layers, Matrix(hidden, width, "k"): layers})
    inner = model.routed / (experts * 3 * hidden * layers)
    return Blocks(layers, tuple(counts.items()), router, head, inner)


# ------------------------------------------------------------------ the fitted numbers


class Numbers(NamedTuple):
    """Fitted numbers by (kernel, format): of every device (grade 1), or a GPU's own (2)."""

    grade: int
    fits: dict[tuple[str, str], dict[str, float]]

    def fit(self, kernel: str, format: str) -> dict[str, float]:
        """The numbers of a kernel in a format. Raises ValueError where there are none."""
        for key in ((kernel, format), (kernel, "any")):
            if key in self.fits:
                return self.fits[key]
        raise ValueError(f"no numbers for {kernel} in {format}")


def _age(version: str) -> tuple[int, ...]:
    """Versions in their order: 1.3.0rc20 after 1.3.0rc10, 0.5.10 after 0.5.6.post2."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


@cache
def _recorded(stem: str) -> tuple[dict, ...]:
    rows = records.read(stem)
    if not rows:
        raise ValueError(f"data/{stem}.jsonl is missing: record it with scripts/{stem}.py")
    return tuple(rows)


@cache
def numbers(device: str | None = None, framework: str | None = None) -> Numbers:
    """Grade 1 without a framework; with one, grade 2 where the GPU has tables, else grade 1.

    A fit of grade 2 is that of the GPU and framework, else of the GPU under any framework, else
    of the one set. The launch of a product is the least that any framework's table of that GPU
    shows: a server fuses the quantization that some tables time with it.
    Raises ValueError for an unknown framework.
    """
    if framework is not None and framework not in FRAMEWORKS:
        raise units.unknown("framework", framework, FRAMEWORKS)
    usable = [row for row in _recorded("silicon") if row["numbers"]]
    common = {
        (row["kernel"], row["format"]): row["numbers"] for row in usable if row["gpu"] == "any"
    }
    special: dict[tuple[str, str], dict] = {}
    matches = [
        r for r in usable if framework and r["gpu"] == device and r["error_median"] <= WORST_FIT
    ]
    # The framework's own tables come last and the newest of them at the end, so they stay.
    for row in sorted(matches, key=lambda r: (r["framework"] == framework, _age(r["version"]))):
        key, fit = (row["kernel"], row["format"]), row["numbers"]
        if row["kernel"] == "gemm":
            fit = fit | {"launch": min(special.get(key, fit)["launch"], fit["launch"])}
        special[key] = fit
    return Numbers(2 if special else 1, common | special)


# ------------------------------------------------------------------ seconds


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
    """
    shape, gpus = blocks(model), plan.devices
    experts, used = model.expert_choice
    bandwidth = positive("bandwidth", device.bandwidth)

    def product(matrix: Matrix, rows: int, format: str) -> float:
        n, k, split = matrix
        n, k = n / gpus if split == "n" else n, k / gpus if split == "k" else k
        kind, fit = kf.KINDS[format], numbers.fit("gemm", format)
        return kf.gemm_seconds(rows, n, k, kind, bandwidth, peak(device, kind), device.sms, fit)

    dense = kind_of(plan.weights)
    parts = {
        "products": sum(count * product(m, tokens, dense) for m, count in shape.matrices),
        "attention": 0.0,
        "experts": 0.0,
        "logits": product(shape.head, 1 if prompt else tokens, "bf16"),
        "collectives": 0.0,
    }
    small = shape.layers * SMALL_DENSE + SMALL_END
    for layer, count in model.distinct_layers:
        if attention := layer.attention:
            seconds = _attention(attention, device, plan, numbers, tokens, int(context), prompt)
            parts["attention"] += count * seconds
            small += count * SMALL_LATENT * isinstance(attention, Latent)
        if layer.state:
            passes = tokens / STATE_CHUNK if prompt else tokens
            moved = 2 * memory.state_bits(layer, cache_format(plan.kv)) / 8 * passes / gpus
            parts["attention"] += count * moved / (STATE_SHARE * bandwidth)
            small += count * SMALL_STATE
    if shape.router:
        parts["products"] += shape.layers * product(shape.router, tokens, "bf16")
        small += shape.layers * SMALL_EXPERTS
    if shape.inner:
        routed = kind_of(plan.experts or plan.weights)
        if routed == "mxfp4-bf16" and device.flops.get("fp4"):
            routed = "mxfp4-fp8"  # cards with 4-bit arithmetic multiply it by 8-bit activations
        kind = kf.KINDS[routed]
        parts["experts"] = shape.layers * kf.moe_seconds(
            tokens,
            model.hidden_size,
            shape.inner,
            used,
            experts,
            gpus / plan.expert,
            plan.expert,
            kind,
            bandwidth,
            peak(device, kind),
            numbers.fit("moe", routed),
        )
    parts["small"] = small * (SMALL + tokens * model.hidden_size * SMALL_PASSES / bandwidth)
    if gpus > 1:
        size, fit = tokens * model.hidden_size * 2, numbers.fit("all-reduce", str(gpus))
        each_sum = kf.reduce_seconds(size, gpus, device.link_bandwidth or LINK, fit)
        parts["collectives"] = (2 * shape.layers + 1) * each_sum
    return parts


def peak(device, kind: kf.Kind) -> float:
    """The peak that counts for a kind of product; where there is none, that of 16 bits.

    Raises ValueError for a device that states neither.
    """
    peaks = device.flops
    four = kind.compute == "fp4"
    rate = peaks.get(kind.compute) or (four and peaks.get("fp8")) or peaks.get("bf16")
    if not rate:
        raise ValueError(f"{device.name} states no peak of arithmetic for it")
    return rate


def shared_heads(attention) -> int | None:
    """Heads among which the cache is divided; None for latents, which every GPU reads whole."""
    if isinstance(attention, Latent):
        return None
    return attention.kv_heads if isinstance(attention, Grouped) else 1


def _attention(attention, device, plan: Plan, numbers: Numbers, tokens, context, prompt) -> float:
    """Seconds of one layer's attention on one GPU."""
    gpus, heads = plan.devices, shared_heads(attention)
    name = "latent" if heads is None else "attention"
    rate = peak(device, kf.KINDS["bf16"])
    if prompt:
        flops = roofline.score_operations(attention, roofline.keys_seen, prompt, absorbed=False)
        moved = prompt * prompt_width(attention)
        fit = numbers.fit(f"prompt-{name}", "bf16")
        return kf.prompt_seconds(moved / gpus, flops / gpus, device.bandwidth, rate, fit)
    format = cache_format(plan.kv)
    bits = memory.spans_bits(attention.read(True), context, format)
    moved = tokens * bits / 8 / min(gpus, heads or 1)
    fit = numbers.fit(f"{name}-decode", "fp8" if format.bits <= 8 else "bf16")
    if heads is not None:
        return kf.attention_seconds(moved, device.bandwidth, fit)
    flops = tokens * roofline.score_operations(attention, roofline.keys_met, context)
    return kf.latent_seconds(moved, flops / gpus, device.bandwidth, rate, fit)


def prompt_width(attention) -> float:
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
    base, more = host_seconds(plan.host, numbers.grade)
    parts["host"] = base + more * batch
    return sum(parts.values()), parts


@cache
def host_seconds(host: str, grade: int) -> tuple[float, float]:
    """Seconds of the host in a step, and more for each sequence.

    "synchronous": sampling, detokenizing and streaming between steps, as fitted on ML.ENERGY's
    vLLM; it belongs to the stack, not to the model. Raises ValueError for another name.
    """
    if host not in HOSTS:
        raise units.unknown("host", host, HOSTS)
    if host == "none":
        return 0.0, 0.0
    rows = (row for row in _recorded("silicon_energy") if row["what"] == "time" and row["host"])
    fit = next(row["numbers"] for row in rows if row["column"] == f"grade{grade}")
    return fit["base"], fit["each"]


def prompt_seconds(model: Model, device, plan: Plan, numbers: Numbers, share: float = 1.0) -> float:
    """Seconds to read one prompt of ``plan.input`` tokens, in chunks of `CHUNK`."""
    chunks, left = divmod(int(plan.input * share), CHUNK)
    return sum(
        times * sum(step_parts(model, device, plan, numbers, tokens=n, prompt=n).values())
        for times, n in ((chunks, CHUNK), (1, left))
        if times and n
    )


def fitting(model: Model, device, plan: Plan) -> int:
    """Sequences of input + output tokens that fit beside the weights in `USABLE` of the memory."""
    weights = sum(roofline.read_parts(model, plan.stored))
    free = USABLE * plan.devices * device.memory_bytes - weights
    per_request: float = memory.kv_cache_bytes(model, plan.input + plan.output, 1, plan.kv)
    attentions = [layer.attention for layer in model.layers if layer.attention]
    if attentions:  # keys that no head is left to share stand on several GPUs
        per_request *= plan.devices / min(plan.devices, shared_heads(attentions[0]) or 1)
    return max(int(free / per_request), 0)


def floor_parts(model: Model, device, plan: Plan, share: float = 1.0) -> tuple[float, float]:
    """Seconds that a decode step's bytes and its FLOPs take at the stated rates.

    Of the experts those count that a uniform router reaches: an uneven one reaches fewer, so this
    is a floor for uniform routers.
    """
    context = max(int((plan.input + plan.output / 2) * share), 1)
    moved = roofline.touched_bytes(model, plan.batch, plan.stored)
    moved += roofline.kv_read_bytes(model, context, plan.batch, plan.kv)
    formats = {plan.weights, plan.experts or plan.weights}
    rate = max(peak(device, kf.KINDS[kind_of(name)]) for name in formats)
    flops = 2 * (memory.stated(model, "active") - model.lookup - model.vision) * plan.batch
    return moved / device.bandwidth / plan.devices, flops / rate / plan.devices


def floor_seconds(model: Model, device, plan: Plan, share: float = 1.0) -> float:
    """The larger of `floor_parts`: bytes and FLOPs overlap perfectly."""
    return max(floor_parts(model, device, plan, share))


# ------------------------------------------------------------------ answers with their error


def forecast(model: Model, device, plan: Plan, *, framework: str | None = None) -> Forecast:
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
    plan = replace(plan, batch=min(plan.batch, room))
    seconds, parts = tpot_seconds(model, device, plan, fitted)
    band = bands(fitted.grade)
    notes = [
        "kernel numbers of this GPU and framework"
        if fitted.grade == 2
        else "one set of kernel numbers for every device and framework",
        "fitted on kernels alone; nothing was fitted on servings",
        "the time to the first token is given as a floor: under load it is a queue's",
    ]
    if requests > plan.batch:
        limit = f"{room} fit" if requests > room else f"{plan.batch} in a step"
        notes.append(f"{requests} requests in flight, {limit}: the others queue")
    return Forecast(
        framework=framework if fitted.grade == 2 else None,
        grade=fitted.grade,
        batch=plan.batch,
        seconds=seconds,
        low=seconds * band["low"],
        high=seconds * band["high"],
        nominal=band["nominal"],
        floor_seconds=floor_seconds(model, device, plan),
        first_token_floor=prompt_seconds(model, device, plan, fitted),
        parts=parts,
        queues=requests > plan.batch,
        resembles=resembling(model.name, device.name, framework),
        notes=tuple(notes),
    )


def question(
    model: Model, device, *, context: int, framework: str, input: int, output: int, **plan
) -> dict:
    """A forecast as plain data for a floor of ``context`` tokens; its reason where there is none.

    The mean context of a request, input + output / 2, is the floor's unless lengths are given (0:
    none). ``plan`` are further fields of `Plan`, ``weights`` those of the experts alone where
    released sparse models have them so.
    Raises ValueError for an unknown framework or host, and for sizes that are no whole numbers.
    """
    output = whole("output", output) if output else max(min(512, context // 2), 1)
    input = whole("input", input) if input else max(context - output // 2, 1)
    grade = numbers(device.name, framework or None).grade
    host_seconds(plan["host"], grade)
    format = plan.pop("weights")
    dense = "bf16" if model.experts and format in ONLY_EXPERTS else format
    full_plan = Plan(input=input, output=output, weights=dense, experts=format, **plan)
    try:
        result = forecast(model, device, full_plan, framework=framework or None)
    except ValueError as error:
        blank = dict.fromkeys(("forecast_seconds", "forecast_low", "forecast_high"))
        return blank | {"resembles": [], "forecast_unknown": str(error)}
    joules = None
    if device.tdp_watts:
        step = floor_parts(model, device, replace(full_plan, batch=result.batch))
        per_token = energy.joules_per_token(
            device, full_plan.devices, result.seconds, *step, result.batch
        )
        joules = 1e6 * per_token
    same = ("seconds", "low", "high", "nominal", "grade", "batch", "floor_seconds", "parts")
    return {
        "forecast_joules_per_million_tokens": joules,
        **{f"forecast_{name}": getattr(result, name) for name in same},
        "first_token_floor_seconds": result.first_token_floor,
        "queues": result.queues,
        "input": input,
        "output": output,
        "concurrency": full_plan.concurrency or full_plan.batch,
        "resembles": list(result.resembles),
        "forecast_notes": list(result.notes),
        "forecast_unknown": None,
    }


def scores(what: str, grade: int) -> list[dict]:
    """Scores of one kind from the latest attempt on the servings."""
    rows = _recorded("silicon_servings")
    latest = max(row["attempt"] for row in rows)
    return [
        row
        for row in rows
        if (row["attempt"], row["what"], row.get("grade")) == (latest, what, grade)
    ]


def bands(grade: int) -> dict[str, float]:
    """The factors of a nominal 80 % band, from all kept servings of this grade."""
    (row,) = scores("all", grade)
    return {"low": row["band_low"], "high": row["band_high"], "nominal": 0.8}


def floor_factor() -> dict[str, float]:
    """How many times its floor a served token takes: median and ends of the middle 80 %."""
    (row,) = scores("all", 1)
    ends = {"low": "high", "typical": "median", "high": "low"}
    return {name: 1 / row[f"floor_share_{end}"] for name, end in ends.items()}


def resembling(model: str, device: str, framework: str | None) -> tuple[dict, ...]:
    """The three groups of measured servings closest to a question: family, GPU, framework."""
    name = model.lower().rsplit("/", 1)[-1].replace("_", "-")

    def closeness(row: dict) -> tuple[float, int]:
        maker = row["family"].split("-")[0]
        same = 4 if name.startswith(row["family"]) else 1 if name.startswith(maker) else 0
        score = same + 2 * (row["gpu"] == device) + (row["framework"] == framework)
        return score, row["rows"]

    ranked = sorted(scores("group", 2), key=closeness, reverse=True)
    names = (
        "family",
        "gpu",
        "framework",
        "precision",
        "rows",
        "error_median",
        "error_p90",
        "ratio_median",
        "floor_share_median",
    )
    near = [row for row in ranked if closeness(row)[0] >= 2]
    return tuple({name: row[name] for name in names} for row in near[:3])
