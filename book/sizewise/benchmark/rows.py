"""From the configuration of a row to its measurements, on the device of this process."""

import gc
import logging
from typing import Any

from sizewise import units
from sizewise.models import config as configs

from . import ceilings, decode, energy, recording, timing
from . import model as built

KINDS = ("ceiling", "decode", "prefill")
CPU_LEAST = 0.1  # seconds a block: a processor needs no longer ones, nothing is metered there
_kept: dict[str, Any] = {}  # the model of the row before, which the next one often shares


def measure(config: dict[str, Any]) -> dict[str, Any]:
    """The measurements of one row; `recording.HELLO` asks for the device instead.

    ``ended`` is "done", or says why there is nothing to measure: "out of memory", "not
    captured: ...", "refused: ...". Whatever else goes wrong is raised.
    """
    import torch

    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)  # it warns of casts at every step
    if config == recording.HELLO:
        return hello()
    if config["kind"] not in KINDS:
        raise units.unknown("kind of row", config["kind"], KINDS)
    try:
        return {"ended": "done"} | _measured(config)
    except (torch.OutOfMemoryError, MemoryError) as error:
        ended = "out of memory"
        if getattr(error, "worn", False):
            return {"ended": ended, recording.WORN: True}
    except decode.NotCaptured as error:
        ended = f"not captured: {error}"
        if error.worn:
            return {"ended": ended, recording.WORN: True}
    except built.Refused as error:
        ended = f"refused: {configs.one_line(error)}"
    except RuntimeError as error:
        if "not enough memory" not in str(error) and "t allocate memory" not in str(error):
            raise
        ended = "out of memory"  # as the CPU's allocator says it
    finally:
        free()
    return {"ended": ended}


def hello() -> dict[str, Any]:
    """Name and sizes of the device, "CPU" where torch sees no GPU, and why it is not metered."""
    import torch

    if not torch.cuda.is_available():
        import psutil

        messages = {"device": "CPU", "memory_bytes": psutil.virtual_memory().total}
        return messages | {"unmetered": energy.unmetered("cpu")}
    messages = torch.cuda.get_device_properties(torch.cuda.current_device())
    named = {"device": messages.name, "memory_bytes": messages.total_memory}
    return named | {"unmetered": energy.unmetered("cuda")}


def _measured(config: dict[str, Any]) -> dict[str, Any]:
    device = "cpu" if config["device"] == "CPU" else "cuda"
    options = {} if device == "cuda" else {"least": CPU_LEAST}
    if config["kind"] == "ceiling":
        _drop()
        timing.reset_peak(device)
        result = ceilings.measure(config["of"], config["size"], device, **options)
        return result | {"peak_bytes": timing.peak(device)}
    model = _model(config["model"], config["format"], device, config["seed"])
    free()
    timing.reset_peak(device)
    batch, context = config["batch"], config["context"]
    if config["kind"] == "decode":
        result = decode.decode(model, config["mode"], batch, context, **options)
    else:
        result = decode.prefill(model, batch, context, **options)
    sizes = {"params": model.described.total, "held_bytes": model.held}
    return {"peak_bytes": timing.peak(device)} | sizes | result


def _model(name: str, format: str, device: str, seed: int):
    """The model of the row before if it is this one, else a new one in its place."""
    key = (name, format, device, seed)
    if _kept.get("key") != key:
        _drop()
        _kept["key"] = key
        try:
            _kept["model"] = built.build(name, format, device, seed)
        except BaseException as error:
            import torch

            if isinstance(error, torch.OutOfMemoryError):
                _kept["too large"] = True  # the other rows of this model need not try
            else:
                _kept.clear()
            raise
    if "too large" in _kept:
        raise MemoryError
    return _kept["model"]


def _drop() -> None:
    _kept.clear()
    free()


def free() -> None:
    """Give back what the row before left, so that its peak is not this one's."""
    import torch

    gc.collect()
    if torch.cuda.is_available() and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
