"""What a chapter's cells put on the page: tables, and glued numbers for the prose."""

import html
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

# A cell such as "0.983 (0.954 to 1.012)".
INTERVAL = re.compile(r"([^()\s]*\d[^()\s]*) (\([^()\s]*\d[^()\s]* to [^()\s]+\))")


@dataclass(frozen=True)
class Table:
    """A finished table, as HTML for the page and as text for the terminal."""

    html: str
    text: str

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict[str, str]:
        return {"text/html": self.html, "text/plain": self.text}


def table(frame, formats: Mapping[str, str | Callable] | None = None, caption: str = "") -> Table:
    """A data frame as a page shows it: no index, numbers to the right, ``formats`` by column.

    A format is a format specification such as ``",.1f"``, or a function of the value. Values
    that are missing are left empty.
    """
    formats = dict(formats or {})
    texts = {
        column: [_shown(value, formats.get(column)) for value in frame[column]] for column in frame
    }
    right = {column: _is_number(frame[column]) or column in formats for column in frame}
    # Cells on lines of their own: the search would run their words together.
    head = "\n".join(_cell("th", str(c), right[c], ' scope="col"') for c in frame)
    body = "\n".join(
        "<tr>" + "\n".join(_cell("td", texts[c][i], right[c]) for c in frame) + "</tr>"
        for i in range(len(frame))
    )
    title = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    as_html = (
        f'<table class="sw-table">\n{title}<thead>\n<tr>{head}</tr>\n</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
    return Table(as_html, type(frame)(texts).to_string(index=False))


def provenance(stem: str) -> Table:
    """Where the rows of ``data/STEM.jsonl`` come from: by machine and commit, each command."""
    from sizewise.data import records

    found: dict = {}  # machine -> commit and day -> command -> (seed of each row)
    for row in records.read(stem):
        source = row["from"]
        commit = f"commit {source['commit'][:10]}, {source['time'][:10]}"
        commands = found.setdefault(_machine(source), {}).setdefault(commit, {})
        commands.setdefault(source["command"], []).append(source["seed"])
    if not found:
        return Table("<p>not measured</p>", "not measured")
    parts, lines = [], []
    for machine, commits in found.items():
        parts.append(f"<dt>{html.escape(machine)}</dt>")
        lines.append(machine)
        for commit, commands in commits.items():
            counts = {command: _counted(seeds) for command, seeds in commands.items()}
            told = "\n".join(
                f"<li>{count}: <code>{html.escape(command)}</code></li>"
                for command, count in counts.items()
            )
            parts.append(f"<dd>{commit}\n<ul>\n{told}\n</ul></dd>")
            lines += [f"  {commit}", *(f"    {n}: {command}" for command, n in counts.items())]
    body = "\n".join(parts)
    return Table(f'<dl class="sw-provenance">\n{body}\n</dl>', "\n".join(lines))


def _machine(source: Mapping) -> str:
    """The machine and the versions of what ran there, on one line."""
    names = ("python", "torch", "transformers", "triton", "bitsandbytes")
    versions = (
        f"{name} {source['versions'][name]}" for name in names if name in source["versions"]
    )
    machine = source["machine"]
    gpu = machine["gpu"] or "no GPU"
    return f"{machine['cpu']}, {machine['cores']} cores, {gpu}; {', '.join(versions)}"


def _counted(seeds: list) -> str:
    """How many rows there are, and of which seeds: ``7 rows, seeds 0, 1``, or ``seeds 0 to 9``."""
    known = sorted({seed for seed in seeds if seed is not None})
    rows = f"{len(seeds):,} row{'s' if len(seeds) > 1 else ''}"
    if not known:
        return rows
    if len(known) > 3 and known[-1] - known[0] == len(known) - 1:
        return f"{rows}, seeds {known[0]} to {known[-1]}"
    return f"{rows}, seed{'s' if len(known) > 1 else ''} {', '.join(map(str, known))}"


def say(**numbers: str | Table) -> None:
    """Glue texts under their names, for ``{glue:text}`` in the prose of any page.

    What `verdict_marks` made is glued as well, for ``{glue}``.
    """
    from myst_nb import glue

    for name, words in numbers.items():
        if not isinstance(words, (str, Table)):
            raise ValueError(f"{name}: format the number first, {words!r} is no text")
        glue(name, words, display=False)


LEDGER_HEAD = ("no.", "article", "claim", "verdict", "because")


def ledger(rows: Iterable[Mapping]) -> Table:
    """The ledger's rows (`claims.table`) as a page shows them, each verdict linked to its cell.

    A row says in ``data-`` attributes what the page's filters ask for; the table's
    ``data-names`` holds the titles of articles and chapters, for the filters to show.
    """
    import json

    from sizewise.chapters import claims

    rows = list(rows)
    chapters = dict.fromkeys(row["chapter"] for row in rows if row["chapter"])
    names = {
        "article": {key: about["title"].strip("()") for key, about in claims.articles().items()},
        "chapter": {chapter: _title(chapter) for chapter in chapters},
    }
    meaning = "\n".join(
        f'<span class="sw-ledger__meaning">{_mark(verdict)} {html.escape(words)}</span>'
        for verdict, words in claims.VERDICTS.items()
    )
    head = "".join(f'<th scope="col">{name}</th>' for name in LEDGER_HEAD)
    as_html = (
        f'<table class="sw-table sw-ledger" data-names="{html.escape(json.dumps(names))}">\n'
        f"<caption>\n{meaning}\n</caption>\n"
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n"
        + "\n".join(_ledger_row(row) for row in rows)
        + "\n</tbody>\n</table>"
    )
    texts = (
        f"{row['id']:>3} {row['verdict'] or 'open'}: {row['finding'] or row['reason']}"
        for row in rows
    )
    return Table(as_html, "\n".join(texts))


def _mark(verdict: str, words: str = "") -> str:
    return f'<span class="sw-mark sw-mark--{verdict}">{words or verdict}</span>'


def _ledger_row(row: Mapping) -> str:
    verdict = row["verdict"] or "open"
    mark, numbers = _mark(verdict), ""
    if row["finding"]:
        cell = f"{row['chapter']}.html#claim-{row['id']}"
        mark = f'<a href="{cell}">{mark}</a>'
        given = ", ".join(
            f"{name.replace('_', ' ')} {_three_digits(value)}"
            for name, value in row["numbers"].items()
        )
        numbers = (
            f'\n<span class="sw-ledger__numbers">{f"Compared: {given}. " if given else ""}'
            f'Decided in <a href="{cell}">{html.escape(_title(row["chapter"]))}</a></span>'
        )
    return (
        f'<tr id="ledger-{row["id"]}" data-articles="{row["article"].replace(",", "")}"'
        f' data-chapter="{row["chapter"] or ""}" data-verdict="{verdict}">'
        f'<td class="sw-number"><a href="#ledger-{row["id"]}">{row["id"]}</a></td>\n'
        f"<td>{html.escape(row['article'])}</td>\n<td>{html.escape(row['claim'])}</td>\n"
        f"<td>{mark}</td>\n<td>{html.escape(row['finding'] or row['reason'])}{numbers}</td></tr>"
    )


def _three_digits(value: float) -> str:
    """A deciding number for reading: three digits, and all those before the point."""
    if isinstance(value, int) or 100 <= abs(value) < 1e15:
        return f"{value:,.0f}".replace("-", "−")
    return f"{value:.3g}".replace("-", "−")


def account(rows: Iterable[Mapping]) -> str:
    """How the ledger stands, in one sentence whose numbers add up to all of its claims."""
    rows = list(rows)
    undecidable = [row for row in rows if row["verdict"] == "undecidable"]
    shown = sum(bool(row["finding"]) for row in undecidable)
    answered = sum(bool(row["finding"]) for row in rows) - shown
    waiting = sum(not row["verdict"] for row in rows)
    parts = [
        f"a cell decided {answered:,}",
        f"{len(undecidable):,} are undecidable"
        + (f", {shown:,} of them shown so by a cell" if shown else ""),
        f"{waiting:,} still to be decided" if waiting else "",
    ]
    return f"Of {len(rows):,} claims, {'; '.join(filter(None, parts))}"


def verdict_marks(rows: Iterable[Mapping], **chosen: str) -> Table:
    """How many of the ledger's rows have which verdict: marks that lead to them in the ledger.

    ``chosen`` is added to the address, such as ``chapter="parameters"`` for rows of one chapter.
    A page that shows them lies one folder deep, as all pages of the book do.
    """
    from urllib.parse import urlencode

    from sizewise.chapters import claims

    found = [row["verdict"] or "open" for row in rows]
    counts = {v: found.count(v) for v in (*claims.VERDICTS, "open") if v in found}
    marks = [
        f'<a class="sw-marked" href="../chapters/ledger.html?'
        f'{html.escape(urlencode({**chosen, "verdict": verdict}))}">'
        f"{_mark(verdict, f'{number} {verdict}')}</a>"
        for verdict, number in counts.items()
    ]
    return Table(" ".join(marks), ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))


def _title(chapter: str) -> str:
    """The question that a chapter asks: its first heading, or its name as words.

    A chapter that is still to be written has claims, but no file.
    """
    from sizewise import paths
    from sizewise.chapters import notebook

    file = paths.chapters().get(chapter)
    for cell in notebook.read(file)["cells"] if file and file.is_file() else ():
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line.removeprefix("# ").strip()
    return chapter.replace("-", " ").capitalize()


def _shown(value, form) -> str:
    import pandas

    if pandas.isna(value):
        return ""
    if callable(form):
        return form(value)
    if form:
        return format(value, form)
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return str(value)
    return f"{int(value):,}" if float(value).is_integer() else f"{value:,.4g}"


def _is_number(column) -> bool:
    return column.dtype.kind in "iuf"


def _cell(tag: str, words: str, right: bool, more: str = "") -> str:
    told, interval = html.escape(words), INTERVAL.fullmatch(words)
    if interval:  # on one line, its ends a little smaller than its middle
        middle, ends = map(html.escape, interval.groups())
        told = f'{middle} <span class="sw-range">{ends}</span>'
    names = " ".join(["sw-number"] * right + ["sw-interval"] * bool(interval))
    side = f' class="{names}"' if names else ""
    return f"<{tag}{side}{more}>{told}</{tag}>"
