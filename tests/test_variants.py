"""What the rows of windows, hybrids and state spaces say, on made-up rows known by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sizewise import paths
from sizewise.chapters.figures import attention_variants as figures
from sizewise.chapters.figures import style
from sizewise.chapters.tables import attention_variants as results
from sizewise.chapters.tables import variant_context as context
from sizewise.costs import memory
from sizewise.data import records
from sizewise.models import config, from_config, parameters

BYTES = {"dense": [4000, 40_000], "hybrid": [3000, 20_000], "state-space": [2000, 2000]}


def run(family="dense", budget=1e9, width=16, seed=0, loss=3.0, what="arms", **more):
    """A row with a context of 32 tokens in four parts and repetitions of 4 and 16 tokens."""
    held = BYTES.get(family.partition(":")[0], [2500, 20_000])
    row = {
        "what": what,
        "family": family,
        "budget": budget,
        "width": width,
        "seed": seed,
        "layers": 2,
        "context": 32,
        "bins": 4,
        "distances": [4, 16],
        "tokens": 1000,
        "params_non_embedding": 1000 * width,
        "val_loss": loss,
        "ended": "done",
        "nats_by_position": [loss + 0.3, loss + 0.1, loss - 0.1, loss - 0.3],
        "random_first": [9.0, 9.0],
        "random_second": [9.0, 9.0],
        "random_right": [0.0, 0.002],
        "text_first": [3.0, 3.0],
        "text_second": [2.9, 2.5],
        "text_right": [0.2, 0.2],
        "cache_bytes": held[0],
        "cache_at": [1024],
        "cache_bytes_at": held[1:],
    }
    return row | more


def table(*rows):
    return pd.DataFrame(list(rows))


def four(gaps):
    """Dense and hybrid runs at two places with two seeds; ``gaps`` hybrid less dense."""
    at = iter(gaps)
    return [
        one
        for width in (16, 32)
        for seed in (0, 1)
        for one in (
            run(width=width, seed=seed, loss=3 + seed),
            run("hybrid", width=width, seed=seed, loss=3 + seed + next(at)),
        )
    ]


GAPS = (0.1, 0.3, -0.2, -0.4)  # means 0.2 and -0.3; squares inside the places 0.02 each


# --- differences


def test_differences_pair_runs_of_one_place_and_seed_and_leave_out_the_rest():
    lonely = run("hybrid", seed=7, loss=99.0)
    found = results.paired(table(*four(GAPS), lonely), "val_loss")
    assert found["difference"].tolist() == pytest.approx(GAPS)
    assert set(found["family"]) == {"hybrid"}


def test_intervals_pool_the_spread_of_all_places():
    found = results.intervals(results.paired(table(*four(GAPS)), "val_loss"), results.PLACE)
    # By hand: variance (0.02 + 0.02) / 2, two degrees of freedom, t is 4.3027.
    off = 4.3027 * math.sqrt(0.02 / 2)
    assert found["difference"].tolist() == pytest.approx([0.2, -0.3])
    assert (found["high"] - found["difference"]).tolist() == pytest.approx([off, off], rel=1e-4)
    assert found["seeds"].tolist() == [2, 2]


def test_pooled_over_one_group_it_is_students_interval():
    sample = [0.1, 0.3, -0.2, -0.4, 0.15]
    one = pd.DataFrame({"family": "hybrid", "difference": sample})
    (found,) = results.intervals(one, ["family"]).to_dict("records")
    theirs = stats.ttest_1samp(sample, 0).confidence_interval(0.95)
    assert (found["low"], found["high"]) == pytest.approx((theirs.low, theirs.high))


def test_over_all_places_each_place_weighs_alike():
    rows = four(GAPS)
    del rows[-2:]  # the second seed of the second place, which then stands at -0.2
    (found,) = results.overall(results.paired(table(*rows), "val_loss")).to_dict("records")
    assert found["difference"] == pytest.approx((0.2 - 0.2) / 2)
    off = 12.7062 * math.sqrt(0.02) * math.sqrt(1 / 2 + 1) / 2
    assert found["high"] == pytest.approx(off, rel=1e-4)
    assert (found["places"], found["neither"]) == (2, 2)


def test_one_seed_a_place_has_no_interval_and_counts_as_not_told_apart():
    rows = [one for one in four(GAPS) if one["seed"] == 0]
    (found,) = results.overall(results.paired(table(*rows), "val_loss")).to_dict("records")
    assert math.isnan(found["low"])
    assert (found["below"], found["above"], found["neither"]) == (0, 0, 2)
    assert results.word(found["low"], found["high"]) == "not told apart"


def test_sure_places_are_counted_and_told():
    rows = four((0.50, 0.501, -0.40, -0.401))
    (found,) = results.overall(results.paired(table(*rows), "val_loss")).to_dict("records")
    assert (found["below"], found["above"], found["neither"]) == (1, 1, 0)
    assert results.places(found) == "lower at 1 of 2 places, higher at 1 and not told apart at 0"
    assert [results.word(*e) for e in ((-2, -1), (1, 2), (-1, 1))] == [
        "lower",
        "higher",
        "not told apart",
    ]


def test_runs_without_a_loss_and_other_experiments_are_left_out():
    rows = table(
        run(),
        run("hybrid", ended="not finite", val_loss=np.nan),
        run("windowed:every=1", what="windows"),
    )
    assert results.arms(rows)["family"].tolist() == ["dense"]


# --- loss against bytes


def test_the_frontier_keeps_what_no_other_beats_in_loss_and_bytes():
    rows = table(
        run(loss=3.0),
        run("hybrid", loss=2.9),
        run("state-space", loss=3.1),
        run(width=32, loss=2.8),
        run("windowed", loss=3.2),
    )
    found = results.models(rows)
    kept = {
        n: set(zip(*results.frontier(found, n)[["family", "width"]].to_numpy().T, strict=True))
        for n in (32, 1024)
    }
    assert kept[32] == {("dense", 32), ("hybrid", 16), ("state-space", 16)}
    assert kept[1024] == kept[32]


def test_models_of_other_budgets_are_no_rivals():
    found = results.models(table(run(), run("hybrid", loss=2.0, budget=1e10)))
    assert len(results.frontier(found, 32)) == 2


def sizes(family, *pairs):
    return [run(family, width=w, loss=loss, params_non_embedding=n) for w, n, loss in pairs]


def test_equal_size_is_read_between_dense_sizes_in_logarithms_and_not_beyond():
    found = results.equal_size(
        results.models(
            table(
                *sizes("dense", (16, 1000, 3.0), (32, 4000, 3.4)),
                *sizes("hybrid", (16, 2000, 2.9), (32, 4001, 1.0)),
                *sizes("state-space", (16, 999, 1.0)),
            )
        )
    )
    (one,) = found.to_dict("records")
    assert (one["family"], one["dense loss"]) == ("hybrid", pytest.approx(3.2))
    assert one["difference"] == pytest.approx(-0.3)
    assert len(results.equal_size(results.models(table(run())))) == 0


def test_smaller_counts_what_was_tried_below_the_best_dense_and_what_is_as_good():
    found = results.smaller(
        results.models(
            table(
                *sizes("dense", (16, 1000, 3.0), (32, 4000, 2.8)),
                *sizes("hybrid", (16, 2000, 2.8), (32, 3000, 2.9), (64, 5000, 1.0)),
                *sizes("state-space", (16, 4000, 1.0)),
            )
        )
    )
    told = found.set_index("family")[["tried", "as good"]].to_numpy().tolist()
    assert told == [[2, 1], [0, 0]]


# --- windows


@pytest.mark.parametrize(
    ("family", "words"),
    [
        ("windowed:every=1", "every layer sees all"),
        ("windowed", "windows of 8 in turn with all"),
        ("windowed:window=2", "windows of 2 in turn with all"),
        ("windowed:every=0", "windows of 8 alone"),
    ],
)
def test_how_far_layers_see_is_told(family, words):
    assert results.sight(family, 32)[0] == words


def test_windows_stand_beside_the_usual_ones_of_their_place_widest_first():
    rows = table(
        run("windowed:every=0", what="windows"),
        run("windowed:window=2", what="windows"),
        run("windowed:every=1", what="windows"),
        run("windowed"),
        run("windowed", width=32),
    )
    found = results.windows(rows)
    assert found["family"].tolist() == [
        "windowed:every=1",
        "windowed",
        "windowed:window=2",
        "windowed:every=0",
    ]
    assert len(results.windows(table(run()))) == 0


# --- the context


def test_far_is_what_the_second_half_saves_beyond_the_second_part():
    (found,) = context.far(table(run(loss=3.0)))["far"]
    assert found == pytest.approx(3.1 - (2.9 + 2.7) / 2)


def test_differences_by_position_are_of_the_same_part():
    rows = table(run(), run("hybrid", nats_by_position=[3.3, 3.2, 3.1, 3.0]))
    found = context.by_position(rows)
    assert found["upto"].tolist() == [8, 16, 24, 32]
    assert found["mean"].tolist() == pytest.approx([0.0, 0.1, 0.2, 0.3])


def test_a_repetition_is_held_against_what_a_later_place_gains_alone():
    found = context.repeated(table(run(loss=3.0)), "text").set_index("distance")
    assert found["gain"].to_dict() == pytest.approx({4: 0.1, 16: 0.5})
    assert math.isnan(found.loc[4, "position"])  # half a part
    assert found.loc[16, "position"] == pytest.approx(0.2 - -0.2)
    assert found.loc[16, "beyond"] == pytest.approx(0.1)


def test_a_floor_is_one_that_no_run_leaves():
    rows = table(run(), run("hybrid"))
    assert context.floor(context.repeated(rows, "random"))
    rows = table(run(), run("hybrid", random_right=[0.0, 0.5]))
    assert not context.floor(context.repeated(rows, "random"))


def test_only_windows_that_do_not_reach_back_are_a_control():
    def two(window):
        return table(
            run("windowed:every=1", what="windows", text_second=[2.9, 2.3]),
            run(f"windowed:window={window},every=0", what="windows", text_second=[2.9, 2.4]),
        )

    # Two layers of 8 reach 14 tokens back; what is 16 later needs 15, a token before it.
    (found,) = context.blind(two(8), 16)["difference"]
    assert found == pytest.approx(0.1)
    assert not len(context.blind(two(9), 16))
    assert not len(context.blind(table(run()), 16))


def test_a_window_that_is_called_blind_cannot_see_the_first_saying():
    import torch
    from sizewise.training import models

    torch.set_num_threads(1)
    length, window = 16, 8
    model = models.build(models.spec(f"windowed:window={window},every=0", 32, 64, 32), 0)
    torch.nn.init.normal_(model.lm_head.weight)
    first = torch.arange(1, length + 1)[None]
    twice = torch.cat([first, first], 1)
    last = length + 3  # the target is said at place 4, its first saying is in no reach of here
    with torch.no_grad():
        before = model(input_ids=twice).logits[0, last]
        other = twice.clone()
        other[0, 4] = 40
        after = model(input_ids=other).logits[0, last]
    assert torch.equal(before, after)


# --- what is published


def test_every_shape_comes_to_its_published_size():
    said = {one["name"]: one["published"] for one in records.facts("variants") if "config" in one}
    for name, spec in results.shapes().items():
        digits = 2 if said[name] != 9.78e9 else 3
        assert float(f"{parameters.count(spec).total:.{digits - 1}e}") == said[name], name


def test_kinds_are_those_of_the_layers():
    names = {
        "llama-3.1-8b": "full",
        "mistral-7b-v0.1": "window",
        "gemma-3-27b": "full and window",
        "deepseek-v3": "latent",
        "bamba-9b": "full and state",
        "mamba-2.8b": "state",
        "kimi-linear-48b-a3b": "latent and state",
    }
    found = results.growth(list(names), [1024]).set_index("model")["kind"].to_dict()
    assert found == names


def test_jambas_cache_is_the_published_one_and_states_do_not_grow():
    found = results.growth(["jamba-v0.1", "mamba2-2.7b"], [1, 2**18]).set_index(
        ["model", "context"]
    )
    held = found["bytes"] / 2**30
    assert held["jamba-v0.1", 2**18] == pytest.approx(4, rel=0.01)  # Lieber et al. 2024, table 1
    assert held["mamba2-2.7b", 1] == held["mamba2-2.7b", 2**18]
    spec = results.shapes()["bamba-9b"]
    model = from_config.from_config(config.build(spec))
    # three layers, eight heads of 128, a key and a value, two bytes
    assert memory.kv_bytes_per_token(model) == 3 * 8 * 128 * 2 * 2


# --- figures


def test_figures_draw_what_they_are_given():
    rows = table(
        *four(GAPS),
        run("windowed:every=1", what="windows"),
        run("windowed:window=2", what="windows", loss=3.1),
    )
    found = results.models(rows)
    each = results.intervals(
        results.paired(results.arms(rows), "val_loss"), ["family", *results.PLACE]
    )
    cost = pd.DataFrame(
        {
            "sees": ["a", "b"],
            "bytes": [10, 20],
            "difference": [0.1, 0.2],
            "low": [0.0, 0.1],
            "high": [0.2, 0.3],
        }
    )
    grown = results.growth(["llama-3.1-8b", "mamba-2.8b"], [256, 4096])
    for draw, *given in (
        (figures.growth, grown),
        (figures.bargain, found, (32, 1024)),
        (figures.differences, each.assign(place="p")),
        (figures.windows, cost),
        (figures.positions, context.by_position(rows)),
        (figures.repeats, context.repeated(results.arms(rows), "text")),
    ):
        drawn = style.show(draw, *given, alt="a", caption="b")
        assert "<svg" in drawn.svg
        assert "nan" not in drawn.svg.lower()


@pytest.mark.skipif(
    not (paths.root() / "data" / "attention_variants.jsonl").exists(), reason="not recorded yet"
)
def test_recorded_rows_hold_every_family_at_every_place():
    arms = results.arms(records.table("attention_variants"))
    places = arms.groupby(results.PLACE)["family"].agg(set)
    assert all(one == set(results.ORDER) for one in places)
    assert arms.groupby([*results.PLACE, "family"])["seed"].nunique().min() >= 2
