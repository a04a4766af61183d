"""Writes on agent profiles."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import transaction

from rootbound_backend.apps.agents.models import DEFAULT_MODELS, AgentProfile, Provider
from rootbound_backend.apps.agents.selectors import get_agent
from rootbound_backend.apps.tasks.models import Task
from rootbound_backend.apps.users.models import User

__all__ = ["create_agent", "delete_agent", "update_agent"]


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
    """Change the given fields of a profile.

    Raises
    ------
    Problem
        404.
    """
    agent = get_agent(user=user, agent_id=agent_id)
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
