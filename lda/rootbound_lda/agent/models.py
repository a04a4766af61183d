"""The two vendors' models, with the SDKs' own retries off and their quirks set straight."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, cast

import httpx2
from pydantic_ai.models import Model
from pydantic_ai.profiles import InlineDefsJsonSchemaTransformer
from pydantic_ai.profiles.openai import OpenAIModelProfile
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.zai import ZaiProvider
from pydantic_ai.settings import ModelSettings

from ..wire import AgentConfig

READ_GAP_S: Final = 120
"""Seconds without a byte after which a request counts as dead."""

CONNECT_S: Final = 5
"""Seconds that a connection may take."""

DEFAULT_MAX_TOKENS: Final = 16_384
DEFAULT_URLS: Final = {
    "GLM": "https://api.z.ai/api/paas/v4",
    "GEMINI": "https://generativelanguage.googleapis.com",
}
_WINDOWS: Final = {"GLM": 200_000, "GEMINI": 1_000_000}
_PASSED_ON: Final = ("temperature", "top_p", "max_tokens", "seed")


@dataclass(frozen=True, slots=True)
class Codec:
    """A model ready to be asked.

    Attributes
    ----------
    window
        Tokens of context that the model takes.
    """

    model: Model[Any]
    settings: ModelSettings
    window: int


@asynccontextmanager
async def open_model(
    config: AgentConfig, key: str, urls: Mapping[str, str] | None
) -> AsyncIterator[Codec]:
    """Build a profile's model and close its connections afterwards.

    Parameters
    ----------
    config
        The profile. ``settings`` may hold ``temperature``, ``top_p``, ``max_tokens``, ``seed``,
        ``thinking`` (bool), ``thinking_budget`` (tokens, Gemini) and ``context_window`` (tokens).
    key
        The vendor's key.
    urls
        Base URL by provider, for a profile that names none.
    """
    url = config.base_url or (urls or {}).get(config.provider) or DEFAULT_URLS[config.provider]
    chosen: dict[str, Any] = {
        name: config.settings[name] for name in _PASSED_ON if name in config.settings
    }
    settings: dict[str, Any] = {
        "max_retries": 0,
        "timeout": READ_GAP_S,
        "max_tokens": DEFAULT_MAX_TOKENS,
        **chosen,
    }
    window = int(config.settings.get("context_window") or _WINDOWS[config.provider])
    timeout = httpx2.Timeout(READ_GAP_S, connect=CONNECT_S)
    async with httpx2.AsyncClient(
        timeout=timeout, verify=_authorities(), event_hooks={"request": [_connect_soon]}
    ) as http:
        model, extra = _BUILDERS[config.provider](config, key, url.rstrip("/"), http)
        yield Codec(model, cast(ModelSettings, {**settings, **extra}), window)


async def _connect_soon(request: httpx2.Request) -> None:
    """Bound the connection: the SDKs give all phases of a request the timeout of its answer."""
    phases = request.extensions["timeout"]
    request.extensions = {**request.extensions, "timeout": {**phases, "connect": CONNECT_S}}


@cache
def _authorities() -> ssl.SSLContext:
    """Read the certificates of authorities once; each agent's client would take 20 ms for it."""
    return httpx2.create_ssl_context()


def _glm(
    config: AgentConfig, key: str, url: str, http: httpx2.AsyncClient
) -> tuple[Model[Any], dict[str, Any]]:
    from pydantic_ai.models.zai import ZaiModel

    # The library knows some GLM names only; without this it ignores thinking for the others.
    profile = OpenAIModelProfile(
        supports_thinking=True,
        openai_chat_supports_max_completion_tokens=False,
        openai_chat_streaming_requires_finish_reason=True,
        json_schema_transformer=InlineDefsJsonSchemaTransformer,
    )
    profile.update({"supports_forced_tool_choice": False})
    provider = ZaiProvider(api_key=key, base_url=url, http_client=http)
    model = ZaiModel(config.model, provider=provider, profile=profile)
    thinking = bool(config.settings.get("thinking", True))
    return model, {"thinking": thinking, "extra_body": {"tool_stream": True}}


def _gemini(
    config: AgentConfig, key: str, url: str, http: httpx2.AsyncClient
) -> tuple[Model[Any], dict[str, Any]]:
    from google.genai import Client
    from google.genai.types import HttpOptions
    from pydantic_ai.models.google import GoogleModel

    tls = _authorities()
    options = HttpOptions(
        base_url=url,
        timeout=READ_GAP_S * 1000,
        httpx_async_client=http,
        # Of clients that are never used; without these each reads all certificates.
        client_args={"verify": tls},
        async_client_args={"verify": tls, "ssl": tls},
    )
    client = Client(vertexai=False, api_key=key, http_options=options)
    model = GoogleModel(config.model, provider=GoogleProvider(client=client))
    if config.settings.get("thinking", True) is False:
        return model, {"thinking": False}
    if "2.5" not in config.model:
        return model, {"thinking": True}
    # A thinking config replaces `thinking` as a whole, so both of its parts are needed.
    budget = int(config.settings.get("thinking_budget", -1))
    return model, {"google_thinking_config": {"include_thoughts": True, "thinking_budget": budget}}


_BUILDERS: Final = {"GLM": _glm, "GEMINI": _gemini}
