"""Configurations in their makers' own forms, put into the hub's: ``params.json`` and GGUF keys.

Sources: the reference code of Meta's Llama (``model.py``, the rule for the MLP's width), Mistral's
(``args.py``) and DeepSeek-V3's (``inference/model.py``); ``docs/gguf.md`` of ggml for the keys.
"""

from types import SimpleNamespace
from typing import Any


def translated(fields: dict[str, Any]) -> dict[str, Any] | None:
    """The hub's form of a maker's ``params.json``, with a ``_note``; None if it is none of them."""
    if "dim" not in fields or "n_layers" not in fields:
        return None
    forms = {"inter_dim": _deepseek, "hidden_dim": _mistral, "multiple_of": _llama}
    form = next((form for mark, form in forms.items() if mark in fields), None)
    if fields.get("model_type") == "mamba":
        form = _mamba
    try:
        return form(fields) if form else None
    except (KeyError, TypeError, AttributeError, ZeroDivisionError) as error:
        raise ValueError(f"a params.json without a usable shape ({error})") from None


def _shape(fields: dict[str, Any]) -> dict[str, Any]:
    """What all three makers call alike."""
    return {
        "hidden_size": fields["dim"],
        "num_hidden_layers": fields["n_layers"],
        "num_attention_heads": fields["n_heads"],
        "num_key_value_heads": fields.get("n_kv_heads") or fields["n_heads"],
    }


LATENT = ("q_lora_rank", "kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")


def _llama(fields: dict[str, Any]) -> dict[str, Any]:
    if other := [key for key in fields if key.startswith(("moe_args", "vision_"))]:
        raise ValueError(
            f"a params.json of Llama with {other[0]}, whose layers it does not state; its "
            "config.json does"
        )
    width, multiple = fields["dim"], fields["multiple_of"]
    inner = int(int(2 * 4 * width / 3) * (fields.get("ffn_dim_multiplier") or 1))
    inner = multiple * -(-inner // multiple)
    vocabulary, note = fields.get("vocab_size"), "read as a params.json of Meta's Llama"
    if not isinstance(vocabulary, int) or vocabulary < 1:  # Llama 1 and 2 leave it to the tokenizer
        vocabulary, note = 32000, note + "; vocab_size is not stated: taken as 32,000"
    small = bool(fields.get("use_scaled_rope")) and width < 4096
    head = (
        "tied, as Llama 3.2's small models are" if small else "an output head of its own is assumed"
    )
    # Llama 1's length is the class's default; later ones are known by their rope and norms.
    later = {
        131_072: fields.get("use_scaled_rope"),
        8_192: (fields.get("rope_theta") or 0) >= 500_000,
        4_096: (fields.get("norm_eps") or 0) >= 1e-5,  # Llama 2; Llama 1 has 1e-6
    }
    longest = next((length for length, holds in later.items() if holds), None)
    result = _shape(fields) | {
        "model_type": "llama",
        "intermediate_size": inner,
        "vocab_size": vocabulary,
        # Llama 3.2's 1B and 3B are tied, and no field says so: its file has 2.47 GB for the 1B.
        "tie_word_embeddings": small,
        "_note": f"{note}; {head}",
    }
    return result | ({"max_position_embeddings": longest} if longest else {})


def _mistral(fields: dict[str, Any]) -> dict[str, Any]:
    result = _shape(fields) | {
        "model_type": "mistral",
        "intermediate_size": fields["hidden_dim"],
        "head_dim": fields.get("head_dim") or fields["dim"] // fields["n_heads"],
        "vocab_size": fields["vocab_size"],
        "sliding_window": fields.get("sliding_window"),
        "tie_word_embeddings": bool(fields.get("tied_embeddings")),
        "_note": "read as a params.json of Mistral's",
    }
    if longest := fields.get("max_seq_len") or fields.get("max_position_embeddings"):
        result["max_position_embeddings"] = longest
    if isinstance(windows := fields.get("sliding_window"), list):  # one a layer, over again
        result |= _by_layer(windows, fields["n_layers"])
    if str((fields.get("quantization") or {}).get("qformat_weight")).startswith("fp8"):
        result["quantization_config"] = {"quant_method": "fp8"}
    elif fields.get("quantization"):
        result["quantization_config"] = {"quant_method": str(fields["quantization"])}
    if experts := fields.get("moe"):
        result["model_type"] = "mixtral"
        result["num_local_experts"] = experts["num_experts"]
        result["num_experts_per_tok"] = experts["num_experts_per_tok"]
    if "kv_lora_rank" in fields:  # Mistral Large 3: DeepSeek-V3's layers under Mistral's names
        experts = experts or {}
        result |= {name: fields[name] for name in LATENT}
        result |= {
            "model_type": "deepseek_v3",
            "moe_intermediate_size": experts["expert_hidden_dim"],
            "n_routed_experts": experts["num_experts"],
            "n_shared_experts": experts.get("num_shared_experts", 0),
            "first_k_dense_replace": experts.get("first_k_dense_replace", 0),
            "n_group": experts.get("num_expert_groups", 1),
            "topk_group": experts.get("num_expert_groups_per_tok", 1),
        }
    for part, name in (("vision_encoder", "vision"), ("multimodal", "audio")):
        if fields.get(part):
            result["_note"] += f"; its {name} encoder is not counted"
    return result


def _by_layer(windows: list[int | None], depth: int) -> dict[str, Any]:
    """Mistral's list of windows as layers of a type; null is a layer that sees everything."""
    sizes = {window for window in windows if window is not None}
    if len(sizes) > 1:
        raise ValueError(f"a params.json with windows of {len(sizes)} sizes, which no class has")
    kinds = ["full_attention" if window is None else "sliding_attention" for window in windows]
    return {
        "model_type": "ministral",
        "sliding_window": next(iter(sizes), None),
        "layer_types": (kinds * depth)[:depth],
    }


def _mamba(fields: dict[str, Any]) -> dict[str, Any]:
    """Codestral Mamba; what its file leaves out is the default of mamba_ssm's ``Mamba2``."""
    width, state, expand = fields["dim"], 128, 2
    return {
        "model_type": "mamba2",
        "hidden_size": width,
        "num_hidden_layers": fields["n_layers"],
        "vocab_size": fields["vocab_size"],
        "n_groups": fields.get("n_groups", 1),
        "expand": expand,
        "head_dim": 64,
        "num_heads": expand * width // 64,
        "state_size": state,
        "tie_word_embeddings": bool(fields.get("tie_embeddings")),
        "_note": f"read as a params.json of Mistral's with Mamba-2: states of {state}, heads of 64",
    }


def _deepseek(fields: dict[str, Any]) -> dict[str, Any]:
    names = {
        "vocab_size": "vocab_size",
        "inter_dim": "intermediate_size",
        "moe_inter_dim": "moe_intermediate_size",
        "n_dense_layers": "first_k_dense_replace",
        "n_routed_experts": "n_routed_experts",
        "n_shared_experts": "n_shared_experts",
        "n_activated_experts": "num_experts_per_tok",
        "n_expert_groups": "n_group",
        "n_limited_groups": "topk_group",
        **{name: name for name in (*LATENT, "index_n_heads", "index_head_dim", "index_topk")},
    }
    result = {new: fields[old] for old, new in names.items() if old in fields}
    result |= _shape(fields) | {
        "model_type": "deepseek_v32" if fields.get("index_n_heads") else "deepseek_v3",
        "q_lora_rank": fields.get("q_lora_rank") or None,
        "tie_word_embeddings": False,
        "_note": "read as a configuration of DeepSeek's own code",
    }
    if fields.get("dtype") == "fp8":
        result["quantization_config"] = {"quant_method": "fp8", "weight_block_size": [128, 128]}
    return result


def gguf_experts(metadata: dict[str, Any]) -> tuple[int | None, int | None]:
    """Routed experts and how many a token uses, as a GGUF file states them."""
    kind = metadata.get("general.architecture", "")
    numbers = (metadata.get(f"{kind}.{key}") for key in ("expert_count", "expert_used_count"))
    experts, used = (n if isinstance(n, int) and n > 0 else None for n in numbers)
    return experts, used


# Layers of sliding-window attention before each full one, where the file leaves it to the engine.
GGUF_PATTERNS = {
    "gemma3": 6,
    "gemma2": 2,
    "gpt-oss": 2,
    "cohere2": 4,
    "gemma3n": 5,
    "llama4": 4,
    "exaone4": 4,
    "olmo2": 4,
}


def gguf_config(metadata: dict[str, Any], vocabulary: int, name: str) -> SimpleNamespace:
    """A plain configuration for `from_config` of a GGUF file's keys.

    Raises ValueError for kinds whose cache the keys do not tell.
    """
    kind = str(metadata.get("general.architecture", ""))

    def key(field: str, default=None):
        return metadata.get(f"{kind}.{field}", default)

    depth, heads, width = key("block_count"), key("attention.head_count"), key("embedding_length")
    if not all(isinstance(n, int) for n in (depth, width)) or not heads:
        raise ValueError(f"{name}: its header states no layers, heads and width")
    if key("ssm.state_size") or kind.startswith(("mamba", "rwkv")):
        raise ValueError(f"{name}: the state of {kind!r} is not described from a GGUF header")
    heads = max(heads) if isinstance(heads, list) else heads
    cached = key("attention.head_count_kv", heads)
    fields = {
        "model_type": kind,
        "hidden_size": width,
        "num_hidden_layers": depth,
        "num_attention_heads": heads,
        "num_key_value_heads": max(cached) if isinstance(cached, list) else cached,
        "head_dim": key("attention.key_length") or width // heads,
        "v_head_dim": key("attention.value_length"),
        "intermediate_size": key("feed_forward_length"),
        "vocab_size": vocabulary,
        "max_position_embeddings": key("context_length"),
        "num_experts": key("expert_count"),
        "num_experts_per_tok": key("expert_used_count"),
        "moe_intermediate_size": key("expert_feed_forward_length"),
        "tie_word_embeddings": False,
    }
    if rank := key("attention.kv_lora_rank"):
        rotary = key("rope.dimension_count", 64)
        latent, value = (
            key(f"attention.{part}_length_mla") or key(f"attention.{part}_length", default)
            for part, default in (("key", 192), ("value", 128))
        )
        fields |= {
            "kv_lora_rank": rank,
            "qk_rope_head_dim": rotary,
            "qk_nope_head_dim": latent - rotary,
            "v_head_dim": value,
        }
    window = key("attention.sliding_window") or key("attention.chunk_size")
    pattern = key("attention.sliding_window_pattern", GGUF_PATTERNS.get(kind))
    if isinstance(window, int) and window > 0 and not rank:
        fields["sliding_window"] = window
        if isinstance(pattern, int) and pattern > 0:  # so many layers, the last of them full
            pattern = [(n + 1) % pattern != 0 for n in range(depth)]
        if isinstance(pattern, list) and len(pattern) == depth:
            fields["layer_types"] = [
                "sliding_attention" if windowed else "full_attention" for windowed in pattern
            ]
    if isinstance(cached, list) and len(cached) == depth and 0 in cached:
        conv = key("shortconv.l_cache")
        if not conv:
            raise ValueError(f"{name}: the layers without attention of {kind!r} are not described")
        fields["conv_L_cache"] = conv
        fields["layer_types"] = ["full_attention" if n else "conv" for n in cached]
    if shared := key("attention.shared_kv_layers"):
        fields["kv_sharing_modes"] = [None] * (depth - shared) + ["reuse"] * shared
    return SimpleNamespace(**fields)
