"""The interval of a law's loss: its derivatives, a sample of its coefficients, recorded rows."""

import sys

import numpy as np
import pytest
from sizewise import paths, scaling_laws
from sizewise.data import records
from sizewise.scaling_laws import Hoffmann, Joint, uncertainty

sys.path.insert(0, str(paths.root() / "scripts"))
import refit_published

LAW = Hoffmann(E=1.8, A=480.0, B=2100.0, alpha=0.35, beta=0.37)
MIDDLE = (8.5e8, 1.7e10)
POINTS = [(1e8, 2e9), (8.5e8, 1.7e10), (1e10, 2e10), (1e12, 2e13), (1e13, 1e12)]


def moved(c, params, tokens):
    """The law with its coordinates off by ``c`` [..., 5], written out anew."""
    c = np.moveaxis(np.asarray(c), -1, 0)
    size = LAW.A * MIDDLE[0] ** -LAW.alpha * (1 + c[1])
    data = LAW.B * MIDDLE[1] ** -LAW.beta * (1 + c[2])
    return (
        LAW.E * (1 + c[0])
        + size * (params / MIDDLE[0]) ** -(LAW.alpha * np.exp(c[3]))
        + data * (tokens / MIDDLE[1]) ** -(LAW.beta * np.exp(c[4]))
    )


def gradient(params, tokens):
    """By complex steps: exact to rounding (Squire and Trapp 1998)."""
    return moved(1e-30j * np.eye(5), params, tokens).imag / 1e-30


def covariance(scale=1.0):
    """Correlated errors of a per cent or so."""
    root = np.random.default_rng(4).normal(0, 0.01, (5, 5))
    return scale**2 * root @ root.T


@pytest.mark.parametrize(("params", "tokens"), POINTS)
def test_changes_of_the_loss_are_its_derivatives(params, tokens):
    law_fit = Joint.from_covariance(LAW, *MIDDLE, covariance())
    for direction in law_fit.directions:
        result = law_fit.change(direction, params, tokens)
        along = [getattr(direction, name) for name in uncertainty.COORDINATES]
        assert result == pytest.approx(gradient(params, tokens) @ along, rel=1e-10)


@pytest.mark.parametrize(("params", "tokens"), POINTS)
def test_the_variance_is_the_gradients_product_with_the_covariance(params, tokens):
    g = gradient(params, tokens)
    result = Joint.from_covariance(LAW, *MIDDLE, covariance()).variance(params, tokens)
    assert result == pytest.approx(g @ covariance() @ g, rel=1e-9)


def test_directions_give_the_covariance_back():
    result = Joint.from_covariance(LAW, *MIDDLE, covariance()).directions
    table = np.array(
        [[getattr(law_fit, name) for name in uncertainty.COORDINATES] for law_fit in result]
    )
    assert table.T @ table == pytest.approx(covariance(), rel=1e-9, abs=1e-18)


@pytest.mark.parametrize(("params", "tokens"), POINTS)
def test_a_sample_of_coefficients_spreads_as_the_variance_says(params, tokens):
    rng = np.random.default_rng(5)
    sample = moved(rng.multivariate_normal(np.zeros(5), covariance(0.1), 50_000), params, tokens)
    law_fit = Joint.from_covariance(LAW, *MIDDLE, covariance(0.1))
    assert law_fit.variance(params, tokens) == pytest.approx(np.var(sample), rel=0.03)
    low, high = np.percentile(sample, [2.5, 97.5])
    assert law_fit.interval(params, tokens) == pytest.approx((low, high), abs=0.03 * (high - low))


def test_an_interval_holds_the_loss_and_ends_above_0():
    low, high = uncertainty.ends(2.0, 0.01)
    assert (low * high) == pytest.approx(4.0)
    assert high == pytest.approx(2 * np.exp(1.96 * 0.1 / 2))
    assert uncertainty.ends(2.0, 0.0) == (2.0, 2.0)
    assert uncertainty.ends(2.0, 100.0)[0] > 0


@pytest.fixture(scope="module")
def fitted():
    """Runs of the law with noise, fitted with a bootstrap."""
    rng = np.random.default_rng(1)
    params, tokens = (
        v.ravel() for v in np.meshgrid(np.geomspace(5e7, 1.6e10, 9), np.geomspace(1e9, 1e12, 9))
    )
    loss = LAW.loss(params, tokens) * np.exp(rng.normal(0, 0.005, len(params)))
    return scaling_laws.fit(scaling_laws.Runs.from_arrays(params, tokens, loss), bootstrap=400)


@pytest.mark.parametrize(("params", "tokens"), POINTS)
def test_a_recorded_fit_gives_the_interval_of_its_own_bootstrap(fitted, params, tokens):
    law_fit = Joint.from_row(fitted.law, refit_published.joint(fitted))
    sample = fitted.resampled.loss(params, tokens)
    assert law_fit.variance(params, tokens) == pytest.approx(np.var(sample), rel=0.1)
    low, high = fitted.interval(lambda law: law.loss(params, tokens))
    assert law_fit.interval(params, tokens) == pytest.approx((low, high), abs=0.15 * (high - low))


# ---- the recorded rows


def recorded(kind):
    return [row for row in records.read("refit_published") if row["what"] == kind]


def test_recorded_covariances_hold_the_recorded_standard_errors():
    fits = {row["table"]: row for row in recorded("fit")}
    assert {row["table"] for row in recorded("joint")} <= fits.keys()
    for row in recorded("joint"):
        fit = fits[row["table"]]
        assert fit["E"] * row["cov_E_E"] ** 0.5 == pytest.approx(fit["E_se"], rel=1e-3)
        for name in ("alpha", "beta"):  # of the logarithm: alike while errors are small
            error = fit[name] * row[f"cov_{name}_{name}"] ** 0.5
            assert error == pytest.approx(fit[f"{name}_se"], rel=0.05)


def test_intervals_are_near_the_recorded_percentiles():
    fits = {row["table"]: row for row in recorded("fit")}
    joints = {}
    for row in recorded("joint"):
        law = Hoffmann(*(fits[row["table"]][name] for name in scaling_laws.NAMES))
        joints[row["table"]] = Joint.from_row(law, row)
    assert len(recorded("loss")) >= 40
    for row in recorded("loss"):
        law_fit, at = joints[row["table"]], (row["params"], row["tokens"])
        assert law_fit.law.loss(*at) == pytest.approx(row["loss"], rel=1e-12)
        width = row["loss_high"] - row["loss_low"]
        larger = row["params"] > fits[row["table"]]["most_params"]
        assert law_fit.interval(*at) == pytest.approx(
            (row["loss_low"], row["loss_high"]), abs=(0.1 if larger else 0.3) * width
        )


@pytest.mark.parametrize(("params", "tokens"), POINTS)
def test_a_moved_law_is_the_one_written_out_anew(params, tokens):
    errors = (0.02, -0.05, 0.04, 0.03, -0.06)
    law = Joint(LAW, *MIDDLE, ()).moved(uncertainty.Direction(*errors))
    assert law.loss(params, tokens) == pytest.approx(moved(errors, params, tokens), rel=1e-12)


def test_the_interval_of_a_ratio_is_that_of_independent_errors_by_hand():
    errors = [uncertainty.Direction(0.03, 0, 0, 0, 0), uncertainty.Direction(0.04, 0, 0, 0, 0)]
    low, high = Joint(LAW, *MIDDLE, tuple(errors)).ratio_interval(lambda law: law.E)
    spread = np.exp(1.96 * np.hypot(np.log(1.03), np.log(1.04)))
    assert (low, high) == pytest.approx((1.8 / spread, 1.8 * spread))
