"""What the chapter on mixtures of experts reads off laws, published scores and rows."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sizewise.chapters.tables import mixture_of_experts as tables
from sizewise.data import catalog, records


def run(experts=1, used=1, wide=1, seed=0, loss=4.0, what="arms", **columns):
    row = {
        "what": what,
        "budget": 1e11,
        "experts": experts,
        "used": used,
        "wide": wide,
        "balance": 0.01 if experts > 1 else 0.0,
        "seed": seed,
        "val_loss": loss,
        "ended": "done",
        "params_non_embedding": 900 * experts * wide,
    }
    return row | columns


def test_differences_are_paired_by_seed_with_students_interval():
    dense, ours = (4.0, 4.1, 4.3), (3.9, 4.05, 4.28)
    rows = [run(seed=k, loss=loss) for k, loss in enumerate(dense)]
    rows += [run(8, 2, seed=k, loss=loss) for k, loss in enumerate(ours)]
    rows += [run(8, 2, seed=9, loss=1.0), run(seed=3, loss=float("nan"), ended="not finite")]
    (line,) = tables.differences(tables.runs(pd.DataFrame(rows))).to_dict("records")
    gaps = np.subtract(ours, dense)
    expected = stats.ttest_1samp(gaps, 0).confidence_interval(0.95)
    assert line["difference"] == pytest.approx(gaps.mean())
    assert (line["low"], line["high"]) == pytest.approx((expected.low, expected.high))
    assert (line["arm"], line["seeds"]) == (tables.SPARSE, 3)
    alone = [row for row in rows if row["seed"] == 0]
    (line,) = tables.differences(tables.runs(pd.DataFrame(alone))).to_dict("records")
    assert math.isnan(line["low"])


def test_rules_of_the_rate_are_never_compared_with_each_other():
    rows = [run(loss=4.0), run(8, 2, loss=3.9)]
    rows += [run(loss=4.2, what="rates"), run(8, 2, loss=4.3, what="rates")]
    table = tables.differences(tables.runs(pd.DataFrame(rows)))
    by_rule = dict(zip(table["per_input"], table["difference"], strict=True))
    assert by_rule == pytest.approx({True: -0.1, False: 0.1})


def test_a_benchmark_whose_dense_scores_climb_by_rule_gives_the_size_by_hand(monkeypatch):
    lines = [
        {
            "family": "x",
            "model": f"x-{n}",
            "total": n,
            "active": n,
            "benchmark": "b",
            "score": score,
        }
        for n, score in ((1e9, 50.0), (1e10, 60.0), (1e11, 70.0))
    ]
    lines.append(lines[0] | {"model": "x-moe", "total": 1e11, "active": 1e9, "score": 65.0})
    monkeypatch.setattr(tables.records, "facts_csv", lambda name: pd.DataFrame(lines))
    (line,) = tables.by_scores("x").to_dict("records")
    assert line["size"] == pytest.approx(10**10.5)
    assert line["weight"] == pytest.approx(0.75)


def test_the_published_pairs_are_those_of_the_reports():
    table = records.facts_csv("matched_pairs")
    score = table.set_index(["model", "benchmark"])["score"]
    # Qwen3 report, tables 4 and 5; OLMoE, table 4.
    assert score["Qwen3-30B-A3B", "MMLU-Pro"] == 61.49
    assert score["Qwen3-14B", "MMLU-Pro"] == 61.03
    assert score["Qwen3-32B", "MMLU-Pro"] == 65.54
    assert (score["OLMoE-1B-7B", "MMLU"], score["OLMo-7B", "MMLU"]) == (54.1, 54.9)
    assert (
        table.groupby(["family", "model"])["benchmark"]
        .nunique()
        .groupby("family")
        .nunique()
        .eq(1)
        .all()
    )
    counted = catalog.model("qwen3-30b-a3b").counted
    ours = table[table["model"] == "Qwen3-30B-A3B"].iloc[0]
    assert ours["total"] == pytest.approx(counted["total"], rel=0.01)
    assert ours["active"] == pytest.approx(counted["active"], rel=0.02)


def test_laws_are_evaluated_where_they_were_fitted_and_say_between():
    table = tables.by_laws()
    joint = table[table["law"] == "Ludziejewski 2025"]
    assert joint["active"].max() <= 2.7e9
    assert joint["total"].max() <= 6e9
    assert table["weight"].between(0, 1).all()
    # By hand from the law's rows for 1 and 8 experts: 1.1 billion active on 16 billion tokens.
    loss = 21.8330 * 1.1e9**-0.1676 + 119.9126 * 1.6e10**-0.2338
    dense = ((loss - 53.9838 * 1.6e10**-0.1965) / 30.3640) ** (-1 / 0.1817)
    row = joint[(joint["active"] == 1.1e9) & (joint["tokens"] == 1.6e10)].iloc[0]
    assert row["size"] == pytest.approx(dense, rel=0.02)


def test_routing_is_a_mean_over_layers_and_runs():
    layers = {"evenness": [0.5, 0.7], "dead": [0.0, 0.5], "by_token": [0.6, 0.4]}
    rows = [run(64, 2, seed=k, **layers) for k in (0, 1)]
    rows.append(run())
    (line,) = tables.routing(tables.runs(pd.DataFrame(rows))).to_dict("records")
    assert line["evenness"] == pytest.approx(0.6)
    assert line["dead"] == pytest.approx(0.25)
    assert line["runs"] == 2


def test_with_each_matrix_by_its_inputs_the_wide_control_is_no_worse_than_the_narrow_one():
    table = tables.differences(tables.runs(records.table("moe")))
    table = table[table["budget"] == 1e11].set_index(["arm", "per_input"])
    wide, cut = table.loc[tables.WIDE], table.loc[tables.CUT]
    assert wide.loc[True, "difference"] < 0 < wide.loc[False, "difference"]
    # Nothing is idle in a layer cut in two: what it gained was the rate, and is gone with it.
    assert abs(cut.loc[True, "difference"]) < abs(cut.loc[False, "difference"])
    assert cut.loc[True, "low"] < 0 < cut.loc[True, "high"]


def test_arms_of_a_budget_share_width_tokens_and_batches_so_none_is_chosen_by_its_loss():
    rows = records.table("moe")
    shared = rows.groupby("budget")[["width", "tokens", "batch", "context", "lr"]].nunique()
    assert shared.eq(1).all(axis=None)
