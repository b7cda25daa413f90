"""What the ledger's page shows: the list of claims, marks that lead into it, and its account."""

import html
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from functools import cache
from urllib.parse import urlencode

import pandas as pd

from sizewise import paths
from sizewise.chapters import claims, notebook
from sizewise.chapters.verdicts import VERDICTS

from .display import Table

HEAD = ("no.", "article", "claim", "verdict", "because")
WAITING = "waiting"  # a chapter has still to decide
LEAST_DECIDED = 10  # claims of a topic, for its share of failures to mean something


def listing(rows: Iterable[Mapping]) -> Table:
    """The ledger's rows (`claims.table`) as a page shows them, each verdict linked to its cell.

    A row says in ``data-`` attributes what the page's filters ask for; the table's ``data-names``
    holds the titles of articles, topics and chapters, for the filters to show.
    """
    rows = list(rows)
    chapters = dict.fromkeys(row["chapter"] for row in rows if row["chapter"])
    names = {
        "article": {key: about["title"].strip("()") for key, about in claims.articles().items()},
        "topic": claims.topics(),
        "chapter": {chapter: title(chapter) for chapter in chapters},
    }
    meaning = "\n".join(
        f'<span class="sw-ledger__meaning">{mark(verdict)} {html.escape(text)}</span>'
        for verdict, text in VERDICTS.items()
    )
    head = "\n".join(f'<th scope="col">{name}</th>' for name in HEAD)
    as_html = (
        f'<table class="sw-table sw-ledger" data-names="{html.escape(json.dumps(names))}">\n'
        f"<caption>\n{meaning}\n</caption>\n"
        f"<thead>\n<tr>{head}</tr>\n</thead>\n<tbody>\n"
        + "\n".join(_row(row) for row in rows)
        + "\n</tbody>\n</table>"
    )
    texts = (
        f"{row['id']:>3} {row['verdict'] or WAITING}: {row['finding'] or row['reason']}"
        for row in rows
    )
    return Table(as_html, "\n".join(texts))


def mark(verdict: str, text: str = "") -> str:
    """A verdict as a small coloured label."""
    kind = verdict.replace(" ", "-")
    return f'<span class="sw-mark sw-mark--{kind}">{text or verdict}</span>'


def _row(row: Mapping) -> str:
    verdict = row["verdict"] or WAITING
    text = f"open until {row['until']}" if verdict == "open" and row["until"] else verdict
    label = mark(verdict, text)
    if row["finding"]:
        label = f'<a href="{_cell(row)}">{label}</a>'
    claim = html.escape(row["claim"])
    if row["understood"]:
        claim += f'\n<span class="sw-ledger__read">We read: {html.escape(row["understood"])}</span>'
    return (
        f'<tr id="ledger-{row["id"]}" data-articles="{row["article"].replace(",", "")}"'
        f' data-topic="{row["topic"]}" data-chapter="{row["chapter"] or ""}"'
        f' data-verdict="{verdict}">'
        f'<td class="sw-number"><a href="#ledger-{row["id"]}">{row["id"]}</a></td>\n'
        f"<td>{html.escape(row['article'])}</td>\n<td>{claim}</td>\n"
        f"<td>{label}</td>\n<td>{_because(row)}</td></tr>"
    )


def _cell(row: Mapping) -> str:
    return f"{row['chapter']}.html#claim-{row['id']}"


def _because(row: Mapping) -> str:
    """Why a row has its verdict: the finding, then evidence, flip and cell; or the reason."""
    notes = []
    if row["finding"]:
        weighed = "; ".join(f"{text}: {number}" for text, number in row["evidence"])
        turns = "; ".join(row["flips"])
        notes = [
            html.escape(f"Weighed: {weighed}.") if weighed else "",
            html.escape(f"It would be {turns}.") if turns else "",
            f"Read: {'; '.join(map(_reference, row['sources']))}" if row["sources"] else "",
            f'Decided in <a href="{_cell(row)}">{html.escape(title(row["chapter"]))}</a>',
        ]
    elif row["needs"]:
        notes = [html.escape(f"What would settle it: {row['needs']}")]
    elif row["searched"]:
        notes = [html.escape(f"Searched: {row['searched']}")]
    lines = "".join(f'\n<span class="sw-ledger__numbers">{note}</span>' for note in notes if note)
    return html.escape(row["finding"] or row["reason"]) + lines


def _reference(key: str) -> str:
    """The title of a source, linked to its address where it has one."""
    fields = _references()[key].fields
    title = html.escape(re.sub(r"[{}\\]", "", fields["title"]))
    places = {"url": "", "doi": "https://doi.org/", "eprint": "https://arxiv.org/abs/"}
    address = next((start + fields[name] for name, start in places.items() if name in fields), "")
    return f'<a href="{html.escape(address)}">{title}</a>' if address else title


@cache
def _references():
    from pybtex.database import parse_file

    return parse_file(str(paths.root() / "book" / "references.bib")).entries


def marks(rows: Iterable[Mapping], address: str, **filters: str) -> Table:
    """How many of the ledger's rows have which verdict: marks that lead to them in the ledger.

    ``address`` is the ledger's, from the page that shows them.
    ``filters`` are added to it, such as ``chapter="parameters"`` for one chapter's rows.
    """
    counts = Counter(row["verdict"] or WAITING for row in rows)
    links = [
        f'<a class="sw-marked" href="{address}?'
        f'{html.escape(urlencode({**filters, "verdict": verdict}))}">'
        f"{mark(verdict, f'{counts[verdict]} {verdict}')}</a>"
        for verdict in (*VERDICTS, WAITING)
        if counts[verdict]
    ]
    text = ", ".join(f"{counts[v]} {v}" for v in (*VERDICTS, WAITING) if counts[v])
    return Table(" ".join(links), text)


def account(rows: Iterable[Mapping]) -> dict[str, str]:
    """How the claims fare, as texts to glue: all claims, and those that hold, fail or are grey.

    ``ledger_worst`` is the topic (of ten decided claims or more) of which the largest share fails.
    """
    frame = pd.DataFrame(rows)
    counts = frame["verdict"].value_counts()
    names = {"holds": "supported", "fails": "contradicted", "undecidable": "undecidable"}
    names |= {"open": "open", "not_checked": "not checked"}
    texts = {f"ledger_{name}": f"{counts.get(v, 0):,}" for name, v in names.items()}
    decided = frame[frame["finding"].notna()]
    fails = decided["verdict"].eq("contradicted").groupby(decided["topic"]).agg(["mean", "size"])
    shares = fails["mean"].where(fails["size"] >= LEAST_DECIDED).reindex(claims.topics())
    worst = claims.topics()[shares.fillna(0.0).idxmax()]
    worst = worst[0].lower() + worst[1:]
    return texts | {"ledger_claims": f"{len(frame):,}", "ledger_worst": worst}


def title(chapter: str) -> str:
    """The question that a chapter asks: its first heading, or its name as text.

    A chapter that is still to be written has claims, but no file.
    """
    file = paths.chapters().get(chapter)
    for cell in notebook.read(file)["cells"] if file and file.is_file() else ():
        heading = re.search(r"^# (.*)", "".join(cell["source"]), re.MULTILINE)
        if cell["cell_type"] == "markdown" and heading:
            return heading[1].strip()
    return chapter.replace("-", " ").capitalize()
