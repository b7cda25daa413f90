"""Scaling laws as others published them: the entries of ``data/facts/laws.yml``."""

from collections.abc import Callable
from functools import cache
from typing import Any

from sizewise.data import records
from sizewise.units import unknown

from .forms import TRAIN_FLOPS, DataConstrained, Hoffmann, Kaplan, KaplanSurface
from .mixture_laws import JointExperts, RoutedLM, Sparsity

FORMS: dict[str, Callable[..., Any]] = {
    "hoffmann": Hoffmann,
    "kaplan": Kaplan,
    "kaplan-surface": KaplanSurface,
    "routed": RoutedLM,
    "joint-experts": JointExperts,
    "sparsity": Sparsity,
}


@cache
def entries() -> dict[str, dict]:
    """Every entry of ``data/facts/laws.yml`` by name, in the file's order."""
    return {row["name"]: row for row in records.facts("laws")}


def published(name: str):
    """A published law by name. Raises ValueError with the nearest name, or if it has no form."""
    if name not in entries():
        raise unknown("law", name, entries())
    form, stated = entries()[name]["form"], entries()[name]["coefficients"]
    c = {key: float(value) for key, value in stated.items()}
    if form == "gadre":  # A N^b + B 6^(b/2) D^b + E, as their code writes it
        return Hoffmann(c["E"], c["A"], c["B"] * TRAIN_FLOPS ** (c["b"] / 2), -c["b"], -c["b"])
    if form in ("hoffmann-logs", "data-constrained"):
        law = Hoffmann.from_theta([c["a"], c["b"], c["e"], c["alpha"], c["beta"]])
        constrained = form == "data-constrained"
        return DataConstrained(law, c["tokens_worth"], c["params_worth"]) if constrained else law
    if form not in FORMS:
        raise ValueError(f"{name} has no form that is evaluated here")
    return FORMS[form](**c)
