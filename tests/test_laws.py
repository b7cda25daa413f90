"""Scaling laws against published coefficients, published fits, scipy, and known generators."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from sizewise import paths, scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import Hoffmann, fitting, inference, isoflop, solver

sys.path.insert(0, str(paths.root() / "scripts"))
from common import public_tables

TRUE = Hoffmann(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
FIVE = ("hoffmann-3", "hoffmann-3-tex", "besiroglu", "refit", "muennighoff-c4")
REFIT = Hoffmann(E=1.81722, A=477.83, B=2143.4, alpha=0.34731, beta=0.36717)  # K1 as noted


def law(name):
    if name == "refit":
        return REFIT
    fitted = scaling_laws.published(name)
    return fitted.law if isinstance(fitted, scaling_laws.DataConstrained) else fitted


def synthetic(seed, sizes=9, noise=0.005):
    """Runs of a known law: sizes x token counts on a grid, losses off by ``noise``."""
    rng = np.random.default_rng(seed)
    params, tokens = np.meshgrid(np.geomspace(5e7, 1.6e10, sizes), np.geomspace(1e9, 1e12, sizes))
    params, tokens = params.ravel(), tokens.ravel()
    scatter = np.exp(rng.normal(0, noise, len(params)))
    return scaling_laws.Runs.from_arrays(params, tokens, TRUE.loss(params, tokens) * scatter)


@pytest.fixture(scope="session")
def points(published_tables):
    """The runs of Chinchilla's figure 4."""
    return public_tables.chinchilla(), public_tables.chinchilla(outliers=True)


@pytest.fixture(scope="session")
def refits(points):
    return [scaling_laws.fit(runs, bootstrap=1000) for runs in points]


# ------------------------------------------------------------------ published fits, made again


def test_the_refit_of_240_points_reaches_the_known_optimum(refits):
    fitted = refits[0]
    assert len(fitted.runs) == 240
    assert fitted.objective == pytest.approx(0.00101827402, abs=1e-11)
    result = [getattr(fitted.law, name) for name in ("A", "B", "E", "alpha", "beta", "exponent")]
    assert result == pytest.approx([477.83, 2143.4, 1.81722, 0.34731, 0.36717, 0.5139], rel=2e-4)
    assert fitted.agreeing == fitted.starts


def test_keeping_the_outliers_moves_beta_and_the_exponent(refits):
    fitted = refits[1]
    assert len(fitted.runs) == 245
    result = (fitted.law.beta, fitted.law.B, fitted.law.exponent)
    assert result == pytest.approx((0.453, 12846, 0.565), rel=1e-3)


@pytest.mark.parametrize(
    ("name", "published"),
    [("hoffmann-3", 0.004121), ("hoffmann-3-tex", 0.001231), ("besiroglu", 0.00102284)],
)
def test_objective_of_published_coefficients(points, name, published):
    runs, _ = points
    table = solver.Table.from_runs(runs.params, runs.tokens, runs.loss)
    (value,) = solver.solve(law(name).theta[None], np.ones((1, 240)), table, most=0).objective
    assert value == pytest.approx(published, abs=6e-7)


def test_bootstrap_errors_and_intervals_are_those_of_the_notebook(refits):
    published = scaling_laws.entries()["epoch-notebook"]["coefficients"]
    resampled = refits[0].resampled
    errors = {n: np.std(getattr(resampled, n)) for n in (*scaling_laws.NAMES, "exponent")}
    for name in ("A", "E", "alpha", "beta", "exponent"):
        assert errors[name] == pytest.approx(published[name], rel=0.12), name
    assert errors["B"] == pytest.approx(published["B"], rel=0.25)  # B has a long tail
    ends = {"A": (285, 744), "E": (1.769, 1.871), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
    for name, pair in ends.items():
        assert refits[0].ci()[name] == pytest.approx(pair, rel=0.05), name


@pytest.mark.parametrize(
    ("name", "tokens_each"), [("hoffmann-3", 92.6), ("hoffmann-3-tex", 58.9), ("besiroglu", 18.3)]
)
def test_rounding_moves_the_tokens_for_each_parameter(name, tokens_each):
    params, tokens = law(name).optimum(5.76e23)
    assert tokens / params == pytest.approx(tokens_each, abs=0.1)


def test_ten_times_a_trillion_parameters_buys_little():
    gains = [law(name).gain(1e12, 1e13) for name in FIVE]
    assert min(gains) == pytest.approx(0.0170, abs=5e-5)
    assert max(gains) == pytest.approx(0.0187, abs=6e-5)
    perplexities = np.exp(-np.array(gains))
    assert (perplexities.min(), perplexities.max()) == pytest.approx((0.981, 0.983), abs=6e-4)
    early = REFIT.gain(1e9, 1e10)
    assert early == pytest.approx(0.197, abs=5e-4)
    assert early / REFIT.gain(1e12, 1e13) == pytest.approx(10 ** (3 * REFIT.alpha))
    assert REFIT.size_term(1e12) == pytest.approx(0.032, abs=6e-4)


def test_the_budget_of_ten_trillion_parameters_spreads_22_fold():
    budgets = {name: law(name).budget(1e13) for name in ("besiroglu", "hoffmann-3")}
    assert budgets["besiroglu"] == pytest.approx((8.66e27, 144e12), rel=3e-3)
    assert budgets["hoffmann-3"] == pytest.approx((1.9e29, 3169e12), rel=2e-3)
    assert budgets["hoffmann-3"][0] / budgets["besiroglu"][0] == pytest.approx(22, abs=0.3)


@pytest.mark.parametrize(("approach", "exponent"), [(1, 0.50), (2, 0.49)])
def test_printed_budgets_follow_the_printed_exponents(approach, exponent):
    table = records.facts_csv("chinchilla_budgets")
    rows = table[table["approach"] == approach]
    fitted = scaling_laws.power_law(rows["operations"], rows["parameters"])
    assert fitted.exponent == pytest.approx(exponent, abs=0.01)
    assert fitted.budget(1e13)[0] == pytest.approx(rows["operations"].iloc[-1], rel=0.1)


def test_every_published_law_names_a_source_and_how_it_was_checked():
    sources = (paths.root() / "book" / "references.bib").read_text()
    for entry in scaling_laws.entries().values():
        assert f"{{{entry['source']}," in sources
        assert entry["checked"] in ("read", "secondary", "reported")
        if entry["form"] not in ("allocation", "standard-errors"):
            # Between 1 and 10 nats a token, or it was typed wrong.
            assert 1 < scaling_laws.published(entry["name"]).loss(1e6, 2e10) < 10, entry["name"]


# ------------------------------------------------------------------ the forms


def test_the_optimum_is_the_least_loss_on_its_budget():
    params, tokens = TRUE.optimum(1e22)
    assert 6 * params * tokens == pytest.approx(1e22)
    trials = params * np.geomspace(0.1, 10, 2001)
    assert trials[TRUE.loss(trials, 1e22 / 6 / trials).argmin()] == pytest.approx(params, rel=2e-3)


@given(
    st.floats(17, 30), st.floats(0.1, 1), st.floats(0.1, 1), st.floats(1, 1e5), st.floats(1, 1e5)
)
def test_budget_undoes_optimum(budget, alpha, beta, a, b):
    fitted = Hoffmann(1.7, a, b, alpha, beta)
    params, tokens = fitted.optimum(10**budget)
    assert fitted.budget(params) == pytest.approx((10**budget, tokens), rel=1e-6)


def test_kaplan_surface_without_a_data_limit_is_kaplan_by_size():
    surface = scaling_laws.published("kaplan-surface")
    alone = scaling_laws.Kaplan(surface.Nc, surface.aN)
    assert surface.loss(1e9, 1e30) == pytest.approx(alone.loss(1e9), rel=1e-9)


def test_repeated_tokens_are_worth_less_and_fresh_ones_the_same():
    fitted = scaling_laws.published("muennighoff-c4")
    # One epoch, no more parameters than the tokens deserve: the law itself.
    assert fitted.deserved(20e9) > 1e8
    assert fitted.loss(1e8, 20e9) == pytest.approx(fitted.law.loss(1e8, 20e9))
    losses = [fitted.loss(4e7, epochs * 1e9, unique=1e9) for epochs in (1, 4, 16, 64, 1000)]
    assert losses == sorted(losses, reverse=True)
    assert losses[1] > fitted.loss(4e7, 4e9)
    # The paper's finding: up to four epochs are nearly as good as fresh data.
    lost, won = losses[1] - fitted.loss(4e7, 4e9), losses[0] - losses[1]
    assert lost < 0.2 * won
    assert losses[3] - losses[4] < 0.01  # and many more add nothing


def test_muennighoffs_deserved_size_is_the_optimum_of_its_law():
    fitted = scaling_laws.published("muennighoff-c4")
    budget, tokens = fitted.law.budget(3e9)
    assert fitted.deserved(tokens) == pytest.approx(3e9)
    assert fitted.law.optimum(budget)[0] == pytest.approx(3e9)


# ------------------------------------------------------------------ the solver and the fit


def scipys(theta, weights, runs):
    """One scipy BFGS on an objective written apart from the solver's."""
    x, y, z = np.log(runs.params), np.log(runs.tokens), np.log(runs.loss)

    def objective(t):
        far = np.logaddexp(np.logaddexp(t[0] - t[3] * x, t[1] - t[4] * y), t[2]) - z
        size = np.abs(far)
        huber = np.where(size < 1e-3, far**2 / 2, 1e-3 * (size - 5e-4))
        return 1e3 * (weights @ huber)  # scaled, or BFGS takes its first point for the last

    result = minimize(objective, theta, method="BFGS", options={"gtol": 1e-8})
    return result.fun / 1e3


def test_the_batched_optimum_is_that_of_scipy():
    runs = synthetic(0)
    weights = np.concatenate([np.ones((1, len(runs))), fitting.resamples(runs, 24, 3)])
    starts = fitting.best_starts(runs, weights, 1)[:, 0]
    table = solver.Table.from_runs(runs.params, runs.tokens, runs.loss)
    result = solver.solve(starts, weights, table)
    assert result.converged.all()
    theirs = np.array([scipys(*pair, runs) for pair in zip(starts, weights, strict=True)])
    assert (result.objective <= theirs + 1e-12).all()  # never worse
    assert np.abs(result.objective - theirs).max() < 1e-9


def test_the_derivatives_are_those_of_the_objective():
    runs = synthetic(1)
    table, weights = (
        solver.Table.from_runs(runs.params, runs.tokens, runs.loss),
        np.ones((1, len(runs))),
    )
    theta = TRUE.theta[None] * 1.01
    _, gradient, hessian, _ = solver._derivatives(theta, weights, table)
    for k, step in enumerate(1e-6 * np.eye(5)):
        ahead, behind = (solver._derivatives(theta + s, weights, table) for s in (step, -step))
        assert (ahead[0] - behind[0]) / 2e-6 == pytest.approx(gradient[:, k], rel=1e-5)
        assert (ahead[1] - behind[1])[0] / 2e-6 == pytest.approx(hessian[0, k], rel=1e-4, abs=1e-6)


def test_a_table_without_noise_gives_its_law_back():
    fitted = scaling_laws.fit(synthetic(0, noise=0))
    for name in scaling_laws.NAMES:
        assert getattr(fitted.law, name) == pytest.approx(getattr(TRUE, name), rel=1e-6)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.floats(1e-2, 1e2), st.floats(1e-2, 1e2))
def test_units_of_size_and_tokens_change_nothing_but_a_and_b(seed, size, data):
    runs = synthetic(seed, sizes=6)
    fitted = scaling_laws.fit(runs)
    other = scaling_laws.fit(
        scaling_laws.Runs.from_arrays(runs.params * size, runs.tokens * data, runs.loss)
    )
    assert other.objective == pytest.approx(fitted.objective, abs=1e-9)
    assert other.law.alpha == pytest.approx(fitted.law.alpha, rel=1e-4)
    scaled = fitted.law.A * size**fitted.law.alpha
    assert abs(other.law.A / scaled - 1) < 1e-2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6))
def test_the_order_of_the_rows_changes_nothing(seed):
    runs = synthetic(seed, sizes=6)
    mixed = runs.subset(np.random.default_rng(seed).permutation(len(runs)))
    assert scaling_laws.fit(mixed).objective == pytest.approx(
        scaling_laws.fit(runs).objective, abs=1e-12
    )


def test_95_percent_intervals_cover_the_truth_in_90_to_99_percent_of_200_trials():
    trials = 200
    covered = dict.fromkeys(scaling_laws.NAMES, 0), dict.fromkeys(scaling_laws.NAMES, 0)
    for seed in range(trials):
        fitted = scaling_laws.fit(synthetic(seed, sizes=8), bootstrap=120, seed=seed)
        for count, intervals in zip(
            covered, (fitted.ci(), scaling_laws.profile(fitted)), strict=True
        ):
            for name, (low, high) in intervals.items():
                count[name] += low <= getattr(TRUE, name) <= high
    for count in covered:
        assert all(0.90 <= n / trials <= 0.99 for n in count.values()), covered


def test_allocation_and_prediction_carry_intervals_that_hold_the_truth():
    fitted = scaling_laws.fit(synthetic(5), bootstrap=400)
    best = fitted.allocate(1e23)
    params, tokens = TRUE.optimum(1e23)
    assert best.ci["params"][0] < params < best.ci["params"][1]
    assert best.ci["tokens"][0] < tokens < best.ci["tokens"][1]
    assert best.reach["flops"] == pytest.approx(1e23 / fitted.runs.flops.max())
    far = fitted.predict(1e11, 1e13)
    assert far["low"] < TRUE.loss(1e11, 1e13) < far["high"]
    assert far["run_low"] < far["low"] < far["loss"] < far["high"] < far["run_high"]
    near = fitted.predict(1e9, 3e10)
    assert near["high"] - near["low"] < far["high"] - far["low"]


def test_the_same_seed_gives_the_same_samples():
    first, again, other = (
        scaling_laws.fit(synthetic(2), bootstrap=50, seed=s).samples for s in (7, 7, 8)
    )
    assert np.array_equal(first, again)
    assert not np.allclose(first, other)


def test_held_out_runs_are_missed_by_about_their_noise():
    runs = synthetic(3, noise=0.01)
    masks = scaling_laws.folds(runs)
    assert masks.sum(0).tolist() == [1] * len(runs)
    errors = scaling_laws.held_out(runs, masks)
    assert len(errors.errors) == len(runs)
    assert errors.median == pytest.approx(0.6745 * 0.01, rel=0.35)
    assert abs(errors.bias) < 0.005


def test_runs_that_hit_a_wall_show_as_bias():
    runs = synthetic(4, noise=0.002)
    mask = scaling_laws.largest(runs)
    walled = scaling_laws.Runs(
        runs.params, runs.tokens, np.where(mask[0], runs.loss * 1.05, runs.loss)
    )
    assert scaling_laws.held_out(runs, mask).bias == pytest.approx(0, abs=0.004)
    assert scaling_laws.held_out(walled, mask).bias == pytest.approx(0.05, abs=0.005)


# ------------------------------------------------------------------ approaches 1 and 2


def test_parabolas_find_the_optima_of_a_known_law():
    budgets = np.repeat([1e19, 1e20, 1e21, 1e22], 9)
    best = TRUE.optimum(budgets)[0]
    params = best * np.tile(np.geomspace(0.5, 2, 9), 4)
    tokens = budgets / 6 / params
    table = scaling_laws.parabolas(
        scaling_laws.Runs.from_arrays(params, tokens, TRUE.loss(params, tokens)), budgets
    )
    assert table["flops"].tolist() == pytest.approx([1e19, 1e20, 1e21, 1e22])
    assert table["params"].tolist() == pytest.approx(best[::9].tolist(), rel=0.01)
    assert table["inside"].all()
    result = scaling_laws.power_law(table["flops"], table["params"])
    assert result.exponent == pytest.approx(TRUE.exponent, abs=2e-3)
    assert result.optimum(1e21)[0] == pytest.approx(TRUE.optimum(1e21)[0], rel=0.01)


def test_a_budget_with_three_sizes_has_no_parabola():
    params = np.array([1e8, 2e8, 4e8])
    tokens = 1e20 / 6 / params
    assert scaling_laws.parabolas(
        scaling_laws.Runs(params, tokens, TRUE.loss(params, tokens)), [1e20] * 3
    ).empty


# ------------------------------------------------------------------ budgets and counted FLOPs


def isoflop_table():
    """Seven sizes around the optimum of the known law at each of four budgets."""
    budgets = np.repeat([1e18, 1e19, 1e20, 1e21], 7)
    best = np.array([TRUE.optimum(budget)[0] for budget in budgets])
    params = best * np.tile(np.geomspace(0.5, 2, 7), 4)
    tokens = budgets / (6 * params)
    return scaling_laws.Runs.from_arrays(params, tokens, TRUE.loss(params, tokens)), budgets


def test_without_noise_every_exponent_is_that_of_the_runs():
    runs, budgets = isoflop_table()
    optima = scaling_laws.parabolas(runs, budgets)
    plain = scaling_laws.power_law(optima["flops"], optima["params"]).exponent
    again = scaling_laws.exponents(runs, budgets, 0.0, samples=5)
    assert again == pytest.approx([plain] * 5, rel=1e-12)
    assert plain == pytest.approx(TRUE.beta / (TRUE.alpha + TRUE.beta), abs=0.01)


def test_more_noise_between_seeds_spreads_the_exponent():
    runs, budgets = isoflop_table()
    little, much = (scaling_laws.exponents(runs, budgets, n, samples=60) for n in (1e-4, 1e-3))
    assert np.nanstd(much) > 3 * np.nanstd(little) > 0
    assert np.array_equal(little, scaling_laws.exponents(runs, budgets, 1e-4, samples=60))


def our_ladder():
    """The runs that the predictions on record were made from: later ones change no number here."""
    rows = isoflop.on_record()
    return isoflop.ladder_runs(rows), rows["budget"].to_numpy()


def test_tokens_of_an_optimum_are_those_that_its_budget_pays_for():
    # C / 6 N, N without embedding and head, says 198, 74, 71, 58, 40 and 40.
    runs, budgets = our_ladder()
    optima = scaling_laws.parabolas(runs, budgets)
    each = (optima["tokens"] / optima["params"]).round().astype(int).tolist()
    assert each == [47, 25, 29, 29, 24, 27]
    assert optima["inside"].all()


def test_surface_and_parabolas_agree_once_the_surface_counts_the_flops_spent():
    runs, budgets = our_ladder()
    optima = scaling_laws.parabolas(runs, budgets)
    assert scaling_laws.power_law(optima["flops"], optima["params"]).exponent == pytest.approx(
        0.63, abs=0.005
    )
    law = scaling_laws.fit(runs).law
    assert law.exponent == pytest.approx(0.52, abs=0.005)  # as if a token cost 6 N
    assert scaling_laws.surface_exponent(law, runs) == pytest.approx(0.60, abs=0.005)


def test_the_best_size_by_counted_flops_is_the_least_loss_on_the_budget():
    params = np.geomspace(1e6, 1e9, 12)
    sizes, tokens = np.repeat(params, 6), np.tile(np.geomspace(1e8, 1e11, 6), 12)
    head = 3e7  # a head that every size has: 6 (N + head) FLOPs a token
    flops = 6 * (sizes + head) * tokens
    runs = scaling_laws.Runs.from_arrays(sizes, tokens, TRUE.loss(sizes, tokens), flops=flops)
    best = scaling_laws.fit(runs).allocate(1e19)
    trials = np.geomspace(1e6, 1e9, 20001)
    exact = TRUE.loss(trials, 1e19 / (6 * (trials + head)))
    assert best.params == pytest.approx(trials[exact.argmin()], rel=0.06)  # read off 12 sizes
    assert best.params > TRUE.optimum(1e19)[0]
    assert best.tokens == pytest.approx(1e19 / (6 * (best.params + head)), rel=0.02)
    assert runs.token_flops(1e9) * best.tokens > 1e19  # no size costs 6 N of the largest


def test_points_of_one_run_are_weighted_together():
    runs = scaling_laws.Runs.from_arrays(
        *(np.tile(v, 3) for v in (synthetic(0).params, synthetic(0).tokens, synthetic(0).loss)),
        cluster=np.tile([f"run {k}" for k in range(81)], 3),
    )
    weights = fitting.resamples(runs, 5, 0)
    assert np.array_equal(weights[:, :81], weights[:, 81:162])
    assert weights.sum(1) == pytest.approx([243] * 5)
    clustered, alone = (
        scaling_laws.fit(runs, bootstrap=200),
        scaling_laws.fit(synthetic(0), bootstrap=200),
    )
    for name in ("alpha", "beta"):  # three copies of each point tell nothing new
        low, high = clustered.ci()[name]
        assert high - low == pytest.approx(np.diff(alone.ci()[name])[0], rel=0.15)
    assert scaling_laws.folds(runs)[:, :81].tolist() == scaling_laws.folds(runs)[:, 81:162].tolist()


# ------------------------------------------------------------------ models that are served

SARDANA = Hoffmann(E=1.69, A=406.4, B=410.7, alpha=0.336, beta=0.283)  # their section 3


def test_the_worked_example_of_sardana_comes_out():
    # 13B quality, two trillion tokens served: 7B instead saves 1.7e22 FLOPs, 17 %.
    size, served = 13e9, 2e12
    budget, tokens = SARDANA.budget(size)
    params, more = scaling_laws.cheapest(SARDANA, budget, served)
    assert params == pytest.approx(7e9, rel=0.01)
    assert SARDANA.loss(params, more) == pytest.approx(SARDANA.loss(size, tokens))
    plain = scaling_laws.lifetime_flops(size, tokens, served)
    saved = plain - scaling_laws.lifetime_flops(params, more, served)
    assert saved == pytest.approx(1.7e22, rel=0.01)
    assert saved / plain == pytest.approx(0.17, abs=0.005)


@given(st.floats(18, 26), st.floats(8, 16), st.floats(1, 100))
def test_the_cheapest_model_is_cheaper_than_its_neighbours(budget, served, weight):
    budget, served = 10**budget, 10**served
    params, tokens = scaling_laws.cheapest(TRUE, budget, served, weight)
    loss = TRUE.loss(*TRUE.optimum(budget))
    assert TRUE.loss(params, tokens) == pytest.approx(loss)
    least = scaling_laws.lifetime_flops(params, tokens, weight * served)
    for size in params * np.array([0.97, 1.03]):
        gap = loss - TRUE.E - TRUE.size_term(size)
        if gap > 0:  # else no number of tokens brings so small a model to this loss
            other = (TRUE.B / gap) ** (1 / TRUE.beta)
            assert scaling_laws.lifetime_flops(size, other, weight * served) >= least


def test_nothing_served_is_the_plain_optimum_and_more_makes_it_smaller():
    plain = TRUE.optimum(1e22)
    assert scaling_laws.cheapest(TRUE, 1e22, 1.0) == pytest.approx(plain, rel=1e-6)
    sizes = [scaling_laws.cheapest(TRUE, 1e22, 10.0**k)[0] for k in range(9, 16)]
    assert sizes == sorted(sizes, reverse=True)


@given(st.floats(0.05, 1.2), st.floats(0.05, 1.2), st.floats(-12, 12))
def test_six_steps_of_newton_are_within_rounding(alpha, beta, target):
    law, target = Hoffmann(1.8, 480.0, 2100.0, alpha, beta), 10**target
    odds = inference.first_odds(law, target)
    for _ in range(inference.STEPS):
        odds = inference.next_odds(law, target, odds)
    assert odds * (odds / (1 + odds)) ** (1 / beta) == pytest.approx(target, rel=1e-9)


def test_arrays_of_laws_give_arrays_and_a_law_without_an_optimum_nan():
    laws = Hoffmann(*(np.array([getattr(TRUE, n)] * 2) for n in scaling_laws.NAMES))
    bent = Hoffmann(laws.E, laws.A, laws.B, np.array([0.35, -0.1]), laws.beta)
    params, _ = scaling_laws.cheapest(bent, 1e22, 1e12)
    assert params[0] == pytest.approx(scaling_laws.cheapest(TRUE, 1e22, 1e12)[0])
    assert np.isnan(params[1])


def test_serving_waits_for_memory_below_the_ridge_and_costs_as_training_above():
    h100 = {"bandwidth": 3.35e12, "peak": 989.4e12, "utilization": 0.4}
    # By hand: 2 bytes / 3.35e12 a weight and step, against 2 FLOPs / (0.4 x 989.4e12).
    assert inference.serving_weight(batch=1, **h100) == pytest.approx(118.1, abs=0.1)
    assert inference.serving_weight(batch=64, **h100) == pytest.approx(118.1 / 64, abs=0.01)
    assert inference.serving_weight(batch=1024, **h100) == 1
