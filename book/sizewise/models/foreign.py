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
    if "inter_dim" in fields or "kv_lora_rank" in fields:
        return _deepseek(fields)
    if "hidden_dim" in fields:
        return _mistral(fields)
    if "multiple_of" in fields:
        return _llama(fields)
    return None


def _llama(fields: dict[str, Any]) -> dict[str, Any]:
    width, multiple = fields["dim"], fields["multiple_of"]
    inner = int(int(2 * 4 * width / 3) * (fields.get("ffn_dim_multiplier") or 1))
    inner = multiple * -(-inner // multiple)
    vocabulary, note = fields.get("vocab_size"), "read as a params.json of Meta's Llama"
    if not isinstance(vocabulary, int) or vocabulary < 1:  # Llama 1 and 2 leave it to the tokenizer
        vocabulary, note = 32000, note + "; vocab_size is not stated: taken as 32,000"
    # Llama 1's length is the class's default; later ones are known by their rope alone.
    longest = {}
    if fields.get("use_scaled_rope"):
        longest = {"max_position_embeddings": 131_072}
    elif (fields.get("rope_theta") or 0) >= 500_000:
        longest = {"max_position_embeddings": 8_192}
    return longest | {
        "model_type": "llama",
        "hidden_size": width,
        "intermediate_size": inner,
        "num_hidden_layers": fields["n_layers"],
        "num_attention_heads": fields["n_heads"],
        "num_key_value_heads": fields.get("n_kv_heads") or fields["n_heads"],
        "vocab_size": vocabulary,
        "tie_word_embeddings": False,
        "_note": note + "; an output head of its own is assumed",
    }


def _mistral(fields: dict[str, Any]) -> dict[str, Any]:
    result = {
        "model_type": "mistral",
        "hidden_size": fields["dim"],
        "intermediate_size": fields["hidden_dim"],
        "num_hidden_layers": fields["n_layers"],
        "num_attention_heads": fields["n_heads"],
        "num_key_value_heads": fields.get("n_kv_heads") or fields["n_heads"],
        "head_dim": fields.get("head_dim") or fields["dim"] // fields["n_heads"],
        "vocab_size": fields["vocab_size"],
        "sliding_window": fields.get("sliding_window"),
        "tie_word_embeddings": bool(fields.get("tied_embeddings")),
        "_note": "read as a params.json of Mistral's",
    }
    if longest := fields.get("max_seq_len") or fields.get("max_position_embeddings"):
        result["max_position_embeddings"] = longest
    if experts := fields.get("moe"):
        result["model_type"] = "mixtral"
        result["num_local_experts"] = experts["num_experts"]
        result["num_experts_per_tok"] = experts["num_experts_per_tok"]
    if fields.get("vision_encoder"):
        result["_note"] += "; its vision encoder is not counted"
    return result


def _deepseek(fields: dict[str, Any]) -> dict[str, Any]:
    names = {
        "vocab_size": "vocab_size",
        "dim": "hidden_size",
        "inter_dim": "intermediate_size",
        "moe_inter_dim": "moe_intermediate_size",
        "n_layers": "num_hidden_layers",
        "n_dense_layers": "first_k_dense_replace",
        "n_heads": "num_attention_heads",
        "n_routed_experts": "n_routed_experts",
        "n_shared_experts": "n_shared_experts",
        "n_activated_experts": "num_experts_per_tok",
        "n_expert_groups": "n_group",
        "n_limited_groups": "topk_group",
        "kv_lora_rank": "kv_lora_rank",
        "qk_nope_head_dim": "qk_nope_head_dim",
        "qk_rope_head_dim": "qk_rope_head_dim",
        "v_head_dim": "v_head_dim",
    }
    result = {new: fields[old] for old, new in names.items() if old in fields}
    result |= {
        "model_type": "deepseek_v3",
        "q_lora_rank": fields.get("q_lora_rank") or None,
        "num_key_value_heads": fields.get("n_heads"),
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
GGUF_PATTERNS = {"gemma3": 6, "gemma2": 2, "gpt-oss": 2, "cohere2": 4}


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
        latent = key("attention.key_length_mla") or key("attention.key_length", 192)
        value = key("attention.value_length_mla") or key("attention.value_length", 128)
        fields |= {
            "kv_lora_rank": rank,
            "qk_rope_head_dim": rotary,
            "qk_nope_head_dim": latent - rotary,
            "v_head_dim": value,
        }
    window = key("attention.sliding_window")
    if isinstance(window, int) and window > 0 and not rank:
        every = GGUF_PATTERNS.get(kind)
        fields["sliding_window"] = window
        if every:
            fields["layer_types"] = [
                "full_attention" if (n + 1) % every == 0 else "sliding_attention"
                for n in range(depth)
            ]
    return SimpleNamespace(**fields)
