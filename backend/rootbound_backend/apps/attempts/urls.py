"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.attempts import api, costs, live, monitoring, review_api

_ONE = "attempts/<uuid:attempt_id>/"

urlpatterns = [
    path("live/", live.LiveView.as_view(), name="live"),
    path("costs/", costs.CostsView.as_view(), name="costs"),
    path("usage/", monitoring.UsageView.as_view(), name="usage"),
    path("metrics/", monitoring.MetricsView.as_view(), name="metrics"),
    path("tasks/<uuid:task_id>/attempts/", api.TaskAttemptsView.as_view(), name="attempts"),
    path(_ONE, api.AttemptView.as_view(), name="attempt"),
    path(f"{_ONE}events/", api.EventsView.as_view(), name="attempt-events"),
    path(f"{_ONE}artifacts/", api.ArtifactsView.as_view(), name="attempt-artifacts"),
    path(f"{_ONE}artifacts/<str:name>/", api.ArtifactView.as_view(), name="attempt-artifact"),
    path(f"{_ONE}diff/", api.DiffView.as_view(), name="attempt-diff"),
    path(f"{_ONE}gates/", api.GatesView.as_view(), name="attempt-gates"),
    path(f"{_ONE}cancel/", api.CancelView.as_view(), name="attempt-cancel"),
    path(f"{_ONE}approve/", api.ApproveView.as_view(), name="attempt-approve"),
    path(f"{_ONE}reject/", api.RejectView.as_view(), name="attempt-reject"),
    path(f"{_ONE}retry/", api.RetryView.as_view(), name="attempt-retry"),
    path(f"{_ONE}messages/", review_api.MessagesView.as_view(), name="attempt-messages"),
    path(f"{_ONE}comments/", review_api.CommentsView.as_view(), name="attempt-comments"),
    path(
        f"{_ONE}comments/<uuid:comment_id>/",
        review_api.CommentView.as_view(),
        name="attempt-comment",
    ),
    path(
        f"{_ONE}request-changes/",
        review_api.RequestChangesView.as_view(),
        name="attempt-request-changes",
    ),
    path(f"{_ONE}update/", review_api.UpdateView.as_view(), name="attempt-update"),
    path(
        f"{_ONE}merge-preview/", review_api.MergePreviewView.as_view(), name="attempt-merge-preview"
    ),
    path("worktrees/", review_api.WorktreesView.as_view(), name="worktrees"),
    path("tasks/<uuid:task_id>/compare/", review_api.CompareView.as_view(), name="task-compare"),
]
