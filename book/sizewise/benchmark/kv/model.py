"""A whole model over a cache: the time of a step, and how many tokens fit beside its weights."""

from sizewise.benchmark import graph_timing, model, timing

from . import checks, methods
from .inputs import PACKED, Bench, bits, vector_bytes

SPARE = 2 << 30  # bytes to work with beside weights and cache
NAME = "sizewise_plain"  # as `transformers` knows the attention below


def decode(config: dict, bench: Bench) -> dict:
    """A step of a whole model with random weights: one token for each sequence."""
    import torch

    from sizewise.quantization.kv.cache import held_bytes

    method, batch = config["method"], config["batch"]
    if method != "plain-dynamic" and bench.triton:
        checks.demand(_kernel(method), _launch(config, bench), bench)
    one = model.build(config["model"], "bf16" if bench.device == "cuda" else "fp32", bench.device)
    one.config._attn_implementation = _attention(config, bench)
    with torch.inference_mode():
        cache = _cache(method, one.config)
        _fill(cache, one, batch, config["context"] - 1)
        back = _rewind(cache, method)
        tokens = torch.randint(one.config.vocab_size, (batch, 1), device=bench.device)

        def forward():
            one.model(tokens, past_key_values=cache, use_cache=True)

        def step():
            forward()
            back()

        told = graph_timing.timed([step], bench.device)
        forward()
    return told | {"bytes": held_bytes(cache), "tokens_per_second": 1e6 * batch / told["us"]}


def capacity(config: dict, bench: Bench) -> dict:
    """Tokens of one sequence that fit beside the model's bf16 weights, allocated to be sure."""
    import torch

    from sizewise.models import parameters

    if timing.on(bench.device) == "cpu":
        raise RuntimeError("what fits is measured on a GPU only")
    described = parameters.describe(config["model"])
    each = sum(
        layer.attention.kv_heads * 2 * vector_bytes(config["method"], layer.attention.head_dim)
        for layer in described.layers
    )  # bytes a token
    free = torch.cuda.mem_get_info()[0] - 2 * described.total - SPARE
    if free < each:
        raise RuntimeError(f"the weights, {2 * described.total / 1e9:.0f} GB, leave no room")
    tokens = int(free // each)
    weights = torch.empty(2 * described.total, dtype=torch.uint8, device=bench.device)
    held = torch.empty(tokens * each, dtype=torch.uint8, device=bench.device)
    return {"tokens": tokens, "bytes": held.numel(), "weight_bytes": weights.numel()}


def _cache(method: str, config):
    from transformers import DynamicCache

    from sizewise.quantization.kv.cache import TurboQuantCache

    if method == "plain-dynamic":
        return DynamicCache(config=config)
    if method == "plain-triton":
        return TurboQuantCache(config, keys="plain", values="plain")
    return TurboQuantCache(config, bits=bits(method), fused=True)


def _fill(cache, one: model.Built, batch: int, tokens: int) -> None:
    """The same random keys and values in all layers."""
    import torch

    heads, dim = one.config.num_key_value_heads, one.config.head_dim
    x = torch.randn(batch, heads, tokens, dim, device=one.device, dtype=one.dtype)
    for number in range(one.config.num_hidden_layers):
        layer = cache.layers[number]
        if not hasattr(layer, "sides"):
            cache.update(x, x, number)  # which copies
            continue
        layer.lazy_initialization(x, x)  # as update does, without decoding what nobody reads
        layer.seen = tokens
        for side in layer.sides:
            side.append(x)


def _rewind(cache, method: str):
    """A function that forgets the token of a step.

    `transformers`' cache is copied by each step; it goes back to what it held before, which a
    graph's replays read, so it must stay.
    """
    if method != "plain-dynamic":
        return lambda: cache.crop(-1)
    before = [(layer.keys, layer.values) for layer in cache.layers]

    def back():
        for layer, (keys, values) in zip(cache.layers, before, strict=True):
            layer.keys, layer.values = keys, values

    return back


def _kernel(method: str) -> str:
    """The method that attends to a single token in a model."""
    return "bf16-triton" if method == "plain-triton" else method


def _launch(config: dict, bench: Bench):
    return methods.tuning(config | {"method": _kernel(config["method"])}, bench)


def _attention(config: dict, bench: Bench) -> str:
    """The name of a method's attention, without a mask where a single token sees all there is.

    Tensors get torch's attention from it, as by "sdpa"; but "sdpa" itself makes a mask while a
    graph is captured (`transformers` 5.17), and with a mask torch takes another kernel.
    """
    from sizewise.quantization.kernels import hf_attention

    method = config["method"]
    name = hf_attention.register(_launch(config, bench) if method in PACKED else None)
    if method != "plain-triton":
        return name
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    launch = _launch(config, bench)

    def forward(module, query, key, value, attention_mask, scaling=None, **options):
        """The plain kernel for single tokens, torch's attention for prompts."""
        import torch

        if query.shape[2] > 1 or attention_mask is not None or not bench.triton:
            return hf_attention.forward(
                module, query, key, value, attention_mask, scaling, None, **options
            )
        lengths = torch.full((len(query),), key.shape[2], dtype=torch.int32, device=query.device)
        single = query[:, :, 0]  # (batch, query heads, d)
        out = methods.attend(single, key, value, lengths, "bf16-triton", launch, bench)
        return out[:, None], None

    AttentionInterface.register(NAME, forward)
    AttentionMaskInterface.register(NAME, ALL_MASK_ATTENTION_FUNCTIONS[name])
    return NAME
