"""The parameters of an architecture that `transformers` has no class for, from its fields.

An estimate and labelled as one. It reads what nearly every decoder's configuration states: widths,
heads, experts, latent attention. What only the model's own code knows, such as extra gates or
norms, it misses. ``data/conformance.json`` holds its error on models whose count is known.
"""

from types import SimpleNamespace
from typing import Any

from .architecture import Tensors

# The field's usual names, each with the others seen on the hub.
ALIASES = {
    "hidden_size": ("n_embd", "n_embed", "d_model", "dim", "model_dim"),
    "num_hidden_layers": ("num_layers", "n_layer", "n_layers", "num_decoder_layers"),
    "num_attention_heads": ("n_head", "n_heads", "num_heads", "decoder_attention_heads"),
    "num_key_value_heads": ("num_kv_heads", "n_kv_heads", "multi_query_group_num", "n_head_kv"),
    "head_dim": ("attention_head_dim", "kv_channels", "d_kv"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "d_ff", "ffn_dim", "inter_dim"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_inter_dim", "expert_hidden_size"),
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "seq_length", "model_max_length"),
    "num_experts": ("num_local_experts", "n_routed_experts", "moe_num_experts"),
    "num_experts_per_tok": (
        "num_experts_per_token", "moe_topk", "moe_top_k", "moe_k", "top_k_experts",
        "experts_per_token", "n_activated_experts",
    ),
    "num_shared_experts": ("n_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "first_k_dense_replace": ("n_dense_layers", "moe_layer_start_index"),
}  # fmt: skip
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def fields(raw: dict[str, Any]) -> dict[str, Any]:
    """The text part of a configuration under the field's usual names."""
    text = next(
        (raw[key] for key in ("text_config", "llm_config", "language_config")
         if isinstance(raw.get(key), dict)),
        {},
    )  # fmt: skip
    merged = {k: v for k, v in raw.items() if not isinstance(v, dict)} | text
    for name, others in ALIASES.items():
        shape_of = [merged[key] for key in (name, *others) if merged.get(key) is not None]
        if shape_of:
            value = shape_of[0]
            merged[name] = max(value) if isinstance(value, list) and value else value
    return merged


def accuracy() -> str:
    """How far the estimate is off where the count is known, in one line."""
    from sizewise.data import records

    shape_of = records.facts_json("model_shapes")
    if not shape_of or "estimate" not in shape_of:
        return "its error is not known"
    error = shape_of["estimate"]
    return (
        f"on {error['models']} models whose count is known this estimate is off by at most "
        f"{error['median']:.1%} for half, {error['nine_in_ten']:.0%} for nine in ten and "
        f"{error['worst']:.0%} for the worst"
    )


def possible(raw: dict[str, Any]) -> bool:
    """Whether a configuration states enough to estimate from."""
    shape_of = fields(raw)
    if shape_of.get("is_encoder_decoder") or shape_of.get("hybrid_override_pattern"):
        return False  # an encoder, or layers of kinds that its letters name and nothing here knows
    return all(type(shape_of.get(name)) is int and shape_of[name] > 0 for name in NEEDED)


def config(raw: dict[str, Any]) -> SimpleNamespace:
    """A plain configuration for `from_config`, with a layer's kind where lists state it."""
    shape_of = fields(raw)
    depth = shape_of["num_hidden_layers"]
    if shape_of.get("head_dim") is None:
        shape_of["head_dim"] = shape_of["hidden_size"] // shape_of["num_attention_heads"]
    linear = shape_of.get("linear_attn_config")
    if isinstance(linear, dict) and linear.get("full_attn_layers"):
        full = set(linear["full_attn_layers"])
        shape_of["layer_types"] = [
            "full_attention" if n + 1 in full else "linear_attention" for n in range(depth)
        ]
        shape_of["linear_num_heads"], shape_of["linear_head_dim"] = (
            linear["num_heads"],
            linear["head_dim"],
        )
        shape_of["linear_conv_kernel_dim"] = linear["short_conv_kernel_size"]
    kinds = shape_of.get("attn_type_list")
    if isinstance(kinds, list) and len(kinds) == depth:  # MiniMax-Text-01: 1 is softmax attention
        shape_of["layer_types"] = [
            "full_attention" if kind else "linear_attention" for kind in kinds
        ]
        shape_of["model_type"] = "minimax"
    if shape_of.get("use_sliding_window") is False:
        shape_of["sliding_window"] = None
    return SimpleNamespace(**shape_of)


def tensors(raw: dict[str, Any]) -> tuple[Tensors, ...]:
    """The tensors that such a model would have: a decoder with gated MLPs and RMS norms.

    Raises ValueError if the fields do not even state width, depth, heads and vocabulary.
    """
    if not possible(raw):
        shape_of = fields(raw)
        missing = [n for n in NEEDED if type(shape_of.get(n)) is not int or shape_of[n] < 1]
        raise ValueError(f"states no {' and no '.join(missing)}")
    shape_of = vars(config(raw))
    width, depth, vocab = (shape_of[n] for n in ("hidden_size", "num_hidden_layers", "vocab_size"))
    every = tuple(range(depth))
    linear = tuple(
        n for n, kind in enumerate(shape_of.get("layer_types") or ()) if kind == "linear_attention"
    )
    rows = [Tensors("embed_tokens.weight", "input embedding", (vocab, width))]
    softmax = tuple(n for n in every if n not in set(linear))
    rows += [_row(name, "attention", shape, softmax) for name, shape in _attention(shape_of, width)]
    if linear:
        rows += [_row(n, "state space", shape, linear) for n, shape in _linear(shape_of, width)]
    rows += _mlps(shape_of, width, every)
    rows.append(_row("input_layernorm.weight", "norm", (width,), every))
    rows.append(_row("post_attention_layernorm.weight", "norm", (width,), every))
    rows.append(Tensors("norm.weight", "norm", (width,)))
    if not shape_of.get("tie_word_embeddings", False):
        rows.append(Tensors("lm_head.weight", "output head", (vocab, width)))
    return tuple(row for row in rows if row.count)


def _row(name: str, kind: str, shape: tuple[int, ...], layers: tuple[int, ...]) -> Tensors:
    return Tensors(f"layers.*.{name}", kind, shape, len(layers), layers)


def _attention(shape_of: dict, width: int) -> list[tuple[str, tuple[int, ...]]]:
    heads = shape_of["num_attention_heads"]
    rank = shape_of.get("kv_lora_rank")
    if isinstance(rank, int) and rank > 0:  # multi-head latent attention, DeepSeek-V2, section 2.1
        nope, rope = shape_of.get("qk_nope_head_dim", 128), shape_of.get("qk_rope_head_dim", 64)
        value, low = shape_of.get("v_head_dim", 128), shape_of.get("q_lora_rank")
        queries = heads * (nope + rope)
        shapes = [
            ("self_attn.kv_a_proj_with_mqa.weight", (rank + rope, width)),
            ("self_attn.kv_b_proj.weight", (heads * (nope + value), rank)),
            ("self_attn.o_proj.weight", (width, heads * value)),
        ]
        if low:
            shapes += [("self_attn.q_a_proj.weight", (low, width)),
                       ("self_attn.q_b_proj.weight", (queries, low))]  # fmt: skip
        else:
            shapes.append(("self_attn.q_proj.weight", (queries, width)))
        if shape_of.get("mla_use_output_gate"):
            shapes.append(("self_attn.g_proj.weight", (heads * value, width)))
        return shapes
    size = shape_of["head_dim"]
    inner, cached = heads * size, (shape_of.get("num_key_value_heads") or heads) * size
    shapes = [
        ("self_attn.q_proj.weight", (inner, width)),
        ("self_attn.k_proj.weight", (cached, width)),
        ("self_attn.v_proj.weight", (cached, width)),
        ("self_attn.o_proj.weight", (width, inner)),
    ]
    if shape_of.get("attention_bias") or shape_of.get("qkv_bias") or shape_of.get("add_qkv_bias"):
        shapes.append(("self_attn.qkv_proj.bias", (inner + 2 * cached,)))
    return shapes


def _linear(shape_of: dict, width: int) -> list[tuple[str, tuple[int, ...]]]:
    heads = shape_of.get("linear_num_heads") or shape_of["num_attention_heads"]
    inner = heads * (shape_of.get("linear_head_dim") or shape_of["head_dim"])
    names = ("q_proj", "k_proj", "v_proj", "g_proj")
    shapes = [(f"self_attn.{name}.weight", (inner, width)) for name in names]
    return [*shapes, ("self_attn.o_proj.weight", (width, inner))]


def _mlps(shape_of: dict, width: int, every: tuple[int, ...]) -> list[Tensors]:
    experts = shape_of.get("num_experts")
    dense = shape_of.get("intermediate_size") or 4 * width
    if not isinstance(experts, int) or experts < 2:
        return _mlp("mlp", "mlp", width, dense, every)
    first = shape_of.get("first_k_dense_replace") or 0
    sparse = shape_of.get("moe_layer_freq")
    if isinstance(sparse, list) and len(sparse) == len(every):
        with_experts = tuple(n for n in every if sparse[n])
    else:
        with_experts = tuple(n for n in every if n >= first)
    without = tuple(n for n in every if n not in set(with_experts))
    inner = shape_of.get("moe_intermediate_size") or dense
    outer = (
        shape_of.get("routed_expert_hidden_size") or width
    )  # Kimi K3: experts in a narrower space
    rows = _mlp("mlp", "mlp", width, shape_of.get("dense_intermediate_size") or dense, without)
    for name, shape in (("gate_up_proj", (experts, 2 * inner, outer)),
                        ("down_proj", (experts, outer, inner))):  # fmt: skip
        rows.append(_row(f"mlp.experts.{name}", "routed experts", shape, with_experts))
    rows.append(_row("mlp.gate.weight", "router", (experts, width), with_experts))
    if outer != width:
        rows.append(_row("mlp.routed_expert_down_proj.weight", "mlp", (outer, width), with_experts))
        rows.append(_row("mlp.routed_expert_up_proj.weight", "mlp", (width, outer), with_experts))
    shared = shape_of.get("num_shared_experts") or 0
    shared = max(shared) if isinstance(shared, list) and shared else shared
    wide = shape_of.get("shared_expert_intermediate_size") or shared * inner
    if wide:
        rows += _mlp("mlp.shared_experts", "shared experts", width, wide, with_experts)
    return rows


def _mlp(name: str, kind: str, width: int, inner: int, layers: tuple[int, ...]) -> list[Tensors]:
    shapes = {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
    return [_row(f"{name}.{part}.weight", kind, shape, layers) for part, shape in shapes.items()]
