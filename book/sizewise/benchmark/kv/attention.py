"""Attention over a cache and its scores alone, timed against the memory's speed and its rivals."""

from sizewise.benchmark import ceilings, graph_timing, timing

from . import checks, inputs, methods, profile
from .inputs import HEADS, PACKED, Bench, vector_bytes

# What rows must share to be compared.
SAME = ("device", "context", "batch", "group", "kv_heads", "dim")


def ceiling(config: dict, bench: Bench) -> dict:
    """Bytes a second of copying (read and written) and of reading alone (a sum)."""
    size = (1 << 32) if timing.on(bench.device) == "cuda" else (1 << 26)
    call, moved = ceilings.memory(config["method"], size, bench.device)
    told = graph_timing.timed([call], bench.device)
    return told | {"bytes": int(moved), "rate": moved / told["us_low"] * 1e6}


def attend(config: dict, bench: Bench) -> dict:
    """One new token in each sequence: time, and the bytes that must be read.

    A row that states a launch is timed with it; a kernel of this book tells which it took.
    Raises RuntimeError for a method that was not checked, or was wrong.
    """
    import torch

    method, batch, tokens = config["method"], config["batch"], config["context"]
    one = batch * HEADS * tokens * 2 * vector_bytes(method)
    launch, query = methods.tuning(config, bench), inputs.query(config, bench)
    checks.demand(method, launch, bench)
    lengths = torch.full((batch,), tokens, dtype=torch.int32, device=bench.device)
    filled = inputs.packed if method in PACKED else inputs.plain

    def call(keys, values):
        return lambda: methods.attend(query, keys, values, lengths, method, launch, bench)

    caches = [
        tuple(filled(batch, tokens, method, bench) for _ in range(2))
        for _ in range(graph_timing.copies(one, bench.device))
    ]
    told = {}
    if methods.own(method):
        apart = checks.like_default(query, *caches[0], lengths, method, launch, bench)
        told = {"launches_differ": apart} | profile.columns(config, launch)
    return (
        graph_timing.timed([call(*cache) for cache in caches], bench.device) | {"bytes": one} | told
    )


def logits(config: dict, bench: Bench) -> dict:
    """Scores of one new token against all keys, written in fp32.

    Each copy of the keys keeps its scores until its next turn, so that they too leave the cache.
    Raises RuntimeError for scores that are wrong.
    """
    method, batch, tokens = config["method"], config["batch"], config["context"]
    one = batch * HEADS * tokens * (vector_bytes(method) + 4 * config["group"])
    query = inputs.query(config, bench)
    filled = inputs.packed if method in PACKED else inputs.plain
    left = {}

    def call(place: int, keys):
        def work():
            left[place] = methods.scores(query, keys, method, bench)

        return work

    copies = [
        filled(batch, tokens, method, bench) for _ in range(graph_timing.copies(one, bench.device))
    ]
    error = checks.scores_right(query, copies[0], method, bench)
    calls = [call(place, keys) for place, keys in enumerate(copies)]
    return graph_timing.timed(calls, bench.device) | {"bytes": one, "error": error}


def against_best(row: dict, before: list[dict]) -> dict:
    """Share of the copy's speed, and how much faster than the best plain row of the same shape.

    Plain rows come before packed ones, so that the best is known; a row is not compared with its
    own kind. Nothing for rows of other kinds, and for methods that do not run.
    """
    if row["what"] not in ("attend", "logits", "profile") or row["refused"]:
        return {}
    ran = [one for one in before if not one.get("refused") and one["device"] == row["device"]]
    copy = [one["rate"] for one in ran if (one["what"], one["method"]) == ("ceiling", "copy")]
    told = {"share_of_copy": row["bytes"] / row["us"] * 1e6 / copy[0] if copy else None}
    if row["what"] == "profile":
        alone = row["bytes"] / row["us_split"] * 1e6 / copy[0] if copy else None
        return told | {"split_share_of_copy": alone}
    rivals = [
        one
        for one in ran
        if one["what"] == row["what"] and all(one[name] == row[name] for name in SAME)
    ]
    for kind in inputs.BYTES:
        best = min((r["us"] for r in rivals if r["method"].startswith(kind)), default=None)
        own = row["method"].startswith(kind)
        told[f"over_{kind}"] = best / row["us"] if best and not own else None
    return told
