"""Endpoints of schedules and notices."""

from __future__ import annotations

import uuid

from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.schedules.running import cancel_run, place_of
from rootbound_backend.apps.schedules.selectors import (
    get_run,
    get_schedule,
    notices_of,
    runs_of,
    schedules_of,
    with_last_run,
)
from rootbound_backend.apps.schedules.serializers import (
    NoticeListSerializer,
    NoticeSerializer,
    PreviewInputSerializer,
    ScheduleInputSerializer,
    ScheduleListSerializer,
    SchedulePreviewSerializer,
    ScheduleRunListSerializer,
    ScheduleRunSerializer,
    ScheduleSerializer,
)
from rootbound_backend.apps.schedules.services import (
    create_schedule,
    delete_schedule,
    preview,
    read_notice,
    run_now,
    set_enabled,
    update_schedule,
)
from rootbound_backend.lda_client import LdaRefusedError, lda_request
from rootbound_backend.problems import not_found
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = [
    "NoticeReadView",
    "NoticesView",
    "SchedulePauseView",
    "SchedulePreviewView",
    "ScheduleReportView",
    "ScheduleResumeView",
    "ScheduleRunCancelView",
    "ScheduleRunNowView",
    "ScheduleRunView",
    "ScheduleRunsView",
    "ScheduleView",
    "SchedulesView",
]


class SchedulesView(UserView):
    """The user's schedules."""

    @extend_schema(operation_id="schedules_list", responses=ScheduleListSerializer)
    def get(self, request: Request) -> Response:
        """List schedules, newest first."""
        rows = with_last_run(schedules_of(current_user(request)))
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=True)
        return Response({"results": ScheduleSerializer(page, many=True).data, "next": following})

    @extend_schema(request=ScheduleInputSerializer, responses={201: ScheduleSerializer})
    def post(self, request: Request) -> Response:
        """Make a schedule that starts a plan or a batch notebook."""
        fields = validated(ScheduleInputSerializer, request.data)
        schedule = create_schedule(user=current_user(request), fields=fields)
        return Response(ScheduleSerializer(schedule).data, status=201)


class SchedulePreviewView(UserView):
    """What a crontab means."""

    @extend_schema(
        operation_id="schedule_preview",
        parameters=[PreviewInputSerializer],
        responses=SchedulePreviewSerializer,
    )
    def get(self, request: Request) -> Response:
        """Check a crontab before it is stored, and return when it fires next."""
        # Front ends add parameters of their own to what shall not be cached.
        known = PreviewInputSerializer().fields
        given = {name: text for name, text in request.query_params.items() if name in known}
        fields = validated(PreviewInputSerializer, given)
        crontab, fires = preview(crontab=fields["crontab"], zone=fields["timezone"])
        found = {"crontab": crontab, "next_runs": fires}
        return Response(SchedulePreviewSerializer(found).data)


class ScheduleView(UserView):
    """One schedule."""

    @extend_schema(responses=ScheduleSerializer)
    def get(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Return the schedule."""
        schedule = get_schedule(user=current_user(request), schedule_id=schedule_id)
        return Response(ScheduleSerializer(schedule).data)

    @extend_schema(request=ScheduleInputSerializer(partial=True), responses=ScheduleSerializer)
    def patch(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Change some fields."""
        user = current_user(request)
        get_schedule(user=user, schedule_id=schedule_id)
        fields = validated(ScheduleInputSerializer, request.data, partial=True)
        schedule = update_schedule(user=user, schedule_id=schedule_id, fields=fields)
        return Response(ScheduleSerializer(schedule).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Delete the schedule with its history; tasks that it made stay."""
        delete_schedule(user=current_user(request), schedule_id=schedule_id)
        return Response(status=204)


class SchedulePauseView(UserView):
    """Pausing a schedule."""

    @extend_schema(request=None, responses=ScheduleSerializer)
    def post(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Start nothing until it is resumed; a run at work goes on."""
        user = current_user(request)
        schedule = set_enabled(user=user, schedule_id=schedule_id, enabled=False)
        return Response(ScheduleSerializer(schedule).data)


class ScheduleResumeView(UserView):
    """Resuming a schedule."""

    @extend_schema(request=None, responses=ScheduleSerializer)
    def post(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Be due again from now on; what the pause left out is not made up for."""
        user = current_user(request)
        schedule = set_enabled(user=user, schedule_id=schedule_id, enabled=True)
        return Response(ScheduleSerializer(schedule).data)


class ScheduleRunNowView(UserView):
    """Running a schedule by hand."""

    @extend_schema(request=None, responses={202: ScheduleRunSerializer})
    def post(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """Start a run now, under the schedule's overlap policy."""
        run = run_now(user=current_user(request), schedule_id=schedule_id)
        return Response(ScheduleRunSerializer(run).data, status=202)


class ScheduleRunsView(UserView):
    """A schedule's history."""

    @extend_schema(operation_id="schedule_runs_list", responses=ScheduleRunListSerializer)
    def get(self, request: Request, schedule_id: uuid.UUID) -> Response:
        """List runs, newest first."""
        schedule = get_schedule(user=current_user(request), schedule_id=schedule_id)
        page, following = paginate(
            request, runs_of(schedule), by=("created_at", "id"), newest_first=True
        )
        return Response({"results": ScheduleRunSerializer(page, many=True).data, "next": following})


class ScheduleRunView(UserView):
    """One run of a schedule."""

    @extend_schema(responses=ScheduleRunSerializer)
    def get(self, request: Request, schedule_id: uuid.UUID, run_id: uuid.UUID) -> Response:
        """Return the run."""
        run = get_run(user=current_user(request), schedule_id=schedule_id, run_id=run_id)
        return Response(ScheduleRunSerializer(run).data)


class ScheduleRunCancelView(UserView):
    """Cancelling a run."""

    @extend_schema(request=None, responses=ScheduleRunSerializer)
    def post(self, request: Request, schedule_id: uuid.UUID, run_id: uuid.UUID) -> Response:
        """End the run and what it left at work."""
        run = get_run(user=current_user(request), schedule_id=schedule_id, run_id=run_id)
        return Response(ScheduleRunSerializer(cancel_run(run)).data)


class ScheduleReportView(UserView):
    """The report of a run."""

    @extend_schema(responses={(200, "application/json"): OpenApiTypes.OBJECT})
    def get(self, request: Request, schedule_id: uuid.UUID, run_id: uuid.UUID) -> Response:
        """Return the executed notebook (nbformat 4)."""
        run = get_run(user=current_user(request), schedule_id=schedule_id, run_id=run_id)
        if not run.has_report:
            raise not_found("report of this run")
        try:
            return Response(
                lda_request("GET", f"/batches/{run.pk}/report", **place_of(run), timeout_s=30)
            )
        except LdaRefusedError as refusal:
            raise not_found("report of this run any more") from refusal


class NoticesView(UserView):
    """What the user should hear of."""

    @extend_schema(
        operation_id="notices_list",
        parameters=[OpenApiParameter("unread", OpenApiTypes.BOOL, description="Only unread ones.")],
        responses=NoticeListSerializer,
    )
    def get(self, request: Request) -> Response:
        """List notices, newest first."""
        rows = notices_of(current_user(request)).select_related("schedule_run")
        if request.query_params.get("unread") in {"1", "true"}:
            rows = rows.filter(read_at__isnull=True)
        page, following = paginate(request, rows, by=("id",), newest_first=True)
        return Response({"results": NoticeSerializer(page, many=True).data, "next": following})


class NoticeReadView(UserView):
    """Marking a notice as read."""

    @extend_schema(request=None, responses={204: None})
    def post(self, request: Request, notice_id: int) -> Response:
        """Mark it as read."""
        read_notice(user=current_user(request), notice_id=notice_id)
        return Response(status=204)
