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
    interpreted = os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")
    if find_spec("triton") is None or not (device.type == "cuda" or interpreted):
        return "torch"
    if interpreted:
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


def attend(query, keys: Packed, values: Packed, lengths, **options):
    """Attention of one new token in each sequence over its packed cache.

    ``query`` (batch, query heads, d) fp32, bf16 or fp16; ``lengths`` int32 (batch), tokens of each
    sequence. Returns (batch, query heads, d) in ``dtype``, the query's type where it is not among
    the options. The others are the kernel's, which has defaults: ``block``
    tokens a tile and ``splits`` of each sequence. Nothing is rotated but the query and the result:
    scores of rotated vectors are those of the vectors. Raises ValueError where shapes do not fit.
    """
    batch, kv_heads, d = *keys.codes.shape[:2], keys.dim
    if not (
        query.dim() == 3
        and (len(query), query.shape[1] % kv_heads, query.shape[2]) == (batch, 0, d)
        and values.codes.shape[:3] == keys.codes.shape[:3]
        and (values.dim, *lengths.shape) == (d, batch)
    ):
        shapes = [tuple(part.shape) for part in (query, keys.codes, values.codes, lengths)]
        raise ValueError("queries {}, codes {} and {}, lengths {} do not fit".format(*shapes))
    if backend(query.device) == "triton":
        from . import decode

        return decode.attend(query, keys, values, lengths, **options)
    result = reference.attend(query, keys, values, lengths, d**-0.5, torch.float32)
    return result.to(options.get("dtype") or query.dtype)


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
