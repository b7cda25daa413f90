"""Dated list prices of hosted language models, in dollars for a million tokens.

The list is the one bundled with the `genai-prices` package (Pydantic 2025): it is as old as the
package, and nothing is fetched. It records changes of a price, not when a model went on sale or
was withdrawn, so a price before a model's first day is the one it started with.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from importlib import metadata

from sizewise import units
from sizewise.validation import whole

PACKAGE = "genai-prices"


@dataclass(frozen=True)
class Price:
    """What a provider lists for a model on a day: dollars for a million tokens."""

    provider: str
    model: str
    input: float
    output: float
    on: date
    source: str

    def request(self, prompt: int, answer: int) -> float:
        """Dollars for one request of ``prompt`` and ``answer`` tokens, nothing of it cached."""
        tokens = whole("prompt tokens", prompt, least=0), whole("answer tokens", answer, least=0)
        return (self.input * tokens[0] + self.output * tokens[1]) / 1e6


def price(provider: str, model: str, on: str | date, *, prompt: int = 1000) -> Price:
    """The listed price of ``model`` at ``provider`` on the day ``on`` (a date, or YYYY-MM-DD).

    Providers are the package's (`providers`), models the provider's own ids (`models`), both
    exact. Three kinds of price depend on more than the day. Of tiers, the one is taken that holds
    for a prompt of ``prompt`` tokens. Of prices by time of day, the one at noon, UTC. Of service
    tiers, the standard one: no batch, flex or priority rate, no cached input.
    Raises ValueError for an unknown provider or model, a day that is none, and a model without a
    price for input and output tokens.
    """
    day, prompt = _day(on), whole("prompt tokens", prompt, least=0)
    # The package reads the clock where it is not told the time: always tell it.
    noon = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    listed = _model(provider, model).get_prices(noon)
    rates = [getattr(listed, name, None) for name in ("input_mtok", "output_mtok")]
    if None in rates:
        raise ValueError(f"{provider} lists no price for input and output tokens of {model}")
    input, output = (_tier(rate, prompt) for rate in rates)
    source = f"{list_version()}, prices of {day.isoformat()}"
    return Price(provider, model, input, output, day, source)


def providers() -> list[str]:
    """The providers on the list, by id."""
    return sorted(_list())


def models(provider: str) -> dict:
    """A provider's models by id, as the package describes them.

    Raises ValueError for an unknown provider, with the nearest name.
    """
    if provider not in _list():
        raise units.unknown("provider", provider, _list())
    return _list()[provider]


def context(provider: str, model: str) -> int | None:
    """The longest prompt that the list gives for a model, in tokens; None where it gives none.

    Raises ValueError for an unknown provider or model, with the nearest name.
    """
    return _model(provider, model).context_window


def list_version() -> str:
    """The package and its version: the only date that the list as a whole has."""
    return f"{PACKAGE} {metadata.version(PACKAGE)}"


def _model(provider: str, model: str):
    listed = models(provider)
    if model not in listed:
        raise units.unknown(f"model at {provider}", model, listed)
    return listed[model]


@cache
def _list() -> dict[str, dict]:
    # Not the package's current snapshot, which a program may have renewed over the network.
    from genai_prices.data import providers

    return {seller.id: {model.id: model for model in seller.models} for seller in providers}


def _day(on: str | date) -> date:
    try:
        return date.fromisoformat(on) if isinstance(on, str) else date(on.year, on.month, on.day)
    except (AttributeError, ValueError):
        raise ValueError(f"a day is written YYYY-MM-DD, got {on!r}") from None


def _tier(rate, prompt: int) -> float:
    """The rate for ``prompt`` tokens: the last tier that the prompt exceeds, for all tokens."""
    reached = [tier.price for tier in getattr(rate, "tiers", ()) if prompt > tier.start]
    return float(reached[-1] if reached else getattr(rate, "base", rate))
