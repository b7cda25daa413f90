"""From a `transformers` configuration to an `architecture.Model`, without torch."""

import math

from .architecture import Compressed, Cross, Grouped, Latent, Layer, Model, StateSpace

# Names of (heads, head width, state width, groups, convolution width) in Mamba-2's relatives.
MAMBA2 = dict.fromkeys(
    ("bamba", "falcon_h1", "granitemoehybrid"),
    ("mamba_n_heads", "mamba_d_head", "mamba_d_state", "mamba_n_groups", "mamba_d_conv"),
) | {
    "mamba2": ("num_heads", "head_dim", "state_size", "n_groups", "conv_kernel"),
    "nemotron_h": (
        "mamba_num_heads",
        "mamba_head_dim",
        "ssm_state_size",
        "n_groups",
        "conv_kernel",
    ),
    "zamba2": ("n_mamba_heads", "mamba_headdim", "mamba_d_state", "mamba_ngroups", "mamba_d_conv"),
}
# Their states and caches have shapes of their own, which nothing below would tell.
MAX_CONTEXT = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "max_sequence_length",
    "model_max_length",
    "max_target_positions",
)
UNDESCRIBED = frozenset({"rwkv", "xlstm", "zaya", "cpmant", "reformer", "xlnet"})
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
TOP_K = (
    "num_experts_per_tok",
    "num_experts_per_token",
    "moe_topk",
    "moe_top_k",
    "moe_k",
    "top_k_experts",
    "experts_per_token",
    "n_activated_experts",
)
# By definition of the architecture: Fedus et al. 2021, section 2.1; NLLB team 2022, section 6.2.
FIXED_TOP_K = {"switch_transformers": 1, "nllb-moe": 2}
GENERATES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")


def from_config(
    config, total: int | None = None, active: int | None = None, name: str | None = None
) -> Model:
    """Describe a `transformers` configuration; of a multimodal one, the text part.

    ``total`` and ``active`` are parameter counts from elsewhere (`parameters`); without experts
    ``active`` is ``total`` unless given. Nothing of torch is imported or built. An encoder has
    layers that keep nothing; of an encoder-decoder the decoder's layers are described, each with
    what it attends to of the encoder.
    Raises ValueError, in one line, for layer types and state spaces whose cache is not described
    here, and for shapes that the configuration does not state.
    """
    label = getattr(config, "model_type", "") or type(config).__name__
    pair = bool(getattr(config, "is_encoder_decoder", False))
    try:
        text = config if pair else config.get_text_config(decoder=True)
    except AttributeError:
        text = config  # a plain object with the same fields
    except ValueError as error:
        raise ValueError(f"{label}: which part is the language model? {error}") from error
    kind = getattr(text, "model_type", label)
    if kind in UNDESCRIBED or kind.startswith("rwkv"):
        raise ValueError(f"{kind}: its cache is not described here")
    encoder = not pair and _is_encoder(config, text)
    layers = _decoder(text) if pair else _layers(text, kind, _image_tokens(config))
    if encoder:
        layers = tuple(Layer() for _ in layers)
    experts, used = routing(text)
    if not experts or not used or experts < 2:
        experts = used = None
    vocab, hidden = _need(text, "vocab_size"), _need(text, "hidden_size")
    width = getattr(text, "word_embed_proj_dim", None) or hidden  # OPT-350M embeds in 512
    per_layer = getattr(text, "hidden_size_per_layer_input", 0) or 0  # Gemma 3n and 4
    per_layer *= (getattr(text, "vocab_size_per_layer_input", 0) or 0) * len(layers)
    tied = getattr(config, "tie_word_embeddings", False)
    return Model(
        name=name or label,
        total=total,
        active=total if active is None and not experts else active,
        layers=layers,
        hidden_size=hidden,
        vocab_size=vocab,
        embedding=vocab * width + per_layer,
        lookup=per_layer + (0 if tied else vocab * width),
        max_context=first_stated(text, MAX_CONTEXT),
        config_type=kind,
        experts=experts,
        experts_per_token=used,
        mlp_width=_mlp_width(text, hidden, used),
        kind="encoder-decoder" if pair else "encoder" if encoder else "decoder",
    )


def _is_encoder(config, text) -> bool:
    """BERT and its relatives, unless a class that generates is named.

    Fields that only say so are not enough: some decoders' files state ``is_decoder: false``,
    a default written out.
    """
    names = [str(n) for part in (config, text) for n in getattr(part, "architectures", None) or ()]
    if any(name.endswith(GENERATES) for name in names):
        return False
    crosses = getattr(text, "add_cross_attention", None)
    return crosses is False and getattr(text, "is_decoder", True) is False


def _decoder(text) -> tuple[Layer, ...]:
    """The layers of an encoder-decoder's decoder: T5's and BART's families."""
    text = getattr(text, "decoder", text)
    if isinstance(text, dict):
        raise ValueError("an encoder-decoder whose decoder is not described here")
    heads = first_stated(text, ("decoder_attention_heads", "num_heads", "num_attention_heads"))
    depth = first_stated(
        text, ("decoder_layers", "num_decoder_layers", "num_layers", "num_hidden_layers")
    )
    if not heads or not depth:
        raise ValueError("an encoder-decoder that states no decoder's heads and layers")
    width = first_stated(text, ("d_kv", "head_dim")) or _need(text, "hidden_size") // heads
    positions = first_stated(text, ("max_source_positions",))  # Whisper: 1,500 frames of sound
    layer = Layer(Grouped(heads, heads, width, width), cross=Cross(heads, heads, width, positions))
    return (layer,) * depth


def _image_tokens(config) -> int:
    """Tokens of one image that Llama 3.2 Vision's cross-attention keeps, tiles at their most."""
    vision = getattr(config, "vision_config", None)
    size, patch = (first_stated(vision, (field,)) for field in ("image_size", "patch_size"))
    tiles = first_stated(vision, ("max_num_tiles",))
    return tiles * ((size // patch) ** 2 + 1) if size and patch and tiles else 0


def _layers(text, kind: str, image_tokens: int = 0) -> tuple[Layer, ...]:
    """One `Layer` a layer; equal ones are one object, so ten thousand cost little."""
    mixed = getattr(text, "is_heterogeneous", False)  # Gemma 4: other head sizes in global layers
    parts = list(text.per_layer_config) if mixed else []
    depth = len(parts) if mixed else _need(text, "num_hidden_layers")
    types = getattr(text, "layer_types", None)
    if types is None:  # the same inference as `transformers.cache_utils`
        windowed = getattr(text, "sliding_window", None) is not None
        chunked = getattr(text, "attention_chunk_size", None) is not None
        common = "sliding" if windowed else "chunked" if chunked else "full"
        types = [f"{common}_attention"] * depth
    if len(types) != depth:
        raise ValueError(f"{kind}: {len(types)} layer types for {depth} layers")
    keys = getattr(text, "kv_sharing_modes", None) or [None] * depth  # Gemma 3n and 4
    index = getattr(text, "indexer_types", None) or [None] * depth  # one indexer, several layers
    crossing = set(getattr(text, "cross_attention_layers", None) or ()) if image_tokens else set()
    distinct: dict[tuple, Layer] = {}
    layers = []
    for number, layer_type in enumerate(types):
        if number in crossing:
            inner = _grouped(text, kind, None, False)
            shape = (inner.query_heads, inner.kv_heads, inner.head_dim)
            layers.append(Layer(cross=Cross(*shape, image_tokens)))
            continue
        borrows = keys[number] == "reuse" or index[number] == "shared"
        key = (layer_type, borrows, number if mixed else None)
        if key not in distinct:
            distinct[key] = _layer(parts[number] if mixed else text, kind, layer_type, borrows)
        layers.append(distinct[key])
    return tuple(layers)


def _layer(part, kind: str, layer_type: str, borrows: bool) -> Layer:
    """``borrows``: the layer reads another's keys and values, or another's index."""
    if layer_type in ("moe", "mlp"):
        return Layer()
    if layer_type in ("linear_attention", "conv"):
        return Layer(state=_state(part, kind, layer_type))
    if layer_type == "hybrid":
        return Layer(_grouped(part, kind, None, borrows), _state(part, kind, layer_type))
    if kind == "deepseek_v4":
        return Layer(_compressed(part, layer_type))
    indexed = layer_type == "indexed_attention"
    window_field = {
        "full_attention": None,
        "indexed_attention": None,
        "sliding_attention": "sliding_window",
        "chunked_attention": "attention_chunk_size",
    }
    if layer_type not in window_field or (indexed and not getattr(part, "kv_lora_rank", None)):
        raise ValueError(f"{kind}: the cache of a {layer_type!r} layer is not described here")
    if getattr(part, "kv_lora_rank", None):
        return Layer(_latent(part, indexed, borrows))
    stated = window_field[layer_type]
    window = _need(part, stated) if stated else None
    return Layer(_grouped(part, kind, window, borrows))


def _grouped(part, kind: str, window: int | None, shares_kv: bool) -> Grouped:
    heads = _need(part, "num_attention_heads")
    if kind == "falcon":
        multi = 1 if part.multi_query else heads
        kv_heads = part.num_kv_heads if part.new_decoder_architecture else multi
    else:
        kv_heads = getattr(part, "num_key_value_heads", None) or heads
    if kind == "mimo_v2_flash" and window:
        kv_heads *= 2  # its class doubles them in windowed layers; no field says so
    if heads % kv_heads:
        raise ValueError(f"{kind}: {heads} attention heads are no multiple of {kv_heads} KV heads")
    head_dim = getattr(part, "head_dim", None) or _need(part, "hidden_size") // heads
    value_dim = getattr(part, "v_head_dim", None) or head_dim
    return Grouped(heads, kv_heads, head_dim, value_dim, window, shares_kv)


def _latent(part, indexed: bool, borrows: bool) -> Latent:
    index = (0, 0, None)
    if indexed:
        index = (part.index_n_heads, part.index_head_dim, part.index_topk)
    if borrows:
        index = (0, 0, index[2])
    return Latent(
        _need(part, "num_attention_heads"),
        _need(part, "kv_lora_rank"),
        _need(part, "qk_rope_head_dim"),
        _need(part, "qk_nope_head_dim"),
        _need(part, "v_head_dim"),
        *index,
    )


def _compressed(part, layer_type: str) -> Compressed:
    shape = (_need(part, "num_attention_heads"), _need(part, "head_dim"))
    window = _need(part, "sliding_window")
    if layer_type == "sliding_attention":
        return Compressed(*shape, window)
    if layer_type not in part.compress_rates:
        raise ValueError(f"deepseek_v4: the cache of a {layer_type!r} layer is not described here")
    rate = part.compress_rates[layer_type]
    if layer_type != "compressed_sparse_attention":
        return Compressed(*shape, window, rate)
    index = (part.index_n_heads, part.index_head_dim, part.index_topk)
    return Compressed(*shape, window, rate, True, *index)


def _state(part, kind: str, layer_type: str) -> StateSpace:
    if layer_type == "conv":  # LFM2
        return StateSpace("convolution", (_need(part, "hidden_size"), part.conv_L_cache))
    if kind in MAMBA2:
        heads, width, state, groups, kernel = (_need(part, field) for field in MAMBA2[kind])
        return StateSpace(
            "mamba2", (heads * width + 2 * groups * state, kernel), (heads, width, state)
        )
    if kind in ("mamba", "falcon_mamba"):
        inner = part.intermediate_size
        return StateSpace("mamba", (inner, part.conv_kernel), (inner, part.state_size))
    if kind in ("jamba", "zamba"):
        inner = part.mamba_expand * part.hidden_size
        return StateSpace("mamba", (inner, part.mamba_d_conv), (inner, part.mamba_d_state))
    if kind == "minimax":
        heads = part.num_attention_heads
        head_dim = getattr(part, "head_dim", None) or part.hidden_size // heads
        return StateSpace("lightning", (), (heads, head_dim, head_dim), in_model_format=True)
    if kind == "recurrent_gemma":  # keeps its state in its modules, not in the cache object
        return StateSpace("rg_lru", (part.lru_width, part.conv1d_width - 1), (part.lru_width,))
    if hasattr(part, "linear_num_value_heads"):  # Qwen3-Next, Qwen3.5, OLMo hybrid
        keys = (part.linear_num_key_heads, part.linear_key_head_dim)
        values = (part.linear_num_value_heads, part.linear_value_head_dim)
        conv = (2 * math.prod(keys) + math.prod(values), part.linear_conv_kernel_dim)
        return StateSpace("delta", conv, (values[0], keys[1], values[1]))
    if hasattr(part, "linear_head_dim"):  # Kimi Linear, Bailing hybrid
        heads, width = part.linear_num_heads, part.linear_head_dim
        conv = (3 * heads * width, part.linear_conv_kernel_dim)
        return StateSpace("delta", conv, (heads, width, width))
    raise ValueError(f"{kind}: the state of a {layer_type!r} layer is not described here")


def routing(text) -> tuple[int | None, int | None]:
    """Routed experts a layer and how many of them a token uses; None for what is not stated."""
    inner = getattr(text, "ffn_config", None)  # DBRX
    experts = first_stated(text, EXPERTS) or first_stated(inner, EXPERTS)
    used = FIXED_TOP_K.get(getattr(text, "model_type", ""))
    used = used or first_stated(text, TOP_K) or first_stated(inner, TOP_K)
    return experts, used


def _mlp_width(text, hidden: int, used: int | None) -> int:
    dense = getattr(text, "intermediate_size", None)
    dense = max(dense) if isinstance(dense, list | tuple) and dense else dense
    dense = dense or first_stated(text, ("ffn_dim", "n_inner", "ffn_hidden_size")) or 4 * hidden
    if not used:
        return dense
    inner = getattr(text, "ffn_config", None)
    inner_width = first_stated(text, ("moe_intermediate_size", "expert_ffn_hidden_size"))
    inner_width = inner_width or first_stated(inner, ("ffn_hidden_size",)) or dense
    shared = first_stated(text, ("n_shared_experts", "num_shared_experts")) or 0
    shared = first_stated(text, ("shared_expert_intermediate_size",)) or shared * inner_width
    return used * inner_width + shared


def _need(part, field: str) -> int:
    value = getattr(part, field, None)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        kind = getattr(part, "model_type", type(part).__name__)
        raise ValueError(f"{kind}: the configuration states no usable {field} ({value!r})")
    return value


def first_stated(part, fields: tuple[str, ...]) -> int | None:
    """The first of these fields that is a positive integer; of a list, one a layer, its largest."""
    for field in fields:
        value = part.get(field) if isinstance(part, dict) else getattr(part, field, None)
        if isinstance(value, list | tuple) and value and all(type(n) is int for n in value):
            value = max(value)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
