"""What the command line prints: tables for people, JSON for programs."""

import json as _json
import shutil
import sys
from collections import Counter
from contextlib import contextmanager
from dataclasses import asdict
from operator import itemgetter
from typing import Any

from sizewise.units import optional, printable, si

MARKS = {
    "supported": "green",
    "partly": "yellow",
    "misleading": "magenta",
    "contradicted": "red",
    "undecidable in part": "blue",
    "undecidable": "dim",
    "open": "dim",
    "not checked": "dim",
}


def as_json(value: Any) -> None:
    """Print ``what`` as JSON; NaN and infinity are errors, not output."""
    print(_json.dumps(value, indent=2, allow_nan=False, ensure_ascii=False))


def console():
    """Where tables are printed."""
    from rich.console import Console

    class Plain(Console):
        """Names of files and models are shown, never obeyed."""

        def render_str(self, text, **options):
            return super().render_str(printable(text), **options)

    # A pipe gets wide lines, a terminal its own width. A path may hold [brackets]: no markup.
    width = shutil.get_terminal_size((160, 24)).columns  # a COLUMNS of 0 says nothing
    return Plain(width=width, highlight=False, markup=False, emoji=False)


def table(title: str, *columns: str, **options):
    """A table in the house style; a column name that ends in > is set to the right."""
    from rich import box
    from rich.table import Table

    result = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", **options)
    for column in columns:
        name, right = column.removesuffix(">"), column.endswith(">")
        result.add_column(name, justify="right" if right else "left", overflow="fold")
    return result


def print_table(rows) -> None:
    """Print a table; where its words would be broken to fit, a block of lines for each row."""
    screen = console()
    if not _fitted(rows, screen):
        rows.pad_edge, rows.padding = False, (0, 1, 0, 0)
    if _fitted(rows, screen) or len(rows.columns) < 2:
        screen.print(rows)
        return
    if rows.title:
        screen.print(rows.title)
    cells = [list(column.cells) for column in rows.columns]
    width = max(len(str(column.header)) for column in rows.columns)
    for number in range(rows.row_count):
        screen.print()
        for column, values in zip(rows.columns, cells, strict=True):
            if str(values[number]):
                name = f"{column.header!s:<{width}}  "
                screen.print(name, values[number], sep="", soft_wrap=True)


def _fitted(rows, screen) -> bool:
    """Give each column the room of its longest word at least; False where there is not enough.

    Rich itself narrows the widest columns first, whatever their words.
    """
    from rich.measure import Measurement

    options = screen.options.update(max_width=10_000)
    wide = Measurement.get(screen, options, rows)
    if wide.maximum <= screen.width:
        return True
    if wide.minimum > screen.width:
        return False
    ranges = [rows._measure_column(screen, options, column) for column in rows.columns]
    spare = screen.width - wide.minimum
    for column, (minimum, maximum) in zip(rows.columns, ranges, strict=True):
        more = min(spare, maximum - minimum)
        # what a column measures includes its padding, what it is given does not
        column.width = minimum + more - rows._get_padding_width(column._index)
        spare -= more
    return True


def warn(warnings) -> None:
    """One line on stderr a warning, whatever is printed."""
    for line in warnings:
        print(f"sizewise: warning: {line}", file=sys.stderr)


def lines(label: str, notes) -> None:
    """One indented line a note."""
    for note in notes:
        print(f"  {label}: {note}")


def listing(rows: list[dict[str, Any]], json: bool, columns: dict[str, Any], title="") -> None:
    """Rows as JSON, or as a table of what ``columns`` make of each: {header: function}."""
    if json:
        as_json(rows)
        return
    result = table(title, *columns)
    for row in rows:
        result.add_row(*(cell(row) for cell in columns.values()))
    print_table(result)


def counts(results: list) -> None:
    """One model by kind of module, or several side by side."""
    if len(results) > 1:
        rows = table("", "model", "total>", "active>", "without input embedding>", "embedding>")
        for count in results:
            name = f"{count.model} (estimate)" if count.estimated else count.model
            active = count.active, count.active_without_input_embedding
            rows.add_row(name, *map(optional, (count.total, *active, count.embedding)))
        print_table(rows)
        lines("assumed", [f"{count.model}: {n}" for count in results for n in count.assumptions])
        return
    (count,) = results
    rows = table(f"{count.model} ({count.built_as})", "", "parameters>", ">", "of the total>")
    conventions = {
        "total": count.total,
        "active for one token": count.active,
        "... without the input embedding": count.active_without_input_embedding,
        "outside embeddings and head": count.non_embedding,
    }
    for number, (name, value) in enumerate((conventions | count.by_kind).items()):
        if number == len(conventions):
            rows.add_section()
        share = (si(value, "params"), f"{100 * value / count.total:.1f} %") if value else ()
        rows.add_row(name, optional(value), *share)
    print_table(rows)
    tied = "output head tied to the input embedding" if count.tied else "output head of its own"
    experts = f"{count.experts} experts, {count.experts_per_token or '?'} of them for a token"
    remarks = {
        f"{count.depth} layers": count.depth,
        experts: count.experts,
        tied: True,
        f"{count.buffers:,} stored values that are no parameters": count.buffers,
        f"{count.mtp:,} parameters for multi-token prediction stored beside it, not counted": (
            count.mtp
        ),
    }
    print("; ".join(remark for remark, holds in remarks.items() if holds))
    lines("assumed", count.assumptions)


def stored(checkpoint) -> None:
    """What a checkpoint's headers say: bytes by type."""
    title = f"{checkpoint.kind}: {checkpoint.files} files"
    rows = table(title, "type", "tensors>", "weights>", "bytes>", ">", "bits a weight>")
    for row in checkpoint.by_type():
        rows.add_row(row[0], *(f"{n:,}" for n in row[1:]), si(row.bytes, "B"), f"{row.bits:.4g}")
    print_table(rows)
    size = checkpoint.tensor_bytes
    print(f"{size:,} B of tensors, {checkpoint.file_bytes:,} B of files")


def formats(tables: dict[str, list], json: bool) -> None:
    """Every format with the bits that it really stores, what it keeps and its other names."""
    entries = [
        {
            "for": use,
            "format": entry.name,
            "bits": entry.bits,
            "bits_a_row": entry.per_row,
            "aliases": list(entry.aliases),
            "kept_in_16_bits": sorted(entry.keeps),
            "note": entry.note,
        }
        for use, entries in tables.items()
        for entry in entries
    ]
    if json:
        as_json(entries)
        return

    def bits(row) -> str:
        return f"{row['bits']:.6g}" + (f" + {row['bits_a_row']:g}/row" if row["bits_a_row"] else "")

    def note(row) -> str:
        names = f"also {', '.join(row['aliases'])}" if row["aliases"] else ""
        return "; ".join(filter(None, (row["note"], names)))

    columns = {"format": itemgetter("format"), "bits>": bits, "what is stored; other names": note}
    for use in tables:
        listing([row for row in entries if row["for"] == use], json, columns, use)


def models(entries: list, json: bool) -> None:
    """The catalogue."""
    fields = ("family", "published_total", "published_active", "exact", "checked", "source")
    rows = [{"model": e.name} | {name: getattr(e, name) for name in fields} for e in entries]

    def total(row) -> str:
        number = row["published_total"]
        return optional(number) if row["exact"] else si(number, "params") if number else ""

    listing(
        rows,
        json,
        {
            "model": itemgetter("model"),
            "family": itemgetter("family"),
            "published total>": total,
            "active>": lambda row: si(n, "params") if (n := row["published_active"]) else "",
            "checked against": itemgetter("checked"),
            "source": itemgetter("source"),
        },
    )


def devices(entries: list, json: bool) -> None:
    """The devices."""

    def rate(name: str):
        return lambda row: si(n, "op/s") if (n := row["flops"].get(name)) else ""

    listing(
        [asdict(device) for device in entries],
        json,
        {
            "device": itemgetter("name"),
            "memory>": lambda row: si(row["memory_bytes"], "B"),
            "bandwidth>": lambda row: si(row["bandwidth"], "B/s", 4),
            **{f"{name}>": rate(name) for name in ("bf16", "fp8", "int8", "fp4")},
            "power>": lambda row: f"{row['tdp_watts']:g} W" if row["tdp_watts"] else "",
            "checked": itemgetter("checked"),
        },
    )


def claims(rows: list[dict[str, Any]], json: bool) -> None:
    """The ledger, with a line of totals."""
    from rich.text import Text

    def verdict(row) -> str:
        return row["verdict"] or "waiting"

    listing(
        rows,
        json,
        {
            "id>": lambda row: str(row["id"]),
            "article": itemgetter("article"),
            "chapter": lambda row: row["chapter"] or "-",
            "verdict": lambda row: Text(verdict(row), MARKS.get(verdict(row), "cyan")),
            "claim": itemgetter("claim"),
        },
    )
    if not json:
        totals = sorted(Counter(map(verdict, rows)).items())
        print(f"{len(rows)} claims: " + ", ".join(f"{n} {v}" for v, n in totals))


def bars(*columns, **options):
    """Bars of progress on stderr, where someone watches; rich's own columns if none are named."""
    from rich.console import Console
    from rich.progress import Progress

    stderr = Console(file=sys.stderr)  # the stream of now, whatever writes to a later one
    return Progress(*columns, console=stderr, disable=not sys.stderr.isatty(), **options)


@contextmanager
def progress():
    """A function that names a step, as a context with a function to tell how far it is."""
    with bars(transient=True) as bar:

        @contextmanager
        def step(name: str):
            task = bar.add_task(name, total=None)
            yield lambda done, total: bar.update(task, completed=done, total=total)
            bar.update(task, completed=1, total=1)

        yield step


@contextmanager
def chapter_bars(chapters):
    """What the runner reports to (chapter, state, share): bars on a terminal, lines elsewhere."""
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn

    names, states = TextColumn("{task.description}"), TextColumn("{task.fields[state]}")
    with bars(names, BarColumn(24), TaskProgressColumn(), TimeElapsedColumn(), states) as shown:
        tasks = {
            name: shown.add_task(name, total=1.0, start=False, state="waiting") for name in chapters
        }

        def report(chapter: str, state: str, share: float) -> None:
            shown.start_task(tasks[chapter])
            shown.update(tasks[chapter], completed=share, state=state)
            if shown.disable and (state != "running" or share == 0.0):
                print(f"{chapter}: {state}", file=sys.stderr, flush=True)

        yield report


def results(outcomes: list) -> None:
    """Where the notebooks are, how long they took, and which cell failed."""
    from sizewise import paths

    for run in outcomes:
        if run.error:
            print(f"sizewise: {run.error}", file=sys.stderr)
    ran = [run for run in outcomes if not run.skipped and not run.error]
    for run in ran:
        home = paths.root()
        near = run.output.relative_to(home) if home in run.output.parents else run.output
        print(f"{run.chapter}: {run.seconds:.1f} s -> {near}")
    if skipped := sum(run.skipped for run in outcomes):
        print(f"{skipped} of {len(outcomes)} unchanged")
