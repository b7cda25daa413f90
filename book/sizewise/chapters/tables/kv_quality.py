"""Recorded rows on packed caches, chosen and put into words: ``data/kv_quality.jsonl``."""

from sizewise.data import hub_files, records

NONE = "not measured"
WAY = (  # what tells rows of a kind apart, but for how many documents were read
    "model",
    "keys",
    "keys_bits",
    "values",
    "values_bits",
    "rotation",
    "residual",
    "seed",
    "text",
    "context",
    "chunk",
    "layer",
    "side",
    "needles",
    "tokens",
)


def chosen(what: str, model: str | None = None):
    """The rows of a kind, of one model or of all; of rows alike, the one with most documents.

    Rows about a way of storing have it in words, as ``way``.
    """
    rows = records.table("kv_quality")
    rows = rows[rows["what"] == what]
    if model is not None:
        rows = rows[rows["model"] == model]
    kept = rows.sort_values("documents", kind="stable").drop_duplicates(
        [name for name in WAY if name in rows], keep="last"
    )
    rows = rows.loc[kept.index.sort_values()].reset_index(drop=True)
    if what == "layer":
        return rows
    return rows.assign(way=[label(row) for _, row in rows.iterrows()])


def quality(model: str | None = None):
    """The rows on loss, each with its ``way`` in words and a ``kind``.

    Kinds: ``plain``; ``both`` sides alike; ``keys`` or ``values`` alone; ``mixed``; ``residual``;
    ``seed``, other rotations of the same method.
    """
    rows = chosen("quality", model)
    return rows.assign(kind=[_kind(row) for _, row in rows.iterrows()])


def label(row) -> str:
    """How a row of ``data/kv_quality.jsonl`` stores keys and values, in a few words."""

    def side(name):
        bits = row[f"{name}_bits"]
        plain = row[name] in ("plain", "int8", "fp8") or bits != bits or bits is None
        return row[name] if plain else f"{row[name]} {int(bits)}"

    keys, values = side("keys"), side("values")
    words = keys if keys == values else f"K {keys}, V {values}"
    if row["rotation"] == "hadamard":
        words += ", Hadamard"
    if row["residual"] > 0:
        words += f", newest {int(row['residual'])} plain"
    return words if not row["seed"] else f"{words}, seed {int(row['seed'])}"


def _kind(row) -> str:
    if row["keys"] == row["values"] == "plain":
        return "plain"
    if row["residual"]:
        return "residual"
    if row["seed"]:
        return "seed"
    if "plain" in (row["keys"], row["values"]):
        return "values" if row["keys"] == "plain" else "keys"
    same = row["keys"] == row["values"] and row["keys_bits"] == row["values_bits"]
    return "both" if same else "mixed"


# --- in words


def change(value: float, digits: int = 1) -> str:
    """A change as a percentage with its sign: ``+4.7%``; from a doubling on whole: ``+5,319%``."""
    return f"{100 * value:+,.{digits if abs(value) < 1 else 0}f}%"


def percent(rows, *names: str):
    """Rows with ``perplexity_change`` and its interval as words: ``+8.41% (+7.90% to +8.80%)``."""
    words = [
        f"{change(one, 2)} ({change(low, 2)} to {change(high, 2)})"
        for one, low, high in zip(
            rows["perplexity_change"],
            rows["perplexity_change_low"],
            rows["perplexity_change_high"],
            strict=True,
        )
    ]
    shown = rows[[*names, "bits"]].assign(**{"perplexity added": words})
    return shown.assign(**{"KL": rows["kl"], "same token": rows["agreement"]})


def added(rows, way: str) -> str:
    """What a way of storing adds to the perplexity of a model whose rows these are, in words."""
    found = rows.loc[rows["way"] == way, "perplexity_change"]
    return change(found.iloc[0]) if len(found) else NONE


def worst(rows, way: str):
    """The row of the model that a way of storing costs most perplexity; None if there is none."""
    found = rows[rows["way"] == way]
    return None if found.empty else found.loc[found["perplexity_change"].idxmax()]


def at_most(rows, way: str) -> str:
    """What a way of storing costs the model that it costs most: ``+4.7% (smollm2-135m)``."""
    row = worst(rows, way)
    return NONE if row is None else f"{change(row['perplexity_change'])} ({row['model']})"


def across(rows, way: str) -> str:
    """The least and the most that a way of storing adds, over models: ``+4.7% to +172%``."""
    found = rows.loc[rows["way"] == way, "perplexity_change"]
    ends = [change(one) for one in (found.min(), found.max())] if len(found) else [NONE]
    return " to ".join(dict.fromkeys(ends))


def judged(rows, way: str, other: str, less: str, more: str) -> str:
    """``less`` if a model loses less in one way than in another, else ``more``: which it is."""
    by = rows.set_index("way")["perplexity_change"]
    if not {way, other} <= set(by.index):
        return NONE
    return less if by[way] < by[other] else more


def by_model(rows, ways):
    """Perplexity added in each of some ways, in words: a column a model, and the most of all."""
    import pandas

    models = list(dict.fromkeys(rows["model"]))
    found = rows.set_index(["way", "model"])["perplexity_change"]
    table = pandas.DataFrame({"way": list(ways)})
    for model in models:
        table[model] = [
            change(found[way, model]) if (way, model) in found.index else NONE for way in ways
        ]
    return table.assign(**{"most of all": [at_most(rows, way).split(" (")[0] for way in ways]})


def or_none(frame):
    """The table itself, or one that says that nothing was measured."""
    return frame if len(frame) else type(frame)({"rows": [NONE]})


def parted(row) -> float:
    """Tokens until the first difference of the texts that differ, mean: of a row of greedy text."""
    return (row["equal_until"] - row["identical"] * row["tokens"]) / (1 - row["identical"])


# --- layers


def errors(rows):
    """Layer rows in long form: ``model``, ``layer``, ``side``, ``method``, ``bits``, ``error``,
    with ``theory``, the exact error of TurboQuant for vectors of the model's heads."""
    from sizewise.quantization.turboquant.lloyd_max import lloyd_max

    names = [name for name in rows if name.startswith("error_")]
    long = rows.melt(["model", "layer", "side", "dim"], names, value_name="error", var_name="name")
    parts = long["name"].str.extract(r"error_(\w+)_(\d)")
    long = long.assign(method=parts[0], bits=parts[1].astype(int))
    exact = {
        (bits, dim): lloyd_max(bits, int(dim)).distortion
        for bits, dim in {*zip(long["bits"], long["dim"], strict=True)}
    }
    pairs = zip(long["bits"], long["dim"], strict=True)
    return long.assign(theory=[exact[pair] for pair in pairs]).drop(columns=["name", "dim"])


def longest_keys(rows, models):
    """Of each model the layer with the longest keys: how uneven they are, what codes err there.

    ``rows`` are those of layers. ``constant`` is the share of the squared length that lies in the
    mean of all keys of a head. Words throughout: a model without rows was not measured.
    """
    import pandas

    found = []
    for model in models:
        keys = rows[(rows["model"] == model) & (rows["side"] == "keys")]
        if keys.empty:
            found.append({"model": model, "layer": NONE})
            continue
        one, share = keys.loc[keys["norm"].idxmax()], keys.get("constant")
        found.append(
            {
                "model": model,
                "layer": f"{int(one['layer'])} of {len(keys)}",
                "length": f"{one['norm']:.0f}",
                "median layer": f"{keys['norm'].median():.0f}",
                "largest channel": f"{one['channel_spread']:.0f} x",
                "constant": f"{one['constant']:.1%}"
                if share is not None and share.notna().all()
                else NONE,
                "TurboQuant, 3 bits": f"{one['error_turboquant_3']:.5f}",
                "by channel, 3 bits": f"{one['error_kivi_3']:.5f}",
            }
        )
    return pandas.DataFrame(found).fillna(NONE)


def file_bits(models) -> str:
    """Bits a parameter of the files that models came in, least to most: ``5.8 to 8.0``.

    A matrix that a file holds twice, to read tokens and to predict them, counts both times.
    """
    each = [8 * one.files[0].bytes / one.parameters for one in map(hub_files.entry, models)]
    return " to ".join(dict.fromkeys(f"{one:.1f}" for one in (min(each), max(each))))
