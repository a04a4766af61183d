"""Writes on agent profiles."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction

from rootbound_backend.apps.agents.models import (
    DEFAULT_MODELS,
    KEY_NAMES,
    AgentProfile,
    Provider,
)
from rootbound_backend.apps.agents.selectors import agent_snapshot, agents_of, get_agent
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request

__all__ = ["create_agent", "delete_agent", "find_keys", "try_agent", "update_agent"]


def create_agent(*, user: User, fields: dict[str, Any]) -> AgentProfile:
    """Store a new profile; without a model it gets the provider's default.

    Parameters
    ----------
    user
        Owner.
    fields
        Validated fields of the profile.
    """
    model = fields.get("model") or DEFAULT_MODELS[Provider(fields["provider"])]
    return AgentProfile.objects.create(owner=user, **{**fields, "model": model})


def update_agent(*, user: User, agent_id: uuid.UUID, fields: dict[str, Any]) -> AgentProfile:
    """Change the given fields of a profile; another provider brings its default model with it.

    Raises
    ------
    Problem
        404.
    """
    agent = get_agent(user=user, agent_id=agent_id)
    if fields.get("provider", agent.provider) != agent.provider and "model" not in fields:
        fields = {**fields, "model": DEFAULT_MODELS[Provider(fields["provider"])]}
    for name, value in fields.items():
        setattr(agent, name, value)
    if fields:
        agent.save(update_fields=list(fields))
    return agent


def delete_agent(*, user: User, agent_id: uuid.UUID) -> None:
    """Delete a profile; tasks assigned to it fall back to their role, attempts keep a snapshot.

    Raises
    ------
    Problem
        404.
    """
    with transaction.atomic():
        agent = get_agent(user=user, agent_id=agent_id)
        Task.objects.filter(project__owner=user, assigned_agent_id=agent.pk).update(
            assigned_agent_id=None
        )
        agent.delete()


def try_agent(*, user: User, agent_id: uuid.UUID) -> dict[str, Any]:
    """Have the LDA ask a profile's model one small question.

    Returns
    -------
    dict
        ``ok``, ``failure``, ``message`` and, when a model was asked, time and tokens.

    Raises
    ------
    Problem
        404; 503 when the LDA does not answer.
    """
    agent = get_agent(user=user, agent_id=agent_id)
    body = {"agent_config": agent_snapshot(agent)["agent_config"]}
    answer: dict[str, Any] = lda_request(
        "POST", "/agents/test", user_id=user.pk, body=body, timeout_s=75
    )
    return answer


def find_keys(*, user: User) -> list[dict[str, Any]]:
    """Return the name of each key that the user's profiles need, and where it comes from.

    Raises
    ------
    Problem
        503 when the LDA does not answer.
    """
    names = dict.fromkeys(KEY_NAMES.values())
    for agent in agents_of(user).order_by("created_at", "id"):
        names[agent_snapshot(agent)["agent_config"]["key_name"]] = None
    answer = lda_request("GET", f"/keys?names={','.join(names)}", user_id=user.pk)
    return list(answer["keys"])
