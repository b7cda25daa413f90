"""Two models on the same questions: tests and sizes against worked numbers and simulation."""

import math
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest
from sizewise import paths
from sizewise.stats import paired

sys.path.insert(0, str(paths.root() / "scripts"))
from common import reliability

SEEDS = 200


def answers(only_a, only_b, both, neither):
    """Right and wrong answers of two models with these counts."""
    a = [1] * only_a + [0] * only_b + [1] * both + [0] * neither
    b = [0] * only_a + [1] * only_b + [1] * both + [0] * neither
    return a, b


def simulated(seed, items, only_a=0.2, only_b=0.12, both=0.4):
    counts = np.random.default_rng(seed).multinomial(items, [only_a, only_b, both, 0.28])
    return answers(*counts.tolist())


def within(hits, count, share=0.95):
    """Whether a count fits a share, with one false alarm in a thousand."""
    low, high = binom.interval(0.999, count, share)
    return low <= hits <= high


# --- intervals


def test_counts_and_difference_of_a_table_by_hand():
    result = paired.compare(*answers(1, 7, 1, 12))  # Fagerland et al. 2013, table 1
    assert (result.items, result.only_a, result.only_b) == (21, 1, 7)
    assert result.drawn.value == result.analytic.value == pytest.approx(-6 / 21)
    assert result.discordant_share == pytest.approx(8 / 21)


def test_the_analytic_interval_equals_bonett_and_price_by_hand():
    # (1 + 1) / 23 and (7 + 1) / 23: centre -6/23, variance (10/23 - 36/529) / 23
    half = 1.959964 * math.sqrt((10 / 23 - 36 / 529) / 23)
    interval = paired.difference_interval(1, 7, 21)
    assert interval.low == pytest.approx(-6 / 23 - half, abs=1e-6)
    assert interval.high == pytest.approx(-6 / 23 + half, abs=1e-6)


def test_both_paired_intervals_cover_a_known_difference():
    drawn = analytic = unpaired = 0
    for seed in range(SEEDS):
        a, b = simulated(seed, 300)
        result = paired.compare(a, b, samples=400, seed=seed)
        drawn += result.drawn.low <= 0.08 <= result.drawn.high
        analytic += result.analytic.low <= 0.08 <= result.analytic.high
        half = 1.96 * math.sqrt((np.var(a) + np.var(b)) / 300)
        unpaired += abs(result.drawn.value - 0.08) <= half
    assert within(drawn, SEEDS)
    assert within(analytic, SEEDS)
    assert unpaired > analytic  # leaving out the pairing is wider than it need be


def test_models_that_never_differ_still_leave_doubt():
    result = paired.compare(*answers(0, 0, 30, 10))
    assert result.drawn.low == result.drawn.high == 0  # drawing items cannot see beyond them
    assert result.analytic.low < 0 < result.analytic.high
    assert (result.exact, result.mid) == (1, 1)


def test_intervals_of_one_accuracy_equal_published_examples():
    # Newcombe 1998 (Stat. Med. 17:857), table I: 81 of 263 and 0 of 20
    right = [1] * 81 + [0] * 182
    for answers, ends in ((right, (0.2553, 0.3662)), ([0] * 20, (0, 0.1611))):
        interval = paired.accuracy(answers)
        assert (interval.low, interval.high) == pytest.approx(ends, abs=5e-5)


# --- tests


def test_mcnemar_equals_the_published_example():
    exact, mid = paired.mcnemar(1, 7)  # 2 (1 + 8) / 256, and 8 / 256 less
    assert exact == pytest.approx(18 / 256)
    assert mid == pytest.approx(10 / 256)
    assert (round(exact, 3), round(mid, 3)) == (0.070, 0.039)  # Fagerland et al. 2013


def test_mid_p_of_a_tie_is_one_less_half_its_probability():
    exact, mid = paired.mcnemar(3, 3)
    assert exact == 1
    assert mid == pytest.approx(1 - math.comb(6, 3) / 64 / 2)


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_is_symmetric_and_mid_p_is_the_smaller(a, b):
    exact, mid = paired.mcnemar(a, b)
    assert (exact, mid) == pytest.approx(paired.mcnemar(b, a))
    assert 0 < mid <= exact <= 1


def test_mid_p_holds_its_level_and_exact_falls_short():
    rng = np.random.default_rng(0)
    false = np.zeros(2)
    for only_a, only_b, _ in rng.multinomial(60, [0.15, 0.15, 0.7], 2000):
        false += np.array(paired.mcnemar(int(only_a), int(only_b))) < 0.05
    exact, mid = false / 2000
    assert exact < mid
    assert mid < 0.05 + 3 * math.sqrt(0.05 * 0.95 / 2000)


# --- number of items


def power(share, difference, items, draws=40_000):
    """The power of McNemar's test without correction, simulated."""
    p, q = (share + difference) / 2, (share - difference) / 2
    a, b, _ = np.random.default_rng(1).multinomial(items, [p, q, 1 - share], draws).T
    return ((a - b) ** 2 > 3.841459 * (a + b)).mean()


@pytest.mark.parametrize(("share", "difference"), [(0.1, 0.03), (0.3, 0.05), (0.4, 0.15)])
def test_the_items_needed_give_the_requested_power(share, difference):
    assert power(
        share, difference, paired.required_sample_size(share, difference)
    ) == pytest.approx(0.8, abs=0.02)
    more = paired.required_sample_size(share, difference, power=0.95)
    assert power(share, difference, more) == pytest.approx(0.95, abs=0.015)


def test_items_needed_by_hand():
    # (1.959964 sqrt 0.2 + 0.841621 sqrt(0.2 - 0.01))^2 / 0.01 = 154.7
    assert paired.required_sample_size(0.2, 0.1) == 155


@given(st.floats(0.02, 1), st.integers(100, 10**6), st.floats(0.5, 0.99), st.floats(0.001, 0.2))
def test_the_detectable_difference_needs_just_these_items(share, items, power, level):
    try:
        least = paired.detectable(share, items, power=power, level=level)
    except ValueError:
        assert paired.required_sample_size(share, share, power=power, level=level) > items
        return
    assert paired.required_sample_size(share, least, power=power, level=level) in (items, items + 1)


def test_models_that_agree_more_show_smaller_differences():
    differences = [paired.detectable(share, 1000) for share in (0.05, 0.2, 0.5)]
    assert differences == sorted(differences)


# --- many comparisons


def test_holm_by_hand():
    p = [0.01, 0.04, 0.03, 0.005]
    # sorted 0.005 x 4, 0.01 x 3, 0.03 x 2, 0.04 x 1, none under the one before
    assert paired.holm(p) == pytest.approx([0.03, 0.06, 0.06, 0.02])


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.floats(0.001, 0.5))
def test_holm_rejects_what_its_steps_reject(p, level):
    rejected = set()
    for step, at in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        if p[at] * (len(p) - step) > level:
            break
        rejected.add(at)
    assert set(np.flatnonzero(paired.holm(p) <= level)) == rejected


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: paired.compare([1, 0], [1, 0, 1]), "not paired: 2 of a, 3 of b"),
        (lambda: paired.compare([1, 0.5], [1, 0]), "a must be a list of right"),
        (lambda: paired.required_sample_size(0.1, 0.2), "at most the discordant share 0.1"),
        (lambda: paired.detectable(0.1, 20), "20 items are too few"),
        (lambda: paired.required_sample_size(0.1, 0.05, power=0.2), "the power must be"),
        (lambda: paired.holm([0.1, math.nan]), "from 0 to 1"),
        (lambda: paired.difference_interval(5, 6, 10), "from 0 to 5"),
    ],
)
def test_bad_input_is_one_clear_line(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# --- confidence


def simulated_energies(seed, items, scale=1.0, choices=4):
    """Energies whose softmax at ``scale`` is the chance of each answer."""
    rng = np.random.default_rng(seed)
    energy = rng.normal(0, 1.5, (items, choices))
    p = reliability.probabilities(energy, scale)
    answer = (rng.random((items, 1)) > p.cumsum(1)).sum(1)
    return energy, np.minimum(answer, choices - 1)


def test_energies_of_ragged_choices_are_divided_and_filled():
    energies = reliability.energies([[4.0, 6.0], [3.0, 2.0, 1.0]], [[2, 3], [1, 1, 2]])
    assert energies.tolist() == [[2, 2, math.inf], [3, 2, 0.5]]
    p = reliability.probabilities(energies)
    assert p[0].tolist() == [0.5, 0.5, 0]
    assert reliability.margin(p)[0] == 0
    with pytest.raises(ValueError, match="differ in their choices"):
        reliability.energies([[1.0, 2.0]], [[1]])


def test_calibration_error_and_brier_by_hand():
    # bins (0.5, 0.6) with none right and (0.7, 0.9) with both: gaps 0.55 and 0.2
    sure, right = [0.9, 0.5, 0.7, 0.6], [1, 0, 1, 0]
    assert reliability.calibration_error(sure, right, 2) == pytest.approx((0.55 + 0.2) / 2)
    table = reliability.reliability(sure, right, 2)
    assert table["right"].tolist() == [0, 1]
    assert table["low"][1] == pytest.approx(binomtest(2, 2).proportion_ci(method="wilson").low)
    p = np.array([[0.7, 0.3], [0.2, 0.8]])
    assert reliability.brier(p, [0, 0]) == pytest.approx((0.09 + 0.09 + 0.64 + 0.64) / 2)


def test_the_floor_is_what_a_calibrated_model_has():
    errors, floors = [], []
    for seed in range(30):
        energy, answer = simulated_energies(seed, 400)
        p = reliability.probabilities(energy)
        errors.append(reliability.calibration_error(p.max(1), p.argmax(1) == answer))
        floors.append(reliability.calibration_floor(p.max(1), samples=100, seed=seed))
    spread = np.std(errors) / math.sqrt(30)
    assert np.mean(floors) == pytest.approx(np.mean(errors), abs=4 * spread)


def test_a_temperature_of_one_half_mends_the_other():
    energy, answer = simulated_energies(3, 6000, scale=0.25)  # far surer than its softmax says
    first = reliability.halves(range(6000))
    fitted = reliability.temperature(energy[first], answer[first])
    assert fitted == pytest.approx(0.25, rel=0.08)
    held_out, labels = energy[~first], answer[~first]
    right = held_out.argmin(1) == labels
    before = reliability.probabilities(held_out).max(1)
    after = reliability.probabilities(held_out, fitted).max(1)
    assert reliability.calibration_error(before, right) > 0.1
    assert reliability.calibration_error(after, right) < 0.04
    assert reliability.surprise(held_out, labels, fitted) < reliability.surprise(held_out, labels)


def test_halves_follow_the_names_and_not_their_order():
    names = [f"q{k}" for k in range(101)]
    first = dict(zip(names, reliability.halves(names), strict=True))
    again = dict(zip(names[::-1], reliability.halves(names[::-1]), strict=True))
    assert first == again
    assert sum(first.values()) == 50
    assert (reliability.halves(names, 1) != list(first.values())).any()
