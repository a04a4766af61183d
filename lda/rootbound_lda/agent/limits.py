"""Where a conversation stops, and the notice before it does."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from ..wire import Limits
from .faults import AgentStopped
from .prices import Meter

WARN_AT: Final = 0.8
"""Share of a limit at which the agent and the reader are told."""


@dataclass(slots=True)
class Warnings:
    """Says once, for each limit, that most of it is used up.

    Attributes
    ----------
    said
        What was said already.
    """

    said: set[str] = field(default_factory=set)

    def due(self, limits: Limits, meter: Meter, seconds: float) -> str:
        """Return what is mostly used up and was not said yet, ``""`` when there is nothing.

        Parameters
        ----------
        limits, meter
            The run's limits, and what it has used of them.
        seconds
            Wall time of the agent so far.
        """
        used: dict[str, tuple[float, float | None, int]] = {
            "steps": (meter.steps, limits.max_steps, 0),
            "tokens": (meter.input_tokens + meter.output_tokens, limits.max_tokens, 0),
            "US dollars": (meter.cost, limits.max_cost_usd, 4),
            "seconds": (seconds, limits.max_seconds, 0),
        }
        found: list[str] = []
        for what, (now, limit, digits) in used.items():
            if limit and what not in self.said and now >= WARN_AT * limit:
                self.said.add(what)
                found.append(f"{now:.{digits}f} of {limit:.{digits}f} {what}")
        return " and ".join(found)


def unpriced(model: str, limits: Limits) -> str:
    """Return what the reader is told of a model without a known price."""
    guess = (
        f", and a cautious guess counts against the limit of ${limits.max_cost_usd:.2f}"
        if limits.max_cost_usd
        else ""
    )
    return (
        f"The price of {model} is not known, so only tokens are counted{guess}; settings.price in "
        "the agent's profile sets one."
    )


def check(limits: Limits, meter: Meter) -> None:
    """Stop before the next request when a limit is reached; the branch is kept.

    Raises
    ------
    AgentStopped
        With the reason and what to do.
    """
    if meter.steps >= limits.max_steps:
        raise AgentStopped(
            "AGENT_LIMIT_STEPS",
            f"The agent was stopped after {meter.steps} steps, its limit; its branch is kept. "
            "Raise the limit or split the task.",
        )
    tokens = meter.input_tokens + meter.output_tokens
    if limits.max_tokens is not None and tokens >= limits.max_tokens:
        raise AgentStopped(
            "AGENT_LIMIT_TOKENS",
            f"The agent was stopped after {tokens} tokens, over its limit of "
            f"{limits.max_tokens}; its branch is kept. Raise the limit or split the task.",
        )
    if limits.max_cost_usd is not None and meter.cost >= limits.max_cost_usd > 0:
        guess = "" if meter.price.known else ", by a cautious guess of the model's price"
        raise AgentStopped(
            "AGENT_LIMIT_COST",
            f"The agent was stopped after ${meter.cost:.4f}{guess}, over its limit of "
            f"${limits.max_cost_usd:.4f}; its branch is kept. Raise the limit or split the "
            "task.",
        )
