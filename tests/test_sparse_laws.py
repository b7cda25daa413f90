"""Laws of sparse models against values worked by hand and what their papers print."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sizewise import scaling_laws
from sizewise.scaling_laws import mixture_laws
from sizewise.scaling_laws.mixture_laws import saturated

CLARK = ("clark-s-base", "clark-rl-r", "clark-hash")
# Recalled from the paper's Table 3 like the coefficients, but as numbers of their own.
CUTOFFS = {"clark-s-base": 937e9, "clark-rl-r": 85e9, "clark-hash": 83e9}


def cutoff(law):
    """The size from which further experts no longer lower the loss."""
    return 10 ** (-law.b / law.c)


def test_the_routed_law_gives_what_its_equation_gives_by_hand():
    law = mixture_laws.RoutedLM(a=-0.1, b=-0.2, c=0.02, d=1.0, start=2.0, end=100.0)
    # 1 / (1/2 - 1/100) = 100/49; with 50 experts 49 + 100/49, and 1 / (1/that + 1/100)
    bent = 49 + 100 / 49
    routed = 1 / (1 / bent + 1 / 100)
    assert saturated(50, law.start, law.end) == pytest.approx(33.7927, abs=1e-3)
    assert saturated(50, law.start, law.end) == pytest.approx(routed, rel=1e-12)
    exponent = -0.1 * 8 - 0.2 * math.log10(routed) + 0.02 * 8 * math.log10(routed) + 1.0
    assert law.loss(1e8, experts=50) == pytest.approx(10**exponent, rel=1e-12)
    assert cutoff(law) == pytest.approx(1e10)


@pytest.mark.parametrize("name", CLARK)
def test_the_number_of_experts_is_bent_at_both_ends(name):
    law = scaling_laws.published(name)
    assert saturated(1, law.start, law.end) == pytest.approx(law.start)
    assert saturated(1e9, law.start, law.end) == pytest.approx(law.end, rel=1e-4)
    assert (np.diff(saturated(np.arange(1, 600), law.start, law.end)) > 0).all()


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
    for size, better in ((cutoff(law) / 10, True), (cutoff(law) * 10, False)):
        assert (law.loss(size, experts=64) < law.loss(size, experts=1)) == better
    assert law.loss(cutoff(law), experts=64) == pytest.approx(law.loss(cutoff(law)), rel=1e-9)


@pytest.mark.parametrize("name", CLARK)
def test_the_recalled_coefficients_leave_the_recalled_cutoff_open(name):
    point, off = (
        scaling_laws.entries()[name]["coefficients"],
        scaling_laws.entries()[name]["rounding"],
    )
    ends = [
        10 ** (-(point["b"] + x * off["b"]) / (point["c"] + y * off["c"]))
        for x in (-1, 1)
        for y in (-1, 1)
    ]
    assert min(ends) < CUTOFFS[name] < max(ends)


# --- the geometric mean


@given(st.floats(1e6, 1e9), st.floats(1.1, 1e3))
def test_the_rule_of_thumb_is_a_weight_of_one_half(active, times):
    total = active * times
    assert mixture_laws.weight(active, total, (active * total) ** 0.5) == pytest.approx(0.5)
    assert mixture_laws.weight(active, total, [active, total]) == pytest.approx([0, 1], abs=1e-9)


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
    routed = saturated(experts, law.start, law.end)
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
