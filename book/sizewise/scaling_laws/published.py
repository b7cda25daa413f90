"""Scaling laws as others published them: the entries of ``data/facts/laws.yml``."""

from functools import cache

from sizewise.data import records
from sizewise.units import unknown

from .forms import TRAIN_FLOPS, DataConstrained, Hoffmann, Kaplan, KaplanSurface
from .mixture_laws import JointExperts, RoutedLM, Sparsity


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
        case "joint-experts":
            return JointExperts(**c)
        case "sparsity":
            return Sparsity(**c)
    raise ValueError(f"{name} has no form that is evaluated here")
