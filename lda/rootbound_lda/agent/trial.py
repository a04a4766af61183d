"""Trying a profile: one small question to its model, and what came of it in one sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final

from pydantic_ai.direct import model_request
from pydantic_ai.messages import ModelRequest, UserPromptPart

from ..wire import AgentConfig
from .faults import understand
from .models import open_model
from .prices import price_of

QUESTION: Final = "Reply with the word OK and nothing else."
TIMEOUT_S: Final = 60.0


async def try_profile(
    config: AgentConfig, key: str, urls: Mapping[str, str] | None
) -> dict[str, Any]:
    """Ask a profile's model one question.

    Parameters
    ----------
    config
        The profile.
    key
        The vendor's key.
    urls
        Base URL by provider, for a profile that names none.

    Returns
    -------
    dict
        ``ok``, ``failure`` (a reason or ``None``), ``message``, ``seconds``, ``input_tokens``,
        ``output_tokens`` and ``price_known``.
    """
    price = price_of(config.provider, config.model, config.settings)
    began = time.monotonic()
    result: dict[str, Any] = {
        "ok": False, "failure": None, "message": "", "input_tokens": 0, "output_tokens": 0,
        "price_known": price.known,
    }  # fmt: skip
    try:
        async with asyncio.timeout(TIMEOUT_S), open_model(config, key, urls) as codec:
            answer = await model_request(
                codec.model,
                [ModelRequest(parts=[UserPromptPart(QUESTION)])],
                model_settings=codec.settings,
            )
    except TimeoutError:
        result["failure"] = "PROVIDER_UNAVAILABLE"
        result["message"] = f"{config.model} did not answer in {TIMEOUT_S:.0f} s; try again later."
    except Exception as error:
        fault = understand(error, config)
        result["failure"], result["message"] = fault.failure, fault.sentence
    else:
        known = "" if price.known else " Its price is not known, so only tokens are counted."
        result["ok"] = True
        result["message"] = f"{config.model} answers.{known}"
        result["input_tokens"] = answer.usage.input_tokens
        result["output_tokens"] = answer.usage.output_tokens
    result["seconds"] = round(time.monotonic() - began, 3)
    return result
