"""A table of training runs: read it, refuse what cannot be fitted, name what a fit cannot tell."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from sizewise.data import records

from .forms import TRAIN_FLOPS

FEWEST = 10  # twice the coefficients of the law
FEWEST_VALUES = 3  # of sizes and of token counts: two cannot show a curve
HEADERS = {  # what a column may be called where no name is given; case and "-" or " " don't matter
    "params": ("params", "parameters", "n", "n_params", "num_params", "model_size", "size"),
    "tokens": ("tokens", "d", "n_tokens", "num_tokens", "train_tokens", "training_tokens"),
    "loss": ("loss", "l", "val_loss", "validation_loss", "eval_loss", "final_loss", "test_loss"),
    "flops": ("flops", "c", "flop", "compute", "train_flops", "training_flops", "training_flop"),
}
UNIFORM = 12.5  # nats a token: above it a model would do better by guessing, log of 256k entries
UNTRAINED = 5.0  # nats a token, a perplexity of 148: no published law's runs end there
NEAR_6ND = 30.0  # times that counted FLOPs may differ from 6 N D; small models' heads give 10
BYTES = 1.0  # nats a token: below it the losses are probably bits or nats a byte
SMALLEST = {"params": 1e6, "tokens": 1e7}  # at most so many: probably in millions or billions
PETA = 1e5  # tokens from compute that are fewer come of PFLOPs or PF-days
COLLINEAR = 0.1  # of log tokens about a line in log size: below it the two are one variable
EQUAL_LOSS = 1e-6  # range of log loss
EQUAL = 0.1  # share by which the FLOPs of one budget may differ


@dataclass(frozen=True)
class Runs:
    """Sizes, training tokens and final losses (nats a token) of runs, each of shape [runs].

    ``spent`` are training FLOPs where they were counted, else None: then C = 6 N D.
    ``cluster`` [runs] numbers the training runs from 0 where several rows are points of one, or
    repeat one configuration: a bootstrap draws clusters. None: each row is a run of its own.
    ``notes`` are what reading the table found odd.
    """

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    spent: np.ndarray | None = None
    cluster: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.loss)

    @property
    def flops(self) -> np.ndarray:
        """Training FLOPs of each run: as counted, or 6 N D."""
        return TRAIN_FLOPS * self.params * self.tokens if self.spent is None else self.spent

    @property
    def clusters(self) -> np.ndarray:
        """The cluster of each row, from 0."""
        return np.arange(len(self)) if self.cluster is None else self.cluster

    @classmethod
    def from_arrays(
        cls, params, tokens, loss, *, flops=None, cluster=None, fewest: int = FEWEST
    ) -> "Runs":
        """Arrays as runs, in their order; ``cluster`` may be labels of any kind.

        Raises ValueError that names the row (from 1) and the value if one is missing, not a
        number, not finite or not above 0; if lengths differ; if rows are fewer than ``fewest``;
        or if sizes or tokens take fewer than three values.
        """
        columns = {"params": params, "tokens": tokens, "loss": loss, "flops": flops}
        columns = {name: _numbers(name, v) for name, v in columns.items() if v is not None}
        lengths = {len(values) for values in columns.values()}
        if len(lengths) > 1:
            raise ValueError(f"columns of different lengths: {sorted(lengths)}")
        (count,) = lengths
        if count < fewest:
            raise ValueError(
                f"too few rows: five coefficients need at least {fewest} runs, got {count}"
            )
        for name in ("params", "tokens"):
            values = len(np.unique(columns[name]))
            if values < FEWEST_VALUES:
                raise ValueError(
                    f"{name} takes {values} value{'s' * (values != 1)}; a curve needs at least "
                    f"{FEWEST_VALUES}"
                )
        if cluster is not None:
            cluster = np.unique(np.asarray(cluster), return_inverse=True)[1]
        params, tokens, loss = (columns[name] for name in ("params", "tokens", "loss"))
        return cls(params, tokens, loss, columns.get("flops"), cluster)

    @classmethod
    def read(cls, path: str | Path, **columns: str | None) -> "Runs":
        """The runs of a .csv or .jsonl file.

        ``params``, ``tokens``, ``loss`` and ``flops`` name columns; one that is not named is found
        by `HEADERS`. FLOPs are taken where such a column is; without tokens they give the
        tokens, C / 6 N.
        Raises ValueError as `from_arrays` does, for a file or a column that is not there, and
        where two columns could be meant.
        """
        import pandas

        file = Path(path)
        if not file.is_file():
            raise ValueError(f"no such file: {file}")
        if file.suffix == ".json":
            raise ValueError(f"{file}: a table is read from .csv or .jsonl, a run a line")
        try:
            if file.suffix in (".jsonl", ".ndjson"):
                frame = pandas.DataFrame(records.read(file))
            else:
                with file.open(encoding="utf-8-sig") as text:
                    head = text.readline()
                    mark = max(",;\t", key=head.count)
                    text.seek(0)
                    frame = pandas.read_csv(text, sep=mark, skipinitialspace=True)
        except (pandas.errors.ParserError, pandas.errors.EmptyDataError, UnicodeDecodeError) as e:
            raise ValueError(f"{file}: not a table of comma-separated values ({e})") from None
        names = {kind: _column(file, frame, kind, columns.get(kind)) for kind in HEADERS}
        values = {kind: frame[name].tolist() for kind, name in names.items() if name is not None}
        if "params" in values and "flops" in values and "tokens" not in values:
            params, spent = (_numbers(kind, values[kind]) for kind in ("params", "flops"))
            values["tokens"] = spent / (TRAIN_FLOPS * params)
            if values["tokens"].max() < PETA:
                most = values["tokens"].max()
                raise ValueError(
                    f"{file}: tokens from compute, C / 6 N, are {most:g} at most: compute must be "
                    "in FLOPs, not in PFLOPs or PF-days"
                )
        for kind in ("params", "tokens", "loss"):
            if kind not in values:
                listed = ", ".join(map(str, frame)) or "none"
                raise ValueError(
                    f"{file}: no column {kind!r}; name it with --{kind}; columns: {listed[:200]}"
                )
        runs = cls.from_arrays(**values)
        times = float(np.median(runs.flops / (TRAIN_FLOPS * runs.params * runs.tokens)))
        if 1 / NEAR_6ND < times < NEAR_6ND:
            return runs
        note = (
            f"compute is {times:.3g} times 6 N D in the median: is the column in another unit? The "
            "law wants FLOPs, so 6 N D is used instead"
        )
        return replace(runs, spent=None, notes=(note,))

    def subset(self, mask) -> "Runs":
        """The runs where ``mask`` is true, however few."""
        spent = None if self.spent is None else self.spent[mask]
        cluster = None
        if self.cluster is not None:
            cluster = np.unique(self.cluster[mask], return_inverse=True)[1]
        return Runs(
            self.params[mask], self.tokens[mask], self.loss[mask], spent, cluster, self.notes
        )

    def token_flops(self, params):
        """Training FLOPs a token at a size: 6 N, or read off the runs where FLOPs were counted.

        Between the runs' sizes the logarithms are joined by straight lines, beyond them they go
        on in proportion to the size. The head, attention and the embedding make it differ from
        6 N, and most in small models.
        """
        if self.spent is None:
            return TRAIN_FLOPS * np.asarray(params, float)
        sizes, size_index = np.unique(self.params, return_inverse=True)
        logs = np.log(self.spent / self.tokens)
        means = np.bincount(size_index, logs) / np.bincount(size_index)
        x = np.log(np.asarray(params, float))
        inside = np.clip(x, np.log(sizes[0]), np.log(sizes[-1]))
        return np.exp(np.interp(inside, np.log(sizes), means) + x - inside)

    def reach(self, params: float, tokens: float | None = None) -> dict[str, float]:
        """How far a point lies beyond the runs: its size, tokens and FLOPs over the largest.

        ``spans`` is the same for the size as a share of the range of sizes, both in logarithms:
        0 within the runs, 1 if the point lies as far beyond them as they reach.
        """
        smallest, largest = self.params.min(), self.params.max()
        times = {"params": float(params / largest)}
        if tokens is not None:
            times["tokens"] = float(tokens / self.tokens.max())
            times["flops"] = float(self.token_flops(params) * tokens / self.flops.max())
        beyond = max(0.0, math.log(params / largest))
        return times | {"spans": beyond / math.log(largest / smallest)}

    def distinct(self) -> tuple["Runs", int]:
        """The runs without rows that repeat another exactly, and how many did."""
        table = np.stack([self.params, self.tokens, self.loss], axis=1)
        first = np.sort(np.unique(table, axis=0, return_index=True)[1])
        repeated = len(self) - len(first)
        return (self.subset(first), repeated) if repeated else (self, 0)

    def warnings(self) -> list[str]:
        """What this table cannot tell, or is probably not what it should be; one line each."""
        return [*self.notes, *self._indistinct(), *self._units()]

    def _indistinct(self) -> list[str]:
        """Designs in which what size gains and what tokens gain can't be separated."""
        x, y, z = np.log(self.params), np.log(self.tokens), np.log(self.loss)
        if np.ptp(z) < EQUAL_LOSS:
            return ["all losses are equal: there is nothing to fit"]
        line = np.polyfit(x, y, 1)
        if self.flops.max() < (1 + EQUAL) * self.flops.min():
            shape, by_budget = "one budget", 0.0
        else:
            shape, by_budget = "", np.polyfit(np.log(self.flops), z, 1)[0]
            if np.std(y - np.polyval(line, x)) < COLLINEAR:
                fixed = abs(line[0] - 1) < 0.1
                shape = "fixed tokens for each parameter" if fixed else "tokens that follow size"
        lines = []
        if shape:
            lines.append(f"all runs have {shape}: what size and tokens gain can't be separated")
        design = np.stack([np.ones_like(x), x, y], axis=1)
        _, by_size, by_tokens = np.linalg.lstsq(design, z, rcond=None)[0]
        if by_budget > 0:
            lines.append("losses rise with compute: the law has none that do")
        elif not shape and max(by_size, by_tokens) > 0:
            cause = "size" if by_size > 0 else "tokens"
            lines.append(f"losses rise with {cause}: the law has none that do")
        return lines

    def _units(self) -> list[str]:
        """Values that are probably in another unit."""
        lines = []
        for name, values in (("params", self.params), ("tokens", self.tokens)):
            if values.max() < SMALLEST[name]:
                lines.append(
                    f"{name} are {values.max():g} at most: is the column in millions or billions?"
                )
        if self.loss.max() > UNIFORM or np.median(self.loss) > UNTRAINED:
            lines.append(
                f"losses are {np.median(self.loss):.3g} in the median and {self.loss.max():.3g} at "
                "most, more than trained models have: is it perplexity? The law is of nats a "
                "token, the logarithm of perplexity"
            )
        elif np.median(self.loss) < BYTES:
            lines.append(
                f"the median loss is {np.median(self.loss):.3g}: is it bits a byte? The law is of "
                "nats a token"
            )
        return lines


def _column(file: Path, frame, kind: str, named: str | None) -> str | None:
    """The column of a kind: as named, or the only one that `HEADERS` knows; None without any."""
    if named is not None:
        if named not in frame:
            columns = ", ".join(map(str, frame)) or "none"
            raise ValueError(f"{file}: no column {named!r}; columns: {columns[:200]}")
        return named
    plain = {name: str(name).strip().lower().replace("-", "_").replace(" ", "_") for name in frame}
    if kind in plain:
        return kind
    matches = [name for name, header in plain.items() if header in HEADERS[kind]]
    if len(matches) > 1:
        raise ValueError(
            f"{file}: columns {', '.join(map(repr, map(str, matches)))} could be {kind}; "
            f"name one with --{kind}"
        )
    return matches[0] if matches else None


def _numbers(name: str, values) -> np.ndarray:
    """The values as floats. Raises ValueError that names the first one that will not do."""
    numbers = np.empty(len(values))
    for row, value in enumerate(values, 1):
        try:
            if isinstance(value, bool) or value is None:
                raise TypeError
            numbers[row - 1] = float(value)
        except (TypeError, ValueError, OverflowError):
            raise ValueError(f"row {row}: {name} is {str(value)[:40]!r}, not a number") from None
        if not 0 < numbers[row - 1] < math.inf:
            raise ValueError(
                f"row {row}: {name} is {numbers[row - 1]:g}; it must be a number above 0"
            )
    return numbers
