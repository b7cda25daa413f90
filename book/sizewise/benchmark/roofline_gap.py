"""A measured step over the floor below it, from the datasheet and from the measured ceilings."""

from dataclasses import replace

from sizewise.costs import formats, roofline
from sizewise.data import catalog
from sizewise.models.architecture import Model

from .model import base, nominal


def computes(format: str) -> str:
    """What products run in: 4-bit weights are expanded to the format of the activations."""
    return nominal(format) if nominal(format) in ("int8", "fp8") else base(format)


def of(
    kind: str,
    described: Model,
    format: str,
    batch: int,
    context: int,
    held: int,
    *,
    sheet: catalog.Device | None,
    measured: catalog.Device | None,
) -> dict[str, float | None]:
    """Floors of a "decode" or "prefill" row in milliseconds; None where a rate is not known.

    ``floor_sheet_ms`` is `roofline`'s from the datasheet, as if every weight were in ``format``
    and the device reached its peaks. ``floor_ms`` takes the measured ceilings and the ``held``
    bytes that a step really reads: all but the rows of a separate input embedding that nobody
    looks up. ``bytes_read`` has the cache in it, ``operations`` are `roofline`'s.
    """
    retained = base(format)
    compute = computes(format)
    step = roofline.decode if kind == "decode" else roofline.prefill
    shape = {"context": context, "batch": batch, "kv": retained}
    tokens = batch if kind == "decode" else batch * context
    item = formats.weight_format(retained).bits / 8
    weights = held - (described.lookup - _looked_up(described, tokens)) * item
    result: dict[str, float | None] = {"floor_sheet_ms": None, "floor_ms": None}
    if sheet is not None and sheet.flops.get(compute) and nominal(format) in formats.WEIGHTS:
        floor = step(described, sheet, weights=nominal(format), compute=compute, **shape)
        result["floor_sheet_ms"] = 1e3 * floor.seconds
    plain = replace(measured or _nowhere(), flops={compute: None} | dict(_rates(measured)))
    floor = step(described, plain, weights=retained, compute=compute, **shape)
    result["bytes_read"] = weights + floor.attention.bytes
    result["operations"] = floor.operations
    if measured is not None and measured.flops.get(compute):
        phase = replace(floor.weights, bytes=weights, memory_seconds=weights / measured.bandwidth)
        result["floor_ms"] = 1e3 * replace(floor, weights=phase).seconds
    return result


def compared(row: dict, found: dict, measured: catalog.Device | None) -> dict[str, float | None]:
    """The floors, the step over each, and the share of the measured ceilings that it reaches."""
    seconds = row["step_ms"] / 1e3
    compute = computes(row["format"])
    rate = measured.flops.get(compute) if measured else None
    return {
        **found,
        "measured_over_floor": _ratio(row["step_ms"], found["floor_ms"]),
        "measured_over_sheet": _ratio(row["step_ms"], found["floor_sheet_ms"]),
        "bandwidth_share": _ratio(
            found["bytes_read"] / seconds, measured.bandwidth if measured else None
        ),
        "matrix_share": _ratio(found["operations"] / seconds, rate),
    }


def _looked_up(described: Model, tokens: int) -> float:
    """Values of a separate input embedding that ``tokens`` tokens read: a row each, at most all."""
    return min(described.lookup, tokens * described.lookup / described.vocab_size)


def _ratio(above: float, below: float | None) -> float | None:
    return above / below if below else None


def _rates(measured: catalog.Device | None) -> dict:
    return measured.flops if measured else {}


def _nowhere() -> catalog.Device:
    """A device for counting bytes and operations where no ceiling is known yet."""
    return catalog.Device(
        name="unmeasured",
        memory_bytes=1.0,
        bandwidth=1.0,
        flops={},
        tdp_watts=None,
        source="measured",
        checked="measured",
    )
