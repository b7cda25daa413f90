"""Tables of the chapter on serving mixtures of experts: frames, a line a model and batch."""

from bisect import bisect_left
from functools import partial

import numpy as np
import pandas as pd

from sizewise.costs import expert_serving, memory, roofline
from sizewise.costs.expert_serving import SparseModel
from sizewise.costs.training import Range

BATCHES = np.unique(np.round(2 ** np.arange(0, 13.01, 0.25)).astype(int))  # 1 to 8,192
DEVICES = 64  # an exchange goes over so many at least
TENSOR = 8  # devices that share what is not an expert


def slowdown(models: dict[str, SparseModel], device, context: int, **formats: str):
    """Time of a token over that of a dense model of the active size, by ``model`` and ``batch``."""
    frames = []
    for name, model in models.items():
        step = expert_serving.step_seconds
        ours = step(model, BATCHES, device, context, **formats)
        theirs = step(model, BATCHES, device, context, dense=model.active, **formats)
        frames.append(pd.DataFrame({"model": name, "batch": BATCHES, "ratio": ours / theirs}))
    return pd.concat(frames, ignore_index=True)


def comparisons(models: dict[str, SparseModel], device, context: int, **formats: str):
    """Each model against dense ones of its active size and of the geometric mean, a line a model.

    ``stored`` is the total over the active size, ``most`` how many times as long a token takes at
    the ``worst`` batch against the active size; ``alone``, ``dear_batch``, ``dear``, ``until`` and
    ``held`` are against the mean: one user's time, the worst batch and the time there, the last
    batch at which it takes longer, and the memory.
    """
    lines = []
    for name, model in models.items():
        small, mean = (
            expert_serving.compare(model, size, device, context, **formats)
            for size in (model.active, model.geometric_mean)
        )
        lines.append(
            {
                "model": name,
                "stored": model.total / model.active,
                "worst": small.worst,
                "most": small.most,
                "alone": mean.alone,
                "dear_batch": mean.worst,
                "dear": mean.most,
                "until": mean.last,
                "held": model.total / model.geometric_mean,
            }
        )
    return pd.DataFrame(lines)


def reached(shapes: dict[str, tuple[int, int]]):
    """Share of a layer's experts that a step reads, by ``shape`` and ``batch``.

    ``shapes`` maps a label to (experts, experts a token).
    """
    return pd.DataFrame(
        {
            "shape": label,
            "batch": batch,
            "share": roofline.expected_experts(experts, used, int(batch)) / experts,
        }
        for label, (experts, used) in shapes.items()
        for batch in BATCHES
    )


def exchange(
    models: dict[str, SparseModel], batches, device, context: int, link: float, price, **formats
):
    """Reading and sending in one step of a batch, with its price.

    Each model is on the fewest devices, `DEVICES` at least, that store its weights and among which
    its experts divide. ``sent`` and ``read`` are bytes a token; seconds are those of a step;
    ``hidden`` and ``exposed`` are dollars for a million tokens at the high end of ``price``
    (dollars a device and hour), if the exchange hides behind reading and if it comes on top.
    """
    lines = []
    for name, model in models.items():
        least = expert_serving.min_devices(model, device.memory_bytes, formats["weights"], TENSOR)
        fewest = range(max(DEVICES, least), model.experts + 1)
        devices = next(number for number in fewest if model.experts % number == 0)
        for batch in batches:
            floor = roofline.decode(
                model.model, device, context, batch, devices=devices, price=price, **formats
            )
            sending = expert_serving.all_to_all_seconds(model, devices, batch, link)
            dollars = floor.dollars_per_million_tokens.high
            lines.append(
                {
                    "model": name,
                    f"{device.name}s": devices,
                    "batch": batch,
                    "sent": expert_serving.all_to_all_bytes(model, devices),
                    "read": floor.bytes / batch,
                    "reading": floor.seconds,
                    "sending": sending,
                    "hidden": dollars * max(1, sending / floor.seconds),
                    "exposed": dollars * (1 + sending / floor.seconds),
                }
            )
    return pd.DataFrame(lines)


def floor_dollars(model: SparseModel, batch: int, device, context: int, price, **formats: str):
    """Dollars for a million output tokens at the floor, at both ends of the ``price``."""
    floor = roofline.decode(model.model, device, context, int(batch), price=price, **formats)
    return floor.dollars_per_million_tokens


def floors(models: dict[str, SparseModel], device, context: int, price, **formats: str):
    """Dollars for a million output tokens, ``low`` and ``high``, by model and batch: the floor."""
    lines = []
    for name, model in models.items():
        for batch in BATCHES[BATCHES <= 4096]:
            dollars = floor_dollars(model, batch, device, context, price, **formats)
            lines.append((name, batch, dollars.low, dollars.high))
    return pd.DataFrame(lines, columns=["model", "batch", "low", "high"])


def affordable_batch(
    model: SparseModel, dollars: float, device, context: int, price, **formats: str
) -> int | None:
    """The smallest batch whose floor is at or under ``dollars`` for a million output tokens.

    None if no batch up to `expert_serving.MAX_BATCH` is. The floor falls with the batch.
    """
    batches = range(1, expert_serving.MAX_BATCH + 1)
    place = bisect_left(
        batches,
        True,
        key=lambda n: floor_dollars(model, n, device, context, price, **formats).high <= dollars,
    )
    return batches[place] if place < len(batches) else None


def cache_matters(models: dict[str, SparseModel], device, context: int, batch: int, **formats: str):
    """Time over that of a dense model of the active size at one batch, without caches and with.

    ``cache`` is what one request's KV cache moves, in bytes.
    """
    lines = []
    for name, model in models.items():
        ratios = []
        for tokens in (1, context):  # with one token of context the cache is as good as none
            step = partial(expert_serving.step_seconds, model, batch, device, tokens, **formats)
            ratios.append(step() / step(dense=model.active))
        lines.append((name, roofline.kv_read_bytes(model.model, context), *ratios))
    return pd.DataFrame(lines, columns=["model", "cache", "without", "with"])


def entrance_fee(models: dict[str, SparseModel], device, format: str, price):
    """Bytes of the weights and the fewest devices that store them, with their rent by the hour.

    Rent is missing where ``price``, the dollars for an hour of one device, is None.
    """
    high = None if price is None else Range.cast(price, "price").high
    lines = []
    for name, model in models.items():
        devices = expert_serving.min_devices(model, device.memory_bytes, format, TENSOR)
        lines.append(
            {
                "model": name,
                f"fewest {device.name}": devices,
                "dollars an hour": high * devices if high and devices else None,
                "weights": memory.weights_bytes(model.count.total, format),
                "stored / active": model.total / model.active,
            }
        )
    return pd.DataFrame(lines)
