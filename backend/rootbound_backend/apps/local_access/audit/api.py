"""Endpoints of the audit log."""

from __future__ import annotations

import uuid
from dataclasses import asdict
from typing import Any, Literal

from django.http import HttpResponseBase, StreamingHttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.local_access.audit.export import export_statement, stream_export
from rootbound_backend.apps.local_access.audit.queries import (
    AuditFilter,
    audit_counts,
    audit_entries,
    audit_page,
    audit_timeline,
    audit_tree,
    in_order,
    scope_of_runs,
)
from rootbound_backend.apps.local_access.audit.serializers import (
    AuditExportSerializer,
    AuditFilterSerializer,
    AuditListQuerySerializer,
    AuditListSerializer,
    AuditRetentionListSerializer,
    AuditRetentionSerializer,
    AuditSerializer,
    AuditSummarySerializer,
    AuditTimelineQuerySerializer,
    AuditTimelineSerializer,
    AuditTreeQuerySerializer,
    AuditTreeSerializer,
    AuditVerifyQuerySerializer,
    AuditVerifySerializer,
)
from rootbound_backend.apps.local_access.audit.verify import verify_runs
from rootbound_backend.apps.local_access.ingest import decode_audit, ingest_audit
from rootbound_backend.apps.local_access.models import AuditRetention
from rootbound_backend.apps.users.models import User
from rootbound_backend.authentication import IngestAuthentication, IsIngest
from rootbound_backend.bodies import read_body
from rootbound_backend.problems import InvalidInput, not_found
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.views import UserView, current_user, limit_of, paginate, query_params

__all__ = [
    "AuditIngestView",
    "AuditLogsView",
    "AuditRetentionView",
    "AuditSummaryView",
    "AuditTimelineView",
    "AuditTreeView",
    "AuditVerifyView",
]


class NdjsonRenderer(JSONRenderer):
    """Names NDJSON in the negotiation; it renders problems only, exports are streamed."""

    media_type = "application/x-ndjson"
    format = "ndjson"


class CsvRenderer(JSONRenderer):
    """As `NdjsonRenderer`, for CSV."""

    media_type = "text/csv"
    format = "csv"


def _wanted(request: Request, serializer: type[serializers.Serializer[Any]]) -> Any:
    """Return the filter of a request and the fields that are none of it."""
    fields = query_params(serializer, request)
    run = fields.pop("attempt", None) or fields.pop("run", None)
    fields.pop("run", None)
    user = _whose(current_user(request), fields.pop("user", None))
    names = AuditFilter.__dataclass_fields__
    rest = {name: fields.pop(name) for name in list(fields) if name not in names}
    return AuditFilter(user=user, run=run, **fields), rest


def _whose(user: User, name: str | None) -> User:
    """Return the user that is asked for; somebody else's entries are for staff alone."""
    if name is None or name in {user.username, str(user.pk)}:
        return user
    if not user.is_staff:
        raise not_found("user")
    found = User.objects.filter(username=name).first()
    if found is None and _is_uuid(name):
        found = User.objects.filter(pk=name).first()
    if found is None:
        raise InvalidInput(field="user", detail=f"There is no user {name[:100]!r}.")
    return found


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True


class AuditLogsView(UserView):
    """The audit log."""

    renderer_classes = [JSONRenderer, NdjsonRenderer, CsvRenderer]

    def perform_content_negotiation(
        self, request: Request, force: bool = False
    ) -> tuple[BaseRenderer, str]:
        """Choose the form of the answer: the one in ``?format=``, else by ``Accept``."""
        name = request.query_params.get("format")
        if name is None or force:
            return super().perform_content_negotiation(request, force)
        for renderer in self.get_renderers():
            if renderer.format == name:
                return renderer, renderer.media_type
        raise InvalidInput(field="format", detail="format must be json, ndjson or csv.")

    @extend_schema(
        operation_id="audit_list",
        parameters=[AuditListQuerySerializer],
        responses={
            200: AuditListSerializer,
            (200, "application/x-ndjson"): OpenApiTypes.STR,
            (200, "text/csv"): OpenApiTypes.STR,
        },
    )
    def get(self, request: Request) -> HttpResponseBase:
        """List entries, newest first; as NDJSON or CSV, stream all of them."""
        form = request.accepted_renderer.format
        if form in {"ndjson", "csv"}:
            return _export(request, "csv" if form == "csv" else "ndjson")
        wanted, rest = _wanted(request, AuditListQuerySerializer)
        page, following = audit_page(wanted, limit=limit_of(request), cursor=rest.get("cursor"))
        return Response({"results": AuditSerializer(page, many=True).data, "next": following})


def _export(request: Request, form: Literal["ndjson", "csv"]) -> StreamingHttpResponse:
    wanted, rest = _wanted(request, AuditExportSerializer)
    rows = in_order(audit_entries(wanted), wanted)
    if "limit" in rest:
        rows = rows[: rest["limit"]]
    kind = "application/x-ndjson" if form == "ndjson" else "text/csv; charset=utf-8"
    response = StreamingHttpResponse(stream_export(export_statement(rows, form)), content_type=kind)
    response["Content-Disposition"] = f'attachment; filename="audit.{form}"'
    # Proxies that collect an answer before they pass it on would hold millions of rows.
    response["X-Accel-Buffering"] = "no"
    return response


class AuditSummaryView(UserView):
    """Counts over the audit log."""

    @extend_schema(parameters=[AuditFilterSerializer], responses=AuditSummarySerializer)
    def get(self, request: Request) -> Response:
        """Return counts by operation and result."""
        wanted, _ = _wanted(request, AuditFilterSerializer)
        return Response({"counts": audit_counts(wanted)})


class AuditTreeView(UserView):
    """What was touched, folder by folder."""

    @extend_schema(parameters=[AuditTreeQuerySerializer], responses=AuditTreeSerializer)
    def get(self, request: Request) -> Response:
        """Return the children of a folder with counts."""
        wanted, rest = _wanted(request, AuditTreeQuerySerializer)
        return Response(audit_tree(wanted, below=rest.get("path", "/")))


class AuditTimelineView(UserView):
    """When it was touched."""

    @extend_schema(parameters=[AuditTimelineQuerySerializer], responses=AuditTimelineSerializer)
    def get(self, request: Request) -> Response:
        """Return counts of allowed and denied operations in buckets of time."""
        wanted, rest = _wanted(request, AuditTimelineQuerySerializer)
        timeline = audit_timeline(wanted, bucket_s=rest.get("bucket"))
        return Response(AuditTimelineSerializer(timeline).data)


class AuditVerifyView(UserView):
    """Whether the stored log is what was reported."""

    @extend_schema(parameters=[AuditVerifyQuerySerializer], responses=AuditVerifySerializer)
    def get(self, request: Request) -> Response:
        """Recompute chains, some entries a request; go on with `next` until it is null."""
        fields = query_params(AuditVerifyQuerySerializer, request)
        user = current_user(request)
        run = fields.get("attempt") or fields.get("run")
        runs: list[uuid.UUID] | None = None
        if run is not None or "task" in fields or "project" in fields:
            marks = scope_of_runs(user=user, task=fields.get("task"), project=fields.get("project"))
            if run is not None:
                marks = marks.filter(run_id=run)
            runs = list(marks.values_list("run_id", flat=True))
            if run is not None and not runs:
                raise not_found("run with audit entries")
        report = verify_runs(
            runs,
            limit=fields.get("limit", 100_000),
            cursor=fields.get("cursor"),
            user_id=user.pk,
        )
        return Response({**asdict(report), "ok": report.ok})


class AuditRetentionView(UserView):
    """What retention removed."""

    @extend_schema(operation_id="audit_retention_list", responses=AuditRetentionListSerializer)
    def get(self, request: Request) -> Response:
        """List the removed partitions, newest first."""
        rows = AuditRetention.objects.all()
        page, following = paginate(request, rows, by=("id",), newest_first=True)
        shown = AuditRetentionSerializer(page, many=True)
        return Response({"results": shown.data, "next": following})


class AuditIngestView(UserView):
    """Where the LDA writes the audit log."""

    authentication_classes = [IngestAuthentication]
    permission_classes = [IsIngest]

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        """Store a batch of the LDA's."""
        grant = request.auth
        if not isinstance(grant, IngestGrant):
            raise TypeError("This view let a request without an ingest token in.")
        body = read_body(request._request)
        batch = decode_audit(body, request.headers.get("Content-Type", ""), grant=grant)
        return Response({"seq": ingest_audit(grant=grant, batch=batch)})
