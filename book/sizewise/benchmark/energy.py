"""Energy of a GPU, from the counter that its driver keeps: of the whole board, idle draw included.

The counter is read through NVML (package nvidia-ml-py). It ticks every few hundredths of a
second, so a reading over less than `LEAST` seconds is worth nothing and is not given. A card
without the counter, a machine without the package, and a CPU have no figure: "not measured".
"""

import importlib.util
import time

LEAST = 0.75  # seconds


class Meter:
    """Joules since it was made."""

    def __init__(self, device: str):
        self.counter = _counter() if str(device).startswith("cuda") else None
        self.started, self.before = time.monotonic(), self._read()

    def joules(self) -> float | None:
        """None where nothing counts, and for a reading too short to mean anything."""
        now = self._read()
        if now is None or self.before is None or time.monotonic() - self.started < LEAST:
            return None
        return (now - self.before) / 1e3  # the counter is in millijoules

    def _read(self) -> int | None:
        return self.counter() if self.counter else None


def unmetered(device: str) -> str | None:
    """Why nothing counts the energy of a device; None if something does."""
    if not str(device).startswith("cuda"):
        return "a CPU has no meter here"
    if importlib.util.find_spec("pynvml") is None:
        return "the package nvidia-ml-py is not installed"
    return None if _counter() else "the driver gives no counter of this card"


def _counter():
    """A function that reads the counter of torch's current GPU; None where there is none."""
    import torch

    try:
        import pynvml

        pynvml.nvmlInit()
        handle = _handle(pynvml, torch.cuda.get_device_properties(torch.cuda.current_device()))
        pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)
    except Exception:  # no package, no driver, no such counter: each raises in its own way
        return None
    return lambda: pynvml.nvmlDeviceGetTotalEnergyConsumption(handle)


def _handle(nvml, told):
    """NVML's handle of torch's device. Torch's numbers follow CUDA_VISIBLE_DEVICES, NVML's do not,
    so the card is found by its identity, unless there is only one.
    """
    if nvml.nvmlDeviceGetCount() == 1:
        return nvml.nvmlDeviceGetHandleByIndex(0)
    return nvml.nvmlDeviceGetHandleByUUID(f"GPU-{told.uuid}")
