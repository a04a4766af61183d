"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.tasks.api import ProjectTasksView, TaskView

urlpatterns = [
    path("projects/<uuid:project_id>/tasks/", ProjectTasksView.as_view(), name="tasks"),
    path("tasks/<uuid:task_id>/", TaskView.as_view(), name="task"),
]
