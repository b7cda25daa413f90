"""The best size when a model is also served: Sardana et al. 2024, section 3.

Training costs 6 N D FLOPs, and serving T tokens 2 N T. For the quality that a training budget can
buy there is a curve of smaller models on more tokens that are as good; the cheapest over the
model's life is where the sum of both costs is least. On real hardware a served FLOP costs more
than a trained one (decoding waits for memory): ``weight`` says how many times.
"""

import math

import numpy as np

from sizewise.validation import positive

from .forms import NAMES, SERVE_FLOPS, TRAIN_FLOPS, Hoffmann

STEPS = 200  # of golden section: the bracket shrinks by 0.618 each


def cheapest(law: Hoffmann, budget: float, served: float, weight: float = 1.0):
    """Parameters and tokens of least cost over the model's life, at the quality of ``budget``.

    ``budget`` are the training FLOPs whose best model sets the quality, ``served`` the tokens
    processed afterwards, ``weight`` the cost of a served FLOP over that of a trained one. A law
    with coefficients [samples] gives arrays [samples]. Nothing served gives the law's optimum.
    """
    largest, tokens = law.optimum(budget)
    quality = law.loss(largest, tokens)
    return cheapest_for_loss(law, quality, served, weight)


def cheapest_for_loss(law: Hoffmann, loss, served: float, weight: float = 1.0):
    """As `cheapest`, for a loss in nats. NaN where the law has no optimum."""
    single = np.ndim(law.E) == np.ndim(loss) == 0
    columns = np.broadcast_arrays(*(np.atleast_1d(getattr(law, name)) for name in NAMES), loss)
    law, loss = Hoffmann(*columns[:5]), columns[5]
    with np.errstate(all="ignore"):
        # Of all sizes that reach the loss the smallest needs endless data; from there upwards the
        # cost has one minimum. The optimum without serving lies at a known share of the rest.
        room = loss - law.E
        smallest = np.log(law.A / room) / law.alpha
        share = law.beta / (law.alpha + law.beta)  # of the rest that is size's at the optimum
        top = np.log(law.A / (room * share)) / law.alpha
        low, high = smallest, top + 1e-9
        golden = (math.sqrt(5) - 1) / 2
        for _ in range(STEPS):
            left, right = high - golden * (high - low), low + golden * (high - low)
            costs = [_cost(law, size, loss, weight * served) for size in (left, right)]
            better = costs[0] < costs[1]
            low, high = np.where(better, low, left), np.where(better, right, high)
        params = np.exp((low + high) / 2)
        tokens = law.tokens_for(loss, params)
    good = (law.alpha > 0) & (law.beta > 0) & (room > 0)
    best = np.where(good, params, np.nan), np.where(good, tokens, np.nan)
    return tuple(float(values[0]) for values in best) if single else best


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


def _cost(law, log_params, loss, served):
    params = np.exp(log_params)
    return lifetime_flops(params, law.tokens_for(loss, params), served)
