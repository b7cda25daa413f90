"""Time by layer and by part of a layer: where in a model a step's time goes.

Events are put before and after every decoder layer and its parts. On a GPU the step is queued
behind a pause, so that the device never waits for the processor between two events and each
interval is the device's own time. An event costs a microsecond or two, which the parts of small
models show; layers can be compared with each other all the same.
"""

import statistics
import time

from .. import limits, text
from . import attention, timing
from .built import Built
from .decode import Step

STEPS = ("decode", "prefill")
PARTS = ("attention", "mlp", "norm")
REPEATS = 7


def by_layer(
    built: Built, step: str, batch: int, context: int, repeats: int = REPEATS
) -> dict[str, object]:
    """Milliseconds of each decoder layer, of its parts, and of what stands around the layers.

    Lists have one median over the ``repeats`` for each layer. Raises ValueError for an unknown
    step and for fewer than three repeats.
    """
    if step not in STEPS:
        raise text.unknown("step", step, STEPS)
    limits.whole("repeats", repeats, least=3)
    call = _call(built, step, batch, context)
    with Marks(built) as marks:
        for _ in range(2):
            marks.one(call)
        runs = [marks.one(call) for _ in range(repeats)]
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    number = len(built.model.model.layers)
    layers = [[run[f"layer {i}"] for run in runs] for i in range(number)]
    return {
        "layers_ms": [statistics.median(one) for one in layers],
        "layers_low_ms": [min(one) for one in layers],
        "layers_high_ms": [max(one) for one in layers],
        **{f"{part}_ms": [median[f"{part} {i}"] for i in range(number)] for part in PARTS},
        "embedding_ms": median["embedding"],
        "last_norm_ms": median["last norm"],
        "head_ms": median["head"],
        "calls": repeats,
    }


def _call(built: Built, step: str, batch: int, context: int):
    import torch

    attention.use(built.config)
    cache = attention.Static(built.config, batch, context, built.dtype, built.device)
    if step == "decode":
        return Step(built, cache, batch)
    tokens = torch.randint(built.config.vocab_size, (batch, context), device=built.device)
    places = torch.arange(context, device=built.device)[None]

    @torch.inference_mode()
    def read():
        built.model(
            tokens, past_key_values=cache, position_ids=places, use_cache=True, logits_to_keep=1
        )

    return read


class Marks:
    """Within it, a model's modules leave a mark when they begin and when they end."""

    def __init__(self, built: Built):
        self.device, self.left, self.hooks = built.device, [], []
        self.named = list(_named(built.model))

    def __enter__(self) -> "Marks":
        for name, module in self.named:
            before = module.register_forward_pre_hook(self._marking(name))
            self.hooks += [before, module.register_forward_hook(self._marking(name))]
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def one(self, call) -> dict[str, float]:
        """Milliseconds by name of one call; names that occur twice (norms) are summed."""
        timing.wait(self.device)
        if timing.on(self.device) == "cuda":
            self._pause(call)
        self.left.clear()
        call()
        timing.wait(self.device)
        spent: dict[str, float] = {}
        began: dict[str, object] = {}
        for name, mark in self.left:
            if name not in began:
                began[name] = mark
            else:
                spent[name] = spent.get(name, 0.0) + _between(began.pop(name), mark)
        return spent

    def _pause(self, call) -> None:
        """Hold the device for longer than the processor needs to queue the call."""
        if not hasattr(self, "queueing"):
            call()  # the first call also loads and chooses kernels
            timing.wait(self.device)
            started = time.perf_counter()
            call()
            self.queueing = time.perf_counter() - started
            timing.wait(self.device)
        timing.hold(1.5 * self.queueing)

    def _marking(self, name: str):
        def mark(*args) -> None:
            self.left.append((name, _now(self.device)))

        return mark


def _named(model):
    """(name, module) of every decoder layer, of its parts, and of what stands around them."""
    yield "embedding", model.model.embed_tokens
    for number, layer in enumerate(model.model.layers):
        yield f"layer {number}", layer
        for child, module in layer.named_children():
            part = "norm" if "norm" in child else "attention" if "attn" in child else child
            if part in PARTS:
                yield f"{part} {number}", module
    yield "last norm", model.model.norm
    yield "head", model.lm_head


def _now(device: str):
    if timing.on(device) == "cpu":
        return time.perf_counter()
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start, end) -> float:
    return 1e3 * (end - start) if isinstance(start, float) else start.elapsed_time(end)
