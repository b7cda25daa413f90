"""Attention over a packed cache, without unpacking it in memory: Triton kernels, torch elsewhere.

`attend` and `append` take the same arguments everywhere: on a GPU with Triton they run the kernels
of `decode` and `write`, else `fallback` does the same with torch. `reference` is the truth that all
are checked against, in float64. With TRITON_INTERPRET=1 in the environment before Triton is first
imported, the kernels run on the CPU: slow, but the same code.
"""

from .dispatch import append, attend, backend
from .layout import Packed, Tuning

__all__ = ["Packed", "Tuning", "append", "attend", "backend"]
