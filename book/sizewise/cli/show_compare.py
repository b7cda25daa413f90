"""What the command that compares two models prints."""

from typing import Any

from .output import console, table

LINES = 20  # items in sight
WORDS = 60  # characters of an answer in sight
NAME = 300  # of a model's name with its address: it is folded, since its end may tell it apart


def cut(words: str, most: int = WORDS) -> str:
    """A text on one line, without what moves a terminal's cursor, cut to ``most`` characters."""
    plain = " ".join("".join(one if one.isprintable() else " " for one in words).split())
    return plain if len(plain) <= most else plain[: most - 1] + "…"


def compared(found: dict[str, Any]) -> None:
    """The items that differ, the figures side by side, the verdict, and what failed."""
    _answers(found)
    _figures(found)
    if found["difference"]:
        print(cut(_difference(found["difference"]), 10_000))
    print(f"\nVerdict: {cut(found['verdict'], 10_000)}")
    _failures(found)
    print(f"All answers are in {cut(found['file'], 1000)}")


def _answers(found: dict[str, Any]) -> None:
    lines = [one for one in found["answers"] if None not in one["scores"]]
    apart = [one for one in lines if len(set(one["scores"])) > 1]
    if not lines:  # nothing that both answered
        return
    if not apart:
        print("No item is scored differently.")
        return
    made = table("items scored differently", "item", "wanted", "A", "B", "A>", "B>")
    for one in apart[:LINES]:
        answers = [cut(answer or "") for answer in one["answers"]]
        scores = [f"{value:.2g}" for value in one["scores"]]
        made.add_row(cut(one["item"], 24), cut(" or ".join(one["wanted"]), 30), *answers, *scores)
    console().print(made)
    if more := len(apart) - LINES:
        print(f"{more} more; --json has them all") if more > 0 else None


def _figures(found: dict[str, Any]) -> None:
    a, b = found["models"]
    made = table(f"{cut(found['task'])}: {found['items']} items", "", "A>", "B>")
    made.add_row("model", cut(a["name"], NAME), cut(b["name"], NAME))
    for name, form in (
        ("requests answered", _answered),
        ("score, percent", _score),
        ("repeats alike, percent", _reliability),
        ("tokens of a prompt, mean", lambda one: _number(one["tokens"]["prompt"], 1)),
        ("tokens of an answer, mean", lambda one: _number(one["tokens"]["answer"], 1)),
        ("dollars a thousand requests", lambda one: _number(one["dollars_per_thousand_requests"])),
        ("  price from", lambda one: cut(one["price"]["source"])),
        ("seconds, median", lambda one: _seconds(one, "median")),
        ("seconds, 95th percentile", lambda one: _seconds(one, "p95")),
    ):
        made.add_row(name, form(a), form(b))
    console().print(made)


def _difference(one: dict[str, Any]) -> str:
    low, high = one["low"] * 100, one["high"] * 100
    words = (
        f"A less B on the {one['items']} items that both answered: "
        f"{one['value'] * 100:+.1f} points, 95 % interval {low:+.1f} to {high:+.1f}"
    )
    if one["p_mid"] is None:
        return f"{words} (bootstrap; scores between 0 and 1, so no McNemar test)"
    drawn = f"bootstrap {one['drawn_low'] * 100:+.1f} to {one['drawn_high'] * 100:+.1f}"
    counts = f"{one['only_a']} right in A alone, {one['only_b']} in B alone"
    return (
        f"{words}, {drawn}; {counts}: McNemar p = {one['p_mid']:.3g} (exact {one['p_exact']:.3g})"
    )


def _failures(found: dict[str, Any]) -> None:
    for letter, one in zip("AB", found["models"], strict=True):
        for bad in one["failed"]:
            again = f", repeat {bad['repeat'] + 1}" if bad["repeat"] else ""
            print(
                f"  not answered by {letter}: {cut(bad['item'])}{again}: {cut(bad['reason'], 300)}"
            )
    if any(one["failed"] for one in found["models"]):
        print("The same command asks these again.")


def _answered(one: dict[str, Any]) -> str:
    return f"{one['answered']} of {one['answered'] + len(one['failed'])}"


def _score(one: dict[str, Any]) -> str:
    found = one["score"]
    if not found:
        return "not measured"
    if found["low"] is None:
        return f"{found['value'] * 100:.1f}"
    ends = f"{found['low'] * 100:.1f} to {found['high'] * 100:.1f}"
    return f"{found['value'] * 100:.1f} ({ends})"


def _reliability(one: dict[str, Any]) -> str:
    alike = one["reliability"]
    return "not measured" if alike is None else f"{alike * 100:.1f}"


def _seconds(one: dict[str, Any], which: str) -> str:
    return _number((one["seconds"] or {}).get(which))


def _number(value: float | None, digits: int | None = None) -> str:
    if value is None:
        return "not known"
    return f"{value:.{digits}f}" if digits is not None else f"{value:.3g}"
