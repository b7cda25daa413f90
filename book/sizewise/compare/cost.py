"""What a thousand requests like these would cost."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from .models import Model


@dataclass(frozen=True)
class Rates:
    """Dollars for a million tokens, and where they come from. None where they are not known."""

    input: float | None
    output: float | None
    source: str

    def thousand(self, rows: list[dict[str, Any]]) -> float | None:
        """Dollars for a thousand requests with the mean tokens of ``rows``.

        Nothing cached, no batch; requests that failed may have been charged and are not here.
        None where the rates are not known, or no answer came with its tokens.
        """
        pairs = [(row["prompt_tokens"], row["answer_tokens"]) for row in rows]
        known = [pair for pair in pairs if None not in pair]
        if not known or self.input is None:
            return None
        sums = [self.input * a + self.output * b for a, b in known]
        return sum(sums) / len(sums) / 1e6 * 1000


def rates(model: Model, given: str = "", prompt: int = 1000) -> Rates:
    """``given`` as INPUT,OUTPUT, or the listed price of today where the endpoint is on the list.

    Raises ValueError for ``given`` that is no pair of numbers from 0.
    """
    if given:
        return _given(given)
    if not model.url:
        return Rates(None, None, "runs here; say a price to have one")
    from genai_prices.data import providers

    from sizewise.data import prices

    for one in providers:
        if not re.match(one.api_pattern, model.url):
            continue
        found = one.find_model(model.name)
        if found is None:
            continue
        try:
            listed = prices.price(one.id, found.id, datetime.now(UTC).date(), prompt=prompt)
        except ValueError:
            continue
        return Rates(listed.input, listed.output, listed.source)
    return Rates(None, None, f"not on the list of {prices.list_version()}")


def _given(words: str) -> Rates:
    try:
        values = [float(one) for one in words.split(",")]
    except ValueError:
        values = []
    if len(values) != 2 or not all(0 <= one < math.inf for one in values):
        raise ValueError(f"a price is INPUT,OUTPUT in dollars a million tokens, got {words!r}")
    return Rates(*values, "as given")
