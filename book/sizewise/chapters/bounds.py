"""What a chapter's parameters may be, checked before a kernel starts.

The names, types and defaults stand in the chapter's own cell. The bounds stand here: the same
name means the same in every chapter. They hold off a slip (a minus sign, nine zeros too many),
so that it costs a line instead of a minute, and no chapter allocates more than a gigabyte or
computes for more than some seconds.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from sizewise import units
from sizewise.costs import forecast, formats
from sizewise.data import catalog, prices, records

from . import claims, notebook

LONGEST_NAME = 1000  # characters; a path that is longer cannot be opened


@dataclass(frozen=True)
class Number:
    """A number from ``low`` to ``high``, and a multiple of ``step`` where there is one."""

    low: float
    high: float
    unit: str = ""
    step: int = 0

    def check(self, value: Any) -> None:
        if value is None:
            return
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError("must be a number")  # where the default is none, any type comes here
        if not self.low <= value <= self.high:
            unit = f" {self.unit}" if self.unit else ""
            raise ValueError(f"must be from {self.low:,.12g} to {self.high:,.12g}{unit}")
        if self.step and value % self.step:
            raise ValueError(f"must be a multiple of {self.step}")


@dataclass(frozen=True)
class Choice:
    """A name from a list that is read when it is needed."""

    kind: str
    names: Callable[[], Iterable[str]]
    or_empty: bool = False

    def check(self, value: Any) -> None:
        names = list(self.names())
        if value not in names and not (self.or_empty and value == ""):
            raise units.unknown(self.kind, value, names)


@dataclass(frozen=True)
class Model:
    """A name of the catalogue, a file, or a hub id."""

    or_empty: bool = False

    def check(self, value: Any) -> None:
        if self.or_empty and value == "":
            return
        if not value.strip() or not value.isprintable() or len(value) > LONGEST_NAME:
            raise ValueError("names no model")
        if Path(value).exists() or value in catalog.models():
            return
        if not re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", value, re.ASCII):  # an id of the hub
            raise catalog.unknown_model(value)


@dataclass(frozen=True)
class Day:
    """A day up to today, from the first for which the price list has prices or from another."""

    first: date = date(2023, 1, 1)

    def check(self, value: Any) -> None:
        try:
            day = date.fromisoformat(str(value))
        except ValueError:
            raise ValueError("must be a day such as 2026-04-15") from None
        if not self.first <= day <= datetime.now(UTC).date():
            raise ValueError(f"must be a day from {self.first} to today")


def _column(stem: str, column: str) -> Callable[[], list[str]]:
    """The values of a column of recorded rows, in their order."""
    return lambda: list(
        dict.fromkeys(row[column] for row in records.read(stem) if row.get(column) is not None)
    )


SHARE = Number(1e-6, 1 - 1e-6)
BOUNDS: dict[str, Any] = {
    "answer_tokens": Number(1, 1e6, "tokens"),
    "as_of": Day(date(2025, 7, 1)),  # deadlines are at most two years ahead
    "article": Choice("article", claims.articles, or_empty=True),
    "batch": Number(1, 1e6, "sequences"),
    "benchmark": Choice("benchmark", _column("published_scores", "benchmark")),
    "bits": Number(1, 8, "bits"),
    "budget": Number(1e9, 1e30, "FLOPs"),
    "context": Number(1, 1e8, "tokens"),
    "serving-experts.context": Number(1, 2**18, "tokens"),  # above, no batch is affordable
    "cache": Choice("cache format", lambda: formats.CACHES),
    "cheap": None,  # a model of the vendor, see `check`
    "confidence": Choice("confidence", _column("cascade", "confidence")),
    "core_hour": Number(1e-6, 1e3, "dollars"),
    "dear": None,
    "device": Choice("device", catalog.devices),
    "devices": Number(1, 1e7, "devices"),
    "dim": Number(8, 1024, "coordinates", step=8),
    "discordant": SHARE,
    "encoder": Choice("encoder", _column("classifiers", "model")),
    "framework": Choice("framework", lambda: forecast.FRAMEWORKS, or_empty=True),
    "format": Choice("format", lambda: formats.WEIGHTS),
    "label_price": Number(0, 1e4, "dollars"),
    "labels": Number(8, 1e6, "labels"),
    "largest": Number(1e3, 1e16, "parameters"),
    "large": Choice("model", _column("classifiers", "model"), or_empty=True),
    "length": Number(1, 10_000, "tokens"),
    "level": SHARE,
    "live": None,  # true or false
    "model": Model(),
    "attention-variants.model": Model(or_empty=True),
    "turboquant.model": Choice("recorded model", _column("kv_quality", "model")),
    # Below these the recorded runs that are left say nothing: one budget, or no other family.
    "isoflop.most": Number(3e12, 1e30, "FLOPs"),
    "mixture-of-experts.most": Number(1e11, 1e30, "FLOPs"),
    "attention-variants.most": Number(1e12, 1e30, "FLOPs"),
    "negligible": Number(0, 100, "points"),
    "next_budget": Number(1e9, 1e30, "FLOPs"),
    "points": Number(0.1, 100, "points"),
    "price_date": Day(),
    "prompt_tokens": Number(1, 1e7, "tokens"),
    "size": Number(1e3, 1e16, "parameters"),
    "tokens": Number(1e3, 1e18, "tokens"),
    "tolerance": Number(0, 1, "as a share"),
    "vendor": Choice("provider", prices.providers),
}


def check(chapters: Mapping[str, Path], values: Mapping[str, Any]) -> None:
    """Raises ValueError for a parameter that a chapter lacks, or a value that it cannot have."""
    for chapter, file in chapters.items():
        names = notebook.parameters(file)
        for name, value in values.items():
            if name not in names:
                error = units.unknown("parameter", name, names or ["(none)"])
                raise ValueError(f"{chapter}: {error}")
            default = names[name]
            if default is not None and not _same_kind(default, value):
                kind = f"{type(default).__name__} ({default!r})"
                raise ValueError(f"{chapter}: {name} is {kind}, not {_quoted(value)}")
    for chapter, file in chapters.items():
        for name, value in values.items():
            bound = BOUNDS.get(f"{chapter}.{name}", BOUNDS.get(name))
            try:
                if bound is not None:
                    bound.check(value)
            except ValueError as error:
                raise ValueError(f"{chapter}: {name} {_quoted(value)}: {error}") from None
        every = {**notebook.parameters(file), **values}
        for name in [name for name in ("cheap", "dear") if name in every]:
            sold = prices.models(every["vendor"])
            if every[name] not in sold:
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
