"""Serving a mixture of experts: what a batch touches, reads, holds and sends.

A decode step reads every expert that any token of the batch chose, so what is read grows with the
batch until all are. The floors are those of `roofline`, for the weights alone: the cache is the
same for a sparse and a dense model of the same attention. Expectations are exact for tokens that
choose independently of each other; how a token's own choices hang together does not matter.
"""

import math
from dataclasses import dataclass

from sizewise.data import catalog
from sizewise.models import config as configs
from sizewise.models import from_config, parameters
from sizewise.models.architecture import Model
from sizewise.validation import positive, whole

from . import roofline
from .formats import weight_format
from .training import peak_operations

MOST_BATCH = 1 << 17  # sequences; a crossing beyond is not looked for


@dataclass(frozen=True)
class Sparse:
    """A model with routed experts, as serving sees it. Counts are numbers of parameters.

    ``always`` is what every token is multiplied with: all but the routed experts and the tables
    that are only looked up. ``model`` is None where `reading` describes no cache (an
    encoder-decoder); nothing but the floors of whole steps needs it.
    """

    name: str
    count: parameters.Count
    experts: int
    used: int
    layers: int  # that have routed experts
    always: int
    hidden: int
    model: Model | None = None

    @property
    def total(self) -> int:
        """Parameters that a large enough batch reads: the size of the dense model to compare."""
        return self.always + self.count.routed

    @property
    def active(self) -> float:
        """Parameters that one token reads."""
        return self.always + self.count.routed * self.used / self.experts

    @property
    def geometric_mean(self) -> float:
        """The rule of thumb for the dense model that is as good: sqrt(active * total)."""
        return math.sqrt(self.active * self.total)

    @property
    def expert(self) -> float:
        """Parameters of one expert of one layer."""
        return self.count.routed / (self.experts * self.layers)

    def read(self, tokens: int) -> float:
        """Parameters read for a step of ``tokens`` tokens that choose evenly and independently."""
        reached = roofline.expected_experts(self.experts, self.used, tokens)
        return self.always + self.count.routed * reached / self.experts


def sparse(model: "str | configs.Spec") -> Sparse:
    """The sparse model of anything that `counting.count` takes.

    Raises ValueError for what `counting.count` refuses, and for a model without routed experts or
    one that does not say how many of them a token uses.
    """
    spec = configs.load(model)
    found = parameters.count(spec)
    if not found.experts or not found.experts_per_token:
        raise ValueError(f"{found.model}: no routed experts, or not said how many a token uses")
    config = configs.build(spec)
    try:
        described = from_config.from_config(
            config, total=found.total, active=found.active, name=spec.name
        )
    except ValueError:  # an encoder-decoder, or a state whose size is not described
        described = None
    lookup = described.lookup if described else 0 if found.tied else found.embedding
    text = config.get_text_config(decoder=True)
    return Sparse(
        name=spec.name,
        count=found,
        experts=found.experts,
        used=min(found.experts_per_token, found.experts),
        layers=_sparse_layers(found),
        always=found.total - found.routed - lookup,
        hidden=text.hidden_size,
        model=described,
    )


def catalogue() -> dict[str, Sparse]:
    """Every sparse model of the catalogue by name."""
    found = {}
    for name, entry in catalog.models().items():
        if entry.counted["total"] == entry.counted.get("active"):
            continue  # dense
        found[name] = sparse(name)
    return found


def _sparse_layers(found: parameters.Count) -> int:
    """Layers that hold routed experts: those over half of an even share of all routed ones."""
    sizes = [size for stack in found.layers.values() for size in stack]
    return sum(size > found.routed / len(sizes) / 2 for size in sizes)


# --- experts touched


def spread(experts: int, used: int, tokens: int) -> float:
    """Standard deviation of the distinct experts that ``tokens`` tokens reach, evenly chosen.

    Exact. The mean is `roofline.expected_experts`; of two experts a token misses both with
    probability (E - k)(E - k - 1) / E(E - 1).
    """
    roofline.expected_experts(experts, used, tokens)  # refuses what makes no sense
    one = (1 - used / experts) ** tokens
    pairs = experts * (experts - 1)
    both = max((experts - used) * (experts - used - 1), 0) / pairs if pairs else 0
    variance = experts * one * (1 - one) + pairs * (both**tokens - one * one)
    return math.sqrt(max(variance, 0))


def touched(loads, used: int, tokens: int) -> float:
    """Distinct experts that ``tokens`` tokens reach, where expert i gets the share loads[i].

    Exact for tokens that choose independently: a token misses expert i with probability
    1 - used * loads[i], however its own choices hang together. Even loads reach the most.
    Raises ValueError unless the loads sum to one and none is over 1 / used.
    """
    chance = _inclusion(loads, used)
    return float((1 - (1 - chance) ** whole("tokens", tokens)).sum())


def zipf(experts: int, exponent: float, used: int = 1):
    """Loads that fall as 1 / rank^exponent, none above 1 / ``used``: an array that sums to one.

    What a load above 1 / ``used`` would have too much goes to the others in proportion.
    """
    import numpy as np

    loads = np.arange(1, whole("experts", experts) + 1) ** -float(exponent)
    most = 1 / whole("experts a token", used, experts)
    loads = loads / loads.sum()
    for _ in range(experts):
        over = loads > most
        if not over.any():
            break
        loads[over] = most
        free = loads < most
        if not free.any():
            break
        loads[free] *= (1 - most * (~free).sum()) / loads[free].sum()
    return loads


def simulated(loads, used: int, tokens: int, repeats: int, seed: int = 0):
    """Distinct experts reached in each of ``repeats`` batches of ``tokens`` drawn tokens.

    Each token draws ``used`` different experts: with even loads all sets alike, else by
    systematic sampling, which gives every expert exactly its share (Madow 1949).
    """
    import numpy as np

    chance, rng = _inclusion(loads, used), np.random.default_rng(seed)
    even = np.ptp(chance) < 1e-12
    ends = np.cumsum(chance)
    found = np.zeros(repeats, int)
    for repeat in range(repeats):
        if even:
            keys = rng.random((tokens, len(chance)))
            drawn = keys.argpartition(used - 1, axis=1)[:, :used]  # (tokens, used)
        else:
            points = rng.random((tokens, 1)) + np.arange(used)
            drawn = np.searchsorted(ends, points, side="right").clip(0, len(chance) - 1)
        found[repeat] = len(np.unique(drawn))
    return found


def _inclusion(loads, used: int):
    """Chance that a token uses each expert. Raises ValueError for loads that are no such thing."""
    import numpy as np

    loads = np.asarray(loads, float)
    used = whole("experts a token", used, len(loads))
    if not (loads >= 0).all() or abs(loads.sum() - 1) > 1e-9:
        raise ValueError(f"loads must be shares that sum to 1, got a sum of {loads.sum():g}")
    if loads.max() * used > 1 + 1e-9:
        raise ValueError(
            f"a load of {loads.max():.3g} is over 1 / {used}: no token can use an expert twice"
        )
    return np.minimum(used * loads, 1)


# --- many devices


def device_bytes(model: Sparse, degree: int, format: str = "bf16", tensor: int = 1) -> int:
    """Bytes of weights on the fullest of ``degree`` devices that share the routed experts.

    Whole experts are shared out; the rest stands on every device, or is divided among groups of
    ``tensor`` of them. Embeddings count as the rest.
    """
    degree = whole("expert parallel", degree, model.experts)
    here = math.ceil(model.experts / degree) * model.layers * model.expert
    rest = (model.count.total - model.count.routed) / whole("tensor parallel", tensor, degree)
    return math.ceil((here + rest) * weight_format(format).bits / 8)


def least_degree(model: Sparse, memory: float, format: str = "bf16", tensor: int = 1) -> int | None:
    """The fewest devices of ``memory`` bytes that hold the weights so; None if no number does.

    The rest is divided among ``tensor`` of them, or among all while they are fewer.
    """
    for degree in range(1, model.experts + 1):
        if device_bytes(model, degree, format, min(tensor, degree)) <= memory:
            return degree
    return None


def devices_reached(model: Sparse, degree: int) -> float:
    """Distinct devices, of ``degree`` with equally many experts, that one token is sent to.

    Exact for choices that are even: a device is missed if all choices fall on other experts.
    Raises ValueError unless the degree divides the experts.
    """
    degree = whole("expert parallel", degree, model.experts)
    if model.experts % degree:
        raise ValueError(f"{model.experts} experts do not divide among {degree} devices")
    here = model.experts // degree
    missed = math.comb(model.experts - here, model.used) / math.comb(model.experts, model.used)
    return degree * (1 - missed)


def all_to_all_bytes(
    model: Sparse, degree: int, there: float = 16, back: float = 16, *, once: bool = True
) -> float:
    """Bytes that one token sends to other devices and gets back, in one layer.

    Its hidden vector goes to each device that holds a chosen expert, ``there`` bits a value, and
    a sum comes back from each, ``back`` bits a value; with ``once=False`` a vector goes and comes
    for each expert. The token's own device is one of the ``degree``, each as likely as another.
    """
    remote = (degree - 1) / degree
    copies = devices_reached(model, degree) if once else model.used
    values = copies * remote * model.hidden
    return values * (positive("bits there", there) + positive("bits back", back)) / 8


# --- sparse against dense


@dataclass(frozen=True)
class Against:
    """A sparse model against a dense one, by the floor of a token's weights over the batch.

    ``first`` and ``last`` batch at which the sparse one is dearer, None if it never is; at the
    ``worst`` batch it takes ``most`` times as long. ``last`` is None too if it stays dearer up to
    `MOST_BATCH`.
    """

    dense: float  # parameters
    first: int | None
    last: int | None
    worst: int
    most: float


def seconds(read, multiplied: float, batch, device, weights: str = "bf16", compute: str = "bf16"):
    """Least seconds for each token's products with weights; ``read`` is parameters read a step."""
    import numpy as np

    memory = np.asarray(read) * weight_format(weights).bits / 8 / device.bandwidth
    peak = peak_operations(device, compute)
    arithmetic = 2 * multiplied * np.asarray(batch) / peak if peak else 0
    return np.maximum(memory, arithmetic) / batch


def against(
    model: Sparse, dense: float, device, weights: str = "bf16", compute: str = "bf16"
) -> Against:
    """Compare with a dense model of ``dense`` parameters that are all read and multiplied.

    Over all whole batches up to `MOST_BATCH`, so no crossing between two of them is missed.
    """
    import numpy as np

    batch = np.arange(1, MOST_BATCH + 1)
    one = (1 - model.used / model.experts) ** batch  # chance that an expert is missed
    read = model.always + model.count.routed * (1 - one)
    ours = seconds(read, model.active, batch, device, weights, compute)
    theirs = seconds(positive("dense parameters", dense), dense, batch, device, weights, compute)
    ratio = ours / theirs
    dearer = np.flatnonzero(ratio > 1 + 1e-9)
    worst = int(ratio.argmax())
    first = int(batch[dearer[0]]) if len(dearer) else None
    last = int(batch[dearer[-1]]) if len(dearer) and dearer[-1] + 1 < MOST_BATCH else None
    return Against(float(dense), first, last, int(batch[worst]), float(ratio[worst]))
