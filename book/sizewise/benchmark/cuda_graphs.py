"""CUDA graphs: work recorded once and launched as one, so that launching costs next to nothing.

A capture that breaks off leaves torch's allocator in pieces, so what would break it is looked for
before: a run during which torch forbids waiting for the device.
"""

from collections.abc import Callable

from sizewise.models import config


class NotCaptured(ValueError):
    """Work that a CUDA graph cannot hold. ``worn``: the process cannot be used any more."""

    worn = False


def without_waiting(work: Callable[[], object]) -> None:
    """Run ``work`` once; raises NotCaptured if it waits for the device in its middle."""
    import torch

    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        work()
    except RuntimeError as error:
        if "synchroniz" not in str(error):
            raise
        raise NotCaptured("a step waits for the GPU in its middle") from None
    finally:
        torch.cuda.set_sync_debug_mode("default")


def captured(work: Callable[[], object]):
    """A graph of ``work``, which must have run before; what it allocates is the graph's own.

    Raises NotCaptured, ``worn``, if the capture breaks off, and torch's own error, ``worn`` too,
    if memory ran out in it. Memory that ``work`` reads must be held by someone as long as the graph
    is replayed.
    """
    import torch

    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            work()
    except torch.OutOfMemoryError as error:  # a RuntimeError too, but the reason is another
        error.worn = True
        raise
    except RuntimeError as error:
        broken = NotCaptured(f"the capture broke off ({config.one_line(error)})")
        broken.worn = True
        raise broken from None
    return graph
