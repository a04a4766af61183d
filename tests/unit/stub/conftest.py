"""Models of the real client library, pointed at a stub."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import pytest
from pydantic_ai.models import Model
from pydantic_ai.models.google import GoogleModel
from pydantic_ai.models.zai import ZaiModel
from pydantic_ai.profiles import InlineDefsJsonSchemaTransformer
from pydantic_ai.providers.google import GoogleProvider
from pydantic_ai.providers.zai import ZaiProvider

from rootbound.testing import ModelStub, Script

Connect = Callable[..., "tuple[ModelStub, Model]"]


def glm(stub: ModelStub, route: str = "") -> Model:
    return ZaiModel(
        "glm-7",
        provider=ZaiProvider(api_key="replay", base_url=stub.glm_url(route)),
        profile={
            "supports_thinking": True,
            "supports_forced_tool_choice": False,
            "openai_chat_supports_max_completion_tokens": False,
            "openai_chat_streaming_requires_finish_reason": True,
            "json_schema_transformer": InlineDefsJsonSchemaTransformer,
        },
        settings={
            "max_retries": 0,
            "timeout": 5,
            "thinking": True,
            "extra_body": {"tool_stream": True},
        },
    )


def gemini(stub: ModelStub, route: str = "") -> Model:
    return GoogleModel(
        "gemini-2.5-flash",
        provider=GoogleProvider(api_key="replay", base_url=stub.gemini_url(route)),
        settings={
            "max_retries": 0,
            "timeout": 5,
            "google_thinking_config": {"include_thoughts": True, "thinking_budget": 512},
        },
    )


@pytest.fixture(params=["openai", "gemini"])
def connect(request: pytest.FixtureRequest) -> Iterator[Connect]:
    """Start a stub for a script and give the model that talks to it, once for each wire."""
    with contextlib.ExitStack() as stack:

        def build(script: Script, route: str = "") -> tuple[ModelStub, Model]:
            stub = stack.enter_context(ModelStub(script))
            return stub, (glm if request.param == "openai" else gemini)(stub, route)

        yield build
