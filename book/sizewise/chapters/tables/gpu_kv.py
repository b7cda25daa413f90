"""Attention over packed caches on a GPU: tables and words from ``data/gpu_kv.jsonl``."""

from sizewise.data import records

NONE = "not measured"
LONG = 32768  # tokens, from which on the two aims hold
AIMS = {"over_bf16": 2.5, "share_of_copy": 0.65}
HEADLINE = "tq4"
PACKED = ("tq4", "tq3", "tq2")
SPEED = ["gpu", "method", "context", "batch", "group", "us"]
COLUMNS = (
    "what",
    "method",
    "model",
    "context",
    "batch",
    "group",
    "us",
    "bytes",
    "share_of_copy",
    "over_bf16",
    "over_fp32",
    "over_fp8",
    "tokens_per_second",
    "tokens",
)
FORMATS = {
    "us": ",.1f",
    "over_bf16": ".2f",
    "over_fp16": ".2f",
    "over_fp32": ".2f",
    "over_fp8": ".2f",
    "share_of_copy": ".0%",
    "tokens/s": ",.0f",
    "GB": ",.2f",
    "times bf16": ".2f",
}


def measured(stem="gpu_kv"):
    """All rows that a GPU has measured, with its name as ``gpu``; methods that do not run left out.

    A frame with all of `COLUMNS`, empty where nothing was recorded.
    """
    import pandas

    found = []
    for row in records.read(stem):
        name = row.get("device") or row["from"]["machine"]["gpu"]
        if name not in (None, "CPU") and not row.get("refused"):
            found.append(
                {**{key: value for key, value in row.items() if key != "from"}, "gpu": name}
            )
    frame = pandas.DataFrame(found)
    return frame.reindex(columns=list(dict.fromkeys(["gpu", *COLUMNS, *frame.columns])))


def attend(rows, method: str | None = None, least: int = 0):
    """Rows of attention over packed codes beside bf16, of a method, from a context on."""
    some = rows[(rows["what"] == "attend") & rows["method"].isin([method] if method else PACKED)]
    return some[some["over_bf16"].notna() & (some["context"] >= least)]


def best(
    rows, method: str = HEADLINE, least: int = LONG, what: str = "attend", over: str = "over_bf16"
):
    """The fastest row of one method against a type of plain cache; None if there is none."""
    some = rows[(rows["what"] == what) & (rows["method"] == method) & rows[over].notna()]
    some = some[some["context"] >= least]
    return None if some.empty else some.loc[some[over].idxmax()]


def aims(rows):
    """The two aims at long contexts with four bits: what was reached, in words if nothing was."""
    import pandas

    some = attend(rows, HEADLINE, LONG)
    names = {
        "over_bf16": ("times as fast as bf16", "{:.2f}"),
        "share_of_copy": ("of the speed of a copy", "{:.0%}"),
    }
    found = []
    for column, aim in AIMS.items():
        label, form = names[column]
        values = some[column].dropna()
        reached = f"{int((values >= aim).sum())} of {len(values)}"
        found.append(
            {
                "aim at four bits": label,
                "at least": form.format(aim),
                "lowest": form.format(values.min()) if len(values) else NONE,
                "highest": form.format(values.max()) if len(values) else NONE,
                "shapes that reach it": reached if len(values) else NONE,
            }
        )
    return pandas.DataFrame(found)


def kind(rows, what: str):
    """A small table of a kind of row: attend (packed, long), logits, append, decode, capacity."""
    some = rows[rows["what"] == what]
    if what == "attend":
        some = attend(rows, least=LONG)
        over = [name for name in some if name.startswith("over_") and some[name].notna().any()]
        return _or_none(some[[*SPEED, *over, "share_of_copy"]], what)
    if what == "logits":
        return _or_none(some[[*SPEED, "over_bf16", "over_fp32", "share_of_copy"]], what)
    if what == "append":
        some = some.rename(columns={"context": "new tokens"})
        return _or_none(some[["gpu", "method", "new tokens", "batch", "us", "share_of_copy"]], what)
    sizes = some.assign(GB=some["bytes"] / 1e9)
    if what == "decode":
        sizes = sizes.rename(columns={"tokens_per_second": "tokens/s"})
        names = ["gpu", "model", "method", "context", "batch", "tokens/s", "GB"]
        return _or_none(sizes[names], what)
    if what == "capacity":
        plain = some[some["method"] == "bf16"].drop_duplicates("gpu").set_index("gpu")["tokens"]
        times = some["tokens"] / some["gpu"].map(plain)
        return _or_none(
            sizes.assign(**{"times bf16": times})[
                ["gpu", "model", "method", "tokens", "times bf16"]
            ],
            what,
        )
    raise ValueError(f"unknown kind of row {what!r}: attend, logits, append, decode, capacity")


def _or_none(frame, what: str):
    if frame.empty:
        return type(frame)({what: [NONE]})
    return frame.dropna(axis="columns", how="all").reset_index(drop=True)


def sentence(rows) -> str:
    """What a GPU gave for four bits at long contexts; for fewer bits apart."""
    row = best(rows)
    if row is None:
        return "On a GPU this was not measured here."
    words = (
        f"With four bits and {LONG // 1024}k tokens or more, the fastest row here, {_at(row)}, "
        f"runs {row['over_bf16']:.2f} times as fast as bf16 on {row['gpu']}."
    )
    fewer = [(name, best(rows, name)) for name in PACKED if name != HEADLINE]
    more = [
        f"{name} {one['over_bf16']:.2f} times ({_at(one)})"
        for name, one in fewer
        if one is not None
    ]
    return words + (f" With fewer bits: {', '.join(more)}." if more else "")


def _at(row) -> str:
    sequences = f"{int(row['batch'])} sequence{'s' if row['batch'] > 1 else ''}"
    return (
        f"{row['method']} at {int(row['context']):,} tokens, {sequences}, groups of "
        f"{int(row['group'])}"
    )


def promised(said: float, bounds: dict[str, float], rows):
    """The promise of speed in two parts: against keys in fp32, as announced, and against bf16.

    ``bounds``: bytes of a plain number over those of a packed one, for ``fp32`` and ``bf16``: no
    step that only reads can gain more. ``holds`` is yes, no, or `NONE` where a part was not
    measured and the bound, rounded as the promise is, allows it.
    """
    import pandas

    scores = best(rows, what="logits", over="over_fp32", least=0)
    whole = best(rows)
    found = []
    for part, bound, value in (
        (
            "times faster than keys in fp32, scores alone",
            bounds["fp32"],
            None if scores is None else scores["over_fp32"],
        ),
        (
            "times faster than bf16, attention",
            bounds["bf16"],
            None if whole is None else whole["over_bf16"],
        ),
    ):
        reached = round(bound if value is None else value) >= said
        holds = "no" if not reached else NONE if value is None else "yes"
        found.append(
            {
                "part": f"{said:g} {part}",
                "said": f"{said:g}",
                "bound": f"{bound:.2f}",
                "measured": NONE if value is None else f"{value:.2f}",
                "holds": holds,
            }
        )
    return pandas.DataFrame(found)
