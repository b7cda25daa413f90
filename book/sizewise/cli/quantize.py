"""The command that quantizes a model: bytes before and after, and what it costs in quality."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the results as JSON.")]
BUILT_IN = "sotu"  # of sizewise.evaluation.corpora
DOCUMENTS = 32  # of the built-in text
CHARACTERS = 8  # that hold a token, at most in the mean
MOST_TEXT = 50_000_000  # bytes of a file


def quantize(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="A folder, a .gguf file, a pinned name or a hub id."),
    ],
    format: Annotated[
        str, typer.Option(help="int8, nf4, nf4-dq, fp4, bf16, hqq4, ao-int8, ...")
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

    Bytes are those of the tensors really held, by role: codes, scales, codebooks, and what stays
    in high precision. Quality is perplexity and bits a byte of the same windows before and after;
    with few windows, a small difference is no result. Nothing is written. Weights are read from
    safetensors or GGUF, and no code of a model is run.

    Example: sizewise quantize ./my-model --format nf4-dq --text notes.txt --json
    """
    from sizewise import validation
    from sizewise.models import load
    from sizewise.quantization.weights import convert
    from sizewise.units import unknown

    from . import output, show_quant

    validation.whole("context", context, 1 << 20, 2), validation.whole("windows", windows, 1 << 20)
    if dtype not in load.DTYPES:
        raise unknown("dtype", dtype, load.DTYPES)
    if reason := convert.refusal(format, device):
        raise ValueError(f"{format} cannot be used here: {reason}")
    given = _text(text)
    found = load.find(model)
    load.check_memory(found, dtype, device)
    words = _built_in(context, windows) if given is None else given
    with _progress() as told:
        result = _run(found, format, words, device, dtype, context, windows, told)
    if json:
        output.as_json(result)
    else:
        show_quant.quantized(result)


def _run(found, format, words, device, dtype, context, windows, told) -> dict:
    """Cut the text, then load, measure, convert and measure again."""
    from sizewise.evaluation import likelihood
    from sizewise.models import load
    from sizewise.quantization import tensor_bytes
    from sizewise.quantization.weights import convert

    from . import show_quant

    with told("reading the text"):  # before the weights, since it may be too short
        tokenizer, most = load.reader(found)
        cut, sizes, _ = likelihood.documents(tokenizer, words, min(context, most or context))
    some = _spread(len(cut), windows)
    with told("loading"):
        made, _, stored = load.load(found, dtype)
    made.to(device)
    before = tensor_bytes.of(made)
    with told("measuring before") as say:
        first = _measured(made, cut[some], sizes[some], say)
    with told(f"converting to {format}") as say:
        converted = convert.convert(made, format, device=device, progress=say)
    with told("measuring after") as say:
        second = _measured(made, cut[some], sizes[some], say)
    return show_quant.as_dict(found, dtype, device, before, converted, first, second, stored)


def _measured(model, windows, sizes, say) -> dict:
    """Sums over the windows, and the seconds they took."""
    import time

    from sizewise.evaluation import likelihood

    likelihood.measure(model, windows[:1])  # the first pass is slow, and is not timed
    started = time.perf_counter()
    table = likelihood.measure(model, windows, bytes_of_targets=sizes, batch=1, progress=say)
    sums = {name: float(table[name].sum()) for name in ("nats", "tokens", "bytes")}
    return sums | {"windows": len(table), "seconds": time.perf_counter() - started}


def _spread(number: int, wanted: int) -> list[int]:
    """Which of ``number`` windows to take: ``wanted`` at most, evenly spread."""
    wanted = min(number, wanted)
    return [(2 * at + 1) * number // (2 * wanted) for at in range(wanted)]


def _text(path: Path | None) -> list[str] | None:
    """The text of a file as one document; None for the built-in one."""
    if path is None:
        return None
    try:
        if path.stat().st_size > MOST_TEXT:
            raise ValueError(f"{path}: over {MOST_TEXT:,} bytes; a part of it is enough")
        read = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: no UTF-8 text") from error
    except OSError as error:
        raise ValueError(f"{path}: cannot be read ({error.strerror})") from error
    if not read.strip():
        raise ValueError(f"{path}: holds no text")
    return [read]


def _built_in(context: int, windows: int) -> list[str]:
    """The starts of some documents, long enough for the windows that are asked for."""
    from sizewise.evaluation import corpora

    each = -(-windows // DOCUMENTS) * context * CHARACTERS
    return corpora.fixed(BUILT_IN, count=DOCUMENTS, characters=each)


@contextmanager
def _progress():
    """A function that names a step, and is a context that gives a function to tell how far it is;
    a bar where someone watches."""
    if not sys.stderr.isatty():
        yield _silent
        return
    from rich.console import Console
    from rich.progress import Progress

    # The stream of now: loading is kept from writing beside the bar.
    with Progress(console=Console(file=sys.stderr), transient=True) as bar:

        @contextmanager
        def told(name: str):
            task = bar.add_task(name, total=None)
            yield lambda done, of: bar.update(task, completed=done, total=of)
            bar.update(task, completed=1, total=1)

        yield told


@contextmanager
def _silent(name: str):
    yield None
