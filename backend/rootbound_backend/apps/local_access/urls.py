"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.local_access import api

_ONE = "decompositions/<uuid:decomposition_id>/"

urlpatterns = [
    path("local-access/status/", api.LocalAccessStatusView.as_view(), name="local-access"),
    path("local-access/roots/", api.RootsView.as_view(), name="roots"),
    path("local-access/roots/<uuid:root_id>/", api.RootView.as_view(), name="root"),
    path("audit/logs/", api.AuditLogsView.as_view(), name="audit-logs"),
    path("audit/summary/", api.AuditSummaryView.as_view(), name="audit-summary"),
    path("audit/ingest/", api.AuditIngestView.as_view(), name="audit-ingest"),
    path(
        "projects/<uuid:project_id>/decompositions/",
        api.ProjectDecompositionsView.as_view(),
        name="decompositions",
    ),
    path(_ONE, api.DecompositionView.as_view(), name="decomposition"),
    path(f"{_ONE}approve/", api.DecompositionApproveView.as_view(), name="decomposition-approve"),
    path(f"{_ONE}plan/", api.DecompositionPlanView.as_view(), name="decomposition-plan"),
]
