"""A decode step in few kernels: what of a step's time is the model's, and not its program's.

`transformers` writes a norm as eight elementwise kernels and a rotation of query and key as ten,
some forty small and large kernels a layer in all; at one sequence each of the small ones costs more
time to start than to run. Here the norm is torch's own kernel and both rotations are made at
once: about half as many kernels, with every product, every weight and the attention as they were.
A layer takes its cache as tensors and no number of its own, so that `torch.compile` makes it once
for all layers.
"""

import os
import shutil

from sizewise.models.config import one_line


def logits(model, tokens, places, cache, layer=None):
    """Logits (batch, 1, vocabulary) of one token (batch, 1) for each sequence, after `Static`.

    ``places`` (1, 1) is the position of the token, ``layer`` what stands for `one_layer`. Raises
    ValueError for a model whose layers are not made like Llama's or Qwen 3's.
    """
    import torch

    run = layer or one_layer
    x = model.model.embed_tokens(tokens)  # (B, 1, hidden)
    cos, sin = model.model.rotary_emb(x, position_ids=places)  # (1, 1, width)
    half = sin.shape[-1] // 2
    turn = torch.cat((-sin[..., :half], sin[..., half:]), -1)
    cos, turn = cos[:, :, None], turn[:, :, None]  # (1, 1, 1, width)
    for one, keys, values in zip(model.model.layers, cache.keys, cache.values, strict=True):
        x = run(one, x, cos, turn, keys, values)
    return model.lm_head(norm(model.model.norm, x))


def one_layer(layer, x, cos, turn, keys, values):
    """One decoder layer: x (B, 1, hidden), keys and values (B, key heads, context, width)."""
    x = x + attention(layer.self_attn, norm(layer.input_layernorm, x), cos, turn, keys, values)
    return x + layer.mlp(norm(layer.post_attention_layernorm, x))


def norm(module, x):
    """A root-mean-square norm by its own kernel."""
    from torch.nn.functional import rms_norm

    return rms_norm(x, module.weight.shape, module.weight, module.variance_epsilon)


def attention(module, x, cos, turn, keys, values):
    """Attention of one token to its cache, its own keys and values in the last place."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    batch, groups, _, width = keys.shape
    query, key, value = (
        part(x).view(batch, 1, -1, width) for part in (module.q_proj, module.k_proj, module.v_proj)
    )  # (B, 1, heads or key heads, width)
    if hasattr(module, "q_norm"):  # Qwen 3: over the width of a head
        query, key = norm(module.q_norm, query), norm(module.k_norm, key)
    heads = query.shape[2]
    both = torch.cat((query, key), 2)
    both = torch.addcmul(both * cos, both.roll(width // 2, -1), turn)
    keys[:, :, -1:].copy_(both[:, :, heads:].transpose(1, 2))
    values[:, :, -1:].copy_(value.transpose(1, 2))
    packed = both[:, 0, :heads].reshape(batch, groups, -1, width)  # (B, key heads, group, width)
    out = scaled_dot_product_attention(packed, keys, values, scale=module.scaling)
    return module.o_proj(out.reshape(batch, 1, -1))


def check(model) -> None:
    """Raises ValueError, in one line, for a model that `logits` does not know how to run."""
    layer = model.model.layers[0]
    parts = {
        layer: ("input_layernorm", "post_attention_layernorm", "self_attn", "mlp"),
        getattr(layer, "self_attn", None): ("q_proj", "k_proj", "v_proj", "o_proj", "scaling"),
    }
    lacks = [name for owner, names in parts.items() for name in names if not hasattr(owner, name)]
    if lacks or type(model).__name__ not in ("LlamaForCausalLM", "Qwen3ForCausalLM"):
        raise ValueError(f"{type(model).__name__}: only Llama and Qwen 3 have a lean step")


def uncompiled() -> str | None:
    """Why `torch.compile` cannot make kernels for a GPU here; None if nothing is known to lack."""
    try:
        import triton  # noqa: F401 - which writes the kernels
    except Exception as error:  # a broken one fails in its own way
        return f"torch.compile needs Triton ({one_line(error)})"
    named = os.environ.get("CC")
    tried = [named] if named else ["gcc", "clang", "cc"]
    if not any(map(shutil.which, tried)):
        return f"torch.compile needs a C compiler for Triton, and there is no {' or '.join(tried)}"
    return None
