"""What the scripts that train have in common: options, a list of the runs, and the way to rows."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sizewise.data import downloads, records
from sizewise.training import tokenizer

from . import engine

Config = dict[str, Any]


def numbers(kind: Callable[[str], Any]) -> Callable[[str], list]:
    """A parser of comma-separated values of one kind."""
    return lambda text: [kind(part) for part in text.split(",")]


def parser(doc: str) -> argparse.ArgumentParser:
    """A command line whose help begins with the script's own description."""
    return argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def common(parser: argparse.ArgumentParser, stem: str, context: int = 128) -> None:
    """Add the options on text, on where runs take place and on where rows of ``stem`` go."""
    add = parser.add_argument_group("the text").add_argument
    add("--text", default="packages", help="packages or packages-large")
    add("--vocabulary", type=int, default=1024, help="entries of the tokenizer")
    add("--context", type=int, default=context, help="tokens in a sequence")
    add = parser.add_argument_group("the recording").add_argument
    add("--workers", type=int, help="runs at once; one a GPU or a core by default")
    add("--per-gpu", type=int, default=1, help="runs at once on one GPU")
    add("--backend", help=f"{', '.join(engine.BACKENDS)}; ray if RAY_ADDRESS is set, else process")
    add("--output", help=f"another file than data/{stem}.jsonl")
    add("--list", action="store_true", help="print the runs with their cost and train nothing")


def checkpoint(config: Config) -> Path:
    """Where the state of a run is until its row is on the disk.

    On a cluster a SIZEWISE_CACHE that all nodes share lets a run go on at another node.
    """
    return downloads.cache() / "checkpoints" / f"{records.identity(config)}.pt"


def record(
    stem: str,
    args: argparse.Namespace,
    runs: Callable[[argparse.Namespace], list[Config]],
    measure: Callable[[Config], Config],
    cost: Callable[[Config], float],
    *,
    columns: tuple[str, ...] = ("what", "budget", "width", "family", "seed", "batch", "tokens"),
    first: Callable | None = None,
    longest_first: bool = True,
) -> None:
    """Train what ``runs`` plans and has no row yet, or with ``--list`` print it.

    The longest come first, so that none is alone at the end, unless their own order matters.
    ``columns`` are those of a line, ``first`` is given the text before any worker starts. Bad
    input ends the script in one line and with 2.
    """
    try:
        configs = runs(args)
        if longest_first:
            configs = sorted(configs, key=cost, reverse=True)
        if args.list:
            print("\n".join(_line(config, columns, cost) for config in configs))
            print(f"{len(configs)} runs, in all {sum(map(cost, configs)):.3g} FLOPs")
            return
        text = tokenizer.prepare(args.text, args.vocabulary)  # before workers ask
        if first:
            first(text)
        file = Path(args.output) if args.output else records.path(stem)
        engine.run_all(
            measure,
            configs,
            file,
            workers=args.workers,
            per_gpu=args.per_gpu,
            cost=cost,
            backend=args.backend,
            recorded=lambda config: checkpoint(config).unlink(missing_ok=True),
        )
    except ValueError as error:  # bad input, or a file that cannot be written
        print(f"{stem}: {error}", file=sys.stderr)
        sys.exit(2)
    except RuntimeError as error:  # runs that failed
        sys.exit(f"{stem}: {error}")


def _line(config: Config, columns: tuple[str, ...], cost: Callable[[Config], float]) -> str:
    parts = [
        f"{name} {value:g}" if isinstance(value := config[name], int | float) else str(value)
        for name in columns
    ]
    return "  ".join((*parts, f"FLOPs {cost(config):.3g}"))
