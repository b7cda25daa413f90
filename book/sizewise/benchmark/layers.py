"""Time by layer and by part of a layer: where in a model a step's time goes.

Events are put before and after decoder layers and their parts, a few layers in a call and the rest
unmarked. On a GPU the first of the few empties the device and holds it until all of them are
queued, so that the device never waits for the processor between two events and each interval is
the device's own time. All layers at once would not fit: a GPU's queue takes about a thousand
launches, a layer makes some forty, and behind a full queue the processor is waited for again.
An event costs a microsecond or two, which the parts of small models show; layers can be compared
with each other all the same.
"""

import statistics
import time

from sizewise import units, validation

from . import static_cache, timing
from .decode import Graph, NotCaptured, Step
from .model import Built

STEPS = ("decode", "prefill")
PARTS = ("attention", "mlp", "norm")
REPEATS = 7
TOGETHER = 10  # layers that are marked in one call
TRIES = 5  # at a hold that is long enough, each twice as long as the one before


def by_layer(
    built: Built, step: str, batch: int, context: int, repeats: int = REPEATS, **options
) -> dict[str, object]:
    """Milliseconds of each decoder layer, of its parts, and of what stands around the layers.

    Lists have one median over the ``repeats`` for each layer. Beside their sum stands the time of
    the same step without marks (``options`` are those of `timing.time_calls`). Raises ValueError
    for an unknown step and for fewer than three repeats, RuntimeError if no hold was long enough.
    """
    if step not in STEPS:
        raise units.unknown("step", step, STEPS)
    validation.whole("repeats", repeats, least=3)
    call = _call(built, step, batch, context)
    runs: list[dict[str, float]] = [{} for _ in range(repeats)]
    call()  # which also loads and chooses kernels
    for some in _chunks(list(_named(built.model))):
        with Marks(built.device, some) as marks:
            marks.one(call)
            for run in runs:
                run |= marks.one(call)
    median = {name: statistics.median(run[name] for run in runs) for name in runs[0]}
    number = len(built.model.model.layers)
    layers = [[run[f"layer {i}"] for run in runs] for i in range(number)]
    middle = [statistics.median(one) for one in layers]
    around = {
        "embedding_ms": median["embedding"],
        "last_norm_ms": median["last norm"],
        "head_ms": median["head"],
    }
    return {
        "layers_ms": middle,
        "layers_low_ms": [min(one) for one in layers],
        "layers_high_ms": [max(one) for one in layers],
        **{f"{part}_ms": [median[f"{part} {i}"] for i in range(number)] for part in PARTS},
        **around,
        "sum_ms": sum(middle) + sum(around.values()),
        "calls": repeats,
        **_unmarked(call, built.device, options),
    }


def _unmarked(call, device: str, options: dict) -> dict[str, object]:
    """The time of the step itself; a decode step in a graph, so that launching costs nothing."""
    ran, how = call, "static"
    if isinstance(call, Step) and timing.on(device) == "cuda":
        try:
            ran, how = Graph(call), "graph"
        except NotCaptured as error:
            if error.worn:
                raise
    took = timing.time_calls(ran, device, **options)
    return {
        "step_ms": 1e3 * took.median,
        "step_low_ms": 1e3 * took.low,
        "step_high_ms": 1e3 * took.high,
        "unmarked": how,
    }


def _call(built: Built, step: str, batch: int, context: int):
    import torch

    static_cache.use(built.config)
    cache = static_cache.Static(built.config, batch, context, built.dtype, built.device)
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
    """Within it, the ``named`` modules leave a mark when they begin and when they end.

    ``named``: (name, module) in the order in which a call begins them, of no more layers than the
    device's queue takes.
    """

    def __init__(self, device: str, named: list):
        self.device, self.named, self.left, self.hooks = device, named, [], []
        self.held = 0.0  # seconds that the device is held for them; 0 until they were tried once
        self.queueing, self.early = 0.0, False  # in the last call: seconds, and begun too early

    def __enter__(self) -> "Marks":
        for name, module in self.named:
            before = module.register_forward_pre_hook(self._marking(name))
            self.hooks += [before, module.register_forward_hook(self._marking(name))]
        return self

    def __exit__(self, *error) -> None:
        for hook in self.hooks:
            hook.remove()

    def one(self, call) -> dict[str, float]:
        """Milliseconds by name of one call; names that occur twice (norms) are summed.

        A call in which the device began before all was queued is made again, with a longer hold.
        """
        for _ in range(TRIES):
            if self._marked(call):
                return self._spent()
            self.held *= 2
        raise RuntimeError("the device begins with the layers before they are queued")

    def _marked(self, call) -> bool:
        """Whether the marks of one call are the device's own time."""
        timing.wait(self.device)
        self.left.clear()
        self.early = False
        call()
        timing.wait(self.device)
        if timing.on(self.device) == "cpu":
            return True
        if not self.held:  # how long queueing takes is known now
            self.held = 1.5 * self.queueing
            return self._marked(call)
        return not self.early

    def _spent(self) -> dict[str, float]:
        spent: dict[str, float] = {}
        began: dict[str, object] = {}
        for name, mark in self.left:
            if name not in began:
                began[name] = mark
            else:
                spent[name] = spent.get(name, 0.0) + _between(began.pop(name), mark)
        return spent

    def _marking(self, name: str):
        def mark(*args) -> None:
            if not self.left:
                self._begin()
            self.left.append((name, _now(self.device)))
            if len(self.left) == 2 * len(self.named):
                self._end()

        return mark

    def _begin(self) -> None:
        """Empty the device's queue, and hold it."""
        timing.wait(self.device)
        if timing.on(self.device) == "cuda" and self.held:
            timing.hold(self.held)
        self.started = time.perf_counter()

    def _end(self) -> None:
        self.queueing = time.perf_counter() - self.started
        if timing.on(self.device) == "cuda":  # the first mark passed: the hold was too short
            self.early = self.left[0][1].query()


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


def _chunks(named: list) -> list[list]:
    """The modules in their order, those of `TOGETHER` layers in a list."""
    found: list[list] = [[]]
    layers = 0
    for name, module in named:
        if name.startswith("layer "):
            if layers and layers % TOGETHER == 0:
                found.append([])
            layers += 1
        found[-1].append((name, module))
    return found


def _now(device: str):
    if timing.on(device) == "cpu":
        return time.perf_counter()
    import torch

    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _between(start, end) -> float:
    return 1e3 * (end - start) if isinstance(start, float) else start.elapsed_time(end)
