"""What tokens cost, in US dollars.

Prices come from the data of ``genai-prices`` (https://github.com/pydantic/genai-prices), which
reads them from the vendors' price pages; a profile's own ``price`` overrides them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

from genai_prices import Usage, calc_price

_PROVIDERS: Final = {"GLM": "zai", "GEMINI": "google"}


class Price(Protocol):
    """Price of one model.

    Attributes
    ----------
    known
        ``False`` for the cautious guess that stands in for a model without a price.
    """

    @property
    def known(self) -> bool:
        """Whether this is a price and not a guess."""
        ...

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return what a request cost, in US dollars; cached tokens are part of the input."""
        ...


@dataclass(frozen=True, slots=True)
class FlatPrice:
    """A price in US dollars per million tokens."""

    input: float
    output: float
    cached: float
    known: bool = True

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return what a request cost, in US dollars; cached tokens are part of the input."""
        fresh = max(0, input_tokens - cached_tokens)
        total = fresh * self.input + cached_tokens * self.cached + output_tokens * self.output
        return total / 1_000_000


@dataclass(frozen=True, slots=True)
class ListedPrice:
    """The vendor's own price, steps for long requests included."""

    provider: str
    model: str
    known: bool = True

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return what a request cost, in US dollars; cached tokens are part of the input."""
        usage = Usage(
            input_tokens=input_tokens,
            output_tokens=output_tokens,
            cache_read_tokens=min(cached_tokens, input_tokens),
        )
        listed = calc_price(usage, model_ref=self.model, provider_id=self.provider)
        return float(listed.total_price)


UNKNOWN: Final = FlatPrice(5.00, 20.00, 5.00, known=False)
"""Counts against a limit for a model without a price: a limit must never do nothing.

Above the dearest price that ``genai-prices`` 0.2 lists for GLM and Gemini text models.
"""


def price_of(provider: str, model: str, settings: Mapping[str, Any]) -> Price:
    """Return a model's price.

    Parameters
    ----------
    provider
        ``GLM`` or ``GEMINI``.
    model
        The vendor's name for it.
    settings
        The profile's settings; ``price`` = ``{"input", "output", "cached"?}``, in US dollars per
        million tokens, overrides the list, and a replayed model costs nothing.
    """
    own = settings.get("price")
    if isinstance(own, Mapping) and {"input", "output"} <= own.keys():
        paid = float(own["input"])
        return FlatPrice(paid, float(own["output"]), float(own.get("cached", paid)))
    if settings.get("replay") is True:
        return FlatPrice(0.0, 0.0, 0.0)
    listed = ListedPrice(_PROVIDERS.get(provider, provider), model.removeprefix("models/"))
    try:
        listed.cost(1, 1)
    except LookupError:
        return UNKNOWN
    return listed


@dataclass(slots=True)
class Meter:
    """Adds up what a run used.

    Attributes
    ----------
    cost
        US dollars, by the price table or its cautious guess.
    """

    price: Price
    steps: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0

    def add(self, input_tokens: int, output_tokens: int, cached_tokens: int) -> None:
        """Count one answered request."""
        self.input_tokens += input_tokens
        self.output_tokens += output_tokens
        self.cost += self.price.cost(input_tokens, output_tokens, cached_tokens)

    @property
    def cost_usd(self) -> float | None:
        """The cost to show: ``None`` when the price is a guess."""
        return round(self.cost, 6) if self.price.known else None
