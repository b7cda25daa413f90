"""Which implementation runs: Triton's kernels where they can, torch elsewhere."""

import os
from functools import cache
from importlib.util import find_spec

from .layout import Packed, Tuning


def interpreted() -> bool:
    """Whether Triton was asked to run kernels on the CPU."""
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def backend(device) -> str:
    """ "triton" where kernels run on tensors of this torch device, else "torch"."""
    if find_spec("triton") is None:
        return "torch"
    if device.type == "cuda":
        return "triton"
    if not interpreted():
        return "torch"
    _repair_interpreter()
    return "triton"


@cache
def _repair_interpreter() -> None:
    """Let Triton 3.6's interpreter take a loop's bounds from loaded values.

    It calls int() on an array of one element, which numpy refuses from 2.4 on.
    """
    from triton.runtime import interpreter

    patch = interpreter._patch_lang_tensor

    def patched(tensor, scope):
        patch(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    interpreter._patch_lang_tensor = patched


def attend(
    query,
    keys: Packed,
    values: Packed,
    lengths=None,
    *,
    scale: float | None = None,
    tuning: Tuning | None = None,
    dtype=None,
):
    """Attention of one new token in each sequence over its packed cache.

    ``query`` (batch, query heads, d) fp32, bf16 or fp16; ``lengths`` int32 (batch), tokens held by
    each sequence, the capacity where None; ``scale`` 1/sqrt(d) where None. Returns (batch, query
    heads, d) in ``dtype``, the query's type where None. Nothing is rotated but the query and the
    result: scores of rotated vectors are those of the vectors themselves.
    Raises ValueError where shapes do not fit.
    """
    import torch

    batch, _, d = _shape(query)
    _check(query, keys, values)
    if lengths is None:
        full = keys.codes.shape[2]
        lengths = torch.full((batch,), full, dtype=torch.int32, device=query.device)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be ({batch},), got {tuple(lengths.shape)}")
    scale = d**-0.5 if scale is None else float(scale)
    if backend(query.device) == "torch":
        from . import torch_fallback

        return torch_fallback.attend(query, keys, values, lengths, scale, dtype)
    from . import decode

    return decode.attend(query, keys, values, lengths, scale, tuning or Tuning(), dtype)


def append(x, packed: Packed, positions) -> None:
    """Quantize new vectors and write them into the packed cache, in place.

    ``x`` (batch, kv heads, new, d); ``positions`` int32 (batch), where each sequence's first new
    vector goes. A norm above fp16's largest number, 65504, is stored as that number.
    Raises ValueError where shapes do not fit; positions are the caller's to keep within capacity.
    """
    if x.dim() != 4 or x.shape[:2] != packed.codes.shape[:2] or x.shape[-1] != packed.dim:
        wanted = (*packed.codes.shape[:2], "new", packed.dim)
        raise ValueError(f"new vectors must be {wanted}, got {tuple(x.shape)}")
    if positions.shape != (x.shape[0],):
        raise ValueError(f"positions must be ({x.shape[0]},), got {tuple(positions.shape)}")
    if backend(x.device) == "torch":
        from . import torch_fallback

        return torch_fallback.append(x, packed, positions)
    from . import append_kernel

    return append_kernel.append(x, packed, positions)


def _shape(query) -> tuple[int, int, int]:
    if query.dim() != 3:
        raise ValueError(
            f"the query must be (batch, query heads, d), one token a sequence, "
            f"got {tuple(query.shape)}"
        )
    return tuple(query.shape)


def _check(query, keys: Packed, values: Packed) -> None:
    batch, heads, d = query.shape
    if keys.dim != d or values.dim != d:
        raise ValueError(f"a query of {d} values against keys of {keys.dim}, values {values.dim}")
    if keys.codes.shape[:3] != values.codes.shape[:3]:
        raise ValueError("keys and values must hold the same sequences, heads and capacity")
    if keys.codes.shape[0] != batch:
        raise ValueError(f"{batch} queries for {keys.codes.shape[0]} sequences")
    if heads % keys.codes.shape[1]:
        raise ValueError(f"{heads} query heads do not share {keys.codes.shape[1]} kv heads evenly")
