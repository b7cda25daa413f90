"""A cache of fixed size and the attention over it, for steps whose time is to be measured.

`transformers` grows its cache by copying it at every step, and masks a static one, for which
older versions expand keys and values to all query heads. Neither is part of what a step must
read, so both are left out here: the cache is as long as the context, every position in it is
attended to, and the query heads that share a key head are put before it as queries.
"""

NAME = "sizewise_static"  # as `transformers` knows the attention below


class Static:
    """Keys and values of all layers at full length; a step writes its token in the last place.

    ``keys[layer]`` and ``values[layer]``: (batch, key heads, context, head width).
    """

    def __init__(self, config, batch: int, context: int, dtype, device: str, seed: int = 0):
        import torch

        width = getattr(config, "head_dim", None)
        width = width or config.hidden_size // config.num_attention_heads
        shape = (batch, config.num_key_value_heads, context, width)
        draws = torch.Generator(device).manual_seed(seed)

        def drawn():
            return torch.empty(shape, dtype=dtype, device=device).normal_(generator=draws)

        self.keys = [drawn() for _ in range(config.num_hidden_layers)]
        self.values = [drawn() for _ in range(config.num_hidden_layers)]
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


def use(config) -> None:
    """Let models of ``config`` attend with `attend`, and build no mask."""
    from transformers import AttentionInterface

    AttentionInterface.register(NAME, attend)
    config._attn_implementation = NAME


def attend(module, query, key, value, attention_mask=None, scaling=None, **kwargs):
    """Attention of one new token to the whole cache, or of a prompt to itself.

    query (batch, heads, tokens, width); key and value (batch, key heads, context, width). One
    token: query heads of one key head become queries (batch, key heads, group, width), so that
    each key is read once for all of them. A prompt: causal, as long as its keys.
    Raises ValueError for a mask, which nothing here needs, and for a part of a prompt.
    """
    import torch
    from torch.nn.functional import scaled_dot_product_attention

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
