"""The command line. Each command reads its words, calls the library and shows what came back."""

import errno
import os
import sys
from typing import Annotated, Any

import typer

from sizewise import __version__

from . import book, compare, deploy, doctor, fit, options, quantize
from .options import Json

app = typer.Typer(
    name="sizewise",
    no_args_is_help=True,
    rich_markup_mode="markdown",  # flows the paragraphs of a docstring
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="What do a language model's parameters buy, and what do they cost?",
    epilog="A MODEL is a name of the catalogue (sizewise models), a path to a Hugging Face "
    "config.json or params.json, a GGUF or safetensors file, a folder, or a hub id such as "
    "Qwen/Qwen3-8B. Every command that prints results takes "
    "--json.",
)

Models = Annotated[
    list[str],
    typer.Argument(metavar="MODEL...", help="Name, path or hub id.", autocompletion=options.models),
]


def main() -> None:
    """Run the command line: bad input is one line on stderr and exit code 2."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("PYTHONWARNINGS", "ignore")
    import warnings

    warnings.simplefilter("ignore")
    sys.stdout = sys.stdout or open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - closed
    try:
        code = app(standalone_mode=False, prog_name="sizewise")
        sys.stdout.flush()  # what cannot be written fails here, not while Python ends
    except ValueError as error:
        code = fail(str(error))
    except KeyboardInterrupt:
        code = fail("stopped", 130)
    except (BrokenPipeError, SystemExit) as error:  # the reader of our output has left
        if isinstance(error, SystemExit) and not isinstance(error.__context__, BrokenPipeError):
            raise
        _silence()
        code = 0
    except OSError as error:  # a full disk, a folder that cannot be written
        if error.filename is None:
            if error.errno != errno.ENOSPC:
                raise
            _silence()
        code = fail(f"{error.filename or 'the output'}: {error.strerror}")
    except Exception as error:
        if not hasattr(error, "format_message"):  # only usage errors are people's mistakes
            raise
        text = error.format_message()  # none where the help was printed instead
        code = fail(text) if text else 2
    sys.exit(code if isinstance(code, int) else 0)


def _silence() -> None:
    """What still waits to be printed goes nowhere, or Python would fail again as it ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(message: str, code: int = 2) -> int:
    """Print one line on stderr and give the exit code."""
    from sizewise.units import printable

    print(f"sizewise: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code


@app.callback(invoke_without_command=True)
def root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False):
    """Print the version, or go on to the command."""
    if version:
        print(__version__)
        raise typer.Exit


@app.command()
def count(
    models: Models,
    json: Json = False,
    layers: Annotated[
        bool, typer.Option("--layers", help="With --json: each layer's parameters too.")
    ] = False,
    estimate: deploy.Estimate = False,
):
    """Count a model's parameters exactly: total, active, embedding, and by kind of module.

    Nothing is downloaded but a configuration, and no weights are made. Of a checkpoint file only
    the header is read. Several models are compared in one table.

    Example: sizewise count llama-3.1-8b mixtral-8x7b ./config.json ./model.gguf
    """
    from sizewise.models import config, parameters

    from . import output

    counts, errors = [], []
    for model in models:
        try:
            spec = config.load(model, estimate=estimate)
            counts.append((parameters.count(spec), spec.stored))
        except ValueError as error:
            errors.append(str(error))
    if json and counts:
        output.as_json([_count_as_dict(count, stored, layers) for count, stored in counts])
    elif counts:
        output.counts([count for count, _ in counts])
        if len(counts) == 1 and counts[0][1]:
            output.stored(counts[0][1])
    for line in errors:
        fail(line)
    raise typer.Exit(2 if errors else 0)


def _count_as_dict(count, stored, layers: bool) -> dict[str, Any]:
    plain = count.as_dict(layers=layers)
    if stored is not None:
        plain["stored"] = {
            "kind": stored.kind,
            "files": stored.files,
            "file_bytes": stored.file_bytes,
            "tensor_bytes": stored.tensor_bytes,
            "types": {
                row.type: {"tensors": row.tensors, "parameters": row.parameters, "bytes": row.bytes}
                for row in stored.by_type()
            },
        }
    return plain


@app.command(name="formats")
def list_formats(json: Json = False):
    """List the formats of weights and caches: bits really stored, other names, what is kept."""
    from sizewise.costs import formats

    from . import output

    tables = {"weights": formats.WEIGHTS, "cache": formats.CACHES}
    output.formats({use: list(table.values()) for use, table in tables.items()}, json)


@app.command(name="models")
def list_models(
    family: Annotated[str, typer.Option(help="Only this family.")] = "", json: Json = False
):
    """List the catalogue: published models, the vendor's figure and where it comes from."""
    from sizewise import units
    from sizewise.data import catalog

    from . import output as show

    families = {entry.family for entry in catalog.models().values()}
    if family and family not in families:
        raise units.unknown("family", family, sorted(families))
    show.models([e for e in catalog.models().values() if family in ("", e.family)], json)


@app.command(name="devices")
def list_devices(json: Json = False):
    """List the devices with memory, bandwidth and peak rates as their vendors state them."""
    from sizewise.data import catalog

    from . import output as show

    show.devices(list(catalog.devices().values()), json)


app.command()(book.run)
app.command(name="claims")(book.list_claims)
app.command()(book.verify)
app.command()(deploy.memory)
app.command()(deploy.roofline)
app.command()(fit.fit)
app.command()(quantize.quantize)
app.command()(compare.compare)
app.command()(doctor.doctor)
