"""What the chapter on attention variants reads off rows and shapes, on rows known by hand."""

import math

import pandas as pd
import pytest
from scipy import stats
from sizewise.chapters.tables import attention_variants as tables
from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import config, from_config, parameters


def run(family="dense", budget=1e9, width=16, seed=0, loss=3.0, what="arms", **columns):
    row = {
        "what": what,
        "family": family,
        "budget": budget,
        "width": width,
        "seed": seed,
        "context": 32,
        "distances": [4, 16],
        "tokens": 1000,
        "lr": 0.01,
        "params_non_embedding": 1000 * width,
        "val_loss": loss,
        "ended": "done",
        "random_right": [0.0, 0.002],
        "cache_bytes": 4000,
    }
    return row | columns


def table(*rows):
    return pd.DataFrame(list(rows))


def four(gaps):
    """Dense and hybrid runs in two settings with two seeds; ``gaps`` hybrid minus dense."""
    at = iter(gaps)
    return [
        row
        for width in (16, 32)
        for seed in (0, 1)
        for row in (
            run(width=width, seed=seed, loss=3 + seed),
            run("hybrid", width=width, seed=seed, loss=3 + seed + next(at)),
        )
    ]


GAPS = (0.1, 0.3, -0.2, -0.4)  # means 0.2 and -0.3; squares inside the settings 0.02 each


def test_differences_pair_runs_of_one_setting_and_seed_and_leave_out_the_rest():
    lonely = run("hybrid", seed=7, loss=99.0)
    pairs = tables.paired(table(*four(GAPS), lonely))
    assert pairs["difference"].tolist() == pytest.approx(GAPS)
    assert set(pairs["family"]) == {"hybrid"}


def test_intervals_pool_the_spread_of_all_settings():
    lines = tables.intervals(tables.paired(table(*four(GAPS))), tables.SETTING)
    # By hand: variance (0.02 + 0.02) / 2, two degrees of freedom, t is 4.3027.
    off = 4.3027 * math.sqrt(0.02 / 2)
    assert lines["difference"].tolist() == pytest.approx([0.2, -0.3])
    assert (lines["high"] - lines["difference"]).tolist() == pytest.approx([off, off], rel=1e-4)
    assert lines["seeds"].tolist() == [2, 2]


def test_pooled_over_one_group_it_is_students_interval():
    sample = [0.1, 0.3, -0.2, -0.4, 0.15]
    group = pd.DataFrame({"family": "hybrid", "difference": sample})
    (line,) = tables.intervals(group, ["family"]).to_dict("records")
    theirs = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert (line["low"], line["high"]) == pytest.approx((theirs.low, theirs.high))


def test_over_all_settings_each_weighs_alike():
    rows = four(GAPS)
    del rows[-2:]  # the second seed of the second setting, which then stands at -0.2
    (line,) = tables.overall(tables.paired(table(*rows))).to_dict("records")
    assert line["difference"] == pytest.approx((0.2 - 0.2) / 2)
    off = 12.7062 * math.sqrt(0.02) * math.sqrt(1 / 2 + 1) / 2
    assert line["high"] == pytest.approx(off, rel=1e-4)
    lonely = [row for row in four(GAPS) if row["seed"] == 0]
    (line,) = tables.overall(tables.paired(table(*lonely))).to_dict("records")
    assert math.isnan(line["low"])


def test_settings_with_every_family_are_compared_and_other_controls_are_not():
    every = [run(family) for family in tables.NAMES if family != tables.CONVOLUTION]
    rows = table(
        *every,
        run(tables.CONVOLUTION, what="controls"),
        run("dense:convolution=4,sublayers=1", what="controls"),
        run("hybrid", seed=1, ended="not finite", val_loss=float("nan")),
        run("windowed:every=1", what="windows"),
        run(width=32),
    )
    assert set(tables.arms(rows)["family"]) == set(tables.NAMES)
    assert set(tables.arms(rows)["width"]) == {16}
    assert tables.losses(tables.arms(rows))["family"].tolist() == list(tables.NAMES.values())


def test_windows_alone_are_held_against_seeing_all_with_and_without_a_convolution():
    rows = table(
        run("windowed:every=1", what="windows", loss=3.0),
        run("windowed:every=0", what="windows", loss=2.9),
        run("windowed:every=1,convolution=4", what="controls", loss=2.8),
        run("windowed:every=0,convolution=4", what="controls", loss=2.79),
    )
    lines = tables.windows(rows).set_index("convolution")["difference"]
    assert lines.to_dict() == pytest.approx({0: -0.1, 4: -0.01})


@pytest.mark.parametrize("name", tables.shapes())
def test_every_shape_comes_to_its_published_size(name):
    entry = next(entry for entry in records.facts("variants") if entry["name"] == name)
    assert parameters.count(tables.shapes()[name]).total == pytest.approx(
        entry["published"], rel=0.02
    )


def test_jambas_cache_is_the_published_one_and_states_do_not_grow():
    table = tables.growth({"jamba-v0.1": "Jamba", "mamba2-2.7b": "Mamba-2"}, [1, 2**18])
    size = table.set_index(["model", "context"])["bytes"]
    # Lieber et al. 2024, table 1
    assert size["Jamba", 2**18] / 2**30 == pytest.approx(4, rel=0.01)
    assert size["Mamba-2", 1] == size["Mamba-2", 2**18]
    model = from_config.from_config(config.build(tables.shapes()["bamba-9b"]))
    # three layers, eight heads of 128, a key and a value, two bytes
    assert memory.kv_bytes_per_token(model) == 3 * 8 * 128 * 2 * 2


def test_recorded_rows_hold_every_family_with_two_seeds():
    arms = tables.arms(records.table("attention_variants"))
    assert arms.groupby(tables.SETTING).ngroups >= 2
    assert arms.groupby([*tables.SETTING, "family"])["seed"].nunique().min() >= 2


def test_classes_are_ordered_differently_at_the_smaller_budget_which_the_table_shows():
    runs = tables.finished(records.table("attention_variants"))
    assert set(tables.losses(runs)["budget"]) == {3e11, 1e12}
    gap = tables.paired(runs).groupby(["family", "budget"])["difference"].mean().unstack()
    assert gap.loc["windowed", 3e11] < 0 < gap.loc["windowed", 1e12]
    for family in ("hybrid", "state-space"):
        assert gap.loc[family, 1e12] < gap.loc[family, 3e11] < 0


def test_what_is_left_of_windows_alone_beating_full_attention():
    lines = tables.intervals(tables.windows(records.table("attention_variants")), ["convolution"])
    gap = lines.set_index("convolution")["difference"]
    assert gap[0] == pytest.approx(-0.101, abs=0.001)
    assert abs(gap[4]) < abs(gap[0]) / 2
