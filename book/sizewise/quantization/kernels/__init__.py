"""Attention over a packed cache, without unpacking it in memory: Triton kernels, torch elsewhere.

`attend` and `append` take the same arguments everywhere: on a GPU with Triton they run the kernels
of `decode` and `encode`, else `reference` stands in with torch in fp32. In float64 that is the
truth which all are checked against. With TRITON_INTERPRET=1 in the environment before Triton is
first imported, the kernels run on the CPU: slow, but the same code.
"""

import os
from functools import cache
from importlib.util import find_spec

import torch

from . import reference
from .layout import Packed

__all__ = ["Packed", "append", "attend", "backend"]


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


def attend(query, keys: Packed, values: Packed, lengths, *, block=None, splits=0, dtype=None):
    """Attention of one new token in each sequence over its packed cache.

    ``query`` (batch, query heads, d) fp32, bf16 or fp16; ``lengths`` int32 (batch), tokens of each
    sequence; ``block`` tokens a tile and ``splits`` of each sequence, the kernel's own where not
    said. Returns (batch, query heads, d) in ``dtype``, the query's type where None. Nothing is
    rotated but the query and the result: scores of rotated vectors are those of the vectors.
    Raises ValueError where shapes do not fit.
    """
    batch, kv_heads = keys.codes.shape[:2]
    if values.codes.shape[:3] != keys.codes.shape[:3] or lengths.shape != (batch,):
        raise ValueError("keys, values and lengths must be of the same sequences and heads")
    fits = query.dim() == 3 and len(query) == batch and query.shape[1] % kv_heads == 0
    if not fits or not query.shape[2] == keys.dim == values.dim:
        raise ValueError(
            f"queries {tuple(query.shape)} do not fit {batch} sequences of {kv_heads} kv heads "
            f"with keys of {keys.dim} and values of {values.dim} numbers"
        )
    scale, dtype = query.shape[2] ** -0.5, dtype or query.dtype
    if backend(query.device) == "torch":
        return reference.attend(query, keys, values, lengths, scale, torch.float32).to(dtype)
    from . import decode

    options = (block or decode.BLOCK, splits, dtype)
    return decode.attend(query, keys, values, lengths, scale, *options)


def append(x, packed: Packed, positions) -> None:
    """Quantize new vectors and write them into the packed cache, in place.

    ``x`` (batch, kv heads, new, d); ``positions`` int32 (batch), where each sequence's first new
    vector goes. A norm above fp16's largest number, 65504, is stored as that number.
    Raises ValueError where shapes do not fit; positions are the caller's to keep within capacity.
    """
    batch, heads = packed.codes.shape[:2]
    shape = (batch, heads, *x.shape[2:3], packed.dim)
    if tuple(x.shape) != shape or len(positions) != batch:
        raise ValueError(f"new vectors must be {(batch, heads, 'new', packed.dim)}, got {x.shape}")
    if backend(x.device) == "torch":
        return reference.append(x, packed, positions)
    from . import encode

    return encode.append(x, packed, positions)
