"""Time of one new token for each of several sequences, and of reading prompts.

Ways to launch the same step: "static", the modules of `transformers` over a cache of fixed size;
"graph", that step captured once as a CUDA graph and replayed, so that launching costs nothing.
Formats are compared in equal modes.

`transformers` grows its cache by copying it at every step, and masks a static one. Neither is part
of what a step must read, so the static cache here is as long as the context, every position in it
is attended to, and the query heads that share a key head are put before it as queries.
"""

import torch
from torch.nn.functional import scaled_dot_product_attention

from sizewise.quantization import tensor_bytes

from . import timing
from .recording import Refused

ATTENTION = "sizewise_static"  # as `transformers` knows `attend`
SAME = 0.1  # relative distance of logits: rounding is far below, other logits are far above


class Cache:
    """Keys and values of all layers at full length; a step writes its token in the last place.

    ``keys[layer]`` and ``values[layer]``: (batch, key heads, context, head width).
    """

    def __init__(self, model, batch: int, context: int, seed: int = 0):
        config, draws = model.config, torch.Generator(model.device).manual_seed(seed)
        width = getattr(config, "head_dim", None) or (
            config.hidden_size // config.num_attention_heads
        )
        shape = (batch, config.num_key_value_heads, context, width)
        self.keys, self.values = (
            [
                torch.empty(shape, dtype=model.dtype, device=model.device).normal_(generator=draws)
                for _ in range(config.num_hidden_layers)
            ]
            for _ in range(2)
        )
        self.context = context

    @property
    def nbytes(self) -> int:
        return sum(item.nbytes for item in (*self.keys, *self.values))

    def update(self, keys, values, layer: int, *args, **kwargs):
        """Write the keys and values (batch, key heads, tokens, width) of the last tokens."""
        tokens = keys.shape[2]
        self.keys[layer][:, :, -tokens:].copy_(keys)
        self.values[layer][:, :, -tokens:].copy_(values)
        return self.keys[layer], self.values[layer]

    def get_seq_length(self, layer: int = 0) -> int:
        """Tokens before this step's one."""
        return self.context - 1


def attend(module, query, key, value, attention_mask=None, scaling=None, **kwargs):
    """Attention of one new token to the whole cache, or of a prompt to itself.

    query (batch, heads, tokens, width); key and value (batch, key heads, context, width). One
    token: query heads of one key head become queries (batch, key heads, group, width), so that
    each key is read once for all of them. A prompt: causal, as long as its keys.
    Raises ValueError for a mask, which nothing here needs, and for a part of a prompt.
    """
    batch, heads, tokens, width = query.shape
    if attention_mask is not None or tokens not in (1, key.shape[2]):
        raise ValueError("only one token after a cache, or a whole prompt, without a mask")
    if tokens == 1:
        packed = query.reshape(batch, key.shape[1], -1, width)  # (B, key heads, group, width)
        out = scaled_dot_product_attention(packed, key, value, scale=scaling)
        out = out.reshape(batch, heads, 1, width)
    else:
        if query.dtype == torch.float32:  # the kernel for fp32 knows no groups
            group = heads // key.shape[1]
            key, value = (item.repeat_interleave(group, 1) for item in (key, value))
        out = scaled_dot_product_attention(
            query, key, value, is_causal=True, scale=scaling, enable_gqa=key.shape[1] != heads
        )
    return out.transpose(1, 2).contiguous(), None  # (B, tokens, heads, width)


def measure(model, kind: str, mode: str, batch: int, context: int) -> dict:
    """Milliseconds of a "decode" step after ``context - 1`` tokens in each of ``batch`` sequences,
    or of a "prefill" of as many prompts, with logits of the last token of each.

    A decode step looks up the last tokens, runs every layer over the whole cache, and takes the
    most likely next tokens, from which the next step goes on. ``mode`` is "static" or "graph".
    Raises `Refused` and `Worn` for what this device cannot do.
    """
    tokens, device = context if kind == "prefill" else 1, model.device.type
    step = Step(model, batch, context, tokens, mode)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    took = timing.time_calls(step, device)
    if not torch.isfinite(step.logits).all():
        raise Refused("not recorded: the logits are not finite")
    joules = None if took.joules is None else took.joules / (took.calls * batch * tokens)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    return took.columns("step_ms", 1e3) | {
        "calls": took.calls,
        "joules_per_token": joules,
        "model_bytes": tensor_bytes.measure_bytes(model).total,
        "cache_bytes": step.cache.nbytes,
        "peak_bytes": peak,
    }


class Step:
    """One greedy step over a static cache, or a prompt of ``tokens`` tokens that fills it.

    ``tokens`` (batch, tokens); ``logits`` (batch, 1, vocabulary). In the mode "graph" the
    step is captured and a call replays it. Raises `Refused` on a device without graphs, for a step
    that no graph holds, and if what is replayed does not give the logits of the plain step.
    """

    def __init__(self, model, batch: int, context: int, tokens: int = 1, mode="static"):
        from transformers import AttentionInterface

        AttentionInterface.register(ATTENTION, attend)
        model.config._attn_implementation = ATTENTION
        self.model, self.cache = model, Cache(model, batch, context)
        self.tokens = torch.randint(model.config.vocab_size, (batch, tokens), device=model.device)
        places = torch.arange(context - tokens, context, device=model.device)
        self.places, self.logits = places[None], None
        self.run = self.plain
        if mode == "graph":
            self.prepare(model.device.type)

    def plain(self) -> None:
        out = self.model(
            self.tokens,
            past_key_values=self.cache,
            position_ids=self.places,
            use_cache=True,
            logits_to_keep=1,
        )
        self.logits = out.logits
        if self.tokens.shape[1] == 1:
            self.tokens.copy_(self.logits[:, -1].argmax(-1, keepdim=True))

    @torch.inference_mode()
    def __call__(self) -> None:
        self.run()

    @torch.inference_mode()
    def prepare(self, device: str) -> None:
        """Capture the step, and compare its logits with those of the plain one."""
        if device != "cuda":
            raise Refused("only a GPU has graphs")
        before = self.tokens.clone()
        self.plain()
        expected = self.logits.clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                self.plain()
        torch.cuda.current_stream().wait_stream(side)
        self.run = timing.capture(self.plain).replay
        self.tokens.copy_(before)
        self.logits.fill_(float("nan"))  # what a replay leaves out will show
        self.run()
        distance = (self.logits.float() - expected.float()).norm() / expected.float().norm()
        if not distance < SAME:
            raise Refused(f"not timed: its logits differ from the plain step's by {distance:.2g}")
