"""What tokens cost, in US dollars per million."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Price:
    """Price of one model, in US dollars per million tokens.

    Attributes
    ----------
    known
        ``False`` for the cautious guess that stands in for a model without a price.
    """

    input: float
    output: float
    cached: float
    known: bool = True

    def cost(self, input_tokens: int, output_tokens: int, cached_tokens: int = 0) -> float:
        """Return what a request cost, in US dollars; cached tokens are part of the input."""
        fresh = max(0, input_tokens - cached_tokens)
        total = fresh * self.input + cached_tokens * self.cached + output_tokens * self.output
        return total / 1_000_000


_TABLE: Final[dict[str, Price]] = {
    "glm-4.5-air": Price(0.20, 1.10, 0.03),
    "glm-4.5": Price(0.60, 2.20, 0.11),
    "glm-4.6": Price(0.60, 2.20, 0.11),
    "glm-4.7": Price(0.60, 2.20, 0.11),
    "glm-5": Price(1.00, 3.20, 0.20),
    "gemini-2.5-flash-lite": Price(0.10, 0.40, 0.01),
    "gemini-2.5-flash": Price(0.30, 2.50, 0.03),
    "gemini-2.5-pro": Price(1.25, 10.00, 0.125),
    "gemini-3-flash": Price(0.50, 3.00, 0.05),
    "gemini-3-pro": Price(2.00, 12.00, 0.20),
}
UNKNOWN: Final = Price(5.00, 20.00, 5.00, known=False)
"""Counts against a limit for a model without a price: a limit must never do nothing."""


def price_of(model: str, settings: Mapping[str, Any]) -> Price:
    """Return a model's price.

    Parameters
    ----------
    model
        The vendor's name for it; the longest entry of the table that it begins with is used.
    settings
        The profile's settings; ``price`` = ``{"input", "output", "cached"?}`` overrides the table,
        and a replayed model costs nothing.
    """
    own = settings.get("price")
    if isinstance(own, Mapping) and {"input", "output"} <= own.keys():
        paid = float(own["input"])
        return Price(paid, float(own["output"]), float(own.get("cached", paid)))
    if settings.get("replay") is True:
        return Price(0.0, 0.0, 0.0)
    name = model.lower().removeprefix("models/")
    fitting = [key for key in _TABLE if name == key or name.startswith(f"{key}-")]
    return _TABLE[max(fitting, key=len)] if fitting else UNKNOWN


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
