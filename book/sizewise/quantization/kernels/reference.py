"""Decode attention and quantization with torch alone, written for reading.

In float64 it is the truth that the kernels are checked against; in fp32 it stands in for them
where Triton does not run. It unpacks the whole cache for each call: right, not fast.
"""

import torch

from sizewise.quantization.packing import pack, unpack

from .layout import Packed


def vectors(packed: Packed, dtype=torch.float64):
    """All stored vectors, (batch, kv heads, capacity, d)."""
    codes = unpack(packed.codes.contiguous(), packed.bits, packed.dim).long()
    rotated = packed.centroids.to(dtype)[codes]
    return (rotated @ packed.rotation.to(dtype)) * packed.norms.to(dtype).unsqueeze(-1)


def attend(query, keys: Packed, values: Packed, lengths, scale: float, dtype=torch.float64):
    """softmax(scale q k) v over the first ``lengths`` tokens of each sequence, in ``dtype``.

    ``query`` (batch, query heads, d); query head h reads kv head h // (query heads / kv heads).
    A sequence of no tokens gives zeros.
    """
    return over(query.to(dtype), vectors(keys, dtype), vectors(values, dtype), lengths, scale)


def over(query, k, v, lengths, scale: float):
    """The same over plain keys and values (batch, kv heads, tokens, d), all of one type."""
    batch, kv_heads, tokens, d = k.shape
    q = query.view(batch, kv_heads, -1, d)  # (batch, kv heads, group, d)
    scores = scale * q @ k.transpose(-1, -2)  # (batch, kv heads, group, tokens)
    stored = torch.arange(tokens, device=query.device) < lengths.view(-1, 1)  # (batch, tokens)
    scores = scores.masked_fill(~stored[:, None, None], -torch.inf)
    weights = torch.softmax(scores, -1).nan_to_num(0.0)
    # What lies beyond the length may be anything, not-a-number included: nought times it is not 0.
    clean = torch.where(stored[:, None, :, None], v, 0.0)
    return (weights @ clean).view(batch, -1, d)


def quantize(x, packed: Packed, dtype=torch.float64):
    """Codes and norms of vectors (..., d): uint8 (..., bytes), fp16 (...), computed in ``dtype``.

    Values on a boundary go down, as the kernel's comparison does; a norm above fp16's largest
    number is stored as that number.
    """
    x = x.to(dtype)
    norms = x.norm(dim=-1)
    rotated = (x / norms.clamp_min(1e-30).unsqueeze(-1)) @ packed.rotation.to(dtype).T
    codes = torch.bucketize(rotated, packed.boundaries.to(dtype)).to(torch.uint8)
    return pack(codes, packed.bits), norms.clamp(max=65504.0).half()


def append(x, packed: Packed, positions) -> None:
    """Write x (batch, kv heads, new, d) into ``packed`` from ``positions`` (batch) on."""
    codes, norms = quantize(x, packed, torch.float32)
    places = positions.long().view(-1, 1) + torch.arange(x.shape[2], device=x.device)
    batch = torch.arange(len(x), device=x.device).view(-1, 1)
    packed.codes[batch, :, places] = codes.transpose(1, 2)
    packed.norms[batch, :, places] = norms.transpose(1, 2)
