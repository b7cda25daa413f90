"""Tables of the chapter on cost and energy: runs, plans, training state, and what serving takes.

A range multiplies low ends with low ends and high with high: wide on purpose, so that the truth is
inside if every assumption is.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from sizewise.chapters.claims import fact
from sizewise.chapters.tables import upscaling
from sizewise.chapters.tables.display import renamed
from sizewise.costs import energy as watts
from sizewise.costs import forecast, memory, training
from sizewise.costs.training import Range
from sizewise.data import catalog, prices, records
from sizewise.models import parameters
from sizewise.units import power_of_ten, si

GWH, HOUR, DAY = 3.6e12, 3600, 86400  # joules, seconds, seconds
UTILIZATION, DRAWN = Range(0.3, 0.5), Range(0.6, 1.0)
COOLING, MONTHS = Range(1.1, 1.3), Range(2, 4)
FIVE, TEN = 5e12, 10e12
PROMPT, ANSWER, REQUESTS = 1500, 500, 64
SERVED = {  # label -> catalogue name
    "Llama 3.1 8B": "llama-3.1-8b",
    "Llama 3.1 70B": "llama-3.1-70b",
    "Llama 3.1 405B": "llama-3.1-405b",
    "DeepSeek-V3": "deepseek-v3",
    "Kimi K2": "kimi-k2",
}
HOSTS = (
    ("Llama 3.1 8B", "groq", "llama-3.1-8b-instant"),
    ("Llama 3.1 8B", "novita", "meta-llama/llama-3.1-8b-instruct"),
    ("Llama 3.1 8B", "together", "meta-llama/Meta-Llama-3.1-8B-Instruct-Turbo"),
    ("Llama 3.1 70B", "aws", "meta.llama3-1-70b-instruct-v1:0"),
    ("Llama 3.1 70B", "novita", "meta-llama/llama-3.1-70b-instruct"),
    ("Llama 3.1 70B", "together", "meta-llama/Meta-Llama-3.1-70B-Instruct-Turbo"),
    ("Llama 3.1 405B", "openrouter", "meta-llama/llama-3.1-405b-instruct"),
    ("Llama 3.1 405B", "together", "meta-llama/Meta-Llama-3.1-405B-Instruct-Turbo"),
    ("DeepSeek-V3", "fireworks", "deepseek-v3-0324"),
    ("DeepSeek-V3", "openrouter", "deepseek/deepseek-chat-v3-0324"),
    ("Kimi K2", "moonshotai", "kimi-k2-0711-preview"),
    ("Kimi K2", "novita", "moonshotai/kimi-k2-instruct"),
)


# ------------------------------------------------------------------ numbers as text


def params(value: float) -> str:
    return si(value, "params")


def dollars(value: float) -> str:
    return "$" + si(value, "params")


def cents(value: float) -> str:
    return f"${float(f'{value:.2g}'):,g}"


def energy(joules: float) -> str:
    return si(joules / HOUR, "Wh")


def power(value: float, places: int = 2) -> str:
    digits, exponent = f"{value:.{places}e}".split("e")
    return f"{digits} × {power_of_ten(int(exponent))}"


def whole(value: float) -> str:
    rounded = float(f"{value:.2g}")
    return f"{rounded:,.0f}" if rounded >= 10 else f"{rounded:g}"


def span(amount: Range, form: Callable) -> str:
    low, high = form(amount.low), form(amount.high)
    return low if low == high else f"{low} to {high}"


# ------------------------------------------------------------------ facts


@cache
def printed() -> dict:
    """What the articles print, by name."""
    return {row["name"]: row["value"] for row in records.facts("article_figures")}


@cache
def rent() -> Range:
    return Range.cast(catalog.hourly_price("H100"))


@cache
def overhead() -> Range:
    """Joules of the building for one of a device: the rest of its server, and cooling."""
    stated = fact("studies/h100-server/devices") * catalog.device("H100").tdp_watts
    return Range(1.0, fact("studies/h100-server/power") / stated) * COOLING


# ------------------------------------------------------------------ training


def optimal(approach: int, size: float) -> float:
    """Compute-optimal FLOPs of Hoffmann et al. (2022), interpolated in logarithms."""
    budgets = records.facts_csv("chinchilla_budgets").astype(float)
    rows = budgets[(budgets["approach"] == approach) & (budgets["parameters"] >= 1e12)]
    return math.exp(
        np.interp(math.log(size), np.log(rows["parameters"]), np.log(rows["operations"]))
    )


def dense_flops(total: float) -> Range:
    """FLOPs of a dense model trained compute-optimally, by the first two approaches."""
    return Range.cast(sorted(optimal(approach, total) for approach in (1, 2)))


@cache
def sparse_shapes(total: float):
    """Counts of the two sparse shapes: DeepSeek-V3 with more experts and with wider layers."""
    makers = (upscaling.more_experts, upscaling.wider_experts)
    return [parameters.count(make(total)) for make in makers]


def active(total: float) -> Range:
    sizes = sorted(shape.active_without_input_embedding for shape in sparse_shapes(total))
    return Range.cast(sizes)


@cache
def sparse_tokens() -> Range:
    """Tokens that reports of sparse models state: DeepSeek-V3's to Qwen3's."""
    return Range(fact("runs/deepseek-v3/tokens"), fact("studies/qwen3-pretraining/tokens"))


def sparse_flops(total: float) -> Range:
    return active(total) * sparse_tokens() * 6


def ladder() -> pd.DataFrame:
    """Runs and plans, each as if made on H100 today under our assumptions.

    By device-hours where those are known, else by FLOPs. Columns ``run``, ``low`` and ``high``
    (dollars of rent), ``energy`` (as text) and ``kind``.
    """
    first = parameters.count("gpt3-175b").active_without_input_embedding
    runs = [
        ("GPT-3", train(6 * first * fact("runs/gpt-3/tokens")).seconds / HOUR),
        ("Llama 3.1 405B", Range.cast(fact("runs/llama-3.1-405b/gpu_hours"))),
        ("DeepSeek-V3", Range.cast(fact("runs/deepseek-v3/gpu_hours"))),
        ("GPT-4, estimated", train(gpt4()).seconds / HOUR),
        ("Grok 3, estimated", grok3_hours()),
        *((name, plan.seconds / HOUR) for name, plan in plans().items()),
    ]
    lines = []
    for name, hours in runs:
        cost, joules = rent() * hours, building(hours)
        kind = name.partition(", ")[2] or "disclosed"
        lines.append((name, cost.low, cost.high, span(joules, energy), kind))
    return pd.DataFrame(lines, columns=["run", "low", "high", "energy", "kind"])


def train(flops, devices: int = 1, device: str = "H100"):
    """A run under the chapter's assumptions, without dollars where no rent is known."""
    chip = catalog.device(device)
    return training.training_run(
        flops,
        chip,
        devices,
        utilization=UTILIZATION,
        power=DRAWN,
        overhead=overhead(),
        price=catalog.hourly_price(chip.name),
    )


@cache
def plans() -> dict:
    """The four plans on H100: five and ten trillion, sparse and dense."""
    return {
        f"{params(total)}, {kind}": train(flops(total))
        for kind, flops in (("sparse", sparse_flops), ("dense", dense_flops))
        for total in (FIVE, TEN)
    }


def plan_table() -> pd.DataFrame:
    """The plans as the page prints them, with no fewer devices than store the training state."""
    home = catalog.amount("us_household_electricity")["value"] * 3.6e6  # joules a year
    stored = states().set_index("optimizer").loc["adam-mixed"]
    lines = []
    for name, plan in plans().items():
        devices = plan.seconds / (100 * DAY)
        least = max(devices.low, stored[f"H100s for {name.split(',')[0]}"])
        lines.append(
            {
                "model": name,
                "H100s for 100 days": span(Range(least, devices.high), whole),
                "rent": span(plan.dollars, dollars),
                "electricity": span(plan.building_joules, energy),
                "homes for a year": span(plan.building_joules / home, whole),
            }
        )
    return pd.DataFrame(lines)


def disclosed() -> pd.DataFrame:
    """The two runs whose makers published enough to check the arithmetic.

    The MFU is that of pre-training, so it leaves out the hours that DeepSeek states for the rest.
    """
    lines = []
    for label, name, hours in (
        ("Llama 3.1 405B", "llama-3.1-405b", "gpu_hours"),
        ("DeepSeek-V3", "deepseek-v3", "gpu_hours_pretraining"),
    ):
        facts = {key: figure.get("value") for key, figure in catalog.run(name)["figures"].items()}
        size = parameters.count(name).active_without_input_embedding
        flops, stated = training.training_operations(size, facts["tokens"]), facts.get("compute")
        share = training.utilization(stated or flops, facts[hours], catalog.device("H100"))
        spent, counted = params(facts["gpu_hours"]), params(facts[hours])
        lines.append((label, flops, stated, spent, counted, share))
    columns = ["run", "6 N D", "stated", "device-hours", "in the MFU", "MFU"]
    return pd.DataFrame(lines, columns=columns)


def building(hours: float | Range) -> Range:
    """Joules of the building for device-hours of H100s."""
    return DRAWN * overhead() * (HOUR * catalog.device("H100").tdp_watts) * hours


@cache
def gpt4() -> Range:
    """FLOPs of GPT-4 by outsiders: from a press figure for its electricity, and an estimate."""
    a100 = catalog.device("A100")
    joules = fact("runs/gpt-4/energy") * GWH / 1000
    seconds = Range.cast(joules) / overhead() / (DRAWN * a100.tdp_watts)
    by_energy = seconds * UTILIZATION * training.peak_operations(a100, "bf16")
    elsewhere = fact("studies/gpt-4-compute/operations")
    return Range(min(by_energy.low, elsewhere), max(by_energy.high, elsewhere))


def grok3_hours() -> Range:
    """Device-hours of Grok 3: the cluster as it was shown, for two to four months."""
    return MONTHS * (365.25 / 12 * 24 * printed()["grok_3_gpus"])


def grok3() -> Range:
    """FLOPs of Grok 3 at the share of the peak that disclosed runs reached."""
    peak = training.peak_operations(catalog.device("H100"), "bf16")
    return grok3_hours() * UTILIZATION * (HOUR * peak)


def assumptions() -> pd.DataFrame:
    rating = overhead().high / COOLING.high
    rows = [
        ("share of the peak reached (MFU)", UTILIZATION, "the disclosed runs and above"),
        ("rent of a device, dollars an hour", rent(), "what two repositories reckon with"),
        ("power drawn, share of the rated", DRAWN, "our assumption; serving is measured below"),
        ("server, for one of its devices", Range(1.0, rating), "none to a DGX H100's rating"),
        ("building, for one of its servers (PUE)", COOLING, "our assumption"),
        ("tokens of a sparse model, trillions", sparse_tokens() / 1e12, "DeepSeek-V3 to Qwen3"),
        ("months that Grok 3 was trained", MONTHS, "our assumption"),
    ]
    return pd.DataFrame(
        [(what, f"{r.low:.3g}", f"{r.high:.3g}", source) for what, r, source in rows],
        columns=["assumption", "low", "high", "where it comes from"],
    )


def own_run(model: str, tokens: float, device: str, devices: int) -> pd.DataFrame:
    """The reader's own run: FLOPs, days, electricity and rent."""
    count = parameters.count(model)
    flops = training.training_operations(count.active_without_input_embedding, tokens)
    result = train(flops, devices, device)
    unknown = "not published for this device"
    joules, cost = result.building_joules, result.dollars
    lines = {
        "FLOPs": span(result.operations, power),
        "days": span(result.seconds / DAY, whole),
        "electricity": span(joules, energy) if joules else unknown,
        "rent": span(cost, dollars) if cost else unknown,
    }
    return pd.DataFrame(lines.items(), columns=["of the run", "range"])


# ------------------------------------------------------------------ training state


def states() -> pd.DataFrame:
    """Bytes of training state by optimizer, and the H100s that store them."""
    capacity = catalog.device("H100").memory_bytes
    table = pd.DataFrame(
        {
            "optimizer": name,
            "bytes a parameter": optimizer.total,
            "5T": training.state_bytes(int(FIVE), name).total,
            "10T": training.state_bytes(int(TEN), name).total,
        }
        for name, optimizer in training.OPTIMIZERS.items()
    )
    for size in ("5T", "10T"):
        table[f"H100s for {size}"] = np.ceil(table[size] / capacity).astype(int)
    return table


# ------------------------------------------------------------------ serving


ONE_SERVER = 8  # devices that the forecast's kernels and links were measured on


@cache
def serving() -> pd.DataFrame:
    """Floor and expected time, energy and dollars of an output token on H100s in FP8, by model.

    Expected is the forecast with the measured rule for watts where one server holds the model,
    else the floor times the factor that served models typically take; both include the reading of
    others' prompts. Dollars are for a million output tokens: at the least rent for the floor, at
    its two ends (``low``, ``high``) for what is expected.
    """
    grown = {
        "10T, more experts": upscaling.more_experts(TEN),
        "10T, dense": upscaling.deeper_and_wider(TEN),
    }
    device, lines = catalog.device("H100"), []
    for label, spec in (SERVED | grown).items():
        model = parameters.describe(spec)
        plan = forecast.Plan(batch=REQUESTS, input=PROMPT, output=ANSWER, weights="fp8")
        stored = memory.weights_bytes(model, plan.stored)
        stored += memory.kv_cache_bytes(model, PROMPT + ANSWER, REQUESTS, "bf16")
        share = stored / (forecast.USABLE * device.memory_bytes)
        devices = 2 ** max(math.ceil(math.log2(share)), 0)
        plan = replace(plan, devices=devices)
        read, flops = forecast.floor_parts(model, device, plan)
        floor = max(read, flops)
        if devices <= ONE_SERVER:
            seconds, _ = forecast.tpot_seconds(model, device, plan, forecast.numbers())
        else:
            seconds = floor * forecast.floor_factor()["typical"]
        per_million = devices / HOUR / REQUESTS * 1e6
        lines.append(
            {
                "model": label,
                "H100s": devices,
                "floor": floor,
                "seconds": seconds,
                "joules": watts.joules_per_token(device, devices, seconds, read, flops, REQUESTS),
                "floor_dollars": rent().low * per_million * floor,
                "low": rent().low * per_million * seconds,
                "high": rent().high * per_million * seconds,
            }
        )
    return pd.DataFrame(lines)


def serving_table() -> pd.DataFrame:
    """`serving` as the page prints it."""
    rows = serving()
    ends = zip(rows["low"], rows["high"], strict=True)
    return pd.DataFrame(
        {
            "model": rows["model"],
            "H100s": rows["H100s"],
            "ms a token, floor": 1e3 * rows["floor"],
            "expected": 1e3 * rows["seconds"],
            "J a token": rows["joules"],
            "$ a million": [f"{cents(low)} to {cents(high)}" for low, high in ends],
        }
    )


def question(model: str) -> dict[str, float]:
    """Joules and dollars (``low``, ``high``) of one answer, the reading of its prompt included."""
    row = serving().set_index("model").loc[model]
    ends = {end: row[end] * ANSWER / 1e6 for end in ("low", "high")}
    return ends | {"joules": row["joules"] * ANSWER}


def listed(day: str) -> pd.DataFrame:
    """Listed prices of open models with a known shape: dollars for a million tokens.

    ``taken in`` is what a host gets for a million output tokens and the prompts before them.
    """
    listings = [(label, prices.price(host, name, day)) for label, host, name in HOSTS]
    frame = pd.DataFrame(
        [(label, price.provider, price.input, price.output) for label, price in listings],
        columns=["model", "host", "input", "output"],
    )
    frame["taken in"] = frame["output"] + PROMPT / ANSWER * frame["input"]
    served = serving().set_index("model").loc[frame["model"]]
    frame["over the floor"] = frame["taken in"] / served["floor_dollars"].to_numpy()
    frame["pays the rent"] = frame["taken in"] >= served["low"].to_numpy()
    return frame


METERED = (
    "Llama-3.1-8B-Instruct",
    "Llama-3.1-70B-Instruct",
    "Llama-3.1-405B-Instruct",
    "Qwen3-235B-A22B-Instruct-2507",
    "Qwen3-30B-A3B-Instruct-2507",
)


def joules_lines(gpu: str, models: tuple[str, ...] = METERED) -> pd.DataFrame:
    """Measured joules a token by class of batch: ``model``, ``batch``, ``joules``."""
    rows = records.kinds("silicon_energy")["measured"]
    rows = rows[(rows["gpu"] == gpu) & rows["model"].isin(models)]
    rows = rows[rows["devices"] == rows.groupby("model")["devices"].transform("min")]
    rows = rows.assign(model=rows["model"].str.replace(r"-Instruct.*", "", regex=True))
    names = {"model": "model", "batch_median": "batch", "joules_median": "joules"}
    return renamed(rows, names)


def joules_spread(lines: pd.DataFrame, large: str, small: str) -> tuple[pd.Series, pd.Series]:
    """Of `joules_lines`: how many times each model's joules fall with load, and those of a
    ``large`` model over a ``small`` one's, at few, some and many requests.
    """
    models = lines.groupby("model")["joules"]
    over = lines.sort_values("batch").groupby("model")["joules"].apply(list)
    return models.max() / models.min(), pd.Series(over[large]) / pd.Series(over[small])


def energy_rules() -> pd.DataFrame:
    """Ways to reckon joules a token against the measured ones."""
    names = {"name": "reckoned as", "error_median": "median error %", "error_p90": "90th %"}
    rows = records.kinds("silicon_energy")["energy"]
    return renamed(rows, names | {"ratio_median": "over measured"})


def measured_savings(least: float) -> tuple[float, int]:
    """Share of measured pairs in which a small model saves ``least`` of the joules, and pairs.

    Small: up to ten billion parameters. Large: thirty billion and more. Same GPU and load.
    """
    rows = records.kinds("silicon_energy")["measured"]
    size = rows["model"].str.extract(r"(?i)(\d+)b\b", expand=False).astype(float) * 1e9
    # Two names say no total: of Llama 4 Scout 17B is what a token uses.
    unsaid = {"DeepSeek-V3.1": "deepseek-v3", "Llama-4-Scout-17B-16E-Instruct": "llama-4-scout"}
    counted = {name: catalog.models()[entry].counted["total"] for name, entry in unsaid.items()}
    size = rows["model"].map(counted).fillna(size)
    small, large = rows[size <= 1e10], rows[size >= 3e10]
    pairs = small.merge(large, on=["gpu", "load"], suffixes=("", "_large"))
    saved = 1 - pairs["joules_median"] / pairs["joules_median_large"]
    return float((saved >= least).mean()), len(pairs)


def price_ratio(dear: tuple[str, str], cheap: tuple[str, str], day: str) -> float:
    """Listed price of a (provider, model) over that of another: the larger of prompt and answer."""
    top, low = (prices.price(*name, day) for name in (dear, cheap))
    return max(top.input / low.input, top.output / low.output)


def savings(least: float) -> tuple[float, float, tuple[int, int]]:
    """Shares of pairs in which a small model saves ``least`` of the FLOPs a token, and pairs.

    Small: one to ten billion parameters. Large: thirty billion and more, dense and sparse.
    """
    names = ["total", "active_without_input_embedding", "routed"]
    sizes = pd.DataFrame(
        [[entry.counted.get(name) for name in names] for entry in catalog.models().values()],
        columns=["total", "used", "routed"],
    ).dropna()
    small, large = sizes[sizes["total"].between(1e9, 1e10)], sizes[sizes["total"] >= 3e10]
    pairs = small.merge(large, how="cross", suffixes=("", "_large"))
    saves = 1 - pairs["used"] / pairs["used_large"] >= least
    kinds = saves.groupby(pairs["routed_large"] > 0)
    return *kinds.mean(), tuple(kinds.count())
