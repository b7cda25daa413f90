"""Scaling laws as others published them: the entries of ``data/facts/laws.yml``."""

from functools import cache
from itertools import product

from sizewise.data import records
from sizewise.stats.bootstrap import Interval
from sizewise.units import unknown

from .forms import TRAIN_FLOPS, DataConstrained, Hoffmann, Kaplan, KaplanSurface
from .mixture_laws import JointExperts, Sparsity
from .sparse import FineGrained, RoutedLM


@cache
def entries() -> dict[str, dict]:
    """Every entry of ``data/facts/laws.yml`` by name, in the file's order."""
    return {row["name"]: row for row in records.facts("laws")}


def published(name: str):
    """A published law by name. Raises ValueError with the nearest name, or if it has no form."""
    if name not in entries():
        raise unknown("law", name, entries())
    entry = entries()[name]
    return law_of(entry["form"], {key: float(v) for key, v in entry["coefficients"].items()}, name)


def law_of(form: str, c: dict[str, float], name: str = "this law"):
    """The law of a form with coefficients ``c``. Raises ValueError for one without a loss."""
    match form:
        case "hoffmann":
            return Hoffmann(**c)
        case "hoffmann-logs":
            return Hoffmann.from_theta([c["a"], c["b"], c["e"], c["alpha"], c["beta"]])
        case "gadre":  # A N^b + B 6^(b/2) D^b + E, as their code writes it
            b = c["b"]
            return Hoffmann(c["E"], c["A"], c["B"] * TRAIN_FLOPS ** (b / 2), -b, -b)
        case "kaplan":
            return Kaplan(**c)
        case "kaplan-surface":
            return KaplanSurface(**c)
        case "data-constrained":
            law = Hoffmann.from_theta([c["a"], c["b"], c["e"], c["alpha"], c["beta"]])
            return DataConstrained(law, c["tokens_worth"], c["params_worth"])
        case "routed":
            return RoutedLM(**c)
        case "fine-grained":
            return FineGrained(**c)
        case "joint-experts":
            return JointExperts(**c)
        case "sparsity":
            return Sparsity(**c)
    raise ValueError(f"{name} states exponents only: no law can be evaluated")


def effective(name: str, *arguments, **options) -> Interval:
    """The dense size by a published law of sparse models, with what its coefficients leave open.

    ``arguments`` and ``options`` are those of the law's own ``effective``. The ends are the
    extremes over all combinations of the coefficients' ``interval``, where the entry has one,
    else of their ``rounding``: then they are no confidence interval, only what the printed digits
    leave open, and the truth is less certain. Without either the ends are nan.
    Raises ValueError for a name that is not there and for a law of another form.
    """
    law = published(name)
    if not isinstance(law, RoutedLM | FineGrained | JointExperts | Sparsity):
        raise ValueError(f"{name} is no law of sparse models")
    entry = entries()[name]
    coefficients = {key: float(value) for key, value in entry["coefficients"].items()}
    ends = _ends(entry)
    corners = [coefficients | dict(zip(ends, corner, strict=True))
               for corner in product(*ends.values())]  # fmt: skip
    sizes = [float(type(law)(**corner).effective(*arguments, **options)) for corner in corners]
    value = float(law.effective(*arguments, **options))
    return Interval(value, min(sizes), max(sizes)) if ends else Interval(value)


def _ends(entry: dict) -> dict[str, tuple[float, float]]:
    """The two ends of each coefficient that has any."""
    if "interval" in entry:
        return {name: tuple(map(float, pair)) for name, pair in entry["interval"].items()}
    return {
        name: (entry["coefficients"][name] - off, entry["coefficients"][name] + off)
        for name, off in entry.get("rounding", {}).items()
    }
