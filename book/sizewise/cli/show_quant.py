"""What the command on weight formats prints."""

import math
from typing import Any

from sizewise.units import si

from .output import console, table


def as_dict(source, dtype, device, before, converted, first, second, stored=None) -> dict[str, Any]:
    """All figures of one conversion. Quality is None where the model gave no finite number."""
    after = converted.held
    found: dict[str, Any] = {
        "model": source.name,
        "kind": source.kind,
        "format": converted.format,
        "loaded_as": dtype,
        "device": device,
        "parameters": converted.parameters,
        "bytes_before": before.as_dict(),
        "bytes_after": after.as_dict(),
        "bits_per_parameter": converted.bits,
        "layers_converted": converted.layers,
        "weights_converted": converted.weights,
        "left_in_high_precision": converted.left,
        "windows": first["windows"],
        "tokens": int(first["tokens"]),
        "text_bytes": int(first["bytes"]),
    }
    for when, sums in (("before", first), ("after", second)):
        found[f"perplexity_{when}"] = _perplexity(sums)
        found[f"bits_per_byte_{when}"] = _finite(sums["nats"] / sums["bytes"] / math.log(2))
        found[f"seconds_{when}"] = sums["seconds"]
    found["seconds_to_convert"] = converted.seconds
    found["notes"] = list(converted.notes)
    if stored is not None:
        found["file"] = _file(stored)
    return found


def quantized(found: dict[str, Any]) -> None:
    """Bytes by role and quality, before and after."""
    title = f"{found['model']}: {found['loaded_as']} to {found['format']} on {found['device']}"
    made = table(title, "", "before>", "after>", "ratio>")
    for role, was in found["bytes_before"].items():
        now = found["bytes_after"][role]
        name = "bytes held" if role == "total" else f"  {role.replace('_', ' ')}"
        ratio = f"{now / was:.4f}" if was and now else ""
        made.add_row(name, f"{was:,}", f"{now:,}", ratio)
    made.add_section()
    for name, form in (("perplexity", "perplexity a token"), ("bits_per_byte", "bits a byte")):
        was, now = found[f"{name}_before"], found[f"{name}_after"]
        ratio = f"{now / was:.4f}" if was and now else ""
        made.add_row(form, _number(was), _number(now), ratio)
    made.add_row(
        "seconds for the text", *(f"{found[f'seconds_{when}']:.2f}" for when in ("before", "after"))
    )
    console().print(made)
    print(
        f"{found['layers_converted']:,} layers converted in {found['seconds_to_convert']:.2f} s; "
        f"{found['bits_per_parameter']:.3g} bits held for each of "
        f"{si(found['parameters'], 'params')} parameters; "
        f"{found['tokens']:,} tokens in {found['windows']:,} windows"
    )
    for note in found["notes"]:
        print(f"  {note}")
    if "file" in found:
        _print_file(found["file"])


def _print_file(stored: dict[str, Any]) -> None:
    made = table("what the file stores", "type", "tensors>", "weights>", "bytes>", "bits a weight>")
    for one in stored["types"]:
        made.add_row(
            one["type"],
            f"{one['tensors']:,}",
            f"{one['weights']:,}",
            f"{one['bytes']:,}",
            f"{one['bits']:.4g}",
        )
    made.add_section()
    made.add_row("all", "", "", f"{stored['bytes']:,}", f"{stored['bits']:.4g}")
    console().print(made)


def _file(stored) -> dict[str, Any]:
    kinds = [
        {
            "type": one.type,
            "tensors": one.tensors,
            "weights": one.elements,
            "bytes": one.bytes,
            "bits": one.bits,
        }
        for one in stored.types
    ]
    return {"types": kinds, "bytes": stored.all.bytes, "bits": stored.all.bits}


def _perplexity(sums: dict[str, float]) -> float | None:
    mean = sums["nats"] / sums["tokens"]
    return math.exp(mean) if mean < 700 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _number(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.5g}"
