"""A table of training runs: read it, refuse what cannot be fitted, say how far it reaches."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sizewise.data import records

from .forms import OPERATIONS

COLUMNS = ("params", "tokens", "loss")
FEWEST = 10  # twice the parameters of the law
FEWEST_VALUES = 3  # of sizes and of token counts: two cannot show a curve


@dataclass(frozen=True)
class Runs:
    """Sizes, training tokens and final losses (nats a token) of runs, each of shape [runs]."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def operations(self) -> np.ndarray:
        """C = 6 N D of each run."""
        return OPERATIONS * self.params * self.tokens

    @classmethod
    def of(cls, params, tokens, loss, *, fewest: int = FEWEST) -> "Runs":
        """Arrays as runs, in their order.

        Raises ValueError that names the row (from 1) and the value if one is missing, not a
        number, not finite or not above 0; if lengths differ; if rows are fewer than ``fewest``;
        or if sizes or tokens take fewer than three values.
        """
        given = dict(zip(COLUMNS, (params, tokens, loss), strict=True))
        columns = {name: _numbers(name, values) for name, values in given.items()}
        sizes = {len(values) for values in columns.values()}
        if len(sizes) > 1:
            raise ValueError(f"columns of different lengths: {sorted(sizes)}")
        (count,) = sizes
        if count < fewest:
            raise ValueError(
                f"too few rows: five coefficients need at least {fewest} runs, got {count}"
            )
        for name in COLUMNS[:2]:
            values = len(np.unique(columns[name]))
            if values < FEWEST_VALUES:
                raise ValueError(
                    f"{name} takes {values} value{'s' * (values != 1)}; a curve needs at least "
                    f"{FEWEST_VALUES}"
                )
        return cls(**columns)

    @classmethod
    def read(cls, path: str | Path, *, params: str = "params") -> "Runs":
        """The runs of a .csv or .jsonl file; ``params`` names the column of sizes.

        Raises ValueError as `of` does, and for a file or a column that is not there.
        """
        import pandas

        file = Path(path)
        if not file.is_file():
            raise ValueError(f"no such file: {file}")
        try:
            if file.suffix in (".jsonl", ".ndjson"):
                frame = pandas.DataFrame(records.read(file))
            else:
                frame = pandas.read_csv(file, skipinitialspace=True)
        except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as e:
            raise ValueError(f"{file}: not a table of comma-separated values ({e})") from None
        for column in (params, *COLUMNS[1:]):
            if column not in frame:
                there = ", ".join(map(str, frame)) or "none"
                raise ValueError(f"{file}: no column {column!r}; columns: {there[:200]}")
        return cls.of(*(frame[column].tolist() for column in (params, *COLUMNS[1:])))

    def subset(self, mask) -> "Runs":
        """The runs where ``mask`` is true, however few."""
        return Runs(self.params[mask], self.tokens[mask], self.loss[mask])

    def reach(self, params: float, tokens: float | None = None) -> dict[str, float]:
        """How far a point lies beyond the runs: its size, tokens and operations over the largest.

        ``spans`` is the same for the size as a share of the range of sizes, both in logarithms:
        0 within the runs, 1 if the point lies as far beyond them as they reach.
        """
        least, most = self.params.min(), self.params.max()
        far = {"params": float(params / most)}
        if tokens is not None:
            far["tokens"] = float(tokens / self.tokens.max())
            far["operations"] = float(OPERATIONS * params * tokens / self.operations.max())
        beyond = max(0.0, math.log(params / most))
        return far | {"spans": beyond / math.log(most / least)}


def _numbers(name: str, values) -> np.ndarray:
    """The values as floats. Raises ValueError that names the first one that will not do."""
    good = np.empty(len(values))
    for row, value in enumerate(values, 1):
        try:
            if isinstance(value, bool) or value is None:
                raise TypeError
            good[row - 1] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"row {row}: {name} is {str(value)[:40]!r}, not a number") from None
        if not 0 < good[row - 1] < math.inf:
            raise ValueError(f"row {row}: {name} is {good[row - 1]:g}; it must be a number above 0")
    return good
