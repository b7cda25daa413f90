"""Laws of sparse models against values worked by hand, and sizes read off made-up dense runs."""

import importlib
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise import scaling_laws
from sizewise.scaling_laws import sparse

# The package has a function of that name.
published = importlib.import_module("sizewise.scaling_laws.published")

CLARK = ("clark-s-base", "clark-rl-r", "clark-hash")
# Recalled from the paper's Table 3 like the coefficients, but as numbers of their own.
CUTOFFS = {"clark-s-base": 937e9, "clark-rl-r": 85e9, "clark-hash": 83e9}


def test_the_routed_law_gives_what_its_equation_gives_by_hand():
    law = sparse.RoutedLM(a=-0.1, b=-0.2, c=0.02, d=1.0, start=2.0, end=100.0)
    # 1 / (1/2 - 1/100) = 100/49; with 50 experts 49 + 100/49, and 1 / (1/that + 1/100)
    bent = 49 + 100 / 49
    saturated = 1 / (1 / bent + 1 / 100)
    assert law.saturated(50) == pytest.approx(33.7927, abs=1e-3)
    assert law.saturated(50) == pytest.approx(saturated, rel=1e-12)
    exponent = -0.1 * 8 - 0.2 * math.log10(saturated) + 0.02 * 8 * math.log10(saturated) + 1.0
    assert law.loss(1e8, experts=50) == pytest.approx(10**exponent, rel=1e-12)
    assert law.cutoff == pytest.approx(1e10)


@pytest.mark.parametrize("name", CLARK)
def test_the_number_of_experts_is_bent_at_both_ends(name):
    law = scaling_laws.published(name)
    assert law.saturated(1) == pytest.approx(law.start)
    assert law.saturated(1e9) == pytest.approx(law.end, rel=1e-4)
    assert (np.diff(law.saturated(np.arange(1, 600))) > 0).all()


@pytest.mark.parametrize("name", CLARK)
@pytest.mark.parametrize("experts", [2, 16, 512])
def test_the_effective_size_is_the_dense_size_of_equal_loss(name, experts):
    law = scaling_laws.published(name)
    size = law.effective(1e8, experts)
    assert law.loss(size, experts=1) == pytest.approx(law.loss(1e8, experts=experts), rel=1e-12)
    assert law.effective(1e8, 1) == pytest.approx(1e8)
    assert 1e8 < size < 1e8 * experts


@pytest.mark.parametrize("name", CLARK)
def test_experts_stop_helping_at_the_cutoff(name):
    law = scaling_laws.published(name)
    for size, better in ((law.cutoff / 10, True), (law.cutoff * 10, False)):
        assert (law.loss(size, experts=64) < law.loss(size, experts=1)) == better
    assert law.loss(law.cutoff, experts=64) == pytest.approx(law.loss(law.cutoff), rel=1e-9)


@pytest.mark.parametrize("name", CLARK)
def test_the_recalled_coefficients_leave_the_recalled_cutoff_open(name):
    given, off = (
        scaling_laws.entries()[name]["coefficients"],
        scaling_laws.entries()[name]["rounding"],
    )
    ends = [
        10 ** (-(given["b"] + x * off["b"]) / (given["c"] + y * off["c"]))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    assert min(ends) < CUTOFFS[name] < max(ends)


def test_the_fine_grained_law_gives_what_its_equation_gives_by_hand():
    law = sparse.FineGrained(a=10, b=20, c=0.5, g=4, alpha=0.5, beta=0.25, gamma=1)
    # 0.5 + (4/8 + 10) / 100 + 20 / 10
    assert law.loss(1e4, 1e4, 8) == pytest.approx(0.5 + 0.105 + 2.0)
    assert law.loss(1e4, 1e4) == pytest.approx(0.5 + 0.14 + 2.0)


def test_finer_grains_help_ever_less():
    law = scaling_laws.published("krajewski-sparse")
    gains = -np.diff(law.loss(1e9, 1e10, 2.0 ** np.arange(6)))
    assert (gains > 0).all()
    assert (np.diff(gains) < 0).all()


def test_the_fine_grained_equivalent_is_the_dense_size_of_equal_loss():
    law, dense = (
        scaling_laws.published("krajewski-sparse"),
        scaling_laws.published("krajewski-dense"),
    )
    size = law.effective(1e9, 1e10, 4, dense=dense)
    assert dense.loss(size, 1e10) == pytest.approx(law.loss(1e9, 1e10, 4), rel=1e-9)


def test_a_loss_that_no_dense_model_reaches_has_no_finite_equivalent():
    law = sparse.FineGrained(a=1, b=0, c=0.1, g=0, alpha=0.5, beta=0.5, gamma=1)
    dense = scaling_laws.Hoffmann(E=1.0, A=10, B=0, alpha=0.5, beta=0.5)
    assert law.effective(1e8, 1e8, dense=dense) == math.inf


@pytest.mark.parametrize(("name", "arguments"), [*((name, (1e9, 64)) for name in CLARK)])
def test_rounded_digits_leave_an_interval_around_the_estimate(name, arguments):
    result = scaling_laws.effective(name, *arguments)
    assert result.low < result.value < result.high
    assert result.value == pytest.approx(float(scaling_laws.published(name).effective(*arguments)))


def test_without_rounding_or_interval_an_estimate_has_no_ends(monkeypatch):
    entry = {k: v for k, v in scaling_laws.entries()["clark-hash"].items() if k != "rounding"}
    monkeypatch.setattr(published, "entries", lambda: {"clark-hash": entry})
    result = scaling_laws.effective("clark-hash", 1e9, 8)
    assert math.isnan(result.low)
    assert math.isnan(result.high)
    entry["interval"] = {"b": [-0.14, -0.13]}
    result = scaling_laws.effective("clark-hash", 1e9, 8)
    plain = {k: float(v) for k, v in entry["coefficients"].items()}
    ends = [sparse.RoutedLM(**plain | {"b": b}).effective(1e9, 8) for b in (-0.13, -0.14)]
    assert (result.low, result.high) == pytest.approx(tuple(ends))


def test_a_law_of_dense_models_is_refused():
    with pytest.raises(ValueError, match="besiroglu is no law of sparse models"):
        scaling_laws.effective("besiroglu", 1e9, 8)
    with pytest.raises(ValueError, match="clark-s-base"):
        scaling_laws.effective("clark-s-bass", 1e9, 8)


# --- the geometric mean


@given(st.floats(1e6, 1e9), st.floats(1.1, 1e3))
def test_the_rule_of_thumb_is_a_weight_of_one_half(active, times):
    total = active * times
    middle = sparse.geometric_mean(active, total)
    assert middle**2 == pytest.approx(active * total)
    assert sparse.weight(active, total, middle) == pytest.approx(sparse.GEOMETRIC)
    assert sparse.weight(active, total, [active, total]) == pytest.approx([0, 1], abs=1e-9)


def runs(noise=0.0, seeds=4, seed=0):
    """Dense runs of a known law, 5 - 0.2 ln N, and the sparse ones of a model worth 3e6."""
    rng = np.random.default_rng(seed)
    sizes = np.repeat([1e6, 2e6, 4e6], seeds)
    dense = 5 - 0.2 * np.log(sizes) + noise * rng.normal(size=len(sizes))
    return sizes, dense, 5 - 0.2 * np.log(3e6) + noise * rng.normal(size=seeds)


def test_the_dense_equivalent_of_noiseless_runs_is_the_known_size():
    result = sparse.dense_equivalent(*runs())
    assert (result.value, result.low, result.high) == pytest.approx((3e6,) * 3)


def test_it_goes_on_beyond_the_sizes_along_the_last_piece():
    sizes, dense, _ = runs()
    for size in (5e5, 9e6):
        result = sparse.dense_equivalent(sizes, dense, [5 - 0.2 * math.log(size)])
        assert result.value == pytest.approx(size)


def test_its_interval_holds_the_known_size_about_as_often_as_it_says():
    inside = 0
    for seed in range(100):
        result = sparse.dense_equivalent(*runs(0.02, seeds=8, seed=seed), samples=200)
        inside += result.low <= 3e6 <= result.high
    assert 82 <= inside <= 100  # the bootstrap of eight runs is known to be a little narrow


@pytest.mark.parametrize(
    ("sizes", "losses", "ours", "message"),
    [
        ([1, 1], [3, 3], [3], "two sizes"),
        ([1, 2], [3, 2], [], "a sparse run"),
        ([1, 2], [2, 3], [3], "do not fall"),
    ],
)
def test_runs_that_say_nothing_of_a_size_are_refused(sizes, losses, ours, message):
    with pytest.raises(ValueError, match=message):
        sparse.dense_equivalent(sizes, losses, ours)


# What the paper's Table 4 prints: the joint law as a law of size and tokens for E experts.
TABLE_4 = {
    1: (30.3640, -0.1817, 53.9838, -0.1965),
    2: (27.7982, -0.1780, 66.8401, -0.2065),
    4: (24.8462, -0.1731, 87.7022, -0.2192),
    8: (21.8330, -0.1676, 119.9126, -0.2338),
    16: (19.0159, -0.1617, 167.5073, -0.2494),
    32: (16.5424, -0.1557, 234.6726, -0.2652),
}
# Three of its runs: active parameters, width, experts, all parameters (appendix E).
RUNS = [(321e6, 1024, 32, 5.0e9), (1.3e9, 1792, 4, 3.8e9), (118e6, 640, 8, 376e6)]


@pytest.mark.parametrize(("experts", "row"), TABLE_4.items())
def test_the_joint_law_reduces_to_the_rows_that_its_paper_prints(experts, row):
    law = scaling_laws.published("ludziejewski-joint")
    routed = law.saturated(experts)
    reduced = (
        law.a * routed**law.delta,
        law.alpha + law.gamma * math.log(routed),
        law.b * routed**law.omega,
        law.beta + law.zeta * math.log(routed),
    )
    assert reduced == pytest.approx(row, rel=3e-3)  # the coefficients are rounded too
    m, mu, n, nu = row
    by_hand = m * 1e9**mu + n * 2e10**nu + 1.3637
    assert law.loss(1e9, 2e10, experts) == pytest.approx(by_hand, rel=1e-3)


@pytest.mark.parametrize(("active", "width", "experts", "total"), RUNS)
def test_totals_are_those_of_the_papers_runs(active, width, experts, total):
    law = scaling_laws.published("ludziejewski-joint")
    assert 2 * width * 50_257 + 13 * width**3 / 64 == pytest.approx(active, rel=0.04)
    assert law.total(active, experts) == pytest.approx(total, rel=0.05)


@pytest.mark.parametrize(("name", "at"), [("ludziejewski-joint", 8), ("abnar-sparsity", 0.875)])
def test_the_effective_size_of_a_joint_law_has_the_loss_of_the_sparse_model(name, at):
    law = scaling_laws.published(name)
    size = law.effective(1e9, 2e10, at)
    assert law.loss(size, 2e10) == pytest.approx(law.loss(1e9, 2e10, at), rel=1e-9)
    nothing = 1 if name == "ludziejewski-joint" else 0.0
    assert law.effective(1e9, 2e10, nothing) == pytest.approx(1e9, rel=1e-6)


def test_sparsity_by_hand():
    law = scaling_laws.published("abnar-sparsity")
    by_hand = (
        16612.5 / 1e9**0.5962
        + 5455.67 / 1e11**0.3954
        + 0.4598 / 0.25**-0.1666
        + 17.26 / (0.25**0.1603 * 1e9**0.1595)
        + 0.94
    )
    assert law.loss(1e9, 1e11, 0.75) == pytest.approx(by_hand, rel=1e-12)
