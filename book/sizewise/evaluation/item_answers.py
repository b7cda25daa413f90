"""The models whose answers to the 12,032 questions of MMLU-Pro its authors archived."""

from functools import cache
from typing import Any

from sizewise.data import records

GROUPS: dict[str, tuple[str, ...]] = {
    "knowledge": (
        *("biology", "economics", "health", "history"),
        *("law", "other", "philosophy", "psychology"),
    ),
    "reasoning": ("business", "chemistry", "engineering", "math", "physics"),
    "code": ("computer science",),
}


@cache
def facts() -> dict[str, Any]:
    """The archives and their models (``data/facts/mmlu_pro.yml``)."""
    return records.facts("mmlu_pro")


@cache
def models() -> dict[str, dict[str, Any]]:
    """What is known of each model, by the id of its archive."""
    return {model["id"]: model for model in facts()["models"]}


def name(model: str) -> str:
    """What its maker calls a model."""
    return models()[model]["name"]
