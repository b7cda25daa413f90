"""Attention over a packed cache, without unpacking it in memory: Triton kernels, torch elsewhere.

`attend` and `append` take the same arguments everywhere: on a GPU with Triton they run the kernels
of `decode` and `append_kernel`, else `reference` stands in with torch in fp32. In float64 that is
the truth which all are checked against. With TRITON_INTERPRET=1 in the environment before Triton is
first imported, the kernels run on the CPU: slow, but the same code.
"""

from .dispatch import append, attend, backend
from .layout import Packed, Tuning

__all__ = ["Packed", "Tuning", "append", "attend", "backend"]
