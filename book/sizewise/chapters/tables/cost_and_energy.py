"""Tables of the chapter on cost and energy: runs, plans, training state, and what serving takes.

A range multiplies low ends with low ends and high with high: wide on purpose, so that the truth is
inside if every assumption is.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd

from sizewise.chapters.tables import floor_and_silicon as silicon
from sizewise.chapters.tables import upscaling
from sizewise.costs import energy as watts
from sizewise.costs import forecast, memory, training
from sizewise.costs.training import Range
from sizewise.data import catalog, prices, records
from sizewise.models import parameters
from sizewise.units import si

GWH, HOUR, DAY = 3.6e12, 3600, 86400  # joules, seconds, seconds
RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
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
LAYOUTS = (
    {"stage": 3, "data": 2048},
    {"stage": 1, "data": 16, "tensor": 8, "pipeline": 16},
    {"stage": 1, "data": 64, "pipeline": 16, "expert": 64},
    {"stage": 1, "data": 64, "tensor": 8, "pipeline": 16, "expert": 64},
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
    return f"{digits} × 10" + str(int(exponent)).translate(RAISED)


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
def study(name: str) -> dict:
    return next(row["figures"] for row in records.facts("studies") if row["name"] == name)


def known(figures: dict, name: str) -> float:
    return float(figures[name]["value"])


def run(name: str) -> dict:
    return catalog.run(name)["figures"]


@cache
def rent() -> Range:
    return Range.of(catalog.hourly_price("H100"))


@cache
def overhead() -> Range:
    """Joules of the building for one of a device: the rest of its server, and cooling."""
    server = study("h100-server")
    stated = known(server, "devices") * catalog.device("H100").tdp_watts
    return Range(1.0, known(server, "power") / stated) * COOLING


# ------------------------------------------------------------------ training


def optimal(approach: int, size: float, column: str = "operations") -> float:
    """A compute-optimal budget of Hoffmann et al. (2022), interpolated in logarithms."""
    budgets = records.facts_csv("chinchilla_budgets").astype(float)
    rows = budgets[(budgets["approach"] == approach) & (budgets["parameters"] >= 1e12)]
    return math.exp(np.interp(math.log(size), np.log(rows["parameters"]), np.log(rows[column])))


def dense_flops(total: float) -> Range:
    """FLOPs of a dense model trained compute-optimally, by the first two approaches."""
    return Range.of(sorted(optimal(approach, total) for approach in (1, 2)))


@cache
def sparse_shapes(total: float):
    """Counts of the two sparse shapes: DeepSeek-V3 with more experts and with wider layers."""
    makers = (upscaling.more_experts, upscaling.wider_experts)
    return [parameters.count(make(total)) for make in makers]


def active(total: float) -> Range:
    return Range.of(sorted(shape.active_without_input_embedding for shape in sparse_shapes(total)))


@cache
def sparse_tokens() -> Range:
    """Tokens that reports of sparse models state: DeepSeek-V3's to Qwen3's."""
    return Range(known(run("deepseek-v3"), "tokens"), known(study("qwen3-pretraining"), "tokens"))


def sparse_flops(total: float) -> Range:
    return active(total) * sparse_tokens() * 6


def ladder() -> pd.DataFrame:
    """Every run of `all_runs` and GPT-3, each as if made on H100 today under our assumptions.

    Columns ``run``, ``low`` and ``high`` (dollars of rent), ``energy`` (as text) and ``kind``.
    """
    first = parameters.count("gpt3-175b").active_without_input_embedding
    flops = training.training_operations(first, known(run("gpt-3"), "tokens"))
    rows = [("GPT-3", flops, flops, "disclosed"), *all_runs().itertuples(index=False, name=None)]
    lines = []
    for name, low, high, kind in rows:
        result = train(Range(low, high))
        joules = span(result.building_joules, energy)
        lines.append((name, result.dollars.low, result.dollars.high, joules, kind))
    return pd.DataFrame(lines, columns=["run", "low", "high", "energy", "kind"])


def train(flops, devices: int = 1, device: str = "H100", price=None):
    """A run under the chapter's assumptions."""
    return training.training_run(
        flops,
        catalog.device(device),
        devices,
        utilization=UTILIZATION,
        power=DRAWN,
        overhead=overhead(),
        price=price if price is not None else rent(),
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
    home = catalog.amount("us_household_electricity")["value"] * 3.6e6  # joules a year
    return pd.DataFrame(
        [
            (
                name,
                span(plan.seconds / (100 * DAY), whole),
                span(plan.dollars, dollars),
                span(plan.building_joules, energy),
                span(plan.building_joules / home, whole),
            )
            for name, plan in plans().items()
        ],
        columns=["model", "H100s for 100 days", "rent", "electricity", "homes for a year"],
    )


def disclosed() -> pd.DataFrame:
    """The two runs whose makers published enough to check the arithmetic."""
    h100, lines = catalog.device("H100"), []
    for label, name, hours_name in (
        ("Llama 3.1 405B", "llama-3.1-405b", "gpu_hours"),
        ("DeepSeek-V3", "deepseek-v3", "gpu_hours_pretraining"),
    ):
        figures = run(name)
        size = parameters.count(name).active_without_input_embedding
        flops = training.training_operations(size, known(figures, "tokens"))
        stated = known(figures, "compute") if "compute" in figures else None
        hours = known(figures, "gpu_hours")
        lines.append(
            {
                "run": label,
                "6 N D": flops,
                "stated": stated,
                "MFU": training.utilization(stated or flops, known(figures, hours_name), h100),
                "device-hours": params(hours),
                "electricity": span(building(hours), energy),
                "rent": span(rent() * hours, dollars),
            }
        )
    return pd.DataFrame(lines)


def building(hours: float) -> Range:
    """Joules of the building for device-hours of H100s."""
    return DRAWN * overhead() * (hours * HOUR * catalog.device("H100").tdp_watts)


@cache
def gpt4() -> Range:
    """FLOPs of GPT-4 by outsiders: from a press figure for its electricity, and an estimate."""
    a100 = catalog.device("A100")
    seconds = Range.of(gpt4_joules()) / overhead() / (DRAWN * a100.tdp_watts)
    by_energy = seconds * UTILIZATION * training.peak_operations(a100, "bf16")
    elsewhere = known(study("gpt-4-compute"), "operations")
    return Range(min(by_energy.low, elsewhere), max(by_energy.high, elsewhere))


def gpt4_joules() -> float:
    return known(run("gpt-4"), "energy") * GWH / 1000


def grok3_seconds() -> Range:
    """Device-seconds of Grok 3: the cluster as it was shown, for two to four months."""
    return MONTHS * (365.25 / 12 * DAY * printed()["grok_3_gpus"])


def grok3() -> Range:
    return grok3_seconds() * UTILIZATION * training.peak_operations(catalog.device("H100"), "bf16")


def grok3_joules() -> Range:
    return grok3_seconds() * (DRAWN * overhead() * catalog.device("H100").tdp_watts)


def all_runs() -> pd.DataFrame:
    """FLOPs of runs, disclosed, estimated and planned: ``run``, ``low``, ``high``, ``kind``."""
    first = disclosed().set_index("run")["6 N D"]
    rows = [
        ("Llama 3.1 405B", Range.of(first["Llama 3.1 405B"]), "disclosed"),
        ("DeepSeek-V3", Range.of(first["DeepSeek-V3"]), "disclosed"),
        ("GPT-4", gpt4(), "estimated by outsiders"),
        ("Grok 3", grok3(), "estimated by outsiders"),
        ("5T, sparse", sparse_flops(FIVE), "sparse, assumed tokens"),
        ("10T, sparse", sparse_flops(TEN), "sparse, assumed tokens"),
        ("5T, dense", dense_flops(FIVE), "dense, compute-optimal"),
        ("10T, dense", dense_flops(TEN), "dense, compute-optimal"),
    ]
    return pd.DataFrame(
        [(name, flops.low, flops.high, kind) for name, flops, kind in rows],
        columns=["run", "low", "high", "kind"],
    )


def undisclosed() -> pd.DataFrame:
    gpt3 = known(run("gpt-3"), "energy") * GWH / 1000
    return pd.DataFrame(
        [
            ("GPT-3", energy(gpt3), "", "press figure for the electricity"),
            (
                "GPT-4",
                energy(gpt4_joules()),
                span(gpt4(), power),
                "press figure, A100 assumed; an outsider's estimate of the FLOPs",
            ),
            (
                "Grok 3",
                span(grok3_joules(), energy),
                span(grok3(), power),
                "the cluster as shown; time and share of it assumed",
            ),
        ],
        columns=["run", "electricity", "FLOPs", "rests on"],
    )


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


def law() -> pd.DataFrame:
    return pd.DataFrame(
        [
            (approach, params(size), optimal(approach, size), optimal(approach, size, "tokens"))
            for size in (1e12, FIVE, TEN)
            for approach in (1, 2, 3)
        ],
        columns=["approach", "parameters", "FLOPs", "tokens"],
    )


def own_run(model: str, tokens: float, device: str, devices: int) -> pd.DataFrame:
    """A run of the reader's: FLOPs, days, electricity and rent."""
    count = parameters.count(model)
    flops = training.training_operations(count.active_without_input_embedding, tokens)
    result = train(flops, devices, device, catalog.hourly_price(catalog.device(device).name))
    unknown = "not published for this device"
    return pd.DataFrame(
        [
            ("FLOPs", span(result.operations, power)),
            ("days", span(result.seconds / DAY, whole)),
            (
                "electricity",
                span(result.building_joules, energy) if result.building_joules else unknown,
            ),
            ("rent", span(result.dollars, dollars) if result.dollars else unknown),
        ],
        columns=["of the run", "range"],
    )


# ------------------------------------------------------------------ training state


def states() -> pd.DataFrame:
    """Bytes of training state by optimizer, and the H100s that store them."""
    capacity, lines = catalog.device("H100").memory_bytes, []
    for name, optimizer in training.OPTIMIZERS.items():
        sizes = [training.state_bytes(int(total), name).total for total in (FIVE, TEN)]
        lines.append(
            {
                "optimizer": name,
                "bytes a parameter": optimizer.total,
                "5T": sizes[0],
                "10T": sizes[1],
                "H100s for 5T": math.ceil(sizes[0] / capacity),
                "H100s for 10T": math.ceil(sizes[1] / capacity),
            }
        )
    return pd.DataFrame(lines)


def sharded() -> pd.DataFrame:
    """Bytes on each device for five trillion parameters, by replicas and ZeRO stage."""
    replicas = [2**power for power in range(14)]
    columns = {
        f"ZeRO stage {stage}" if stage else "a copy each": [
            training.state_bytes(int(FIVE), stage=stage, data=count).total for count in replicas
        ]
        for stage in range(4)
    }
    return pd.DataFrame(columns, index=pd.Index(replicas, name="replicas"))


def layouts() -> pd.DataFrame:
    """Ways to split the sparse shape of five trillion with more experts."""
    shape, capacity, lines = sparse_shapes(FIVE)[0], catalog.device("H100").memory_bytes, []
    for layout in LAYOUTS:
        state = training.state_bytes(shape.total, routed=shape.routed, **layout)
        names = ("data", "expert", "tensor", "pipeline", "stage")
        lines.append(
            {name: layout.get(name, 1) for name in names}
            | {
                "devices": state.devices,
                "GB a device": state.total / 1e9,
                "fits an H100": "yes" if state.total <= capacity else "no",
            }
        )
    return pd.DataFrame(lines).rename(columns={"stage": "ZeRO stage"})


# ------------------------------------------------------------------ serving


@cache
def served_models() -> dict:
    models = {label: parameters.describe(name) for label, name in SERVED.items()}
    models["10T, more experts"] = parameters.describe(upscaling.more_experts(TEN))
    models["10T, dense"] = parameters.describe(upscaling.deeper_and_wider(TEN))
    return models


ONE_SERVER = 8  # devices that the forecast's kernels and links were measured on


@cache
def serving() -> pd.DataFrame:
    """Floor and expected time, energy and dollars of an output token on H100s in FP8, by model.

    Expected is the forecast with the measured rule for watts where one server holds the model,
    else the floor times the factor that served models typically take (``by`` says which).
    ``floor_joules`` are the stated power times the floor; dollars are for a million output tokens
    at the two ends of the rent.
    """
    device, lines = catalog.device("H100"), []
    for label, model in served_models().items():
        plan = forecast.Plan(batch=REQUESTS, input=PROMPT, output=ANSWER, weights="fp8")
        stored = memory.weights_bytes(model, plan.stored)
        stored += memory.kv_cache_bytes(model, PROMPT + ANSWER, REQUESTS, "bf16")
        share = stored / (forecast.USABLE * device.memory_bytes)
        devices = 2 ** max(math.ceil(math.log2(share)), 0)
        plan = replace(plan, devices=devices)
        read, flops = forecast.floor_parts(model, device, plan)
        floor, by = max(read, flops), "forecast"
        if devices <= ONE_SERVER:
            seconds, _ = forecast.tpot_seconds(model, device, plan, forecast.numbers())
        else:
            seconds, by = floor * forecast.floor_factor()["typical"], "factor"
        hours = devices / 3600 / REQUESTS * 1e6
        lines.append(
            {
                "model": label,
                "devices": devices,
                "by": by,
                "floor": floor,
                "seconds": seconds,
                "floor_joules": device.tdp_watts * devices * floor / REQUESTS,
                "joules": watts.joules_per_token(device, devices, seconds, read, flops, REQUESTS),
                "floor_dollars": rent().low * hours * floor,
                "low": rent().low * hours * seconds,
                "high": rent().high * hours * seconds,
            }
        )
    return pd.DataFrame(lines)


def serving_table() -> pd.DataFrame:
    rows = serving()
    ends = zip(rows["low"], rows["high"], strict=True)
    return pd.DataFrame(
        {
            "model": rows["model"],
            "H100s": rows["devices"],
            "ms a token, floor": 1e3 * rows["floor"],
            "expected": 1e3 * rows["seconds"],
            "J a token, floor": rows["floor_joules"],
            "expected ": rows["joules"],
            "$ a million, expected": [f"{cents(low)} to {cents(high)}" for low, high in ends],
            "by": rows["by"],
        }
    )


def listed(day: str) -> pd.DataFrame:
    """Listed prices of open models with a known shape: dollars for a million tokens."""
    rows = [(label, prices.price(host, name, day)) for label, host, name in HOSTS]
    floor = serving().set_index("model")["floor_dollars"]
    frame = pd.DataFrame(
        [(label, price.provider, price.input, price.output) for label, price in rows],
        columns=["model", "host", "input", "output"],
    )
    frame["over the floor"] = frame["output"] / frame["model"].map(floor)
    return frame


def joules_lines(gpu: str = "B200", models: tuple[str, ...] = ()) -> pd.DataFrame:
    """Measured joules a token by class of batch: ``model``, ``batch``, ``joules``."""
    rows = silicon.energy("measured")
    rows = rows[(rows["gpu"] == gpu) & rows["model"].isin(models)]
    rows = rows[rows["devices"] == rows.groupby("model")["devices"].transform("min")]
    return pd.DataFrame(
        {
            "model": rows["model"].str.replace(r"-Instruct.*", "", regex=True),
            "batch": rows["batch_median"],
            "joules": rows["joules_median"],
        }
    ).reset_index(drop=True)


def energy_rules() -> pd.DataFrame:
    """Ways to reckon joules a token against the measured ones."""
    rows = silicon.energy("energy")
    return pd.DataFrame(
        {
            "reckoned as": rows["name"],
            "median error %": rows["error_median"],
            "90th %": rows["error_p90"],
            "over measured": rows["ratio_median"],
        }
    )


def measured_savings(least: float = 0.8) -> tuple[float, int]:
    """Share of measured pairs in which a small model saves ``least`` of the joules, and pairs.

    Small: up to ten billion parameters. Large: thirty billion and more. Same GPU and load.
    """
    rows = silicon.energy("measured")
    size = rows["model"].str.extract(r"(\d+)B", expand=False).astype(float)
    size = size.fillna(671)  # DeepSeek-V3.1 alone names no size
    small, large = rows[size <= 10], rows[size >= 30]
    pairs = small.merge(large, on=["gpu", "load"], suffixes=("", "_large"))
    saved = 1 - pairs["joules_median"] / pairs["joules_median_large"]
    return float((saved >= least).mean()), len(pairs)


def price_ratios(dear: dict[str, str], cheap: Iterable[tuple[str, str]], day: str) -> list[float]:
    """Listed price of each dear model over each cheap one, the larger of prompt and answer.

    ``dear`` has a model by its provider, ``cheap`` (provider, model).
    """
    tops = [prices.price(*pair, day) for pair in dear.items()]
    lows = [prices.price(*pair, day) for pair in cheap]
    return [max(top.input / low.input, top.output / low.output) for top in tops for low in lows]


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
    kinds = [large[large["routed"] == 0], large[large["routed"] > 0]]
    saved = [np.array([1 - a / b for a in small["used"] for b in kind["used"]]) for kind in kinds]
    dense, sparse = (float((shares >= least).mean()) for shares in saved)
    return dense, sparse, (saved[0].size, saved[1].size)
