"""Attention for `transformers` models over a fused `TurboQuantCache`.

After `register`, a model with ``attn_implementation="sizewise_packed"`` attends to packed bytes for
single tokens, and by torch's attention where it is given tensors: prompts, and layers that the
kernels do not read.
"""

NAME = "sizewise_packed"


def register(tuning=None) -> str:
    """Make the attention known to `transformers`; its name. ``tuning`` holds for all layers."""
    import torch
    from transformers import AttentionInterface
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

    def attention(module, query, key, value, attention_mask, scaling=None, **options):
        return forward(module, query, key, value, attention_mask, scaling, tuning, **options)

    sdpa_mask = ALL_MASK_ATTENTION_FUNCTIONS["sdpa"]

    def mask(*args, **options):
        """None for a single token that may see all there is: the cache drops what it may not."""
        if _sees_all(**options):
            return None
        built = sdpa_mask(*args, **options)
        alone = built is not None and built.dtype == torch.bool and built.shape[-2] == 1
        return None if alone and bool(built.all()) else built

    AttentionInterface.register(NAME, attention)
    AttentionMaskInterface.register(NAME, mask)
    return NAME


def _sees_all(
    q_length=None, attention_mask=None, local_size=None, allow_is_causal_skip=True, **options
) -> bool:
    """Whether a single token sees its whole cache, by what is asked for alone.

    `transformers` says the same, but not while a CUDA graph is captured (5.17), when a mask could
    not be looked at: that waits for the device.
    """
    return q_length == 1 and attention_mask is None and local_size is None and allow_is_causal_skip


def forward(module, query, key, value, attention_mask, scaling=None, tuning=None, **options):
    """query (batch, heads, new, d); (batch, new, heads, d) and no weights, as `transformers` wants.

    Raises ValueError for a mask over packed bytes (padding): sequences must be of equal length.
    """
    import torch

    from sizewise.quantization.kernels import attend

    from .layers import PackedView

    if not isinstance(key, PackedView):
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        return sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **options
        )
    if attention_mask is not None:
        raise ValueError("packed attention takes no mask: give sequences of equal length")
    if options.get("softcap"):
        raise ValueError("packed attention knows no soft cap of the scores")
    lengths = torch.full((len(query),), key.length, dtype=torch.int32, device=query.device)
    out = attend(
        query[:, :, 0], key.packed, value.packed, lengths, scale=scaling, tuning=tuning
    )  # (batch, heads, d)
    return out[:, None], None
