"""The rotary position embedding of a model's keys, applied and undone.

Channels i and i + d/2 of a key at position p are turned by the angle p theta^(-2 i / d), as
`transformers` pairs them (Su et al. 2021, RoFormer, section 3.2).
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rope:
    """``theta``; all channels of a head are turned."""

    theta: float

    def apply(self, x, start: int):
        """x (..., tokens, d), the first of which stands at position ``start``."""
        return self._turned(x, start, 1)

    def undo(self, x, start: int):
        """The inverse of `apply`."""
        return self._turned(x, start, -1)

    def _turned(self, x, start: int, sign: int):
        import torch

        half = x.shape[-1] // 2
        position = torch.arange(start, start + x.shape[-2], dtype=torch.float64)
        rate = self.theta ** (-torch.arange(half, dtype=torch.float64) / half)
        angle = position[:, None] * rate  # (tokens, d / 2)
        cos, sin = (part.to(x.device, torch.float32) for part in (angle.cos(), angle.sin() * sign))
        first, second = x.float().split(half, -1)
        turned = torch.cat([first * cos - second * sin, second * cos + first * sin], -1)
        return turned.to(x.dtype)


def of_layer(config, layer: int) -> Rope:
    """The embedding of one layer of a `transformers` configuration.

    Raises ValueError for embeddings other than the plain one over all channels.
    """
    text = config.get_text_config(decoder=True)
    settings = text.rope_parameters
    kinds = getattr(text, "layer_types", None)
    if kinds and kinds[layer] in settings:  # one a kind of layer, as in Gemma 3
        settings = settings[kinds[layer]]
    kind, share = settings.get("rope_type", "default"), settings.get("partial_rotary_factor", 1)
    if kind != "default" or share != 1:
        raise ValueError(f"{text.model_type} has a rotary embedding of type {kind!r}: not undone")
    return Rope(float(settings["rope_theta"]))
