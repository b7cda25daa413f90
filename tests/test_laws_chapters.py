"""What the chapters on laws and returns compute, against truth and what was wrong before."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sizewise import paths, scaling_laws
from sizewise.chapters import claims
from sizewise.chapters.tables import diminishing_returns, isoflop
from sizewise.chapters.tables import scaling_laws as tables
from sizewise.data import records


def glued(chapter: str) -> dict[str, str]:
    """The texts that a chapter's stored outputs glue, by name."""
    cells = json.loads(paths.chapters()[chapter].read_text(encoding="utf-8"))["cells"]
    return {
        output["metadata"]["scrapbook"]["name"]: output["data"]
        .get("application/papermill.record/text/plain", "")
        .strip("'")
        for cell in cells
        for output in cell.get("outputs", ())
        if "scrapbook" in output.get("metadata", {})
    }


# ------------------------------------------------------------------ the ladder


def test_the_score_of_normal_samples_is_the_known_one():
    # Gneiting and Raftery 2007: sigma (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)).
    rng = np.random.default_rng(0)
    samples, measured = rng.normal(3.0, 0.2, (40_000, 1)), np.array([3.1])
    z = (3.1 - 3.0) / 0.2
    exact = 0.2 * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))
    assert isoflop.crps(samples, measured)[0] == pytest.approx(exact, rel=0.01)


def test_the_score_of_a_point_is_its_miss_and_width_is_punished():
    measured = np.array([3.0])
    assert isoflop.crps(np.array([[3.2]]), measured)[0] == pytest.approx(0.2)
    rng = np.random.default_rng(1)
    narrow, wide = (isoflop.crps(rng.normal(3.0, s, (5000, 1)), measured)[0] for s in (0.01, 0.2))
    assert wide > 10 * narrow


def test_the_law_misses_a_fifth_of_the_drop_to_one_side_like_a_quadratic():
    # "6 of 6 inside the interval" rewarded intervals wider than the drop.
    rows = isoflop.ladder()
    top = rows["budget"].max()
    optima = scaling_laws.parabolas(isoflop.runs_of(rows), rows["budget"].to_numpy())
    drop = optima["loss"].iloc[-2] - optima["loss"].iloc[-1]
    assert drop == pytest.approx(0.21, abs=0.005)
    measured = rows.loc[rows["budget"] == top, "val_loss"].to_numpy()
    scores = isoflop.scores(isoflop.predictions(rows, top), measured, drop)
    law, quadratic, still = (scores.iloc[k] for k in range(3))
    assert law["miss over drop"] == pytest.approx(0.18, abs=0.02)
    assert law["bias"] == pytest.approx(-law["miss"])
    assert law["width"] > drop
    assert quadratic["miss"] < 1.3 * law["miss"]
    assert quadratic["CRPS"] < 1.3 * law["CRPS"]
    assert still["miss"] > 3 * law["miss"]


def test_what_is_counted_explains_the_exponents():
    table = isoflop.exponents(isoflop.ladder(), noise=0.02)
    a = table.set_index(["counted", "way"])["exponent"]
    without, total = isoflop.COUNTS.values()
    assert a[without, "parabolas"] == pytest.approx(0.63, abs=0.005)
    assert a[without, "surface, 6 N a token"] == pytest.approx(0.52, abs=0.005)
    assert a[total, "parabolas"] == pytest.approx(0.40, abs=0.006)
    assert (table["low"] < table["exponent"]).all()
    assert (table["exponent"] < table["high"]).all()


# ------------------------------------------------------------------ scaling laws


def test_each_law_has_its_own_largest_run_and_interval():
    fits = tables.rows_by_kind()["fit"].set_index("table")
    largest = fits["most_params"].drop(tables.OURS)
    assert largest.nunique() >= 5  # not 16.2B for all
    assert largest["gadre-c4"] < 7e9
    assert (fits["gain_late_low"] < fits["gain_late"]).all()
    assert (fits["gain_late"] < fits["gain_late_high"]).all()
    assert np.allclose(fits["times_beyond"], 1e13 / fits["most_params"])


def test_the_budget_of_ten_trillion_differs_twelvefold_with_all_digits_not_22():
    texts = glued("scaling-laws")
    assert texts["laws_spread"] == "11.7"
    assert texts["laws_spread_table"] == "9.9"
    assert texts["laws_spread_printed"] == "22"  # the rounded coefficients, called a trap


def test_all_claims_of_the_chapter_rest_on_the_same_eight_fits():
    cells = json.loads(paths.chapters()["scaling-laws"].read_text(encoding="utf-8"))["cells"]
    deciding = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    deciding = [source for source in deciding if "claims.decide(" in source]
    assert len(deciding) == 8
    assert not any("kaplan-size" in source or "every.loc" in source for source in deciding)
    # A wall can't be seen in runs at a hundredth of the largest disclosed compute.
    assert claims.stored("scaling-laws")[7]["verdict"] == "undecidable in part"


def test_predictions_stand_beside_what_was_measured():
    frame = tables.predictions()
    assert len(frame) == 18
    losses = frame[frame["name"] == "loss on C4"].set_index("target")
    assert losses["inside"].all()
    assert losses.loc["7B", "measured"] == pytest.approx(2.4829, abs=1e-4)


# ------------------------------------------------------------------ diminishing returns


def test_six_of_seven_intervals_exclude_that_gains_go_on_as_before():
    breaks = diminishing_returns.breaks(diminishing_returns.rows_by_kind())
    assert (breaks["kept_high"] < 1).sum() == 6
    assert breaks.loc["GSM8K", "kept_high"] > 1
    language = breaks[breaks["skill"] == "language"]
    assert (language["bend"] > 0).all()  # a bend at 13B is the best description of all three
    assert (language["kept_low"] > 0).all()  # and no plateau


@pytest.mark.parametrize(
    ("low", "value", "high", "lower", "halved", "stopped"),
    [
        (0.8, 1.0, 1.2, False, False, False),
        (0.5, 0.7, 0.9, True, False, False),
        (0.2, 0.4, 0.6, True, True, False),
        (-0.1, 0.05, 0.2, True, True, True),
        (-9.0, 0.2, 1.4, False, False, False),
    ],
)
def test_a_skill_is_judged_by_all_of_its_intervals(low, value, high, lower, halved, stopped):
    row = {"skill": "x", "kept": value, "kept_low": low, "kept_high": high}
    judged = diminishing_returns.skills(pd.DataFrame([row, row])).loc["x"]
    assert judged.tolist() == [lower, halved, stopped]


def test_claim_nine_can_end_in_every_way_and_ends_in_part():
    verdict = claims.stored("diminishing-returns")[9]
    assert verdict["verdict"] == "partly"
    assert verdict["numbers"]["halved"] == 2
    assert verdict["numbers"]["stopped"] == 0


def test_the_rows_behind_the_pages_are_there():
    for stem in ("refit_published", "published_scores", "isoflop", "emergence", "foretell"):
        assert records.read(stem)
