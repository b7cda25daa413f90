"""What a chapter's cells put on the page: tables, and glued numbers for the prose."""

import html
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass


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
    head = "".join(_cell("th", str(c), right[c], ' scope="col"') for c in frame)
    body = "\n".join(
        "<tr>" + "".join(_cell("td", texts[c][i], right[c]) for c in frame) + "</tr>"
        for i in range(len(frame))
    )
    title = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    as_html = (
        f'<table class="sw-table">\n{title}<thead>\n<tr>{head}</tr>\n</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
    return Table(as_html, type(frame)(texts).to_string(index=False))


def provenance(stem: str) -> Table:
    """Where the rows of ``data/STEM.jsonl`` come from: one line for each source of rows."""
    import pandas

    from . import records

    rows = [
        {
            "rows": 1,
            "recorded": row["from"]["time"][:10],
            "commit": row["from"]["commit"][:10],
            "processor": row["from"]["machine"]["cpu"],
            "cores": row["from"]["machine"]["cores"],
            "GPU": row["from"]["machine"]["gpu"] or "none",
            "versions": ", ".join(
                f"{name} {version}"
                for name, version in row["from"]["versions"].items()
                if name in ("python", "torch", "transformers", "triton", "bitsandbytes")
            ),
            "seed": row["from"]["seed"],
            "command": row["from"]["command"],
        }
        for row in records.read(stem)
    ]
    if not rows:
        return Table("<p>not measured</p>", "not measured")
    frame = pandas.DataFrame(rows)
    names = [name for name in frame if name != "rows"]
    return table(frame.groupby(names, dropna=False, sort=False)["rows"].sum().reset_index())


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

    A row says in ``data-`` attributes what the page's filters ask for.
    """
    from . import claims

    rows = list(rows)
    meaning = " ".join(f"{verdict}: {words}." for verdict, words in claims.VERDICTS.items())
    head = "".join(f'<th scope="col">{name}</th>' for name in LEDGER_HEAD)
    as_html = (
        f'<table class="sw-table sw-ledger">\n<caption>{html.escape(meaning)}</caption>\n'
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n"
        + "\n".join(_ledger_row(row) for row in rows)
        + "\n</tbody>\n</table>"
    )
    texts = (
        f"{row['id']:>3} {row['verdict'] or 'open'}: {row['finding'] or row['reason']}"
        for row in rows
    )
    return Table(as_html, "\n".join(texts))


def _ledger_row(row: Mapping) -> str:
    from . import claims

    verdict = row["verdict"] or "open"
    mark, numbers = f'<span class="sw-mark sw-mark--{verdict}">{verdict}</span>', ""
    if row["finding"]:
        cell = f"{row['chapter']}.html#claim-{row['id']}"
        mark = f'<a href="{cell}">{mark}</a>'
        given = ", ".join(
            f"<code>{name}</code> = {claims.shown(value)}" for name, value in row["numbers"].items()
        )
        numbers = (
            f'\n<span class="sw-ledger__numbers">{given + ". " if given else ""}Decided in '
            f'<a href="{cell}">{html.escape(_title(row["chapter"]))}</a></span>'
        )
    return (
        f'<tr id="ledger-{row["id"]}" data-articles="{row["article"].replace(",", "")}"'
        f' data-chapter="{row["chapter"] or ""}" data-verdict="{verdict}">'
        f'<td class="sw-number"><a href="#ledger-{row["id"]}">{row["id"]}</a></td>'
        f"<td>{html.escape(row['article'])}</td><td>{html.escape(row['claim'])}</td>"
        f"<td>{mark}</td><td>{html.escape(row['finding'] or row['reason'])}{numbers}</td></tr>"
    )


def verdict_marks(rows: Iterable[Mapping], **chosen: str) -> Table:
    """How many of the ledger's rows have which verdict: marks that lead to them in the ledger.

    ``chosen`` is added to the address, such as ``chapter="parameters"`` for rows of one chapter.
    A page that shows them lies one folder deep, as all pages of the book do.
    """
    from urllib.parse import urlencode

    from . import claims

    found = [row["verdict"] or "open" for row in rows]
    counts = {v: found.count(v) for v in (*claims.VERDICTS, "open") if v in found}
    marks = [
        f'<a class="sw-marked" href="../chapters/ledger.html?'
        f'{html.escape(urlencode({**chosen, "verdict": verdict}))}">'
        f'<span class="sw-mark sw-mark--{verdict}">{number} {verdict}</span></a>'
        for verdict, number in counts.items()
    ]
    return Table(" ".join(marks), ", ".join(f"{n} {verdict}" for verdict, n in counts.items()))


def _title(chapter: str) -> str:
    """The question that a chapter asks: its first heading, or its name if it has none."""
    from . import notebooks, paths

    for cell in notebooks.read(paths.chapters()[chapter])["cells"]:
        if cell["cell_type"] == "markdown":
            for line in "".join(cell["source"]).splitlines():
                if line.startswith("# "):
                    return line.removeprefix("# ").strip()
    return chapter


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
    side = ' class="sw-number"' if right else ""
    return f"<{tag}{side}{more}>{html.escape(words)}</{tag}>"
