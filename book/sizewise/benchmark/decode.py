"""Time of one new token for each of several sequences, and of reading prompts.

Ways to launch the same step: "eager" as `transformers` does by itself, with its growing cache;
"static", the same modules over a cache of fixed size; "graph", that step captured once as a CUDA
graph and replayed, so that launching costs nothing. Formats are compared in equal modes.
"""

from sizewise import units, validation

from . import cuda_graphs, static_cache, timing
from .cuda_graphs import NotCaptured
from .model import Built

SAME = 0.1  # relative distance of logits: rounding is far below, other logits are far above
MODES = ("eager", "static", "graph")


def decode(built: Built, mode: str, batch: int, context: int, **options) -> dict:
    """Milliseconds of a step after ``context - 1`` tokens in each of ``batch`` sequences.

    A step looks up the last tokens, runs every layer over the whole cache, and takes the most
    likely next tokens, from which the next step goes on. Raises ValueError for an unknown mode,
    a step that is not finite, and `NotCaptured`.
    """
    step, cache_bytes = prepared(built, mode, batch, context)
    took = timing.time_calls(step, built.device, **options)
    _finite(step.logits)
    if mode == "eager":
        step.in_use()
    return _measured(took, batch, cache_bytes, timing.peak(built.device))


def prefill(built: Built, batch: int, context: int, **options) -> dict:
    """Milliseconds to read ``batch`` prompts of ``context`` tokens and fill their cache.

    Logits are computed for the last token of each prompt alone, as for generation.
    """
    import torch

    validation.whole("batch", batch), validation.whole("context", context, least=2)
    static_cache.use(built.config)
    tokens = torch.randint(built.config.vocab_size, (batch, context), device=built.device)
    cache = static_cache.Static(built.config, batch, context, built.dtype, built.device)
    places = torch.arange(context, device=built.device)[None]  # (1, context)
    left = []

    @torch.inference_mode()
    def read():
        out = built.model(
            tokens, past_key_values=cache, position_ids=places, use_cache=True, logits_to_keep=1
        )
        left[:] = [out.logits]

    took = timing.time_calls(read, built.device, **options)
    _finite(left[0])
    return _measured(took, batch * context, cache.nbytes, timing.peak(built.device))


def _measured(took: timing.Timing, tokens: int, cache_bytes: int, peak: int | None) -> dict:
    """The columns of a step of so many tokens."""
    return {
        "step_ms": 1e3 * took.median,
        "step_low_ms": 1e3 * took.low,
        "step_high_ms": 1e3 * took.high,
        "calls": took.calls,
        "tokens_per_second": tokens / took.median,
        "joules_per_token": None if took.joules is None else took.joules / (took.calls * tokens),
        "cache_bytes": cache_bytes,
        "peak_bytes": peak,
    }


def prepared(built: Built, mode: str, batch: int, context: int) -> tuple["Step", int]:
    """A step ready to be called, and the bytes of its cache."""
    if mode not in MODES:
        raise units.unknown("mode", mode, MODES)
    validation.whole("batch", batch), validation.whole("context", context, least=2)
    if mode == "eager":
        step = Eager(built, batch, context)
        return step, step.nbytes
    static_cache.use(built.config)
    cache = static_cache.Static(built.config, batch, context, built.dtype, built.device)
    step = Step(built, cache, batch)
    return (step if mode == "static" else Graph(step)), cache.nbytes


class Step:
    """One greedy step over a static cache. ``tokens`` (batch, 1), ``logits`` (batch, 1, vocab)."""

    def __init__(self, built: Built, cache, batch: int):
        import torch

        self.model, self.cache, self.device = built.model, cache, built.device
        self.tokens = torch.randint(built.config.vocab_size, (batch, 1), device=built.device)
        self.places = torch.full((1, 1), cache.context - 1, device=built.device)
        self.logits = None

    def __call__(self) -> None:
        import torch

        with torch.inference_mode():
            self.logits = self.model(
                self.tokens, past_key_values=self.cache, position_ids=self.places, use_cache=True
            ).logits
            self.tokens.copy_(self.logits[:, -1].argmax(-1, keepdim=True))


class Graph:
    """A step captured once: a call replays its kernels from one launch.

    Raises NotCaptured on a device without graphs, for a step that waits for the device in its
    middle (found by a run that forbids waiting), and for a capture that breaks off, after which
    the process is good for nothing more: then ``worn`` is set on the error. Raises ValueError if
    a replay does not give the logits of the step itself.
    """

    def __init__(self, step: Step):
        import torch

        if timing.on(step.device) != "cuda":
            raise NotCaptured("only a GPU has graphs")
        self.step = step
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                step()
            before = step.tokens.clone()
            cuda_graphs.without_waiting(step)
            wanted = step.logits.clone()
        torch.cuda.current_stream().wait_stream(side)
        self.graph = cuda_graphs.captured(step)
        with torch.inference_mode():
            step.tokens.copy_(before)
            step.logits.fill_(float("nan"))  # what a replay leaves out will show
            self.graph.replay()
            apart = (step.logits.float() - wanted.float()).norm() / wanted.float().norm()
        if not apart < SAME:
            raise ValueError(f"the graph's logits differ from the step's by {apart:.2g}")

    @property
    def logits(self):
        return self.step.logits

    def __call__(self) -> None:
        self.graph.replay()


class Eager:
    """`transformers` as it comes: its own attention (sdpa) and its growing cache."""

    def __init__(self, built: Built, batch: int, context: int):
        import torch
        from transformers import DynamicCache

        built.config._attn_implementation = "sdpa"
        before = static_cache.Static(built.config, batch, context - 1, built.dtype, built.device)
        self.model, self.nbytes = built.model, before.nbytes // (context - 1) * context
        self.device = built.device
        self.tokens = torch.randint(built.config.vocab_size, (batch, 1), device=built.device)
        self.cache, self.logits = DynamicCache(config=built.config), None
        for layer, (keys, values) in enumerate(zip(before.keys, before.values, strict=True)):
            self.cache.update(keys, values, layer)
        # Its layers hold copies; the step goes back to them, and so forgets its token again.
        self.before = [(layer.keys, layer.values) for layer in self.cache.layers]

    def __call__(self) -> None:
        import torch

        with torch.inference_mode():
            out = self.model(self.tokens, past_key_values=self.cache, use_cache=True)
            self.logits = out.logits
            self.tokens.copy_(out.logits[:, -1].argmax(-1, keepdim=True))
        if self.before is None:
            return
        for layer, (keys, values) in zip(self.cache.layers, self.before, strict=True):
            layer.keys, layer.values = keys, values

    def in_use(self) -> None:
        """A step that does not go back, and so holds its cache once, as in use; its peak counts.

        The cache is a token longer after it, and each step after it makes it longer by another.
        """
        self.before = self.logits = None
        timing.reset_peak(self.device)
        self()


def _finite(logits) -> None:
    import torch

    if not torch.isfinite(logits).all():
        raise ValueError("the logits are not finite")
