"""What the chapter on diminishing returns reads from its rows."""

import pandas as pd

from sizewise.data import records
from sizewise.units import si

SKILLS = {
    "MMLU": "knowledge",
    "GSM8K": "reasoning",
    "ARC-C": "reasoning",
    "HumanEval": "code",
    "HellaSwag": "language",
    "Winograd": "language",
    "XWinograd": "language",
}
STARTS = {0.0: "under 1B", 1e9: "1 to 6B", 6e9: "6 to 12B", 12e9: "12 to 34B", 34.5e9: "over 34B"}
TASKS = {
    "parsinlu_qa_2_acc": "questions in Persian",
    "word_unscrambling_2_exact_match": "unscrambling words",
    "ipa_transliterate_2_exact_match": "phonetic script, exact match",
    "ipa_transliterate_2_bleu": "phonetic script, BLEU",
    "arithmetic_3ds_2_acc": "subtraction, 3 digits",
    "arithmetic_3da_2_acc": "addition, 3 digits",
    "arithmetic_2dm_2_acc": "multiplication, 2 digits",
    "arithmetic_2da_2_acc": "addition, 2 digits",
}
LENGTHS = (1, 2, 4, 8, 16)  # tokens in a row that must all be right
HALVED, STOPPED = 0.5, 0.25  # of the slope before a break


def span(low: float, high: float, form: str = ".1f") -> str:
    return f"{low:{form}}\u00a0to\u00a0{high:{form}}"


def breaks(kinds: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Each benchmark at the size where its gains are said to level off.

    ``kept`` of the slope with its ends, the ``bend`` and ``plateau`` against a smooth curve with a
    fitted ceiling (BIC, above 0 in favour of the break), ``gain`` of a doubling past the size with
    its ends, ``pairs`` and ``families`` there, and how often a true plateau would be ``found``.
    """
    curves = kinds["curve"].drop_duplicates(["benchmark", "curve"])
    bic = curves.pivot(index="benchmark", columns="curve", values="bic")
    slopes = kinds["kept_slope"].set_index("benchmark")[["break", "kept", "kept_low", "kept_high"]]
    beyond = kinds["beyond"][kinds["beyond"]["without"] == "nothing"].set_index("benchmark")
    table = slopes.join(beyond[["pairs", "families", "gain", "gain_low", "gain_high"]])
    table["bend"] = bic["capped"] - bic["bent"]
    table["plateau"] = bic["capped"] - bic["plateau"]
    table["found"] = kinds["power"].set_index("benchmark")["found"]
    table["skill"] = table.index.map(SKILLS)
    table["label"] = [f"{n}, {si(b, 'params')}" for n, b in table["break"].items()]
    return table.loc[list(SKILLS)]


def skills(table: pd.DataFrame) -> pd.DataFrame:
    """By skill: whether past the claimed size the slope is ``halved``, or has ``stopped``.

    Halved: every interval of the kept slope lies below one, and the median of its benchmarks below
    `HALVED`. Stopped: every interval lies below `STOPPED`.
    """
    groups = table.groupby("skill", sort=False)
    highest = groups["kept_high"].max()
    halved = (highest < 1) & (groups["kept"].median() < HALVED)
    return pd.DataFrame({"halved": halved, "stopped": highest < STOPPED})


def strictness() -> pd.DataFrame:
    """Our models by metrics of growing strictness: measured, and as independent tokens would do.

    ``params``, ``length``, ``exact`` with its standard error ``se``, ``predicted``.
    """
    rows = records.table("emergence").sort_values("params_non_embedding")
    parts = []
    for length in LENGTHS:
        name = "accuracy" if length == 1 else f"exact_{length}"
        part = rows[["params_non_embedding", name, f"{name}_se"]].set_axis(
            ["params", "exact", "se"], axis=1
        )
        parts.append(part.assign(length=length, predicted=rows["accuracy"] ** length))
    return pd.concat(parts, ignore_index=True)


def emerging(kinds: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Tasks said to emerge, over compute: where they climb, and what smaller models predict."""
    climb, excess = (
        kinds[kind].set_index(["task", "by"]).xs("operations", level="by")
        for kind in ("climb", "excess")
    )
    table = climb[["models", "onset", "decades"]].join(excess[["foretold", "excess"]])
    table["95 %"] = [span(r.excess_low, r.excess_high, "+.1f") for r in excess.itertuples()]
    table = table.rename(columns={"foretold": "predicted"})
    return table.rename(index=TASKS).rename_axis("task").reset_index()
