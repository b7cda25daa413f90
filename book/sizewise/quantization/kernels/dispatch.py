"""Which implementation runs: Triton's kernels where they can, torch elsewhere."""

import os
from functools import cache
from importlib.util import find_spec

import torch

from . import reference
from .layout import Packed, Tuning


def backend(device) -> str:
    """ "triton" where kernels run on tensors of this torch device, else "torch"."""
    return _backend(device.type)


@cache
def _backend(kind: str) -> str:
    interpreted = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
    if find_spec("triton") is None or not (kind == "cuda" or interpreted):
        return "torch"
    if interpreted:
        _repair_interpreter()
    return "triton"


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
    query, keys: Packed, values: Packed, lengths=None, *, scale=None, tuning=None, dtype=None
):
    """Attention of one new token in each sequence over its packed cache.

    ``query`` (batch, query heads, d) fp32, bf16 or fp16; ``lengths`` int32 (batch), tokens held by
    each sequence, the capacity where None; ``scale`` 1/sqrt(d) where None; ``tuning`` a `Tuning`.
    Returns (batch, query heads, d) in ``dtype``, the query's type where None. Nothing is rotated
    but the query and the result: scores of rotated vectors are those of the vectors themselves.
    Raises ValueError where shapes do not fit.
    """
    batch, kv_heads, capacity = keys.codes.shape[:3]
    if (values.codes.shape[:3], values.pitch) != (keys.codes.shape[:3], keys.pitch):
        raise ValueError("keys and values must hold the same sequences, heads and capacity")
    fits = query.dim() == 3 and len(query) == batch and query.shape[1] % kv_heads == 0
    if not fits or not query.shape[2] == keys.dim == values.dim:
        raise ValueError(
            f"queries {tuple(query.shape)} do not fit {batch} sequences of {kv_heads} kv heads "
            f"with keys of {keys.dim} and values of {values.dim} numbers"
        )
    if lengths is None:
        lengths = torch.full((batch,), capacity, dtype=torch.int32, device=query.device)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must be ({batch},), got {tuple(lengths.shape)}")
    scale, dtype = query.shape[2] ** -0.5 if scale is None else scale, dtype or query.dtype
    if backend(query.device) == "torch":
        return reference.attend(query, keys, values, lengths, scale, torch.float32).to(dtype)
    from . import decode

    return decode.attend(query, keys, values, lengths, scale, tuning or Tuning(), dtype)


def append(x, packed: Packed, positions) -> None:
    """Quantize new vectors and write them into the packed cache, in place.

    ``x`` (batch, kv heads, new, d); ``positions`` int32 (batch), where each sequence's first new
    vector goes. A norm above fp16's largest number, 65504, is stored as that number.
    Raises ValueError where shapes do not fit; positions are the caller's to keep within capacity.
    """
    batch, heads = packed.codes.shape[:2]
    if x.dim() != 4 or (*x.shape[:2], x.shape[3], len(positions)) != (
        *(batch, heads, packed.dim),
        batch,
    ):
        shape = (batch, heads, "new", packed.dim)
        raise ValueError(f"new vectors must be {shape}, got {tuple(x.shape)}")
    if backend(x.device) == "torch":
        return reference.append(x, packed, positions)
    from . import append_kernel

    return append_kernel.append(x, packed, positions)
