"""What this processor can do at best, and what a decode step takes on it.

The ceilings put this machine into `roofline` in place of a data sheet; a step is then compared
with its floor. Everything in fp32, which processors without bf16 units do fastest.
"""

import statistics
import timeit
from collections.abc import Callable
from typing import Any

from sizewise import units
from sizewise.data import catalog
from sizewise.models import config as configs
from sizewise.models import parameters

from . import roofline

CEILINGS = ("copy", "read", "multiply")
REPEATS = 15


def seconds(work: Callable[[], object]) -> list[float]:
    """Sorted wall-clock seconds of `REPEATS` calls, after two that warm up."""
    work(), work()
    return sorted(timeit.repeat(work, number=1, repeat=REPEATS))


def ceiling(kind: str) -> float:
    """The best rate of one of `CEILINGS`.

    Bytes a second for ``copy`` (read and written) and ``read`` (a product of a matrix and a
    vector, the best way to read weights); operations a second for ``multiply``.
    """
    import torch

    if kind == "copy":
        source = torch.ones(1 << 26)  # 256 MiB, far above any cache
        target = torch.empty_like(source)
        return 2 * source.nbytes / seconds(lambda: target.copy_(source))[0]
    if kind == "read":
        matrix, vector = torch.ones(1 << 14, 1 << 13), torch.ones(1 << 13)
        return matrix.nbytes / seconds(lambda: matrix @ vector)[0]
    if kind == "multiply":
        square = torch.ones(2048, 2048)
        return 2 * 2048**3 / seconds(lambda: square @ square)[0]
    raise units.unknown("ceiling", kind, CEILINGS)


def as_device(rates: dict[str, float]) -> catalog.Device:
    """Measured ceilings as a device: the better of copying and reading is its bandwidth."""
    import psutil

    return catalog.Device(
        name="this processor",
        memory_bytes=psutil.virtual_memory().total,
        bandwidth=max(rates["copy"], rates["read"]),
        flops={"fp32": rates["multiply"]},
        tdp_watts=None,
        source="measured",
        checked="measured",
    )


def decode_step(model: str, context: int, batch: int, device: catalog.Device) -> dict[str, float]:
    """Time one token for each of ``batch`` sequences that hold ``context - 1`` tokens already.

    Random weights of the model's shape, `transformers` in eager mode with its growing cache.
    Gives milliseconds (median, lowest, highest), the floor's, and both over the floor.
    """
    taken = [1e3 * took for took in seconds(_step(model, context, batch))]
    described, form = parameters.describe(model), "fp32"
    least = roofline.decode(described, device, context, batch, weights=form, kv=form, compute=form)
    floor = 1e3 * least.seconds
    return {
        "step_ms": statistics.median(taken),
        "step_ms_low": taken[0],
        "step_ms_high": taken[-1],
        "floor_ms": floor,
        "over_floor": statistics.median(taken) / floor,
        "best_over_floor": taken[0] / floor,
    }


def measure_here(model: str, cases: list[tuple[int, int]]) -> list[dict[str, Any]]:
    """`decode_step` for each (context, batch) with this machine's own ceilings, measured first."""
    device = as_device({name: ceiling(name) for name in CEILINGS})
    return [
        {"context": context, "batch": batch, **decode_step(model, context, batch, device)}
        for context, batch in cases
    ]


def _step(model: str, context: int, batch: int) -> Callable[[], None]:
    """A call that decodes one token and forgets it again."""
    import torch
    from transformers import AutoModelForCausalLM, DynamicCache

    torch.manual_seed(0)
    config = configs.build(model)
    config._attn_implementation = "sdpa"
    built = AutoModelForCausalLM.from_config(config, dtype=torch.float32).eval()
    tokens = torch.randint(config.vocab_size, (batch, 1))
    cache = DynamicCache(config=config)
    shape = (batch, config.num_key_value_heads, context - 1, config.head_dim)
    for layer in range(config.num_hidden_layers):
        cache.update(torch.randn(shape), torch.randn(shape), layer)

    @torch.inference_mode()
    def step():
        built(tokens, past_key_values=cache, use_cache=True)
        cache.crop(-1)

    return step
