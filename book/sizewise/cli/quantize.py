"""The command that quantizes a model: bytes before and after, and what it costs in quality."""

import math
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from .options import Json

BUILT_IN = "sotu"  # of sizewise.evaluation.corpora
DOCUMENTS = 32  # of the built-in text
CHARACTERS = 8  # that hold a token, at most in the mean
MAX_TEXT = 50_000_000  # bytes of a file
CALIBRATION = 32  # windows that GPTQ and AWQ look at, none of those measured
# Standard errors between no change and the least change that 95 % intervals show in 80 % of texts.
SHOWN = 1.959964 + 0.841621
NOT_FINITE = 1  # exit code


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, a .gguf file, a pinned name or a hub id."),
    ],
    format: Annotated[
        str, typer.Option(help="int8, nf4, nf4-dq, fp4, fp8, mxfp4, q4_0, hqq4, gptq4, bf16, ...")
    ] = "nf4",
    text: Annotated[
        Path | None, typer.Option(help="A UTF-8 file to measure on; default: a built-in text.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dtype: Annotated[
        str, typer.Option(help="Precision it is loaded and computed in: fp32, bf16 or fp16.")
    ] = "fp32",
    context: Annotated[int, typer.Option(help="Tokens in a window of the text.")] = 256,
    windows: Annotated[int, typer.Option(help="Windows, spread evenly over the text.")] = 16,
    json: Json = False,
):
    """Quantize a model and see what it saves and what it costs.

    Bytes are those of the tensors in memory, by role: codes, scales, codebooks, and what stays in
    high precision. Quality is perplexity and bits a byte of the same windows before and after, the
    change with its 95 % interval from drawing windows, and the least change that so much text
    shows. Formats that look at inputs (gptq4, awq4) are calibrated on other windows of the text.
    Nothing is written. Weights are read from safetensors or GGUF, and no code of a model is run.

    Exit code 1: the model's predictions are not finite, before or after.

    Example: sizewise quantize ./my-model --format nf4-dq --text notes.txt --json
    """
    from sizewise.models import load
    from sizewise.quantization.weights import convert
    from sizewise.units import unknown
    from sizewise.validation import whole

    from . import output

    whole("context", context, 1 << 20, 2), whole("windows", windows, 1 << 20)
    if dtype not in load.DTYPES:
        raise unknown("dtype", dtype, load.DTYPES)
    if reason := convert.refusal(format, device):
        raise ValueError(f"{format} cannot be used here: {reason}")
    inputs = [_read(text)] if text else None
    source = load.find(model)
    load.check_memory(source, dtype, device)
    texts = inputs or _built_in(context, windows)
    with output.progress() as step:
        result, stored = _run(source, format, texts, device, dtype, context, windows, step)
    output.as_json(result) if json else _print(result)
    if stored is not None and not json:
        output.stored(stored)
    if result["windows_not_finite_before"] or result["windows_not_finite_after"]:
        raise typer.Exit(NOT_FINITE)


def _run(source, format, texts, device, dtype, context, windows, step) -> tuple[dict, Any]:
    """Cut the text, then load, measure, convert and measure again: the figures, and what the
    file stores, if it is one that says so."""
    from sizewise.evaluation import likelihood
    from sizewise.models import load
    from sizewise.quantization import tensor_bytes
    from sizewise.quantization.weights import convert

    with step("reading the text"):  # before the weights, since it may be too short
        tokenizer, longest = load.reader(source)
        cut, sizes, _ = likelihood.documents(tokenizer, texts, min(context, longest or context))
    measured = _spread(len(cut), windows)
    others = [number for number in range(len(cut)) if number not in set(measured)]
    calibration = cut[[others[at] for at in _spread(len(others), CALIBRATION)]]
    with step("loading"):
        model, _, stored = load.load(source, dtype)
    model.to(device)
    bytes_before = tensor_bytes.measure_bytes(model).as_dict()
    with step("measuring before") as progress:
        before, seconds_before = _measure(model, cut[measured], sizes[measured], progress)
    with step(f"converting to {format}") as progress:
        options = {"device": device, "progress": progress}
        options["calibration"] = calibration if len(calibration) else None
        converted = convert.convert(model, format, **options)
    with step("measuring after") as progress:
        after, seconds_after = _measure(model, cut[measured], sizes[measured], progress)
    result = {
        "model": source.name,
        "kind": source.kind,
        "format": converted.format,
        "loaded_as": dtype,
        "device": device,
        "parameters": converted.parameters,
        "bytes_before": bytes_before,
        "bytes_after": converted.stored.as_dict(),
        "bits_per_parameter": converted.bits,
        "layers_converted": converted.layers,
        "weights_converted": converted.weights,
        "left_in_high_precision": converted.left,
        "windows": len(measured),
        "tokens": int(before["tokens"].sum()),
        "text_bytes": int(before["bytes"].sum()),
        **_quality("before", before),
        "seconds_before": seconds_before,
        **_quality("after", after),
        "seconds_after": seconds_after,
        **_change(before, after),
        "seconds_to_convert": converted.seconds,
        "notes": [*source.notes, *converted.notes],
    }
    if stored is not None:
        columns = {"weights": "parameters"} | {n: n for n in ("type", "tensors", "bytes", "bits")}
        types = [{n: getattr(row, m) for n, m in columns.items()} for row in stored.by_type()]
        bits = 8 * stored.tensor_bytes / (stored.parameters or 1)
        result["file"] = {"types": types, "bytes": stored.tensor_bytes, "bits": bits}
    return result, stored


def _measure(model, windows, sizes, progress) -> tuple[Any, float]:
    """A row a window, and the seconds they took."""
    import time

    from sizewise.evaluation import likelihood

    likelihood.measure(model, windows[:1])  # the first pass is slow, and is not timed
    started, documents = time.perf_counter(), range(len(windows))
    options = {"bytes_of_targets": sizes, "document": documents, "batch": 1, "progress": progress}
    return likelihood.measure(model, windows, **options), time.perf_counter() - started


def _quality(when: str, table) -> dict[str, Any]:
    """Perplexity and bits a byte; None where any window is not finite."""
    import numpy as np

    from sizewise.evaluation import likelihood

    broken = int((~np.isfinite(table["nats"])).sum())
    perplexity = math.inf if broken else likelihood.perplexity(table)
    return {
        f"windows_not_finite_{when}": broken,
        f"perplexity_{when}": perplexity if math.isfinite(perplexity) else None,
        f"bits_per_byte_{when}": None if broken else likelihood.bits_per_byte(table),
    }


def _change(before, after) -> dict[str, float | None]:
    """The change of perplexity as a share, its interval, and the least one this text shows.

    None where a table is not finite, and the last three for a single window.
    """
    import numpy as np

    from sizewise.stats import bootstrap

    names = [f"perplexity_change{end}" for end in ("", "_low", "_high")] + ["least_change_shown"]
    if not np.isfinite(before["nats"]).all() or not np.isfinite(after["nats"]).all():
        return dict.fromkeys(names)
    nats = (after["nats"].sum() - before["nats"].sum()) / before["tokens"].sum()
    if len(before) < bootstrap.LEAST:
        return dict.fromkeys(names) | {names[0]: math.expm1(nats)}
    change = bootstrap.paired(after, before, "nats", "tokens").difference
    ends = (change.value, change.low, change.high, SHOWN * float(change.samples.std()))
    return {name: math.expm1(end) for name, end in zip(names, ends, strict=True)}


def _spread(number: int, windows: int) -> list[int]:
    """Which of ``number`` windows to take: ``windows`` at most, evenly spread."""
    count = min(number, windows)
    return [(2 * at + 1) * number // (2 * count) for at in range(count)]


def _read(path: Path) -> str:
    from sizewise import paths

    if not (content := paths.read_text(path, MAX_TEXT)).strip():
        raise ValueError(f"{path}: holds no text")
    return content


def _built_in(context: int, windows: int) -> list[str]:
    """The starts of some documents, long enough for the windows that are asked for."""
    from sizewise.evaluation import corpora

    characters = -(-windows // DOCUMENTS) * context * CHARACTERS
    return corpora.fixed(BUILT_IN, count=DOCUMENTS, characters=characters)


# --- printing


def _print(result: dict[str, Any]) -> None:
    """Bytes by role and quality, before and after."""
    from sizewise import units

    from .output import console, table

    title = f"{result['model']}: {result['loaded_as']} to {result['format']} on {result['device']}"
    displayed = table(title, "", "before>", "after>", "ratio>")
    for role, was in result["bytes_before"].items():
        now = result["bytes_after"][role]
        name = "bytes in memory" if role == "total" else f"  {role.replace('_', ' ')}"
        displayed.add_row(name, f"{was:,}", f"{now:,}", f"{now / was:.4f}" if was and now else "")
    displayed.add_section()
    for name, label in (("perplexity", "perplexity a token"), ("bits_per_byte", "bits a byte")):
        pair = [result[f"{name}_{when}"] for when in ("before", "after")]
        numbers = [units.optional(value, ".5g", "not finite") for value in pair]
        displayed.add_row(label, *numbers, f"{pair[1] / pair[0]:.4f}" if all(pair) else "")
    seconds = (f"{result[f'seconds_{when}']:.2f}" for when in ("before", "after"))
    displayed.add_row("seconds for the text", *seconds)
    console().print(displayed)
    print(
        f"{result['layers_converted']:,} layers converted in {result['seconds_to_convert']:.2f} s; "
        f"{result['bits_per_parameter']:.3g} bits in memory for each of "
        f"{units.si(result['parameters'], 'params')} parameters; "
        f"{result['tokens']:,} tokens in {result['windows']:,} windows"
    )
    if result["perplexity_change"] is not None:
        print("  " + _line_on_change(result))
    for line in result["notes"]:
        print(f"  {line}")
    for when in ("before", "after"):
        if broken := result[f"windows_not_finite_{when}"]:
            message = f"{broken} of {result['windows']} windows are not finite {when} conversion"
            print(f"sizewise: {message}", file=sys.stderr)


def _line_on_change(result: dict[str, Any]) -> str:
    change, low, high = (result[f"perplexity_change{end}"] for end in ("", "_low", "_high"))
    if low is None:
        return f"perplexity {change:+.2%}; a single window has no interval"
    return (
        f"perplexity {change:+.2%} (95 % interval {low:+.2%} to {high:+.2%}); "
        f"this text shows changes from {result['least_change_shown']:.2%} on"
    )
