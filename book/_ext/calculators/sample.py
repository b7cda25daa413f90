"""How many questions does a comparison take? `paired.required_sample_size`."""

from sizewise.stats import paired

from .parts import SHARE, Calculator, Curve, Field, Result, Step

DIFFERENCE = "difference"
SHARES = {"0.1 %": 0.001, "1 %": 0.01, "5 %": 0.05, "10 %": 0.1, "20 %": 0.2}


def levels() -> dict[str, dict]:
    """Chances of a false alarm, each with the normal quantile that the test asks for."""
    return {name: {"z_level": paired.quantiles(level=level)[0]} for name, level in SHARES.items()}


def powers() -> dict[str, dict]:
    """Chances to find a difference that is there, each with its normal quantile."""
    return {
        f"{power:.0%}".replace("%", " %"): {"z_power": paired.quantiles(power=power)[1]}
        for power in (0.5, 0.8, 0.9, 0.95, 0.99)
    }


CALCULATOR = Calculator(
    id="sample",
    title="How many questions does a comparison take?",
    fields=(
        Field(
            DIFFERENCE,
            "Difference that matters",
            "share",
            "5%",
            r"\delta",
            SHARE,
            least=0.001,
            most=1,
            help="Of the two accuracies.",
        ),
        Field(
            "discordant",
            "Questions that only one gets right",
            "share",
            "20%",
            "d",
            SHARE,
            least=0.001,
            most=1,
            help="Ask a few dozen first and count.",
        ),
        Field("power", "Chance to find it", "choice", "80 %", table="powers"),
        Field("level", "Chance of a false alarm", "choice", "5 %", table="levels"),
    ),
    steps=(
        Step(
            "items",
            "n",
            "questions that both models have to answer",
            lambda s: paired.sample_size(s.discordant, s.difference, s.z_level, s.z_power),
        ),
        Step(
            "telling",
            "m",
            "questions among them that only one gets right",
            lambda s: s.items * s.discordant,
        ),
    ),
    results=(
        Result("Questions for both models", ("items",), "count", main=True),
        Result("Questions right in one model alone", ("telling",), "count"),
        Result("Questions needed", ("items",), "count", each=DIFFERENCE, missing="never found"),
    ),
    tables={"powers": powers, "levels": levels},
    columns={
        "z_level": (r"z_\alpha", "the normal quantile of the chance of a false alarm, two-sided"),
        "z_power": (r"z_\beta", "the normal quantile of the chance to find the difference"),
    },
    command="sizewise compare --task questions.jsonl --model A --model B --until decided",
    curve=Curve(
        DIFFERENCE,
        points=(
            *("0.5%", "0.6%", "0.7%", "0.8%", "1%", "1.2%", "1.5%", "2%", "2.5%", "3%", "4%"),
            *("5%", "6%", "7%", "8%", "10%", "12%", "15%", "20%"),
        ),
        ticks=("0.5%", "1%", "2%", "5%", "10%", "20%"),
        title="Half the difference takes about four times the questions",
    ),
)
