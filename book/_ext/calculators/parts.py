"""What a calculator is described with: fields, steps, results."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from .tracing import Formula, trace

OWN = "own"  # the choice "my own numbers"
COUNT, SHARE = "count", "% or part of 1"  # units of numbers that count things, and of shares


@dataclass(frozen=True)
class Field:
    """A form field.

    ``unit`` stands beside the label, for every kind but choice: `COUNT` for a number of things.
    ``kind``: whole, number, share (a part of 1, also written in per cent), range (a number, or two
    as 2:3), or choice. A choice's
    ``table`` names the rows that bring values with them; ``own`` adds the reader's own numbers,
    which are the fields with ``when`` set to this field's name. ``default`` is as typed. Values
    are held to ``least`` and ``most``, which may be another field's name. An ``optional`` number
    replaces the values named in ``sets`` when it is given; else they are what a choice brings, or
    the value of the field ``otherwise``.
    """

    name: str
    label: str
    kind: str
    default: str
    symbol: str = ""
    unit: str = ""
    help: str = ""
    least: float = 1
    most: float | str = 1e12
    table: str = ""
    own: str = ""
    when: str = ""
    optional: bool = False
    sets: tuple[str, ...] = ()
    otherwise: str = ""


@dataclass(frozen=True)
class Step:
    """One value: the library's function that gives it, called with traced values.

    ``over`` names the rows for each of which it is computed ("layers", or "layers.held" for rows
    inside rows); with ``total`` the values, times each row's ``count``, are added up one level
    further out, and unknown where the rows are. ``call`` may be one function a ``form``, where
    rows have one. ``given``: a row or a field may bring the value, which is then left as it is.
    """

    name: str
    symbol: str  # as the equation writes it, in LaTeX
    meaning: str
    call: Callable[[Any], Any] | dict[str, Callable[[Any], Any]]
    over: str = ""
    total: bool = False
    shown: bool = True  # its equation stands on the page
    given: bool = False

    @cached_property
    def formulas(self) -> dict[str, Formula]:
        """Its formula by form; under "" if there is but one."""
        calls = self.call if isinstance(self.call, dict) else {"": self.call}
        return {form: trace(call) for form, call in calls.items()}


@dataclass(frozen=True)
class Result:
    """A line of the results: one value, or a range of two. ``unit`` also says how it is written.

    ``each`` names rows: then it is a column of a table with a line a row.
    """

    label: str
    values: tuple[str, ...]
    unit: str = ""
    each: str = ""
    missing: str = "not known"  # what stands there when a value is not known
    main: bool = False


@dataclass(frozen=True)
class Answer:
    """A sentence that says yes or no, before the numbers.

    ``words`` has the sentence for each number that the ``value`` may be, with {names} of choices
    and values; ``own`` is what a choice is called where it is the reader's own.
    """

    value: str
    words: dict[int, str]
    own: dict[str, str]


@dataclass(frozen=True)
class Limit:
    """The largest ``field`` at which the case needs no more than its devices, up to ``most``.

    ``bound`` names a value that it cannot pass, if the case has one.
    """

    name: str
    field: str
    most: int
    bound: str = ""


@dataclass(frozen=True)
class Curve:
    """The case over one ``field``, at ``points`` as they are typed: drawn, and as a table.

    Its lines are the first ``drawn`` results with ``each`` set to the field; a result of two
    values is a band. A slider moves the field from point to point. ``ticks`` stand on the axis.
    """

    field: str
    points: tuple[str, ...]
    ticks: tuple[str, ...]
    title: str
    drawn: int = 1

    @property
    def caption(self) -> str:
        return f"The numbers of the curve: {self.title[0].lower()}{self.title[1:]}"


@dataclass(frozen=True)
class Named:
    """What a row is called on the page: (words, address) each, no address where nothing is linked.

    ``cite:KEY`` as an address is that entry of the bibliography.
    """

    parts: tuple[tuple[str, str], ...]

    @property
    def words(self) -> str:
        return "".join(words for words, _ in self.parts)


@dataclass(frozen=True)
class Calculator:
    """A form with its results. ``symbols`` and ``meanings`` explain the values that rows bring."""

    id: str
    title: str
    fields: tuple[Field, ...]
    steps: tuple[Step, ...]
    results: tuple[Result, ...]
    tables: dict[str, Callable[[], dict]]  # choices and rows by name
    columns: dict[str, tuple[str, str]]  # value -> (its symbol, what it is)
    groups: dict[str, str] = field(default_factory=dict)  # over -> how the equation names the sum
    rows: str = ""  # the table whose rows are computed one by one
    command: str = ""  # of the command line
    picture: tuple[str, ...] = ()  # values that fill up a device: drawn as a bar
    against: tuple[str, str] = ()  # (bytes of a device, devices): the bar's length
    note: Callable[[], str] | None = None  # a computed paragraph under the results
    answer: Answer | None = None
    names: Callable[[], dict[str, Named]] | None = None  # rows as the page calls them
    crossed: tuple = ()  # (table, its two choices, names): values that a pair of choices brings
    forecast: Callable[[dict, dict], dict] | None = None  # (given, scope) -> values added last
    limits: tuple[Limit, ...] = ()
    beside: str = ""  # the choice whose every entry is computed side by side
    caption: str = ""  # of the rows
    curve: Curve | None = None
    reads: str = ""  # the choice that a pasted configuration fills

    def symbol_names(self) -> dict[str, str]:
        """LaTeX by value."""
        symbols = {name: symbol for name, (symbol, _) in self.columns.items()}
        symbols |= {entry.name: entry.symbol for entry in self.fields if entry.symbol}
        return symbols | {step.name: step.symbol for step in self.steps}

    def meanings(self) -> dict[str, str]:
        """What each value is, in words."""
        words = {name: meaning for name, (_, meaning) in self.columns.items()}
        for entry in self.fields:
            if entry.symbol:
                unit = f" ({entry.unit})" if entry.unit not in ("", COUNT, SHARE) else ""
                words[entry.name] = entry.label[0].lower() + entry.label[1:] + unit
        return words | {step.name: step.meaning for step in self.steps}
