"""Small types and closed vocabularies of what crosses the process boundary."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

Identifier = Annotated[str, Meta(pattern=r"^[0-9a-zA-Z][0-9a-zA-Z-]{0,63}$")]
"""A UUID as text. The pattern keeps it usable as one path component."""

Sha = Annotated[str, Meta(pattern=r"^[0-9a-f]{40}([0-9a-f]{24})?$")]
Timestamp = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$")]
AbsolutePath = Annotated[str, Meta(pattern=r"^/", max_length=4096)]
Sequence = Annotated[int, Meta(ge=1)]
Seconds = Annotated[float, Meta(ge=0)]

Provider = Literal["GLM", "GEMINI"]
"""Whose model it is; ``GLM_API_KEY`` and ``ROOTBOUND_GLM_BASE_URL`` are named after it."""

Failure = Literal[
    "CANCELLED",
    "GATE_INSTALL",
    "GATE_LINT",
    "GATE_TEST",
    "GATE_TIMEOUT",
    "NO_CHANGES",
    "AGENT_BLOCKED",
    "AGENT_LIMIT_STEPS",
    "AGENT_LIMIT_TOKENS",
    "AGENT_LIMIT_COST",
    "AGENT_LIMIT_TIME",
    "PROVIDER_AUTH",
    "PROVIDER_QUOTA",
    "PROVIDER_UNAVAILABLE",
    "PROVIDER_REFUSED",
    "POLICY_UNENFORCEABLE",
    "REPO_INVALID",
    "MERGE_CONFLICT",
    "LDA_LOST",
    "INTERNAL",
]
"""The reasons the LDA reports. The backend knows more: those it decides itself."""

GateName = Literal["install", "lint", "test"]
