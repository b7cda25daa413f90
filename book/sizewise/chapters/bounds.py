"""What a chapter's parameters may be, checked before a kernel starts.

The names, types and defaults stand in the chapter's own cell. The bounds stand here: the same
name means the same in every chapter. They hold off a slip (a minus sign, nine zeros too many),
so that it costs a line instead of a minute, and no chapter allocates more than a gigabyte or
computes for more than some seconds.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.costs import forecast, formats
from sizewise.data import catalog, prices, records

from . import claims, notebook

LONGEST_NAME = 1000  # characters; a path that is longer cannot be opened
Check = Callable[[Any], None]  # raises ValueError for a value that makes no sense


def number(low: float, high: float, unit: str = "", step: int = 0) -> Check:
    """A number from ``low`` to ``high``, and a multiple of ``step`` where there is one."""

    def check(value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number")  # where the default is none, any type comes here
        if not low <= value <= high:
            raise ValueError(f"must be from {low:,.12g} to {high:,.12g} {unit}".rstrip())
        if step and value % step:
            raise ValueError(f"must be a multiple of {step}")

    return check


def choice(kind: str, names: Callable[[], Iterable[str]], or_empty: bool = False) -> Check:
    """A name from a list that is read when it is needed."""

    def check(value: Any) -> None:
        known = list(names())
        if value not in known and not (or_empty and value == ""):
            raise units.unknown(kind, value, known)

    return check


def model(value: Any) -> None:
    """A name of the catalogue, a file, or a hub id."""
    if not value.strip() or not value.isprintable() or len(value) > LONGEST_NAME:
        raise ValueError("names no model")
    if Path(value).exists() or value in catalog.models():
        return
    if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value, re.ASCII):  # an id of the hub
        raise catalog.unknown_model(value)


def model_or_none(value: Any) -> None:
    """What `model` takes, or an empty text."""
    if value != "":
        model(value)


def day(first: date = date(2023, 1, 1)) -> Check:
    """A day up to today, from the first for which the price list has prices or from another."""

    def check(value: Any) -> None:
        try:
            moment = date.fromisoformat(str(value))
        except ValueError:
            raise ValueError("must be a day such as 2026-04-15") from None
        if not first <= moment <= datetime.now(UTC).date():
            raise ValueError(f"must be a day from {first} to today")

    return check


def _column(stem: str, column: str) -> Callable[[], list[str]]:
    """The values of a column of recorded rows, in their order."""
    return lambda: list(
        dict.fromkeys(row[column] for row in records.read(stem) if row.get(column) is not None)
    )


SHARE = number(1e-6, 1 - 1e-6)
BOUNDS: dict[str, Check | None] = {
    "answer_tokens": number(1, 1e6, "tokens"),
    "as_of": day(date(2025, 7, 1)),  # deadlines are at most two years ahead
    "article": choice("article", claims.articles, or_empty=True),
    "batch": number(1, 1e6, "sequences"),
    "benchmark": choice("benchmark", _column("published_scores", "benchmark")),
    "bits": number(1, 8, "bits"),
    "budget": number(1e9, 1e30, "FLOPs"),
    "context": number(1, 1e8, "tokens"),
    "serving-experts.context": number(1, 2**18, "tokens"),  # above, no batch is affordable
    "cache": choice("cache format", lambda: formats.CACHES),
    "cheap": None,  # a model of the vendor, see `check`
    "confidence": choice("confidence", _column("cascade", "confidence")),
    "core_hour": number(1e-6, 1e3, "dollars"),
    "dear": None,
    "device": choice("device", catalog.devices),
    "devices": number(1, 1e7, "devices"),
    "dim": number(8, 1024, "coordinates", step=8),
    "discordant": SHARE,
    "encoder": choice("encoder", _column("classifiers", "model")),
    "framework": choice("framework", lambda: forecast.FRAMEWORKS, or_empty=True),
    "format": choice("format", lambda: formats.WEIGHTS),
    "label_price": number(0, 1e4, "dollars"),
    "labels": number(8, 1e6, "labels"),
    "largest": number(1e3, 1e16, "parameters"),
    "large": choice("model", _column("classifiers", "model"), or_empty=True),
    "length": number(1, 10_000, "tokens"),
    "level": SHARE,
    "live": None,  # true or false
    "model": model,
    "attention-variants.model": model_or_none,
    "turboquant.model": choice("recorded model", _column("kv_quality", "model")),
    # Below these the recorded runs that are left say nothing: one budget, or no other family.
    "isoflop.most": number(3e12, 1e30, "FLOPs"),
    "mixture-of-experts.most": number(1e11, 1e30, "FLOPs"),
    "attention-variants.most": number(1e12, 1e30, "FLOPs"),
    "negligible": number(0, 100, "points"),
    "next_budget": number(1e9, 1e30, "FLOPs"),
    "points": number(0.1, 100, "points"),
    "price_date": day(),
    "prompt_tokens": number(1, 1e7, "tokens"),
    "size": number(1e3, 1e16, "parameters"),
    "tokens": number(1e3, 1e18, "tokens"),
    "tolerance": number(0, 1, "as a share"),
    "vendor": choice("provider", prices.providers),
}


def check(chapters: Mapping[str, Path], values: Mapping[str, Any]) -> None:
    """Raises ValueError for a parameter that a chapter lacks, or a value that it cannot have."""
    defaults = {chapter: notebook.parameters(file) for chapter, file in chapters.items()}
    for chapter, names in defaults.items():
        for name, value in values.items():
            if name not in names:
                error = units.unknown("parameter", name, names or ["(none)"])
                raise ValueError(f"{chapter}: {error}")
            default = names[name]
            if default is not None and not _same_kind(default, value):
                kind = f"{type(default).__name__} ({default!r})"
                raise ValueError(f"{chapter}: {name} is {kind}, not {_quoted(value)}")
    for chapter, names in defaults.items():
        for name, value in values.items():
            bound = BOUNDS.get(f"{chapter}.{name}", BOUNDS.get(name))
            try:
                if bound is not None:
                    bound(value)
            except ValueError as error:
                raise ValueError(f"{chapter}: {name} {_quoted(value)}: {error}") from None
        every = names | dict(values)
        for name in ("cheap", "dear"):
            if name in every and every[name] not in (sold := prices.models(every["vendor"])):
                error = units.unknown(f"model at {every['vendor']}", every[name], sold)
                raise ValueError(f"{chapter}: {name}: {error}")


def _quoted(value: Any) -> str:
    """A value for the message that refuses it; a number of 4,300 digits has no text."""
    try:
        return units.shortened(repr(value), 60)
    except ValueError:
        return "a number of thousands of digits"


def _same_kind(default: Any, value: Any) -> bool:
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, int | float) and isinstance(value, int | float):
        return isinstance(default, float) or isinstance(value, int)
    return isinstance(value, type(default))
