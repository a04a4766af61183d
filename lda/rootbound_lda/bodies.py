"""The bodies of the smaller requests to the LDA."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from .wire import AgentConfig
from .wire_types import AbsolutePath, Identifier, Sha


class MergeRequest(Struct, frozen=True):
    """The body of ``POST /runs/{id}/merge``."""

    head_commit: Sha
    message: str = ""


class MessageRequest(Struct, frozen=True):
    """The body of ``POST /runs/{id}/messages``."""

    text: Annotated[str, Meta(min_length=1, max_length=10_000)]


class UnsavedRequest(Struct, frozen=True):
    """The body of ``POST /unsaved``: all that one editor of a user's holds now."""

    user_id: Identifier
    editor: Identifier
    paths: Annotated[list[AbsolutePath], Meta(max_length=200)]


class KeyTestRequest(Struct, frozen=True):
    """The body of ``POST /agents/test``."""

    agent_config: AgentConfig


class RootRequest(Struct, frozen=True):
    """The body of ``POST /roots/validate``; ``access`` is what is to be granted."""

    path: str
    access: Literal["READ", "WRITE"] = "WRITE"


class KernelRootsRequest(Struct, frozen=True):
    """The body of ``POST /kernels/{id}/roots``: what is granted from now on."""

    writable_roots: list[str]


class RepoRequest(Struct, frozen=True):
    """The body of ``POST /repos/validate`` and ``/repos/branches``."""

    path: str
    writable_roots: list[str] = []
    branch: str | None = None
