"""Reads of agent profiles."""

from __future__ import annotations

import uuid
from typing import Any

from django.db.models import Case, QuerySet, When

from rootbound_backend.apps.agents.models import KEY_NAMES, AgentProfile, Provider
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.statements import Prepared

__all__ = ["agent_for_role", "agent_snapshot", "agents_of", "get_agent"]


def agents_of(user: User) -> QuerySet[AgentProfile]:
    """Return the profiles of one user."""
    return AgentProfile.objects.filter(owner=user)


def get_agent(*, user: User, agent_id: uuid.UUID) -> AgentProfile:
    """Return one profile of the user's.

    Raises
    ------
    Problem
        404 when it does not exist or is somebody else's.
    """
    agent = agents_of(user).filter(pk=agent_id).first()
    if agent is None:
        raise not_found("agent")
    return agent


def agent_for_role(*, user: User, role: str) -> AgentProfile:
    """Return the user's newest profile with a role; a replayed model only when there is no other.

    Raises
    ------
    Problem
        409 ``agent-missing`` with the way to make one.
    """
    agent = _FOR_ROLE.first(user.pk, role)
    if agent is None:
        raise Problem(
            status=409,
            code="agent-missing",
            detail=(
                f"You have no agent with the role {role}; make one with POST /api/agents/ "
                f'(for example {{"name": "{role.title()}", "role": "{role}", '
                '"provider": "GLM"}) or name one with agent_id.'
            ),
            extras={"role": role},
        )
    return agent


def _for_role(owner_id: uuid.UUID, role: str) -> QuerySet[AgentProfile]:
    replayed = Case(When(settings__replay=True, then=1), default=0)
    found = AgentProfile.objects.filter(owner_id=owner_id, role=role)
    return found.order_by(replayed, "-created_at", "-id")[:1]


_FOR_ROLE = Prepared(_for_role, uuid.UUID, str)


def agent_snapshot(agent: AgentProfile) -> dict[str, Any]:
    """Return what an attempt remembers of its agent: ``agent_config``, ``limits``, ``is_replay``.

    Later edits of the profile do not change attempts that have begun.
    """
    settings = {key: value for key, value in agent.settings.items() if key != "key_name"}
    return {
        "agent_config": {
            "profile_id": str(agent.pk),
            "name": agent.name,
            "provider": agent.provider,
            "model": agent.model,
            "base_url": agent.base_url or None,
            "system_prompt": agent.system_prompt,
            "role": agent.role,
            "settings": settings,
            "key_name": agent.settings.get("key_name") or KEY_NAMES[Provider(agent.provider)],
        },
        "limits": dict(agent.limits),
        "is_replay": agent.is_replay,
    }
