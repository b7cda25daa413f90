"""Bytes that a model's tensors really hold, by what they are for.

A format's name says little: beside the codes there are scales, tables and all that was left in
high precision. So the tensors themselves are found, wherever a format keeps them (parameters,
buffers, attributes of parameters, states and dictionaries beside them), and the storage behind
each is counted once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

ROLES = ("codes", "scales", "codebooks", "high_precision")
SCALES = {"absmax", "scb", "scale", "scales", "zeros", "offset", "column_scales"}
CODEBOOKS = {"code", "codebook", "table"}
CODES = {"cb", "codes"}
STATES = {"QuantState", "MatmulLtState"}  # of bitsandbytes; Params4bit also points at its module
HOOKS = {"_backward_hooks", "_forward_hooks", "_forward_pre_hooks"}
STILL = {"_modules", "module", "idx", "subB", *HOOKS}  # subB: left of LLM.int8()'s last product


@dataclass(frozen=True)
class TensorBytes:
    """Bytes by role."""

    codes: int = 0
    scales: int = 0
    codebooks: int = 0
    high_precision: int = 0

    @property
    def total(self) -> int:
        return self.codes + self.scales + self.codebooks + self.high_precision

    def as_dict(self) -> dict[str, int]:
        """Total and roles, in the order in which they are shown."""
        return {"total": self.total} | {role: getattr(self, role) for role in ROLES}


def measure_bytes(model) -> TensorBytes:
    """The bytes of every tensor storage of a torch module, each counted once.

    Tensors that share a storage (a tied head, a view) are one; on the meta device a storage has
    the bytes it would have. Memory that an allocator rounds up, and what a forward pass makes,
    is not in it.
    """
    bytes_of, observed, visited = dict.fromkeys(ROLES, 0), set(), set()
    for module in model.modules():
        for name, tensor in _tensors(module.__dict__, "", visited):
            storage = tensor.untyped_storage()
            if storage._cdata not in observed:  # the address of the storage itself, also on meta
                observed.add(storage._cdata)
                bytes_of[_role(name, tensor)] += storage.nbytes()
    return TensorBytes(**bytes_of)


def _tensors(value: Any, name: str, visited: set[int]) -> Iterator[tuple[str, Any]]:
    """Every (name, plain tensor) under ``value``, without going into other modules."""
    import torch

    if id(value) in visited:
        return
    if isinstance(value, torch.Tensor):
        visited.add(id(value))
        yield name, value
        beside = {k: v for k, v in vars(value).items() if k not in STILL}
        yield from _tensors(beside, name, visited)
    elif isinstance(value, dict):
        for key, item in list(value.items()):
            if key not in STILL:
                yield from _tensors(item, str(key), visited)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _tensors(item, name, visited)
    elif type(value).__name__ in STATES:
        visited.add(id(value))
        yield from _tensors(vars(value), name, visited)


def _role(name: str, tensor) -> str:
    import torch

    name = name.lower()
    if name in SCALES:
        return "scales"
    if name in CODEBOOKS:
        return "codebooks"
    float8 = tensor.is_floating_point() and tensor.dtype.itemsize == 1
    if name in CODES or float8 or tensor.dtype in (torch.int8, torch.uint8):
        return "codes"
    return "high_precision"
