"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.agents.api import AgentsView, AgentTestView, AgentView, KeysView

urlpatterns = [
    path("agents/", AgentsView.as_view(), name="agents"),
    path("agents/<uuid:agent_id>/test/", AgentTestView.as_view(), name="agent-test"),
    path("keys/", KeysView.as_view(), name="keys"),
    path("agents/<uuid:agent_id>/", AgentView.as_view(), name="agent"),
]
