"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.attempts import api

_ONE = "attempts/<uuid:attempt_id>/"

urlpatterns = [
    path("tasks/<uuid:task_id>/attempts/", api.TaskAttemptsView.as_view(), name="attempts"),
    path(_ONE, api.AttemptView.as_view(), name="attempt"),
    path(f"{_ONE}events/", api.EventsView.as_view(), name="attempt-events"),
    path(f"{_ONE}diff/", api.DiffView.as_view(), name="attempt-diff"),
    path(f"{_ONE}gates/", api.GatesView.as_view(), name="attempt-gates"),
    path(f"{_ONE}cancel/", api.CancelView.as_view(), name="attempt-cancel"),
    path(f"{_ONE}approve/", api.ApproveView.as_view(), name="attempt-approve"),
    path(f"{_ONE}reject/", api.RejectView.as_view(), name="attempt-reject"),
    path(f"{_ONE}retry/", api.RetryView.as_view(), name="attempt-retry"),
]
