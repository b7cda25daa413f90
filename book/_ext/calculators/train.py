"""What would N parameters and D tokens reach, and what would they cost? Laws and `training`."""

from types import SimpleNamespace

from sizewise.costs import training
from sizewise.scaling_laws import forms, uncertainty

from . import citing, intervals, tables
from .fit import DEVICE, DEVICE_FIELDS
from .parts import COUNT, SHARE, Calculator, Field, Result, Step


def hoffmann(s) -> forms.Hoffmann:
    return forms.Hoffmann(s.E, s.A, s.B, s.alpha, s.beta)


def surface(s) -> forms.KaplanSurface:
    return forms.KaplanSurface(s.Nc, s.Dc, s.aN, s.aD)


def repeated(s) -> forms.DataConstrained:
    return forms.DataConstrained(hoffmann(s), s.tokens_worth, s.params_worth)


def moved(s, params, tokens):
    """By how much the loss at a point changes along one direction of a law's uncertainty."""
    law = uncertainty.Joint(hoffmann(s), s.middle_params, s.middle_tokens, ())
    return law.change(
        uncertainty.Direction(*(getattr(s, name) for name in intervals.SHIFTS)), params, tokens
    )


def run(s, watts=None) -> training.Run:
    device = SimpleNamespace(name="the device", flops={"bf16": s.peak}, tdp_watts=watts)
    return training.training_run(
        s.compute, device, s.devices, utilization=s.utilization, power=1.0, overhead=(1.1, 1.3)
    )


def each_watt(s) -> training.Run:
    """The run on devices of one watt: energy is proportional to it."""
    return run(s, watts=1.0)


FORMS = {"Hoffmann": hoffmann, "KaplanSurface": surface, "DataConstrained": repeated}


def by_form(*names: str, of) -> dict:
    """One function a form: what ``of`` makes of its law."""
    return {name: lambda s, name=name: of(FORMS[name](s), s) for name in names}


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
        *(one for one in DEVICE_FIELDS if one.name in (DEVICE, "peak", "watts", "price")),
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
            "operations of training",
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
        Step(
            "variance",
            "v",
            "variance of the loss, where the coefficients' own is known",
            lambda s: moved(s, s.params, s.tokens) ** 2,
            over="laws.directions",
            total=True,
        ),
        Step(
            "loss_low",
            "L_l",
            "low end of the 95 % interval of the loss",
            lambda s: uncertainty.ends(s.loss, s.variance)[0],
            over="laws",
        ),
        Step(
            "loss_high",
            "L_h",
            "high end of the 95 % interval of the loss",
            lambda s: uncertainty.ends(s.loss, s.variance)[1],
            over="laws",
        ),
        Step(
            "best_params",
            "N^*",
            "best size for as many operations",
            by_form("Hoffmann", of=lambda law, s: law.optimum(s.compute)[0]),
            over="laws",
        ),
        Step(
            "best_tokens",
            "D^*",
            "best number of tokens for as many operations",
            by_form("Hoffmann", of=lambda law, s: law.optimum(s.compute)[1]),
            over="laws",
        ),
        Step(
            "best_loss",
            "L^*",
            "loss with them",
            by_form("Hoffmann", of=lambda law, s: law.loss(s.best_params, s.best_tokens)),
            over="laws",
        ),
        Step(
            "best_variance",
            "v^*",
            "its variance, alike",
            lambda s: moved(s, s.best_params, s.best_tokens) ** 2,
            over="laws.directions",
            total=True,
        ),
        Step(
            "best_low",
            "L^*_l",
            "low end of its 95 % interval",
            lambda s: uncertainty.ends(s.best_loss, s.best_variance)[0],
            over="laws",
        ),
        Step(
            "best_high",
            "L^*_h",
            "high end of its 95 % interval",
            lambda s: uncertainty.ends(s.best_loss, s.best_variance)[1],
            over="laws",
        ),
        Step("device_hours", "H", "device-hours", lambda s: run(s).device_hours.low),
        Step("seconds", "t", "seconds", lambda s: run(s).seconds.low),
        Step(
            "dollars_low",
            r"\$_l",
            "dollars at the low price",
            lambda s: s.device_hours * s.price_low,
        ),
        Step(
            "dollars_high",
            r"\$_h",
            "dollars at the high price",
            lambda s: s.device_hours * s.price_high,
        ),
        Step(
            "device_joules",
            "J",
            "joules of the devices at their full power",
            lambda s: each_watt(s).device_joules.low * s.watts,
        ),
        Step(
            "building_low",
            "J_l",
            "joules of a frugal building (PUE 1.1)",
            lambda s: each_watt(s).building_joules.low * s.watts,
        ),
        Step(
            "building_high",
            "J_h",
            "joules of a usual building (PUE 1.3)",
            lambda s: each_watt(s).building_joules.high * s.watts,
        ),
    ),
    results=(
        Result("Operations", ("compute",), "FLOP", main=True),
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
            ("best_low", "best_high"),
            "nats",
            each="laws",
            missing="none published",
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
    names=citing.laws,
    command="sizewise fit runs.csv --budget 1e24",
)
