"""What a chapter's cells put on the page: tables, and glued numbers for the prose."""

import html
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from sizewise import units
from sizewise.data import catalog

# A cell such as "0.983 (0.954 to 1.012)".
INTERVAL = re.compile(r"([^()\s]*\d[^()\s]*) (\([^()\s]*\d[^()\s]* to [^()\s]+\))")

NUMBER = re.compile(r"[-+−$]*\d[\d.,]*( ?[%A-Za-z/]{1,5}|×10\S+)?( \(.* to .*\))?|inf")
EXPONENT = re.compile(r"e([+-]\d+)$")

NAMES = {  # in rows: as a reader knows it
    "adam-fp32": "Adam, fp32",
    "adam-mixed": "Adam, mixed precision",
    "adam-bf16": "Adam, bf16",
    "adam-8bit": "Adam, 8-bit moments",
    "arc-easy": "ARC-Easy",
    "arc-challenge": "ARC-Challenge",
    "boolq": "BoolQ",
    "csqa": "CommonsenseQA",
    "gsm8k": "GSM8K",
    "hellaswag": "HellaSwag",
    "humaneval": "HumanEval",
    "lambada": "LAMBADA",
    "lambada-openai": "LAMBADA",
    "logiqa": "LogiQA",
    "mmlu": "MMLU",
    "mmlu-macro57": "MMLU",
    "openbookqa": "OpenBookQA",
    "piqa": "PIQA",
    "sciq": "SciQ",
    "socialiqa": "SocialIQA",
    "winogrande": "WinoGrande",
    "wsc": "WSC",
    "besiroglu": "Besiroglu",
    "gadre-c4": "Gadre, C4",
    "gemstones": "Gemstones",
    "fp8-block": "fp8 in blocks",
    "kl": "KL divergence",
    "bag": "bag of words",
    "finetuned": "fine-tuned",
    "naive-bayes": "naive Bayes",
    "tfidf": "tf-idf",
    "minilm-l6-int8": "MiniLM L6, int8",
    "made": "synthetic",
}
SMALL = (  # models that run here
    *("smollm2-135m", "gemma-3-270m", "qwen2.5-coder-0.5b", "qwen2.5-coder-1.5b"),
    *("minilm-l6", "mpnet-base"),
)


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
    that are missing are left empty, and names are `written`.
    """
    formats = dict(formats or {})
    texts = {
        column: [_shown(value, formats.get(column)) for value in frame[column]] for column in frame
    }
    right = {c: c in formats or all(map(NUMBER.fullmatch, filter(None, texts[c]))) for c in frame}
    heads = {c: written(str(c).replace("_", " ")) for c in frame}
    # Cells on lines of their own: the search would run their words together.
    head = "\n".join(_cell("th", heads[c], right[c], ' scope="col"') for c in frame)
    body = "\n".join(
        "<tr>" + "\n".join(_cell("td", texts[c][i], right[c]) for c in frame) + "</tr>"
        for i in range(len(frame))
    )
    title = f"<caption>{html.escape(caption)}</caption>\n" if caption else ""
    as_html = (
        f'<table class="sw-table">\n{title}<thead>\n<tr>{head}</tr>\n</thead>\n'
        f"<tbody>\n{body}\n</tbody>\n</table>"
    )
    return Table(as_html, type(frame)(texts).rename(columns=heads).to_string(index=False))


def with_intervals(frame):
    """The frame with the ends of an interval beside its middle, as "0.983 (0.954 to 1.012)".

    Ends are the columns NAME_low and NAME_high, or ``low`` and ``high`` of the column before them.
    """
    result = frame
    for low in [c for c in map(str, frame) if c == "low" or c.endswith("_low")]:
        before = list(result)[list(result).index(low) - 1]
        middle, high = low.removesuffix("_low") if low != "low" else before, low[:-3] + "high"
        if {middle, high} <= set(result):
            columns = [map(_shown, result[name]) for name in (middle, low, high)]
            texts = [f"{v} ({a} to {b})" if a else v for v, a, b in zip(*columns, strict=True)]
            result = result.drop(columns=[low, high]).assign(**{middle: texts})
    return result


def written(name: str) -> str:
    """A name in a row (model, device, benchmark) as people write it; other text as it is."""
    if name in catalog.devices():
        return name.replace("-", " ")  # RTX-4090
    known = name in SMALL or name in catalog.models()
    return catalog.title(name) if known else NAMES.get(name.replace("_", "-"), name)


def renamed(frame, names: Mapping[str, str]):
    """The columns that ``names`` has, in its order and under its names, a line numbered from 0."""
    return frame[list(names)].rename(columns=dict(names)).reset_index(drop=True)


def provenance(stem: str) -> Table:
    """Where the rows of ``data/STEM.jsonl`` come from: by machine and commit, each command."""
    from sizewise.data import records

    machines: dict = {}  # machine -> commit and day -> command -> (seed of each row)
    for row in records.read(stem):
        source = row["from"]
        commit = f"commit {source['commit'][:10]}, {source['time'][:10]}"
        commands = machines.setdefault(_machine(source), {}).setdefault(commit, {})
        commands.setdefault(source["command"], []).append(source["seed"])
    if not machines:
        return Table("<p>not measured</p>", "not measured")
    parts, lines = [], []
    for machine, commits in machines.items():
        parts.append(f"<dt>{html.escape(machine)}</dt>")
        lines.append(machine)
        for commit, commands in commits.items():
            counts = {command: _counted(seeds) for command, seeds in commands.items()}
            items = "\n".join(
                f"<li>{count}: <code>{html.escape(command)}</code></li>"
                for command, count in counts.items()
            )
            parts.append(f"<dd>{commit}\n<ul>\n{items}\n</ul></dd>")
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
    cores = f"{machine['cores']} core{'s' * (machine['cores'] > 1)}"
    return f"{machine['cpu']}, {cores}, {gpu}; {', '.join(versions)}"


def _counted(seeds: list) -> str:
    """How many rows there are, and of which seeds: ``7 rows, seeds 0, 1``, or ``seeds 0 to 9``."""
    distinct = sorted({seed for seed in seeds if seed is not None})
    rows = f"{len(seeds):,} row{'s' if len(seeds) > 1 else ''}"
    if not distinct:
        return rows
    if len(distinct) > 3 and distinct[-1] - distinct[0] == len(distinct) - 1:
        return f"{rows}, seeds {distinct[0]} to {distinct[-1]}"
    return f"{rows}, seed{'s' if len(distinct) > 1 else ''} {', '.join(map(str, distinct))}"


def say(**numbers) -> None:
    """Glue texts under their names, for ``{glue:text}`` in the prose of any page.

    A finished table or figure, such as the one of the answer, is glued as well, for ``{glue}``.
    """
    from myst_nb import glue

    for name, text in numbers.items():
        if not (isinstance(text, str) or hasattr(text, "_repr_mimebundle_")):
            raise ValueError(f"{name}: format the number first, {text!r} is no text")
        glue(name, text, display=False)


def _shown(value, form=None) -> str:
    import pandas

    if pandas.isna(value):
        return ""
    if callable(form):
        return form(value)
    if form:
        return EXPONENT.sub(_power, format(value, form))
    if isinstance(value, bool) or not hasattr(value, "__float__"):
        return written(str(value))
    whole = float(value).is_integer() or 1e4 <= abs(value) < 1e15  # where digits have no place left
    return f"{round(value):,}" if whole else EXPONENT.sub(_power, f"{value:,.4g}")


def _power(match: re.Match) -> str:
    return "×" + units.power_of_ten(int(match[1]))


def _cell(tag: str, text: str, right: bool, more: str = "") -> str:
    content, interval = html.escape(text), INTERVAL.fullmatch(text)
    if interval:  # on one line, its ends a little smaller than its middle
        middle, ends = map(html.escape, interval.groups())
        content = f'{middle} <span class="sw-range">{ends}</span>'
    names = " ".join(["sw-number"] * right + ["sw-interval"] * bool(interval))
    side = f' class="{names}"' if names else ""
    return f"<{tag}{side}{more}>{content}</{tag}>"
