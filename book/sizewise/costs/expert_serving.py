"""Serving a mixture of experts: what a step reads, what devices store and send, when it pays.

A decode step reads every expert that any token of the batch chose, so the bytes read grow with the
batch until all experts are. Each sequence adds its KV cache, the same for a sparse and a dense
model of one attention; it does not cancel from a ratio of the two. Floors are those of `roofline`.
Expectations are exact for tokens that choose independently of each other, however one token's own
choices hang together.
"""

import math
from dataclasses import dataclass

import numpy as np

from sizewise.data import catalog
from sizewise.models import config, parameters
from sizewise.models.architecture import Model
from sizewise.validation import positive, whole

from . import roofline
from .formats import weight_format
from .training import peak_operations

MAX_BATCH = 1 << 17  # sequences; `compare` looks for no crossing beyond


@dataclass(frozen=True)
class SparseModel:
    """A model with routed experts, as serving sees it. Counts are numbers of parameters.

    ``layers`` are those that have routed experts. ``always`` is what every token is multiplied
    with: all but the routed experts and the tables that are only looked up.
    """

    name: str
    count: parameters.Count
    model: Model
    experts: int
    used: int  # by one token
    layers: int
    always: int

    @property
    def total(self) -> int:
        """Parameters that a large enough batch reads."""
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

    def read(self, batch):
        """Parameters read in a step of ``batch`` tokens (a number or an array), chosen evenly.

        An expert is missed by one token with probability 1 - k/E, by all with its power.
        """
        missed = (1 - self.used / self.experts) ** np.asarray(batch, float)
        return (self.always + self.count.routed * (1 - missed))[()]


def sparse(model: "str | config.Spec") -> SparseModel:
    """The sparse model of anything that `parameters.count` takes.

    Raises ValueError for what `parameters.count` refuses, and for a model without routed experts
    or one that does not say how many of them a token uses.
    """
    spec = config.load(model)
    count = parameters.count(spec)
    if not count.experts or not count.experts_per_token:
        raise ValueError(f"{count.model}: no routed experts, or no number of them a token")
    described = parameters.describe(spec)
    routed = [row for row in count.tensors if row.kind == "routed experts"]
    return SparseModel(
        name=spec.name,
        count=count,
        model=described,
        experts=count.experts,
        used=min(count.experts_per_token, count.experts),
        layers=len({(row.name.split(".*.")[0], n) for row in routed for n in row.layers}),
        always=count.total - count.routed - described.lookup,
    )


def catalogue() -> dict[str, SparseModel]:
    """Every sparse decoder of the catalogue, by name."""
    entries = catalog.models().items()
    names = [n for n, entry in entries if entry.counted["total"] != entry.counted.get("active")]
    models = {name: sparse(name) for name in names}
    return {name: model for name, model in models.items() if model.model.kind == "decoder"}


def expected_distinct(loads, used: int, tokens: int) -> float:
    """Distinct experts that ``tokens`` tokens reach, where expert i gets the share loads[i].

    Even loads reach the most (`roofline.expected_experts`).
    Raises ValueError unless the loads sum to one and none is over 1 / used.
    """
    loads = np.asarray(loads, float)
    used = whole("experts a token", used, len(loads))
    if not (loads >= 0).all() or abs(loads.sum() - 1) > 1e-9:
        raise ValueError(f"loads must be shares that sum to 1, got a sum of {loads.sum():g}")
    if loads.max() * used > 1 + 1e-9:
        raise ValueError(
            f"a load of {loads.max():.3g} is over 1 / {used}: no token can use an expert twice"
        )
    missed = 1 - np.minimum(used * loads, 1)
    return float((1 - missed ** whole("tokens", tokens)).sum())


# --- many devices


def device_bytes(model: SparseModel, degree: int, format: str = "bf16", tensor: int = 1) -> int:
    """Bytes of weights on the fullest of ``degree`` devices that share the routed experts.

    Whole experts are shared out; the rest stands on every device, or is divided among groups of
    ``tensor`` of them. Embeddings count as the rest.
    """
    degree = whole("expert parallel", degree, model.experts)
    routed = math.ceil(model.experts / degree) * model.layers * model.expert
    rest = (model.count.total - model.count.routed) / whole("tensor parallel", tensor, degree)
    return math.ceil((routed + rest) * weight_format(format).bits / 8)


def min_devices(
    model: SparseModel, memory: float, format: str = "bf16", tensor: int = 1
) -> int | None:
    """The fewest devices of ``memory`` bytes that hold the weights so; None if no number does.

    The rest is divided among ``tensor`` of them, or among all while they are fewer.
    """
    for degree in range(1, model.experts + 1):
        if device_bytes(model, degree, format, min(tensor, degree)) <= memory:
            return degree
    return None


def devices_reached(model: SparseModel, degree: int) -> float:
    """Distinct devices, of ``degree`` with equally many experts, that one token is sent to.

    Exact for choices that are even: a device is missed if all choices fall on other experts.
    Raises ValueError unless the degree divides the experts.
    """
    degree = whole("expert parallel", degree, model.experts)
    if model.experts % degree:
        raise ValueError(f"{model.experts} experts do not divide among {degree} devices")
    local = model.experts // degree
    missed = math.comb(model.experts - local, model.used) / math.comb(model.experts, model.used)
    return degree * (1 - missed)


def all_to_all_bytes(model: SparseModel, degree: int) -> float:
    """Bytes that one token sends to other devices and gets back, over all sparse layers.

    In a layer its hidden vector goes once to each device that holds a chosen expert, in 8 bits, and
    a sum comes back from each, in 16 bits (DeepSeek-V3 2024, section 3.4). The token's own device
    is one of the ``degree``, each as likely.
    """
    copies = devices_reached(model, degree) * (degree - 1) / degree
    return model.layers * copies * model.model.hidden_size * (8 + 16) / 8


def all_to_all_seconds(model: SparseModel, degree: int, batch: int, link: float) -> float:
    """Least seconds of a step's exchange between devices, over links of ``link`` bytes/s each.

    The ``batch`` tokens are spread evenly over the ``degree`` devices, each with one link.
    """
    tokens = whole("batch", batch) / degree  # on each device
    return tokens * all_to_all_bytes(model, degree) / positive("link bandwidth", link)


# --- sparse against dense


@dataclass(frozen=True)
class Comparison:
    """A sparse model against a dense one of the same attention, by the floor of a token's time.

    ``first`` and ``last`` batch at which the sparse one takes longer, None if it never does; at
    the ``worst`` batch it takes ``most`` times as long, at batch one ``alone`` times.
    """

    first: int | None
    last: int | None
    worst: int
    most: float
    alone: float


def step_seconds(
    model: SparseModel,
    batch,
    device,
    context: int,
    *,
    dense: float | None = None,
    weights: str = "bf16",
    kv: str = "bf16",
    compute: str = "bf16",
):
    """Least seconds of a decode step of ``batch`` sequences (a number or an array).

    With ``dense``, of a dense model of so many parameters and the same attention. The time of
    products with weights is the longer of reading and computing; each sequence's attention over
    its ``context`` tokens of KV cache comes on top, as in `roofline.decode`.
    Raises ValueError for a model that is no decoder.
    """
    if model.model.kind != "decoder":
        raise ValueError(f"{model.name}: no decoder, whose steps alone have a floor here")
    batch = np.asarray(batch, float)
    attention = roofline.decode(model.model, device, context, 1, kv=kv, compute=compute).attention
    read = model.read(batch) if dense is None else positive("dense parameters", dense)
    multiplied = model.active if dense is None else dense
    reading = read * weight_format(weights).bits / 8 / device.bandwidth
    peak = peak_operations(device, compute)
    computing = 2 * multiplied * batch / peak if peak else 0
    return (np.maximum(reading, computing) + batch * attention.seconds)[()]


def compare(model: SparseModel, dense: float, device, context: int, **formats) -> Comparison:
    """Compare with a dense model of ``dense`` parameters that are all read and multiplied.

    Over all whole batches up to `MAX_BATCH`, so no crossing between two of them is missed.
    ``formats`` are those of `step_seconds`.
    """
    batch = np.arange(1, MAX_BATCH + 1)
    ours = step_seconds(model, batch, device, context, **formats)
    ratio = ours / step_seconds(model, batch, device, context, dense=dense, **formats)
    slower = np.flatnonzero(ratio > 1 + 1e-9)
    worst = int(ratio.argmax())
    return Comparison(
        first=int(batch[slower[0]]) if len(slower) else None,
        last=int(batch[slower[-1]]) if len(slower) else None,
        worst=int(batch[worst]),
        most=float(ratio[worst]),
        alone=float(ratio[0]),
    )
