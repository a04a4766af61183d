"""Endpoints of agent profiles."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.agents.selectors import agents_of, get_agent
from rootbound_backend.apps.agents.serializers import (
    AgentInputSerializer,
    AgentListSerializer,
    AgentSerializer,
    AgentTestSerializer,
    KeyListSerializer,
)
from rootbound_backend.apps.agents.services import (
    create_agent,
    delete_agent,
    find_keys,
    try_agent,
    update_agent,
)
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = ["AgentTestView", "AgentView", "AgentsView", "KeysView"]


class AgentsView(UserView):
    """The user's profiles."""

    @extend_schema(operation_id="agents_list", responses=AgentListSerializer)
    def get(self, request: Request) -> Response:
        """List profiles, oldest first."""
        rows = agents_of(current_user(request))
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=False)
        return Response({"results": AgentSerializer(page, many=True).data, "next": following})

    @extend_schema(request=AgentInputSerializer, responses={201: AgentSerializer})
    def post(self, request: Request) -> Response:
        """Make a profile."""
        fields = validated(AgentInputSerializer, request.data)
        agent = create_agent(user=current_user(request), fields=fields)
        return Response(AgentSerializer(agent).data, status=201)


class AgentView(UserView):
    """One profile."""

    @extend_schema(responses=AgentSerializer)
    def get(self, request: Request, agent_id: uuid.UUID) -> Response:
        """Return the profile."""
        agent = get_agent(user=current_user(request), agent_id=agent_id)
        return Response(AgentSerializer(agent).data)

    @extend_schema(request=AgentInputSerializer(partial=True), responses=AgentSerializer)
    def patch(self, request: Request, agent_id: uuid.UUID) -> Response:
        """Change some fields."""
        user = current_user(request)
        get_agent(user=user, agent_id=agent_id)
        fields = validated(AgentInputSerializer, request.data, partial=True)
        return Response(
            AgentSerializer(update_agent(user=user, agent_id=agent_id, fields=fields)).data
        )

    @extend_schema(responses={204: None})
    def delete(self, request: Request, agent_id: uuid.UUID) -> Response:
        """Delete the profile."""
        delete_agent(user=current_user(request), agent_id=agent_id)
        return Response(status=204)


class AgentTestView(UserView):
    """Trying a profile."""

    @extend_schema(request=None, responses=AgentTestSerializer)
    def post(self, request: Request, agent_id: uuid.UUID) -> Response:
        """Ask the profile's model one small question; the answer says whether it works."""
        return Response(try_agent(user=current_user(request), agent_id=agent_id))


class KeysView(UserView):
    """The names of the keys that the user's profiles need."""

    @extend_schema(operation_id="keys_list", responses=KeyListSerializer)
    def get(self, request: Request) -> Response:
        """Say where each comes from: the environment, the keyring, or nowhere."""
        return Response({"results": find_keys(user=current_user(request)), "next": None})
