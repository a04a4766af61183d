"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.schedules import api

_ONE = "schedules/<uuid:schedule_id>/"
_RUN = f"{_ONE}runs/<uuid:run_id>/"

urlpatterns = [
    path("schedules/", api.SchedulesView.as_view(), name="schedules"),
    path("schedules/preview/", api.SchedulePreviewView.as_view(), name="schedule-preview"),
    path(_ONE, api.ScheduleView.as_view(), name="schedule"),
    path(f"{_ONE}pause/", api.SchedulePauseView.as_view(), name="schedule-pause"),
    path(f"{_ONE}resume/", api.ScheduleResumeView.as_view(), name="schedule-resume"),
    path(f"{_ONE}run/", api.ScheduleRunNowView.as_view(), name="schedule-run-now"),
    path(f"{_ONE}runs/", api.ScheduleRunsView.as_view(), name="schedule-runs"),
    path(_RUN, api.ScheduleRunView.as_view(), name="schedule-run"),
    path(f"{_RUN}cancel/", api.ScheduleRunCancelView.as_view(), name="schedule-run-cancel"),
    path(f"{_RUN}report/", api.ScheduleReportView.as_view(), name="schedule-run-report"),
    path("notices/", api.NoticesView.as_view(), name="notices"),
    path("notices/<int:notice_id>/read/", api.NoticeReadView.as_view(), name="notice-read"),
]
