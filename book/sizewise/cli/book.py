"""The commands on the book itself."""

import re
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from . import options
from .options import Json


def run(
    chapters: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[CHAPTER...]",
            help="All, if none is named.",
            autocompletion=options.chapters,
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Set a chapter's parameter."),
    ] = None,
    jobs: Annotated[
        int | None, typer.Option(min=1, help="Chapters at once; default: cores.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the notebooks; default: _build/runs.")
    ] = None,
    in_place: Annotated[
        bool, typer.Option(help="Renew the chapters themselves; unchanged ones are skipped.")
    ] = False,
    force: Annotated[bool, typer.Option(help="With --in-place: run unchanged ones too.")] = False,
):
    """Run chapters headless, with your own parameters if you like.

    Example: sizewise run parameters -p model=qwen3-8b
    """
    from sizewise import paths
    from sizewise.chapters import run as runner

    from . import output as show

    values = dict(_parameter(argument) for argument in parameter or ())
    if in_place and (values or output):
        raise ValueError("--in-place renews the book's own pages: no -p and no --output with it")
    selected = runner.resolve(chapters or ())
    if values:
        from sizewise.chapters import bounds  # reads prices and fits, a second of imports

        bounds.check(selected, values)
    folder = None if in_place else (output or paths.root() / "_build" / "runs").resolve()
    with show.chapter_bars(selected) as report:
        results = runner.run(
            selected, output=folder, values=values, jobs=jobs, force=force, report=report
        )
    show.results(results)
    raise typer.Exit(1 if any(result.error for result in results) else 0)


def list_claims(
    chapter: Annotated[str, typer.Option(help="Only claims that this chapter owns.")] = "",
    article: Annotated[str, typer.Option(help="Only claims of this article: S0 to S4.")] = "",
    verdict: Annotated[
        str, typer.Option(help="Only claims with this verdict, such as contradicted, or waiting.")
    ] = "",
    json: Json = False,
):
    """Show the ledger: each claim, the chapter that owns it, and the verdict it computed."""
    from sizewise import units
    from sizewise.chapters import claims

    from . import output as show

    rows = claims.table()
    owners = sorted({row["chapter"] for row in rows if row["chapter"]})
    for kind, name, known in (
        ("chapter", chapter, owners),
        ("article", article, [*claims.articles()]),
        ("verdict", verdict, ["waiting", *claims.VERDICTS]),
    ):
        if name and name not in known:
            raise units.unknown(kind, name, known)
    selected = [
        row
        for row in rows
        if chapter in ("", row["chapter"])
        and (not article or article in row["article"].split(", "))
        and verdict in ("", row["verdict"] or "waiting")
    ]
    show.claims(selected, json)


def verify(
    renew: Annotated[bool, typer.Option(help="Write the manifest anew.")] = False,
):
    """Check that rows, facts and chapters are what was recorded: ids, seals, commits, manifest.

    One line a fault, and exit code 1 if there is one. It takes seconds and runs nothing.
    """
    from sizewise.data import verify as checks

    if renew:
        for line in checks.renew():
            print(line)
        return
    faults = checks.faults()
    for line in faults:
        print(line)
    if note := checks.unchecked():
        print(f"sizewise: {note}", file=sys.stderr)
    if faults:
        count = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        print(f"sizewise: {count}", file=sys.stderr)
        raise typer.Exit(1)
    print(checks.summary())


def _parameter(argument: str) -> tuple[str, Any]:
    """``name=value`` with the value read as YAML, so that 3, 1e13, true and [1, 2] are what
    they look like, and a path is one from here."""
    import yaml

    name, equals, value = argument.partition("=")
    if not equals or not name.isidentifier():
        raise ValueError(f"-p takes name=value, not {argument!r}")
    try:
        read = yaml.safe_load(value or "''")  # nothing is the empty text, and null is None
    except yaml.YAMLError:
        return name, value
    if not isinstance(read, str):
        return name, read
    if re.fullmatch(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+", read):  # YAML wants 1e13 as 1.0e+13
        return name, int(float(read)) if float(read).is_integer() else float(read)
    if ("/" in read or read.endswith(".json")) and Path(read).exists():
        return name, str(Path(read).resolve())  # a chapter runs in a folder of its own
    return name, read
