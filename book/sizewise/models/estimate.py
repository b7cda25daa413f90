"""The parameters of an architecture that `transformers` has no class for, from its fields.

An estimate and labelled as one. It reads what nearly every decoder's configuration states: widths,
heads, experts, latent attention. What only the model's own code knows, such as extra gates or
norms, it misses. ``data/conformance.json`` holds its error on models whose count is known.
"""

from types import SimpleNamespace
from typing import Any

from .architecture import Tensors
from .config import MAX_LAYERS
from .from_config import EXPERTS, TOP_K

# The field's usual names, each with the others seen on the hub.
ALIASES = {
    "hidden_size": ("n_embd", "n_embed", "d_model", "dim", "model_dim"),
    "num_hidden_layers": (
        "num_layers",
        "n_layer",
        "n_layers",
        "num_decoder_layers",
        "num_transformer_layers",
    ),
    "num_attention_heads": (
        "n_head",
        "n_heads",
        "num_heads",
        "decoder_attention_heads",
        "num_query_heads",
    ),
    "num_key_value_heads": (
        "num_kv_heads",
        "n_kv_heads",
        "multi_query_group_num",
        "num_attention_groups",
        "n_head_kv",
    ),
    "head_dim": ("attention_head_dim", "kv_channels", "d_kv"),
    "intermediate_size": ("ffn_hidden_size", "n_inner", "d_ff", "ffn_dim", "inter_dim"),
    "moe_intermediate_size": ("expert_ffn_hidden_size", "moe_inter_dim", "expert_hidden_size"),
    "vocab_size": ("padded_vocab_size", "n_vocab"),
    "max_position_embeddings": (
        "n_positions",
        "max_seq_len",
        "seq_length",
        "model_max_length",
        "max_context_length",
    ),
    "tie_word_embeddings": ("share_input_output_layers",),
    EXPERTS[0]: EXPERTS[1:],
    TOP_K[0]: TOP_K[1:],
    "num_shared_experts": ("n_shared_experts", "num_shared_expert", "moe_num_shared_experts"),
    "first_k_dense_replace": ("n_dense_layers", "moe_layer_start_index"),
}
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size")


def fields(raw: dict[str, Any]) -> dict[str, Any]:
    """The text part of a configuration under the field's usual names.

    Heads and widths that differ from layer to layer are under ``per_layer``, one mapping a layer.
    """
    parts = (raw.get(key) for key in ("text_config", "llm_config", "language_config"))
    text: dict[str, Any] = next((part for part in parts if isinstance(part, dict)), {})
    merged = {k: v for k, v in raw.items() if not isinstance(v, dict)} | text
    for name, others in ALIASES.items():
        stated = [merged[key] for key in (name, *others) if merged.get(key) is not None]
        if stated:
            merged[name] = stated[0]
    if merged.get("model_type") == "qwen":  # the first Qwen states gate and up together
        merged |= {"intermediate_size": merged.get("intermediate_size", 0) // 2, "qkv_bias": True}
    merged["per_layer"] = _per_layer(merged)
    for name in ALIASES:
        value = merged.get(name)
        merged[name] = max(value) if isinstance(value, list) and value else value
    return {name: value for name, value in merged.items() if value is not None}


def _per_layer(stated: dict[str, Any]) -> list[dict[str, int]]:
    """What each layer has of its own: OpenELM's lists, the blocks of NVIDIA's searched models."""
    depth, width = stated.get("num_hidden_layers"), stated.get("hidden_size")
    if type(depth) is not int or type(width) is not int or not 0 < depth <= MAX_LAYERS:
        return []
    rows: list[dict[str, int]] = [{} for _ in range(depth)]

    def listed(name: str) -> zip:
        values = stated.get(name)
        if not isinstance(values, list) or len(values) != depth:
            values = []
        return zip(rows, values, strict=False)

    for name in ("num_attention_heads", "num_key_value_heads"):
        for row, heads in listed(name):
            row[name] = heads
    for row, factor in listed("ffn_multipliers"):
        row["intermediate_size"] = _rounded(factor * width, stated.get("ffn_dim_divisor") or 1)
    for row, block in listed("block_configs"):
        row.update(_block(block, width, stated.get("num_attention_heads") or 1))
    return rows if any(rows) else []


def _block(block: dict, width: int, heads: int) -> dict[str, int]:
    """A block of Llama-Nemotron: grouped, replaced by one matrix, or left out (Bercovich 2025)."""
    row, attention, ffn = {}, block.get("attention") or {}, block.get("ffn") or {}
    for part, name in ((attention, "attention"), (ffn, "mlp")):
        if part.get("no_op"):
            row[name] = 0
        elif part.get("replace_with_linear"):
            row[name] = 1
    if grouped := attention.get("n_heads_in_group"):
        row["num_key_value_heads"] = heads // grouped
    if factor := ffn.get("ffn_mult"):
        row["intermediate_size"] = -(-int(2 * factor * width / 3) // 256) * 256
    return row


def _rounded(size: float, divisor: int) -> int:
    """The multiple of ``divisor`` that is nearest, as OpenELM's ``make_divisible`` gives it."""
    nearest = max(divisor, int(size + divisor / 2) // divisor * divisor)
    return nearest + divisor if nearest < 0.9 * size else nearest


def accuracy() -> str:
    """How far the estimate is off where the count is known, in one line."""
    from sizewise.data import records

    stated = records.facts_json("model_shapes")
    if not stated or "estimate" not in stated:
        return "its error is not known"
    error = stated["estimate"]
    return (
        f"on {error['models']} models whose count is known this estimate is off by at most "
        f"{error['median']:.1%} for half, {error['nine_in_ten']:.0%} for nine in ten and "
        f"{error['worst']:.0%} for the worst"
    )


def possible(raw: dict[str, Any]) -> bool:
    """Whether a configuration states enough to estimate from."""
    stated = fields(raw)
    if stated.get("is_encoder_decoder") or stated.get("hybrid_override_pattern"):
        return False  # an encoder, or layers of kinds that its letters name and nothing here knows
    return all(type(stated.get(name)) is int and stated[name] > 0 for name in NEEDED)


def config(raw: dict[str, Any]) -> SimpleNamespace:
    """A plain configuration for `from_config`, with a layer's kind where lists state it."""
    stated = fields(raw)
    depth = stated["num_hidden_layers"]
    if stated.get("head_dim") is None:
        stated["head_dim"] = stated["hidden_size"] // stated["num_attention_heads"]
    linear = stated.get("linear_attn_config")
    if isinstance(linear, dict) and linear.get("full_attn_layers"):
        full = set(linear["full_attn_layers"])
        stated["layer_types"] = [
            "full_attention" if n + 1 in full else "linear_attention" for n in range(depth)
        ]
        stated |= {
            "linear_num_heads": linear["num_heads"],
            "linear_head_dim": linear["head_dim"],
            "linear_conv_kernel_dim": linear["short_conv_kernel_size"],
        }
    shared = stated.get("cla_share_factor")
    if stated.get("use_cla") and type(shared) is int and shared > 1:  # Hunyuan-Large
        stated["kv_sharing_modes"] = ["reuse" if n % shared else None for n in range(depth)]
    kinds = stated.get("attn_type_list")
    if isinstance(kinds, list) and len(kinds) == depth:  # MiniMax-Text-01: 1 is softmax attention
        stated["layer_types"] = ["full_attention" if kind else "linear_attention" for kind in kinds]
        stated["model_type"] = "minimax"
    if stated.get("use_sliding_window") is False:
        stated["sliding_window"] = None
    if rows := stated["per_layer"]:
        stated["is_heterogeneous"] = True
        stated["per_layer_config"] = [SimpleNamespace(**(stated | row)) for row in rows]
        kinds = stated.get("layer_types") or ["full_attention"] * depth
        stated["layer_types"] = [
            kind if row.get("attention", 2) == 2 else "mlp"
            for kind, row in zip(kinds, rows, strict=True)
        ]
    return SimpleNamespace(**stated)


def tensors(raw: dict[str, Any]) -> tuple[Tensors, ...]:
    """The tensors that such a model would have: a decoder with gated MLPs and RMS norms.

    Raises ValueError if the fields do not even state width, depth, heads and vocabulary.
    """
    if not possible(raw):
        stated = fields(raw)
        missing = [n for n in NEEDED if type(stated.get(n)) is not int or stated[n] < 1]
        raise ValueError(f"states no {' and no '.join(missing)}")
    stated = vars(config(raw))
    width, depth, vocab = (stated[n] for n in ("hidden_size", "num_hidden_layers", "vocab_size"))
    kinds = stated.get("layer_types") or ["full_attention"] * depth
    per_layer = stated["per_layer"] or [{}] * depth
    # Layers that are alike are one list of rows.
    alike: dict[str, list[int]] = {}
    for number in range(depth):
        alike.setdefault(repr((kinds[number], per_layer[number])), []).append(number)
    rows = [Tensors("embed_tokens.weight", "input embedding", (vocab, width))]
    for numbers in alike.values():
        special, linear = per_layer[numbers[0]], kinds[numbers[0]] == "linear_attention"
        layers, sizes = tuple(numbers), stated | special
        attends, has_mlp = (special.get(part, 2) for part in ("attention", "mlp"))
        if attends:
            matrix = {"linear.weight": (width, width)}
            full = _linear(sizes, width) if linear else _attention(sizes, width)
            kind = "state space" if linear else "attention"
            for name, shape in (matrix if attends == 1 else full).items():
                rows.append(_row(f"self_attn.{name}", kind, shape, layers))
            rows.append(_row("input_layernorm.weight", "norm", (width,), layers))
        if has_mlp:
            linear_mlp = [_row("mlp.linear.weight", "mlp", (width, width), layers)]
            rows += linear_mlp if has_mlp == 1 else _mlps(sizes, width, layers)
            rows.append(_row("post_attention_layernorm.weight", "norm", (width,), layers))
    rows.append(Tensors("norm.weight", "norm", (width,)))
    if not stated.get("tie_word_embeddings", False):
        rows.append(Tensors("lm_head.weight", "output head", (vocab, width)))
    return tuple(row for row in rows if row.count)


def _row(name: str, kind: str, shape: tuple[int, ...], layers: tuple[int, ...]) -> Tensors:
    return Tensors(f"layers.*.{name}", kind, shape, len(layers), layers)


def _attention(stated: dict, width: int) -> dict[str, tuple[int, ...]]:
    heads = stated["num_attention_heads"]
    rank = stated.get("kv_lora_rank")
    if isinstance(rank, int) and rank > 0:  # multi-head latent attention, DeepSeek-V2, section 2.1
        nope, rope = stated.get("qk_nope_head_dim", 128), stated.get("qk_rope_head_dim", 64)
        value, low = stated.get("v_head_dim", 128), stated.get("q_lora_rank")
        queries = heads * (nope + rope)
        shapes: dict[str, tuple[int, ...]] = {
            "kv_a_proj_with_mqa.weight": (rank + rope, width),
            "kv_b_proj.weight": (heads * (nope + value), rank),
            "o_proj.weight": (width, heads * value),
        }
        if low:
            shapes |= {"q_a_proj.weight": (low, width), "q_b_proj.weight": (queries, low)}
        else:
            shapes["q_proj.weight"] = (queries, width)
        if stated.get("mla_use_output_gate"):
            shapes["g_proj.weight"] = (heads * value, width)
        return shapes
    size = stated["head_dim"]
    inner, cached = heads * size, (stated.get("num_key_value_heads") or heads) * size
    shapes = {
        "q_proj.weight": (inner, width),
        "k_proj.weight": (cached, width),
        "v_proj.weight": (cached, width),
        "o_proj.weight": (width, inner),
    }
    if stated.get("normalize_qk_projections"):
        shapes |= {"q_norm.weight": (size,), "k_norm.weight": (size,)}
    if stated.get("attention_bias") or stated.get("qkv_bias") or stated.get("add_qkv_bias"):
        shapes["qkv_proj.bias"] = (inner + 2 * cached,)
    return shapes


def _linear(stated: dict, width: int) -> dict[str, tuple[int, ...]]:
    heads = stated.get("linear_num_heads") or stated["num_attention_heads"]
    inner = heads * (stated.get("linear_head_dim") or stated["head_dim"])
    names = ("q_proj", "k_proj", "v_proj", "g_proj")
    return {f"{n}.weight": (inner, width) for n in names} | {"o_proj.weight": (width, inner)}


def _mlps(stated: dict, width: int, every: tuple[int, ...]) -> list[Tensors]:
    experts = stated.get("num_experts")
    dense = stated.get("intermediate_size") or 4 * width
    if not isinstance(experts, int) or experts < 2:
        return _mlp("mlp", "mlp", width, dense, every)
    first = stated.get("first_k_dense_replace") or 0
    sparse = stated.get("moe_layer_freq")
    if isinstance(sparse, list) and len(sparse) == len(every):
        with_experts = tuple(n for n in every if sparse[n])
    else:
        with_experts = tuple(n for n in every if n >= first)
    without = tuple(n for n in every if n not in set(with_experts))
    inner = stated.get("moe_intermediate_size") or dense
    outer = stated.get("routed_expert_hidden_size") or width  # Kimi K3: experts in a narrower space
    rows = _mlp("mlp", "mlp", width, stated.get("dense_intermediate_size") or dense, without)
    matrices: list[tuple[str, str, tuple[int, ...]]] = [
        ("experts.gate_up_proj", "routed experts", (experts, 2 * inner, outer)),
        ("experts.down_proj", "routed experts", (experts, outer, inner)),
        ("gate.weight", "router", (experts, width)),
    ]
    if outer != width:
        matrices.append(("routed_expert_down_proj.weight", "mlp", (outer, width)))
        matrices.append(("routed_expert_up_proj.weight", "mlp", (width, outer)))
    rows += [_row(f"mlp.{name}", kind, shape, with_experts) for name, kind, shape in matrices]
    shared = stated.get("num_shared_experts") or 0
    shared = max(shared, default=0) if isinstance(shared, list) else shared
    wide = stated.get("shared_expert_intermediate_size") or shared * inner
    if wide:
        rows += _mlp("mlp.shared_experts", "shared experts", width, wide, with_experts)
    return rows


def _mlp(name: str, kind: str, width: int, inner: int, layers: tuple[int, ...]) -> list[Tensors]:
    shapes = {"gate_proj": (inner, width), "up_proj": (inner, width), "down_proj": (width, inner)}
    return [_row(f"{name}.{part}.weight", kind, shape, layers) for part, shape in shapes.items()]
