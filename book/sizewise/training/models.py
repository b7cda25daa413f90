"""Small models of real `transformers` classes: configurations shrunk along one ladder of widths.

A rung is a width; depth and heads follow from it, so that N of a dense rung grows as width^3:
width / 32 layers (two at least), heads of 8 to 64, an MLP of 8/3 of the width with a gate.
Every layer then holds about 12 width^2 parameters.
"""

import math
from collections.abc import Callable
from typing import Any

from sizewise.models import config
from sizewise.units import unknown
from sizewise.validation import whole

# From one thousand to 170 million parameters outside the embeddings. The lowest rungs are for the
# smallest budgets, at which the head costs more than all layers.
WIDTHS = (8, 16, 24, 32, 48, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384, 448, 512, 640, 768)
WRITES = ("o_proj", "down_proj", "out_proj")  # matrices that write to the residual stream
WINDOWS_IN_CONTEXT = 4  # a window is by default so small a part of the context
CHUNK = 32  # tokens that a state-space layer works through at a time


def shape(width: int) -> dict[str, int]:
    """Width, layers, heads, width of a head and of the MLP of one rung.

    Raises ValueError unless the width is a multiple of its head's width.
    """
    width = whole("the width", width, 16_384, 8)
    head = 8 if width < 32 else 16 if width < 128 else 32 if width < 512 else 64
    if width % head:
        raise ValueError(f"the width must be a multiple of {head}, got {width}")
    mlp = max(8, round(8 * width / 3 / 16) * 16)
    return {
        "width": width,
        "layers": max(2, round(width / 32)),
        "heads": width // head,
        "head": head,
        "mlp": mlp,
    }


def _attention(rung: dict[str, int]) -> dict[str, Any]:
    return {
        "intermediate_size": rung["mlp"],
        "num_hidden_layers": rung["layers"],
        "num_attention_heads": rung["heads"],
        "num_key_value_heads": rung["heads"],
        "head_dim": rung["head"],
    }


def _dense(rung, context: int, *, convolution: int = 0, sublayers: int = 2) -> dict[str, Any]:
    """``convolution`` is the length of a short convolution before the first ``sublayers`` of each
    layer (`short_convolution`): 1 is attention alone, 2 the MLP as well. A length of 0 is none."""
    return {"model_type": "llama", **_attention(rung), **_convolution(convolution, sublayers)}


def _convolution(length: int, sublayers: int) -> dict[str, int]:
    """No field of these classes, which keep what they do not know; `build` reads it."""
    if not length:
        return {}
    return {
        "short_convolution": whole("the convolution", length, 64),
        "convolved_sublayers": whole("the convolved sublayers", sublayers, 2),
    }


def _moe(
    rung, context: int, *, experts: int = 8, used: int = 2, wide: int = 1, balance: float = 0.0
) -> dict[str, Any]:
    """Qwen3-MoE. A token always uses one MLP of its rung: ``used`` of so many routed ``experts``,
    each an equal part of it; ``wide`` makes that MLP so many times wider. ``balance`` is the
    coefficient of the balance loss of each layer (`load_balancing`).

    A token's weights sum to one, except where it uses one expert of several: then the weight is
    the router's probability (Fedus et al. 2021, equation 2), or it would learn nothing.
    """
    whole("experts", experts, config.MAX_EXPERTS)
    whole("experts a token", used, experts)
    whole("times as wide", wide, 1024)
    if not 0 <= balance < math.inf:
        raise ValueError(f"the balance loss must be 0 or more, got {balance}")
    if rung["mlp"] % used:
        raise ValueError(f"an MLP of {rung['mlp']} does not divide into {used} equal experts")
    return {
        "model_type": "qwen3_moe",
        **_attention(rung),
        **({"router_aux_loss_coef": balance} if balance else {}),
        "num_experts": experts,
        "num_experts_per_tok": used,
        "moe_intermediate_size": wide * rung["mlp"] // used,
        "norm_topk_prob": used > 1 or experts == 1,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
    }


def _windowed(
    rung, context: int, *, window: int = 0, every: int = 2, convolution: int = 0, sublayers: int = 2
) -> dict[str, Any]:
    """Gemma 3. The last of ``every`` layers sees all: 1 makes every layer see all, 0 none. The
    others see the last ``window`` tokens; 0 is a quarter of the context. The rest as in `_dense`.
    """
    every = whole("layers from one full one to the next", every, config.MAX_LAYERS, 0)
    full = [every > 0 and layer % every == every - 1 for layer in range(rung["layers"])]
    return {
        "model_type": "gemma3_text",
        **_attention(rung),
        "sliding_window": window_size(window, context),
        "layer_types": ["full_attention" if all_ else "sliding_attention" for all_ in full],
        "query_pre_attn_scalar": rung["head"],
        **_convolution(convolution, sublayers),
    }


def window_size(window: int, context: int) -> int:
    """The ``window`` of the family ``windowed`` in tokens: a quarter of the context for 0.

    Raises ValueError for one that is longer than the context.
    """
    return whole("the window", window, context, 0) or max(1, context // WINDOWS_IN_CONTEXT)


def _state_space(rung, context: int) -> dict[str, Any]:
    """Mamba-2 (Dao and Gu 2024): two mixers, of 6 width^2 each, for a layer of the others.

    `transformers` has no CPU kernel of it but the chunked form in plain products: at width 64
    under half as many operations a second as a dense rung. Chunks are short, since each token
    meets all others of its chunk.
    """
    return {
        "model_type": "mamba2",
        "num_hidden_layers": 2 * rung["layers"],
        "expand": 2,
        "num_heads": 2 * rung["heads"],
        "head_dim": rung["head"],
        "state_size": max(16, rung["width"] // 4),
        "n_groups": 1,
        "conv_kernel": 4,
        "chunk_size": min(CHUNK, context),
    }


def _hybrid(rung, context: int) -> dict[str, Any]:
    """Bamba: Mamba-2 mixers and attention in turn, from a mixer, each followed by an MLP."""
    return {
        "model_type": "bamba",
        **_attention(rung),
        "attn_layer_indices": list(range(1, rung["layers"], 2)),
        "mamba_expand": 2,
        "mamba_n_heads": 2 * rung["heads"],
        "mamba_d_head": rung["head"],
        "mamba_d_state": max(16, rung["width"] // 4),
        "mamba_n_groups": 1,
        "mamba_d_conv": 4,
        "mamba_chunk_size": min(CHUNK, context),
        "z_loss_coefficient": 0.0,
    }


FAMILIES: dict[str, Callable[..., dict[str, Any]]] = {
    "dense": _dense,
    "moe": _moe,
    "windowed": _windowed,
    "state-space": _state_space,
    "hybrid": _hybrid,
}


def options(family: str) -> dict[str, Any]:
    """The options in a family's name, such as ``moe:experts=16,used=4``, and the others' defaults.

    Names are part of a run's identity: families with different options are two experiments. Raises
    ValueError for a family or an option that is not there, and for a value that is no number.
    """
    kind, _, text = family.partition(":")
    defaults = _defaults(kind) if kind in FAMILIES else {}
    if kind not in FAMILIES or (text and not defaults):
        raise unknown("family", family, FAMILIES)
    values = dict(defaults)
    for option in filter(None, text.split(",")):
        name, _, value = option.partition("=")
        if name not in defaults:
            raise unknown(f"option of {kind}", name, defaults)
        try:
            values[name] = type(defaults[name])(value)
        except ValueError:
            raise ValueError(f"{name} of {kind} must be a number, got {value!r}") from None
    return values


def family(kind: str, **values) -> str:
    """The name of a family with options; those that are the defaults are left out."""
    defaults = _defaults(kind)
    values = defaults | values
    stated = [f"{name}={values[name]:g}" for name in defaults if values[name] != defaults[name]]
    return f"{kind}:{','.join(stated)}" if stated else kind


def _defaults(kind: str) -> dict[str, Any]:
    return FAMILIES[kind].__kwdefaults__ or {}


def spec(family: str, width: int, vocabulary: int = 1024, context: int = 128) -> config.Spec:
    """The configuration of one rung of a family, as `sizewise.models.parameters` takes it.

    The output head is a matrix of its own: embedding and head want different learning rates.
    Raises ValueError for a family that is not there, and for bad sizes.
    """
    stated, rung = options(family), shape(width)
    context = whole("the context", context, 1 << 20, 2)
    fields = {
        "hidden_size": rung["width"],
        "vocab_size": whole("the vocabulary", vocabulary, 1 << 20, 2),
        "max_position_embeddings": context,
        "tie_word_embeddings": False,
        "use_cache": False,
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": None,
        **FAMILIES[family.partition(":")[0]](rung, context, **stated),
    }
    return config.Spec(f"{family}-{width}", fields, "lab")


def is_matrix(weight) -> bool:
    """Whether a parameter multiplies across channels; vectors and depthwise filters do not."""
    return weight.ndim >= 2 and weight.shape[-2] > 1


def build(spec: config.Spec, seed: int, attention: str = "sdpa"):
    """The model with fresh fp32 weights on the CPU, a function of the seed alone.

    Matrices start normal with variance 1 / inputs, those that write to the residual stream
    smaller by sqrt(2 layers) (GPT-2, 2019, section 2.3). Whatever the width, what leaves the
    embedding has variance 1 (Yang et al. 2022, muP, table 3), and the head starts with zeros, so
    that a fresh model gives every token the same probability (appendix D.2 there).
    """
    import torch
    from transformers import AutoModelForCausalLM

    from . import load_balancing, short_convolution

    settings = config.build(spec)
    settings._attn_implementation = attention if "num_attention_heads" in spec.fields else "eager"
    settings._experts_implementation = "eager"  # grouped products are no faster at this size
    with torch.random.fork_rng(devices=[]):  # the class draws weights of its own; ours replace them
        model = AutoModelForCausalLM.from_config(settings, dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    embedding, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    scale = float(getattr(model.get_input_embeddings(), "embed_scale", 1))  # Gemma's, sqrt(width)
    deep = (2 * settings.num_hidden_layers) ** -0.5
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight is head:
                weight.zero_()
            elif weight is embedding:
                weight.normal_(0, 1 / scale, generator=generator)
            elif weight.ndim >= 2:  # (out, in), (expert, out, in), or (channel, 1, kernel)
                writes = any(end in name for end in WRITES)
                std = weight.shape[-1] ** -0.5 * (deep if writes else 1)
                weight.normal_(0, std, generator=generator)
            elif name.endswith("dt_bias"):
                weight.copy_(_time_steps(weight.numel(), generator))
            elif name.endswith("conv1d.bias"):
                weight.zero_()
    if coefficient := spec.fields.get("router_aux_loss_coef"):
        load_balancing.attach(model, coefficient)
    if length := spec.fields.get("short_convolution"):
        short_convolution.attach(model, length, spec.fields["convolved_sublayers"])
    return model


def _time_steps(heads: int, generator):
    """What softplus turns into time steps spread evenly in the logarithm from .001 to .1: (heads,).

    Gu and Dao (2023), Mamba, section 3.6; the class draws them from the global generator.
    """
    import torch

    low, high = math.log(1e-3), math.log(0.1)
    step = torch.exp(torch.rand(heads, generator=generator) * (high - low) + low)
    return step + torch.log(-torch.expm1(-step))
