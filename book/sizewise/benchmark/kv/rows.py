"""From the configuration of a row about caches to its measurements, on one device."""

from pathlib import Path

from sizewise.benchmark import recording, rows, timing
from sizewise.models import config as configs

from . import append_timing, attention, checks, methods, model, profile
from .inputs import Bench

SEED = 0  # of every row's inputs
WHAT = {
    "check": checks.check,
    "check-append": checks.check_append,
    "ceiling": attention.ceiling,
    "attend": attention.attend,
    "tune": attention.attend,
    "logits": attention.logits,
    "append": append_timing.append,
    "decode": model.decode,
    "capacity": model.capacity,
    "profile": profile.profile,
}
PLAIN_ERRORS = (RuntimeError, ValueError, ImportError)  # whose words say enough


def measure(config: dict, device: str, file: Path) -> dict:
    """What a row measures; a method that does not run here gives the reason as ``refused``.

    ``file`` is where the checks and the launches of this device may be. `recording.HELLO` asks for
    the device.
    A method that leaves the device unusable says so too, and is the last in its process.
    Raises RuntimeError if the device is not there: no row would mean anything.
    """
    import torch

    if config == recording.HELLO:
        return rows.hello()
    if timing.on(device) == "cuda" and not torch.cuda.is_available():
        raise RuntimeError("the GPU is gone")
    rows.free()
    methods.forget_compiled()
    torch.manual_seed(SEED)
    bench = Bench(device, file, config["device"])
    try:
        found = WHAT[config["what"]](config, bench) | {"refused": None}
        timing.wait(device)  # what was queued and fails, fails in its own row
        return found
    except Exception as error:  # a compiler's own errors have no common base
        refused = {"refused": reason(error)}
        return refused | ({recording.WORN: True} if unusable(error) else {})


def reason(error: Exception) -> str:
    """Why a method does not run, on one line."""
    words = configs.one_line(error)
    plain = isinstance(error, PLAIN_ERRORS) or words == type(error).__name__
    return words if plain else configs.one_line(ValueError(f"{type(error).__name__}: {words}"))


def unusable(error: Exception) -> bool:
    """Whether the process is good for no more rows: a fault on the device stays with it."""
    told = str(error)
    return getattr(error, "worn", False) or any(
        mark in told for mark in ("CUDA error", "CUDA driver error", "Triton Error [CUDA]")
    )
