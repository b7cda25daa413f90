"""What the commands on devices print: bytes of a deployment, and floors."""

from sizewise.units import si

from .output import console, table


def memory(total) -> None:
    """Where the bytes of one deployment go."""
    made = table(f"{total.model}: {total.context:,} tokens x {total.batch:,}", "", ">", ">", ">")
    for name, value in (
        (f"weights ({total.weights})", total.weights_bytes),
        (f"cache ({total.kv})", total.kv_bytes),
        ("activations (estimate)", total.activation_bytes),
        ("total", total.total_bytes),
    ):
        share = f"{100 * value / total.total_bytes:.1f} %"
        made.add_row(name, f"{value:,} B", si(value, "B"), share)
    console().print(made)
    each = si(total.device_bytes, "B")
    fits = "fits in one" if total.fits else f"needs {total.devices:,}"
    print(f"{total.device} ({each}): {fits}")
    _assumed(total.assumptions)


def floors_as_dict(floors: list) -> dict:
    """Prefill and decode with their figures in the units people use."""
    found = {}
    for one in floors:
        money = one.dollars_per_million_tokens
        found[one.step] = {
            "floor_ms_per_step": one.seconds * 1e3,
            "floor_ms_per_token": one.seconds
            * 1e3
            * (one.batch if one.step == "decode" else 1)
            / one.tokens,
            "tokens_per_second": one.tokens_per_second,
            "bound": one.bound,
            "bytes": one.bytes,
            "operations": one.operations,
            "joules_per_million_tokens": one.joules_per_million_tokens,
            "dollars_per_million_tokens": [money.low, money.high] if money else None,
            "assumptions": list(one.assumptions),
        }
    first = floors[0]
    return {
        "model": first.model,
        "device": first.device,
        "devices": first.devices,
        "context": first.context,
        "batch": first.batch,
        **found,
    }


def floors(found: list) -> None:
    """Prefill and decode side by side, with what bounds them and every assumption."""
    first, numbers = found[0], floors_as_dict(found)
    on = f"{first.devices:,} x {first.device}" if first.devices > 1 else first.device
    title = f"{first.model} on {on}: {first.context:,} tokens x {first.batch:,}"
    made = table(title, "at best", *(f"{one.step}>" for one in found))
    rows = [numbers[one.step] for one in found]
    for name, form in (
        ("floor_ms_per_step", "ms for the step"),
        ("floor_ms_per_token", "ms a token of one sequence"),
        ("tokens_per_second", "tokens a second, all sequences"),
        ("joules_per_million_tokens", "J a million tokens"),
    ):
        made.add_row(form, *("" if r[name] is None else f"{r[name]:,.4g}" for r in rows))
    if rows[0]["dollars_per_million_tokens"]:
        money = ["{:.3g} to {:.3g}".format(*r["dollars_per_million_tokens"]) for r in rows]
        made.add_row("$ a million tokens", *money)
    made.add_row("bound by", *(r["bound"] for r in rows))
    console().print(made)
    both = [note for note in rows[0]["assumptions"] if note in rows[1]["assumptions"]]
    _assumed(both)
    for one, row in zip(found, rows, strict=True):
        _assumed([note for note in row["assumptions"] if note not in both], f"{one.step}: ")


def _assumed(notes, who: str = "") -> None:
    for note in notes:
        print(f"  assumed: {who}{note}")
