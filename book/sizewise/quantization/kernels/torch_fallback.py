"""The kernels' work with torch alone: same arguments, same answers, on any device.

It unpacks the whole cache for each call, so it is right, not fast.
"""

from sizewise.quantization.packing import pack, unpack

from .layout import Packed


def attend(query, keys: Packed, values: Packed, lengths, scale: float, dtype=None):
    """Decode attention; see `reference.attend`. Computed in fp32; returns ``dtype``, the
    query's type where None."""
    import torch

    batch, heads, d = query.shape
    kv_heads, longest = keys.codes.shape[1], max(1, int(lengths.max()))
    rotated = query.float() @ keys.rotation.T
    q = rotated.view(batch, kv_heads, heads // kv_heads, d)
    k, v = _unrotated(keys, longest), _unrotated(values, longest)  # (batch, kv heads, tokens, d)
    scores = scale * (q @ k.transpose(-1, -2))  # (batch, kv heads, group, tokens)
    stored = torch.arange(longest, device=query.device) < lengths.view(-1, 1)
    scores = scores.masked_fill(~stored[:, None, None], -torch.inf)
    weights = torch.softmax(scores, -1).nan_to_num(0.0)
    out = weights @ torch.where(stored[:, None, :, None], v, 0.0)
    return (out.view(batch, heads, d) @ values.rotation).to(dtype or query.dtype)


def append(x, packed: Packed, positions) -> None:
    """Quantize x (batch, kv heads, new, d) into ``packed`` from ``positions`` (batch) on."""
    import torch

    x = x.float()
    norms = x.norm(dim=-1)
    rotated = (x / norms.clamp_min(1e-30).unsqueeze(-1)) @ packed.rotation.T
    codes = torch.bucketize(rotated, packed.boundaries()).to(torch.uint8)
    rows = pack(codes, packed.bits)  # (batch, kv heads, new, bytes)
    places = positions.long().view(-1, 1) + torch.arange(x.shape[2], device=x.device)
    batch = torch.arange(x.shape[0], device=x.device).view(-1, 1)
    packed.codes[batch, :, places] = rows.transpose(1, 2)
    packed.norms[batch, :, places] = norms.clamp(max=65504.0).to(torch.float16).transpose(1, 2)


def _unrotated(packed: Packed, tokens: int):
    """Stored vectors as they are in the rotated space, fp32 (batch, kv heads, tokens, d)."""
    codes = unpack(packed.codes[:, :, :tokens].contiguous(), packed.bits, packed.dim).int()
    return packed.centroids[codes] * packed.norms[:, :, :tokens, None].float()
