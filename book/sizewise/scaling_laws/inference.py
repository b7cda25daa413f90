"""The best size when a model is also served: Sardana et al. 2024, section 3.

Training costs 6 N D FLOPs, and serving T tokens 2 N T. For the quality that a training budget can
buy there is a curve of smaller models on more tokens that are as good; the cheapest over the
model's life is where the sum of both costs is least. On real hardware a served FLOP costs more
than a trained one (decoding waits for memory): ``weight`` says how many times.
"""

import numpy as np

from sizewise.validation import positive

from .forms import SERVE_FLOPS, TRAIN_FLOPS, Hoffmann

STEPS = 6  # of Newton's method, which comes within rounding in at most that many


def cheapest(law: Hoffmann, budget, served, weight=1.0):
    """Parameters and tokens of least cost over the model's life, at the quality of ``budget``.

    ``budget`` are the training FLOPs whose best model sets the quality, ``served`` the tokens
    processed afterwards, ``weight`` the cost of a served FLOP over that of a trained one. A law
    with coefficients [samples] gives arrays [samples]; NaN where a law has no optimum.
    """
    with np.errstate(all="ignore"):
        params, tokens = law.optimum(budget)
        target = pressure(law, tokens, weight * served)
        odds = first_odds(law, target)
        for _ in range(STEPS):
            odds = next_odds(law, target, odds)
        params, tokens = smaller(law, params, odds), longer(law, tokens, odds)
    good = (np.asarray(law.alpha) > 0) & (np.asarray(law.beta) > 0)
    return np.where(good, params, np.nan)[()], np.where(good, tokens, np.nan)[()]


# With r the reducible loss, data's share of it at the training optimum is x = alpha / (alpha +
# beta). Let s x be its share at the cheapest model. At equal loss the cost 6 N D + 2 w N T is least
# where u = s / (1 - s) solves u s^(1/beta) = k: one equation, whatever the coefficients.


def pressure(law: Hoffmann, tokens, served):
    """k: training tokens at the optimum over served ones, each as costly as it is."""
    ratio = TRAIN_FLOPS / SERVE_FLOPS * tokens / served
    return ratio * (law.alpha + law.beta) / law.beta


def first_odds(law: Hoffmann, target):
    """A start: the larger of the two powers of k that the solution nears, as k grows or falls."""
    return np.maximum(target, np.power(target, law.beta / (1 + law.beta)))


def next_odds(law: Hoffmann, target, odds):
    """One step of Newton's method on the logarithm of the equation, which is concave in log u."""
    off = odds / target * np.power(odds / (1 + odds), 1 / law.beta)
    return odds * np.power(off, -(1 + odds) / (1 + odds + 1 / law.beta))


def smaller(law: Hoffmann, params, odds):
    """The cheapest size, from the best one for training."""
    return params * np.power(1 + law.alpha / (law.beta * (1 + odds)), -1 / law.alpha)


def longer(law: Hoffmann, tokens, odds):
    """Its tokens, from those of the best model for training."""
    return tokens * np.power(1 + 1 / odds, 1 / law.beta)


def lifetime_flops(params, tokens, served):
    """FLOPs to train on ``tokens`` and to serve ``served`` more: 6 N D + 2 N T."""
    return TRAIN_FLOPS * params * tokens + SERVE_FLOPS * params * served


def serving_weight(
    bandwidth: float, peak: float, utilization: float, batch: float, bits: float = 16
) -> float:
    """What a served FLOP costs over a trained one, in device time.

    Decoding ``batch`` sequences reads every weight once a step (``bits`` each, ``bandwidth`` bytes
    a second) or computes 2 N FLOPs a token, whichever takes longer; training and serving compute
    at ``utilization`` of the ``peak`` FLOPs a second. The KV cache is left out: it makes serving
    dearer, and most at long contexts.
    """
    for name, value in (("bandwidth", bandwidth), ("peak", peak), ("batch", batch)):
        positive(name, value)
    memory_bound = bits / 8 / bandwidth / batch  # seconds a parameter and token
    compute_bound = SERVE_FLOPS / (utilization * peak)
    return max(memory_bound / compute_bound, 1.0)
