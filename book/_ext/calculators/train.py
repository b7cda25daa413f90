"""What would N parameters and D tokens reach, and what would they cost? Laws and `training`."""

from collections.abc import Callable
from types import SimpleNamespace

import numpy as np
from sizewise.costs import training
from sizewise.scaling_laws import forms, inference, uncertainty

from . import citing, intervals, tables
from .fit import DEVICE, DEVICE_FIELDS
from .parts import COUNT, SHARE, Calculator, Field, Result, Step


def hoffmann(s) -> forms.Hoffmann:
    return forms.Hoffmann(s.E, s.A, s.B, s.alpha, s.beta)


def surface(s) -> forms.KaplanSurface:
    return forms.KaplanSurface(s.Nc, s.Dc, s.aN, s.aD)


def repeated(s) -> forms.DataConstrained:
    return forms.DataConstrained(hoffmann(s), s.tokens_worth, s.params_worth)


def joint(s) -> uncertainty.Joint:
    return uncertainty.Joint(hoffmann(s), s.middle_params, s.middle_tokens, ())


def error(s) -> uncertainty.Direction:
    """One of the directions of a law's uncertainty."""
    return uncertainty.Direction(*(getattr(s, name) for name in intervals.SHIFTS))


def moved(s, params, tokens):
    """By how much the loss at a point changes along one direction of a law's uncertainty."""
    return joint(s).change(error(s), params, tokens)


def run(s, watts=None) -> training.Run:
    device = SimpleNamespace(name="the device", flops={"bf16": s.peak}, tdp_watts=watts)
    return training.training_run(
        s.compute, device, s.devices, utilization=s.utilization, power=1.0, overhead=(1.1, 1.3)
    )


def each_watt(s) -> training.Run:
    """The run on devices of one watt: energy is proportional to it."""
    return run(s, watts=1.0)


FORMS = {"Hoffmann": hoffmann, "KaplanSurface": surface, "DataConstrained": repeated}


def by_form(*names: str, call) -> dict:
    """One function a form: ``call`` of its law."""
    return {name: lambda s, name=name: call(FORMS[name](s), s) for name in names}


def ends(name: str, symbol: str, value: str, variance: str, what: str) -> tuple[Step, Step]:
    """Both ends of the 95 % interval of a positive value whose variance is known."""
    return tuple(
        Step(
            f"{name}_{end}",
            f"{symbol}_{end[0]}",
            f"{end} end of the 95 % interval of {what}",
            lambda s, place=place: uncertainty.ends(getattr(s, value), getattr(s, variance))[place],
            over="laws",
        )
        for place, end in enumerate(("low", "high"))
    )


def loss_steps(name: str, symbol: str, params: str, tokens: str, what: str) -> tuple[Step, ...]:
    """The variance of a loss at a point, and the interval that follows."""
    variance = f"{name}_variance"
    return (
        Step(
            variance,
            f"v_{{{symbol}}}",
            f"variance of {what}, where the coefficients' own is known",
            lambda s: moved(s, getattr(s, params), getattr(s, tokens)) ** 2,
            over="laws.directions",
            total=True,
        ),
        *ends(name, symbol, name, variance, what),
    )


def serving_steps(over: str, prefix: str, law: Callable, mark: str) -> tuple[Step, ...]:
    """The cheapest model of one law: Newton's method, a step of it a value.

    ``mark`` is what its letters carry, ``prefix`` what its values' names begin with.
    """

    def value(name: str, symbol: str, meaning: str, call, shown: bool = True) -> Step:
        return Step(
            prefix + name, symbol + mark, meaning, call, over=over, shown=shown and not prefix
        )

    def get(s, name: str):
        return getattr(s, prefix + name)

    steps = [
        value(
            "pressure",
            "k",
            "tokens of the best model over those served, as costly as they are",
            lambda s: inference.pressure(law(s), get(s, "best_tokens"), s.weight * s.served),
        ),
        value(
            "odds_0",
            "u_0",
            "where Newton's method starts",
            lambda s: inference.first_odds(law(s), get(s, "pressure")),
        ),
    ]
    for k in range(inference.STEPS):
        steps.append(
            value(
                f"odds_{k + 1}",
                f"u_{k + 1}",
                "odds of data's share of the reducible loss, served against not, a step on",
                lambda s, k=k: inference.next_odds(law(s), get(s, "pressure"), get(s, f"odds_{k}")),
                shown=k == 0,
            )
        )
    last = f"odds_{inference.STEPS}"
    return (
        *steps,
        value(
            "served_params",
            "N_T",
            "cheapest size, as good as the best one",
            lambda s: inference.smaller(law(s), get(s, "best_params"), get(s, last)),
        ),
        value(
            "served_tokens",
            "D_T",
            "tokens to train it on",
            lambda s: inference.longer(law(s), get(s, "best_tokens"), get(s, last)),
        ),
    )


def moved_law(s) -> forms.Hoffmann:
    """The law of which one direction's error has been made: its coefficients are values."""
    return forms.Hoffmann(s.E, s.moved_A, s.moved_B, s.moved_alpha, s.moved_beta)


def along(name: str, symbol: str, meaning: str, call: Callable, total: bool = False) -> Step:
    """A value for each direction of a law's uncertainty."""
    return Step(name, symbol, meaning, call, over="laws.directions", total=total, shown=total)


SERVING = (
    *serving_steps("laws", "", hoffmann, ""),
    *(
        along(
            f"moved_{name}",
            f"{letter}'",
            f"{name}, one standard deviation off",
            lambda s, name=name: getattr(joint(s).moved(error(s)), name),
        )
        for name, letter in (("A", "A"), ("B", "B"), ("alpha", r"\alpha"), ("beta", r"\beta"))
    ),
    *(
        along(
            f"moved_best_{name}",
            f"{letter}^{{*}}'",
            f"best {name} by that law",
            lambda s, place=place: moved_law(s).optimum(s.compute)[place],
        )
        for place, (name, letter) in enumerate((("params", "N"), ("tokens", "D")))
    ),
    *serving_steps("laws.directions", "moved_", moved_law, "'"),
    *(
        along(
            f"served_{name}_variance",
            f"v_{letter}",
            f"variance of the logarithm of the cheapest model's {name}; primed is a law "
            "one standard deviation off",
            lambda s, name=name: (
                np.log(getattr(s, f"moved_served_{name}") / getattr(s, f"served_{name}")) ** 2
            ),
            total=True,
        )
        for name, letter in (("params", "N"), ("tokens", "D"))
    ),
    *(
        Step(
            f"served_{name}_{end}",
            f"{letter}_{{T,{end[0]}}}",
            f"{end} end of the 95 % interval of the cheapest model's {name}",
            lambda s, name=name, side=side: uncertainty.log_ends(
                getattr(s, f"served_{name}"), getattr(s, f"served_{name}_variance")
            )[side],
            over="laws",
        )
        for name, letter in (("params", "N"), ("tokens", "D"))
        for side, end in enumerate(("low", "high"))
    ),
)

CALCULATOR = Calculator(
    id="train",
    title="What would N parameters and D tokens reach?",
    fields=(
        Field(
            "params",
            "Parameters",
            "number",
            "8B",
            "N",
            COUNT,
            most=1e18,
            help="Laws of models with experts are not among these.",
        ),
        Field("tokens", "Training text", "number", "160B", "D", "tokens", most=1e21),
        Field(
            "unique",
            "Distinct text",
            "number",
            "",
            "U",
            "tokens",
            most=1e21,
            optional=True,
            sets=("unique",),
            otherwise="tokens",
            help="Empty: no token is seen twice. Only the law of "
            f"{citing.authors('muennighoff2023')} knows of repeated tokens.",
        ),
        Field(
            "served",
            "Served over its life",
            "number",
            "10T",
            "T",
            "tokens",
            most=1e21,
            help="Read and written by users. The cheapest model is as good as the best one for the "
            "training FLOPs above, and costs least to train and to serve.",
        ),
        Field(
            "weight",
            "Cost of a served FLOP",
            "number",
            "1",
            "w",
            "times one in training",
            most=1e4,
            help="1 counts FLOPs alone; a device that decodes for few requests waits for memory, "
            "and its FLOPs cost more.",
        ),
        *(field for field in DEVICE_FIELDS if field.name in (DEVICE, "peak", "watts", "price")),
        Field("devices", "Devices", "whole", "1000", "D_n", COUNT, most=1e9),
        Field(
            "utilization",
            "Peak that training reaches",
            "share",
            "40%",
            "u",
            SHARE,
            least=0.001,
            most=1,
            help="30% to 50% is usual for large runs.",
        ),
    ),
    steps=(
        Step(
            "compute",
            "C",
            "FLOPs of training",
            lambda s: training.training_operations(s.params, s.tokens),
        ),
        Step(
            "loss",
            "L",
            "loss",
            {
                "Hoffmann": lambda s: hoffmann(s).loss(s.params, s.tokens),
                "KaplanSurface": lambda s: surface(s).loss(s.params, s.tokens),
                "DataConstrained": lambda s: repeated(s).loss(s.params, s.tokens, s.unique),
            },
            over="laws",
        ),
        *loss_steps("loss", "L", "params", "tokens", "the loss"),
        *(
            Step(
                f"best_{name}",
                f"{letter}^*",
                f"best {what} for as many FLOPs",
                by_form("Hoffmann", call=lambda law, s, place=place: law.optimum(s.compute)[place]),
                over="laws",
            )
            for place, (name, letter, what) in enumerate(
                (("params", "N", "size"), ("tokens", "D", "number of tokens"))
            )
        ),
        Step(
            "best_loss",
            "L^*",
            "loss with them",
            by_form("Hoffmann", call=lambda law, s: law.loss(s.best_params, s.best_tokens)),
            over="laws",
        ),
        *loss_steps("best_loss", "L^*", "best_params", "best_tokens", "the loss at the optimum"),
        *SERVING,
        Step("device_hours", "H", "device-hours", lambda s: run(s).device_hours.low),
        Step("seconds", "t", "seconds", lambda s: run(s).seconds.low),
        *(
            Step(
                f"dollars_{end}",
                rf"\$_{end[0]}",
                f"dollars at the {end} price",
                lambda s, end=end: s.device_hours * getattr(s, f"price_{end}"),
            )
            for end in ("low", "high")
        ),
        Step(
            "device_joules",
            "J",
            "joules of the devices at their full power",
            lambda s: each_watt(s).device_joules.low * s.watts,
        ),
        *(
            Step(
                f"building_{end}",
                f"J_{end[0]}",
                f"joules of a {kind} building (PUE {pue})",
                lambda s, end=end: getattr(each_watt(s).building_joules, end) * s.watts,
            )
            for end, kind, pue in (("low", "frugal", 1.1), ("high", "usual", 1.3))
        ),
    ),
    results=(
        Result("Training FLOPs", ("compute",), "FLOP", main=True),
        Result(
            "Device-hours",
            ("device_hours",),
            "h",
            main=True,
            missing="no peak stated for this device",
        ),
        Result(
            "Time on all devices", ("seconds",), "time", missing="no peak stated for this device"
        ),
        Result(
            "Money", ("dollars_low", "dollars_high"), "$", missing="no published price: give one"
        ),
        Result("Energy of the devices", ("device_joules",), "Wh", missing="not known"),
        Result("Energy of the building", ("building_low", "building_high"), "Wh"),
        Result("Loss", ("loss",), "nats", each="laws", main=True),
        Result(
            "95 % interval of the loss",
            ("loss_low", "loss_high"),
            "nats",
            each="laws",
            missing="none published",
        ),
        Result("Best parameters", ("best_params",), "params", each="laws", missing="not stated"),
        Result("Best tokens", ("best_tokens",), "params", each="laws", missing="not stated"),
        Result("Loss at the optimum", ("best_loss",), "nats", each="laws", missing="not stated"),
        Result(
            "95 % interval at the optimum",
            ("best_loss_low", "best_loss_high"),
            "nats",
            each="laws",
            missing="none published",
        ),
        Result("Cheapest size when served", ("served_params",), "params", each="laws"),
        Result("Tokens of the cheapest", ("served_tokens",), "params", each="laws"),
        *(
            Result(
                f"95 % interval of {what}",
                (f"{name}_low", f"{name}_high"),
                "params",
                each="laws",
                missing="none published",
            )
            for what, name in (
                ("the cheapest size", "served_params"),
                ("tokens of the cheapest", "served_tokens"),
            )
        ),
        Result("Text", ("text",), "word", each="laws"),
    ),
    tables={"devices": tables.training_devices, "laws": tables.laws},
    rows="laws",
    columns={
        "E": ("E", "the law's floor"),
        "A": ("A", "its coefficient of size"),
        "B": ("B", "its coefficient of data"),
        "alpha": (r"\alpha", "its exponent of size"),
        "beta": (r"\beta", "its exponent of data"),
        "Nc": ("N_c", "its scale of size"),
        "Dc": ("D_c", "its scale of data"),
        "aN": (r"\alpha_N", "its exponent of size"),
        "aD": (r"\alpha_D", "its exponent of data"),
        "tokens_worth": ("R_D", "how many epochs repeated tokens are worth at most"),
        "params_worth": ("R_N", "the same for excess parameters"),
        "middle_params": ("N_0", "the parameters in the middle of its runs"),
        "middle_tokens": ("D_0", "the tokens in their middle"),
        "floor_shift": (
            r"\delta_E",
            "a share by which E may be off; errors of all coefficients "
            "are correlated, and the sum is over independent directions",
        ),
        "size_shift": (r"\delta_A", "the same of the term of size in the middle"),
        "data_shift": (r"\delta_B", "the same of the term of data in the middle"),
        "alpha_shift": (r"\delta_\alpha", r"the same of the exponent of size"),
        "beta_shift": (r"\delta_\beta", r"the same of the exponent of data"),
        "price_low": ("p_l", "dollars for a device and hour, low"),
        "price_high": ("p_h", "dollars for a device and hour, high"),
    },
    groups={"laws": r"\text{laws}", "laws.directions": r"\text{directions}"},
    note=intervals.note,
    names=lambda: {name: citing.law(name) for name in tables.laws()},
    caption="By each law, in nats a token",
    command="sizewise fit runs.csv --budget 1e24 --served 1e13",
)
