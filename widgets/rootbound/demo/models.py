"""Whose model works in the demonstration, and the agent profiles for it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import rootbound as rb
from rootbound.demo.errors import DemoError
from rootbound.testing import ModelStub, Script

ROLES = ("PM", "BACKEND", "FRONTEND", "QA", "DEVOPS")
_MODELS = {"GLM": "glm-7", "GEMINI": "gemini-2.5-flash"}
_KEYS = {"GLM": "GLM_API_KEY", "GEMINI": "GEMINI_API_KEY"}
_FRAME_DELAY = 0.01  # seconds; a stream should look like one
_PROMPTS = {
    "PM": "You plan work on a software project. Read what you need, then submit a plan of few, "
    "small tasks: each with one role, in an order given by dependencies. Plan a task for BACKEND "
    "that changes the code, and one for QA that depends on it and records the change.",
    "BACKEND": "You change server-side and library code. Read before you edit, make the smallest "
    "change that does it, never change tests to make them pass, and run the tests at the end.",
    "FRONTEND": "You change user interfaces. Read before you edit and keep the style you find.",
    "QA": "You check and document changes. Keep the changelog's style; run the whole test suite.",
    "DEVOPS": "You look after builds, packaging and automation. Change as little as possible.",
}


@dataclass(frozen=True, slots=True)
class Provider:
    """Who answers the agents.

    Parameters
    ----------
    name : {"GLM", "GEMINI"}
        The wire protocol and, without replay, the vendor.
    is_replay : bool
        Whether the stub model server answers.
    """

    name: str
    is_replay: bool

    @property
    def model(self) -> str:
        """Name of the model asked for."""
        return _MODELS[self.name]

    def describe(self) -> str:
        """Say in plain words whose model works."""
        if self.is_replay:
            return (
                "The model is a REPLAY: no vendor is asked and nothing is paid. It derives its "
                "edits from the two downloads; everything around it is real. "
                "Set GLM_API_KEY or GEMINI_API_KEY to let a real model work."
            )
        return (
            f"The model is REAL: {self.model} of {self.name}, with the key in {_KEYS[self.name]}. "
            "The vendor may charge for it, and the result is the model's own."
        )


def choose_provider(wanted: str, environ: Mapping[str, str] | None = None) -> Provider:
    """Choose whose model works.

    Parameters
    ----------
    wanted : {"auto", "glm", "gemini", "replay"}
        The user's wish; "auto" takes the vendor whose key is set, GLM before Gemini.
    environ : Mapping[str, str] or None, default None
        Environment; the process's own when None.

    Returns
    -------
    Provider
        The choice.

    Raises
    ------
    DemoError
        When a vendor is asked for and its key is not set.
    """
    env = os.environ if environ is None else environ
    if wanted == "auto":
        name = next((name for name, key in _KEYS.items() if env.get(key)), None)
        return Provider(name, is_replay=False) if name else Provider("GLM", is_replay=True)
    if wanted == "replay":
        return Provider("GLM", is_replay=True)
    name = wanted.upper()
    if not env.get(_KEYS[name]):
        raise DemoError(f"{_KEYS[name]} is not set; set it, or use --provider replay.")
    return Provider(name, is_replay=False)


def serve(provider: Provider, script: Script) -> AbstractContextManager[ModelStub | None]:
    """Return the replayed model's server as a context manager; nothing for a real vendor."""
    if not provider.is_replay:
        return nullcontext()
    return ModelStub(script, frame_delay=_FRAME_DELAY)


def ensure_agents(
    client: rb.Client, provider: Provider, stub: ModelStub | None
) -> dict[str, rb.Agent]:
    """Make one agent profile for each role, or bring those of an earlier run up to date.

    Parameters
    ----------
    client : Client
        The connection.
    provider : Provider
        Whose model works.
    stub : ModelStub or None
        The replayed model's server.

    Returns
    -------
    dict[str, Agent]
        Profile by role.
    """
    present = {agent.name: agent for agent in client.agents.list()}
    suffix = "replayed model" if provider.is_replay else provider.model
    agents = {}
    for role in ROLES:
        name = f"Demo {role} ({suffix})"
        fields: dict[str, Any] = {
            "provider": provider.name,
            "model": provider.model,
            "role": role,
            "system_prompt": _PROMPTS[role],
        }
        if stub is not None:
            fields |= {"base_url": stub.glm_url(role.lower()), "settings": {"replay": True}}
        known = present.get(name)
        agents[role] = (
            client.agents.update(known.id, **fields)
            if known
            else client.agents.create(name, **fields)
        )
    return agents
