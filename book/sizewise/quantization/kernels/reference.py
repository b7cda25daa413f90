"""Decode attention and quantization in float64, written for reading: the truth of the kernels."""

from sizewise.quantization.packing import pack, unpack

from .layout import Packed


def vectors(packed: Packed):
    """All stored vectors, float64 (batch, kv heads, capacity, d)."""
    codes = unpack(packed.codes.contiguous(), packed.bits, packed.dim).long()
    rotated = packed.centroids.double()[codes]  # (batch, kv heads, capacity, d)
    return (rotated @ packed.rotation.double()) * packed.norms.double().unsqueeze(-1)


def attend(query, keys: Packed, values: Packed, lengths, scale: float):
    """softmax(scale q k) v over the first ``lengths`` tokens of each sequence, float64.

    ``query`` (batch, query heads, d); query head h reads kv head h // (query heads / kv heads).
    A sequence of no tokens gives zeros.
    """
    k, v = vectors(keys), vectors(values)
    return over(query, k, v, lengths, scale)


def over(query, k, v, lengths, scale: float):
    """The same over plain keys and values (batch, kv heads, tokens, d), float64."""
    import torch

    batch, kv_heads, tokens, d = k.shape
    q = query.double().view(batch, kv_heads, -1, d)  # (batch, kv heads, group, d)
    scores = scale * q @ k.double().transpose(-1, -2)  # (batch, kv heads, group, tokens)
    stored = torch.arange(tokens, device=query.device) < lengths.view(-1, 1)  # (batch, tokens)
    scores = scores.masked_fill(~stored[:, None, None], -torch.inf)
    weights = torch.softmax(scores, -1).nan_to_num(0.0)
    # What lies beyond the length may be anything, not-a-number included: nought times it is not 0.
    clean = torch.where(stored[:, None, :, None], v.double(), 0.0)
    return (weights @ clean).view(batch, -1, v.shape[-1])


def quantize(x, packed: Packed):
    """Codes and norms of vectors (..., d): uint8 (..., bytes), fp16 (...), computed in float64.

    Values on a boundary go down, as the kernel's comparison does.
    """
    import torch

    x = x.double()
    norms = x.norm(dim=-1)
    unit = x / norms.clamp_min(1e-30).unsqueeze(-1)
    rotated = unit @ packed.rotation.double().T
    codes = torch.bucketize(rotated, packed.boundaries().double())
    stored = norms.clamp(max=65504.0).to(torch.float16)
    return pack(codes.to(torch.uint8), packed.bits), stored
