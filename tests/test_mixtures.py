"""What the rows of mixtures say, on made-up rows whose answers are known by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sizewise.chapters.figures import mixture_of_experts as figures
from sizewise.chapters.figures import style
from sizewise.chapters.tables import expert_routing as routes
from sizewise.chapters.tables import mixture_of_experts as results
from sizewise.chapters.tables import mixture_rates as rates
from sizewise.chapters.tables import mixture_variants as variants
from sizewise.data import records

HEAD = 5_000  # parameters of embedding and head in the made-up models
FREE = 100.0  # operations of a token for each parameter in use


def run(what="arms", experts=8, used=2, wide=1, balance=0.01, seed=0, loss=3.0, **more):
    """A row of a model whose dense MLPs are 1000 parameters and the rest 500."""
    held = 500 + 1000 * wide * experts / used
    active = 500 + 1000 * wide
    row = {
        "what": what,
        "budget": 1e9,
        "width": 16,
        "experts": experts,
        "used": used,
        "shared": 0,
        "wide": wide,
        "balance": balance if experts > 1 else 0.0,
        "capacity": 0.0,
        "seed": seed,
        "tokens": 10_000,
        "params": HEAD + held,
        "params_active": HEAD + active,
        "params_non_embedding": held,
        "operations": 10_000 * active * FREE,
        "val_loss": loss,
        "ended": "done",
    }
    even = [1 / experts] * experts
    routed = {
        "loads": [even, even],
        "evenness": [1.0, 0.5],
        "peak": [1.0, 3.0],
        "dead": [0.0, 0.5],
        "collapsed": False,
        "dropped_100": 0.2,
        "dropped_125": 0.1,
        "dropped_by_quarter": [0.0, 0.05, 0.1, 0.25],
        "by_token": [0.8, 0.6],
        "by_previous": [0.1, 0.1],
        "by_position": [0.0, 0.01],
        "by_source": [0.0, 0.2],
        "look_steps": [0, 20, 100],
        "look_evenness": [[1.0, 1.0], [0.9, 0.9], [0.8, 0.8]],
        "look_peak": [[1.0, 1.0], [2.0, 2.0], [3.0, 3.0]],
        "look_agreement": [[0.4, 0.4], [0.7, 0.9], [1.0, 1.0]],
        "look_chance": [[0.4, 0.4], [0.4, 0.4], [0.4, 0.4]],
    }
    told = routed if experts > 1 else dict.fromkeys(routed)
    row |= told | more
    row["id"] = repr(sorted((k, str(v)) for k, v in row.items()))
    return row


def table(*rows):
    return pd.DataFrame(list(rows))


def three(losses, seeds=(0, 1, 2)):
    """The arms with losses by seed: small dense, sparse, large dense."""
    small, sparse, large = losses
    return [
        one
        for seed in seeds
        for one in (
            run(experts=1, used=1, seed=seed, loss=small[seed]),
            run(seed=seed, loss=sparse[seed]),
            run(experts=1, used=1, wide=4, seed=seed, loss=large[seed]),
        )
    ]


LOSSES = ([3.0, 3.1, 3.2], [2.9, 3.05, 3.0], [2.8, 3.3, 3.1])


# --- intervals and differences


def test_the_interval_is_students():
    values = [-0.10, -0.05, -0.20]
    found = results.interval(values)
    theirs = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((theirs.low, theirs.high), rel=1e-9)
    # By hand: the mean is -7/60, the squares of the deviations add up to 7/600, and for two
    # degrees of freedom t is 4.3027.
    assert found.mean == pytest.approx(-7 / 60)
    assert found.high - found.mean == pytest.approx(4.3027 * math.sqrt(7 / 1200 / 3), rel=1e-4)


def test_one_seed_has_no_interval_and_none_is_refused():
    assert math.isnan(results.interval([1.0]).low)
    with pytest.raises(ValueError, match="one value at least"):
        results.interval([])


def test_a_difference_pairs_runs_by_seed_and_leaves_out_the_others():
    ours = table(run(seed=0, loss=1.0), run(seed=1, loss=2.0), run(seed=7, loss=99.0))
    theirs = table(run(seed=1, loss=2.5), run(seed=0, loss=1.1))
    found = results.difference(ours, theirs)
    assert (found.mean, found.n) == (pytest.approx(-0.3), 2)
    assert results.difference(ours, table(run(seed=5))).n == 0


@pytest.mark.parametrize(
    ("ends", "word"),
    [((-2, -1), "lower"), ((1, 2), "higher"), ((-1, 1), "not told from none")],
)
def test_a_difference_is_named_after_its_whole_interval(ends, word):
    assert results.Interval(sum(ends) / 2, *ends, 3).word == word


# --- sparse against dense


def test_arms_are_told_by_what_they_use_and_hold():
    found = results.arms(table(*three(LOSSES), run("experts", experts=16)))
    assert found["arm"].value_counts().to_dict() == dict.fromkeys(results.ARMS, 3)
    sparse = found[found["arm"] == results.SPARSE].iloc[0]
    large = found[found["arm"] == results.LARGE].iloc[0]
    assert sparse["total"] == large["total"] == 4500
    assert (sparse["active"], large["active"]) == (1500, 4500)


def test_each_kind_is_taken_at_its_own_best_width():
    wider = [run(seed=s, loss=2.0, width=32) for s in range(3)]
    widest = [run(seed=s, loss=2.5, width=48) for s in range(3)]
    best = results.best(results.arms(table(*three(LOSSES), *wider, *widest)))
    widths = best.groupby("arm")["width"].unique().map(list).to_dict()
    assert widths[results.SPARSE] == [32]
    assert widths[results.SMALL] == [16]
    assert not best.loc[best["arm"] == results.SPARSE, "edge"].any()
    assert best.loc[best["arm"] == results.SMALL, "edge"].all()


def test_runs_that_were_not_finished_are_left_out():
    broken = run(seed=0, loss=None, ended="not finite")
    assert len(results.finished(table(run(), broken))) == 1


def test_comparisons_are_of_the_sparse_model_less_the_dense_one():
    found = results.compared(results.arms(table(*three(LOSSES))), results.SMALL).iloc[0]
    assert found["difference"] == pytest.approx(-0.35 / 3)
    assert found["seeds"] == 3
    assert results.counted(table({"low": -2, "high": -1}, {"low": -1, "high": 1})) == (1, 0, 1)


@pytest.mark.parametrize(
    ("counts", "word"),
    [((3, 0, 0), "yes"), ((1, 1, 1), "in part"), ((0, 1, 2), "no"), ((0, 0, 3), "cannot be told")],
)
def test_the_bargain_is_yes_only_where_it_is_sure_everywhere(counts, word):
    assert results.bargain(*counts) == word


# --- the dense size as good


def dense_line(slope=-0.5, seeds=3, noise=0.0):
    """Dense runs whose loss is a line in the logarithm of size."""
    rng = np.random.default_rng(0)
    return [
        run(
            "tokens",
            experts=1,
            used=1,
            wide=wide,
            seed=seed,
            loss=10 + slope * math.log(500 + 1000 * wide) + noise * rng.normal(),
        )
        for wide in (1, 2, 3, 4)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("weight", [0.0, 0.25, 0.5, 1.0])
def test_the_effective_size_is_read_off_the_line_of_dense_losses(weight):
    size = 1500 ** (1 - weight) * 4500**weight
    loss = [10 - 0.5 * math.log(size)] * 3
    rows = table(*three((LOSSES[0], loss, LOSSES[2])), *dense_line())
    found = results.equivalents(rows).iloc[0]
    assert found["size"] == pytest.approx(size, rel=1e-6)
    assert found["weight"] == pytest.approx(weight, abs=1e-6)
    assert found["rule"] == pytest.approx(math.sqrt(1500 * 4500))
    assert found["low"] <= found["size"] * (1 + 1e-9)


@pytest.mark.parametrize(("size", "read"), [(1000, "beyond"), (2000, "between"), (9000, "beyond")])
def test_a_size_beyond_the_trained_ones_is_called_so(size, read):
    loss = [10 - 0.5 * math.log(size)] * 3
    rows = table(*three((LOSSES[0], loss, LOSSES[2])), *dense_line())
    assert results.equivalents(rows).iloc[0]["read"] == read


def test_noise_between_seeds_widens_the_interval_of_the_size():
    rows = [
        table(*three((LOSSES[0], [6.1] * 3, LOSSES[2])), *dense_line(noise=n)) for n in (0, 0.02)
    ]
    narrow, wide = (results.equivalents(one).iloc[0] for one in rows)
    assert narrow["high"] - narrow["low"] < 1e-6 * narrow["size"]
    assert wide["low"] < wide["size"] < wide["high"]


def test_dense_losses_that_do_not_fall_give_a_reason_and_no_size():
    found = results.equivalents(table(*three(LOSSES), *dense_line(slope=0.5))).iloc[0]
    assert "do not fall" in found["why"]
    assert "size" not in found


def test_only_runs_on_as_many_tokens_are_compared():
    rows = table(*three(LOSSES), *(one | {"tokens": 20_000} for one in dense_line()))
    assert len(results.equivalents(rows)) == 0
    assert len(results.same_tokens(rows)) == 0


def test_on_equal_tokens_the_larger_dense_model_takes_more_operations():
    found = results.same_tokens(table(*three(LOSSES), *dense_line())).set_index("against")
    assert found.loc[results.SMALL, "times"] == pytest.approx(1)
    assert found.loc[results.LARGE, "times"] == pytest.approx(3)


@pytest.mark.parametrize(
    ("weights", "word"),
    [
        ([0.1, 0.2], "nearer to what a token uses"),
        ([0.5], "between the two"),
        ([0.9, np.nan], "nearer to what is held"),
        ([np.nan], "could not be told"),
        ([], "could not be told"),
    ],
)
def test_the_guide_follows_the_weights(weights, word):
    assert results.guide(weights) == word


# --- mixtures in one place


def place():
    """All experiments in one place: each doubling of the experts wins 0.1 nats."""
    rows = three(([3.0] * 3, [2.8] * 3, [2.9] * 3))
    for seed in range(3):
        rows += [
            run("experts", experts=n, seed=seed, loss=3.1 - 0.1 * math.log2(n)) for n in (2, 4, 16)
        ]
        rows.append(run("balance", balance=0.0, seed=seed, loss=2.85 + 0.01 * seed, collapsed=True))
        rows.append(run("granularity", experts=16, used=4, seed=seed, loss=2.7))
        rows.append(run("shared", experts=15, used=3, seed=seed, loss=2.75) | {"shared": 1})
    return table(*rows)


def test_a_doubling_of_the_experts_is_a_slope_over_seeds():
    found = variants.by_doubling(place())
    assert found.mean == pytest.approx(-0.1)
    assert found.n == 3


def test_variants_stand_beside_the_dense_and_the_plain_sparse_model():
    found = variants.variants(place(), "experts", by="experts").set_index("experts")
    assert list(found.index) == [2, 4, 8, 16]
    assert found.loc[16, "to dense"] == pytest.approx(-0.3)
    assert found.loc[16, "to plain"] == pytest.approx(-0.1)
    assert math.isnan(found.loc[8, "to plain"])
    assert found.loc[8, "evenness"] == pytest.approx(0.75)
    assert not len(variants.variants(place(), "capacity", by="capacity"))


def test_collapsed_runs_are_counted():
    found = variants.variants(place(), "balance", by="experts").set_index("balance")
    assert found["collapsed"].to_dict() == {0.0: 3, 0.01: 0}
    assert variants.by_balance(place(), 8).mean == pytest.approx(0.06)
    assert variants.by_balance(place(), 16) is None


def test_what_choice_brings_is_told_from_what_cutting_brings():
    assert variants.by_cutting(place()).mean == pytest.approx(0.0)  # two of two experts: 3.0
    found = variants.by_choice(place()).set_index("experts")
    assert found["difference"].to_dict() == pytest.approx({4: -0.1, 8: -0.2, 16: -0.3})
    rows = place()
    rows = rows[rows["experts"] != 2]
    assert variants.by_cutting(rows).n == 0
    assert not len(variants.by_choice(rows))


def test_a_shared_expert_is_compared_with_as_many_routed_ones():
    assert variants.by_sharing(place()).mean == pytest.approx(0.05)
    rows = place()
    assert variants.by_sharing(rows[rows["what"] != "shared"]) is None


def test_without_an_experiment_in_one_place_there_is_no_place():
    with pytest.raises(ValueError, match="in one place"):
        variants.place(table(*three(LOSSES)))


# --- routes


def test_routes_are_those_of_models_that_choose():
    rows = table(run(), run(experts=2), run(experts=1, used=1), run(capacity=1.0), run("rates"))
    assert len(routes.routed(rows)) == 1


def test_loads_are_sorted_in_each_run_before_the_mean():
    one, other = [[0.5, 0.25, 0.25, 0.0]], [[0.0, 0.25, 0.25, 0.5]]
    rows = table(run(experts=4, loads=one), run(experts=4, loads=other))
    assert routes.loads(rows).tolist() == [[2.0, 1.0, 1.0, 0.0]]


def test_settled_is_what_is_final_beyond_chance():
    found = routes.looks(table(run())).set_index(["look", "layer"])["settled"]
    assert found[0, 1] == pytest.approx(0)
    assert found[1, 1] == pytest.approx((0.7 - 0.4) / 0.6)
    assert found[2, 2] == pytest.approx(1)
    assert routes.settled_at(run()) == pytest.approx((0.5 + 0.5 / 0.6) / 2)


def test_findings_say_in_how_many_runs_they_hold():
    late = run(seed=1, by_token=[0.3, 0.3], look_agreement=[[0.4, 0.4]] * 2 + [[1.0, 1.0]])
    found = routes.findings(table(run(), late)).set_index("finding")
    assert found["agrees"].to_dict() == {
        "token": "in part",
        "position": "yes",
        "source": "no",
        "early": "in part",
        "late": "yes",
    }
    assert found.loc["token", "mean"] == pytest.approx(0.5)
    assert (found.loc["early", "holds"], found.loc["early", "runs"]) == (1, 2)


def test_what_no_run_has_was_not_measured():
    found = routes.findings(table(run(by_source=None))).set_index("finding")
    assert found.loc["source", "agrees"] == "not measured"


# --- figures and facts


def test_every_figure_is_drawn():
    rows = place()
    arms = results.arms(rows)
    seen = routes.looks(routes.routed(rows)).assign(kind="one")
    numbers = variants.variants(rows, "experts", by="experts")
    drawn = [
        (figures.arms, arms),
        (figures.experts, numbers[["experts", "to dense", "dense low", "dense high"]]),
        (figures.loads, np.ones((2, 8)), ["layer 1", "layer 2"]),
        (figures.looks, seen, "agreement", "share", "chance"),
        (figures.explained, routes.explained(routes.routed(rows))),
        (figures.quarters, routes.quarters(routes.routed(rows)).assign(kind="one")),
        (figures.equivalents, results.readings(table(*three(LOSSES), *dense_line()))),
    ]
    for draw, *given in drawn:
        assert "<path" in style.show(draw, *given, alt=draw.__name__, caption="made up").svg


def test_events_of_the_project_are_in_order():
    facts = {one["name"]: one for one in records.facts("experts")}
    first, no, last = (
        facts[f"openmoe-{name}"]["published"]
        for name in ("first-release", "no-larger-model", "last-commit")
    )
    assert first < no < last < facts["openmoe-last-commit"]["seen"]


# --- other learning rates


def rated(factor, small, sparse, large, what="rates"):
    """The three arms at a factor of the rate, two seeds that differ by a tenth."""
    kinds = (
        ({"experts": 1, "used": 1}, small),
        ({}, sparse),
        ({"experts": 1, "used": 1, "wide": 4}, large),
    )
    return [
        run(what, seed=seed, lr=0.01 * factor, loss=loss + seed / 10, **mixture)
        for mixture, loss in kinds
        for seed in (0, 1)
    ]


def test_each_arm_is_taken_at_its_own_best_rate():
    rows = table(
        *rated(1, 3.0, 2.9, 3.2, "arms"), *rated(0.5, 3.1, 2.95, 3.0), *rated(2.0, 3.3, 2.8, 3.4)
    )
    found = rates.table(rows)
    assert list(found.columns) == [0.5, 1.0, 2.0, "best"]
    assert found["best"].tolist() == [1.0, 2.0, 0.5]
    assert found.loc[(1e9, results.LARGE), 0.5] == pytest.approx(3.05)
    best = rates.at_best(rows)
    assert len(best) == 6
    small, large = (results.compared(best, arm) for arm in (results.SMALL, results.LARGE))
    assert small["difference"].tolist() == pytest.approx([-0.2])
    assert large["difference"].tolist() == pytest.approx([-0.2])


def test_rates_of_other_places_and_missing_ones_are_left_out():
    elsewhere = [one | {"budget": 5e9} for one in rated(1, 3.0, 2.9, 3.2, "arms")]
    rows = table(*elsewhere, *rated(1, 3.0, 2.9, 3.2, "arms"), *rated(2.0, 3.3, 2.8, 3.4))
    assert set(rates.runs(rows)["budget"]) == {1e9}
    alone = table(*elsewhere)
    assert rates.table(alone).empty
    assert rates.at_best(alone).empty
