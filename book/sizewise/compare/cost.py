"""What a thousand requests like these would cost."""

import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime

from .models import Model


@dataclass(frozen=True)
class Rates:
    """Dollars for a million tokens, and where they come from. None where they are not known."""

    input: float | None
    output: float | None
    source: str

    def thousand(self, rows) -> float | None:
        """Dollars for a thousand requests with the mean tokens of ``rows``, a table or a list.

        Nothing cached, no batch; requests that failed may have been charged and are not here.
        None where the rates are not known, or no answer came with its tokens.
        """
        import pandas

        tokens = pandas.DataFrame(rows, columns=["prompt_tokens", "answer_tokens"]).dropna()
        if tokens.empty or self.input is None:
            return None
        prompt, answer = tokens.astype(float).mean()
        return float(self.input * prompt + self.output * answer) / 1e6 * 1000


def rates(model: Model, value: str = "", prompt: int = 1000) -> Rates:
    """``value`` as INPUT,OUTPUT, or the listed price of today where the endpoint is on the list.

    Raises ValueError for ``value`` that is no pair of numbers from 0.
    """
    if value:
        return _rates(value)
    if not model.url:
        return Rates(None, None, "runs here; say a price to have one")
    from genai_prices.data import providers

    from sizewise.data import prices

    for entry in providers:
        if not re.match(entry.api_pattern, model.url):
            continue
        result = entry.find_model(model.name)
        if result is None:
            continue
        try:
            listed = prices.price(entry.id, result.id, datetime.now(UTC).date(), prompt=prompt)
        except ValueError:
            continue
        return Rates(listed.input, listed.output, listed.source)
    return Rates(None, None, f"not on the list of {prices.list_version()}")


def _rates(text: str) -> Rates:
    try:
        values = [float(entry) for entry in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 2 or not all(0 <= entry < math.inf for entry in values):
        raise ValueError(f"a price is INPUT,OUTPUT in dollars a million tokens, got {text!r}")
    return Rates(*values, "as given")
