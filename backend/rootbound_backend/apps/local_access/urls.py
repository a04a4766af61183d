"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.local_access import access_api, api, kernel_api, machine_api
from rootbound_backend.apps.local_access.audit import api as audit_api

_ONE = "decompositions/<uuid:decomposition_id>/"
_REQUEST = "access-requests/<uuid:request_id>/"

urlpatterns = [
    path("local-access/status/", api.LocalAccessStatusView.as_view(), name="local-access"),
    path("local-access/roots/", api.RootsView.as_view(), name="roots"),
    path("local-access/roots/<uuid:root_id>/", api.RootView.as_view(), name="root"),
    path("local-access/unsaved/", api.UnsavedView.as_view(), name="unsaved"),
    path("access-requests/", access_api.AccessRequestsView.as_view(), name="access-requests"),
    path(
        "attempts/<uuid:attempt_id>/access-requests/",
        access_api.AttemptAccessRequestsView.as_view(),
        name="attempt-access-requests",
    ),
    path(_REQUEST, access_api.AccessRequestView.as_view(), name="access-request"),
    path(f"{_REQUEST}grant/", access_api.GrantView.as_view(), name="access-request-grant"),
    path(f"{_REQUEST}refuse/", access_api.RefuseView.as_view(), name="access-request-refuse"),
    path("kernels/", kernel_api.KernelsView.as_view(), name="kernels"),
    path("kernels/<uuid:session_id>/", kernel_api.KernelView.as_view(), name="kernel"),
    path(
        "kernels/<uuid:session_id>/ended/",
        kernel_api.KernelEndedView.as_view(),
        name="kernel-ended",
    ),
    path("machines/", machine_api.MachinesView.as_view(), name="machines"),
    path("machines/<uuid:machine_id>/", machine_api.MachineView.as_view(), name="machine"),
    path(
        "machines/<uuid:machine_id>/token/",
        machine_api.MachineTokenView.as_view(),
        name="machine-token",
    ),
    path("audit/logs/", audit_api.AuditLogsView.as_view(), name="audit-logs"),
    path("audit/summary/", audit_api.AuditSummaryView.as_view(), name="audit-summary"),
    path("audit/tree/", audit_api.AuditTreeView.as_view(), name="audit-tree"),
    path("audit/timeline/", audit_api.AuditTimelineView.as_view(), name="audit-timeline"),
    path("audit/verify/", audit_api.AuditVerifyView.as_view(), name="audit-verify"),
    path("audit/retention/", audit_api.AuditRetentionView.as_view(), name="audit-retention"),
    path("audit/ingest/", audit_api.AuditIngestView.as_view(), name="audit-ingest"),
    path(
        "projects/<uuid:project_id>/decompositions/",
        api.ProjectDecompositionsView.as_view(),
        name="decompositions",
    ),
    path(_ONE, api.DecompositionView.as_view(), name="decomposition"),
    path(f"{_ONE}approve/", api.DecompositionApproveView.as_view(), name="decomposition-approve"),
    path(f"{_ONE}plan/", api.DecompositionPlanView.as_view(), name="decomposition-plan"),
]
