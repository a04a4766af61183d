"""Endpoints of tasks."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.projects.selectors import owns_project
from rootbound_backend.apps.tasks.selectors import get_task, tasks_of_project, tasks_with_details
from rootbound_backend.apps.tasks.serializers import (
    TaskInputSerializer,
    TaskListSerializer,
    TaskPatchSerializer,
    TaskSerializer,
)
from rootbound_backend.apps.tasks.services import create_task, delete_task, update_task
from rootbound_backend.problems import not_found
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = ["ProjectTasksView", "TaskView"]


class ProjectTasksView(UserView):
    """The tasks of one project."""

    @extend_schema(operation_id="tasks_list", responses=TaskListSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """List tasks, oldest first."""
        user = current_user(request)
        if not owns_project(user=user, project_id=project_id):
            raise not_found("project")
        rows = tasks_of_project(user=user, project_id=project_id)
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=False)
        tasks = TaskSerializer(tasks_with_details(page), many=True)
        return Response({"results": tasks.data, "next": following})

    @extend_schema(request=TaskInputSerializer, responses={201: TaskSerializer})
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Make a task."""
        user = current_user(request)
        if not owns_project(user=user, project_id=project_id):
            raise not_found("project")
        fields = validated(TaskInputSerializer, request.data)
        task = create_task(user=user, project_id=project_id, fields=fields)
        return Response(TaskSerializer(task).data, status=201)


class TaskView(UserView):
    """One task."""

    @extend_schema(responses=TaskSerializer)
    def get(self, request: Request, task_id: uuid.UUID) -> Response:
        """Return the task."""
        return Response(TaskSerializer(get_task(user=current_user(request), task_id=task_id)).data)

    @extend_schema(request=TaskPatchSerializer(partial=True), responses=TaskSerializer)
    def patch(self, request: Request, task_id: uuid.UUID) -> Response:
        """Change some fields."""
        user = current_user(request)
        get_task(user=user, task_id=task_id)
        fields = validated(TaskPatchSerializer, request.data, partial=True)
        version = fields.pop("version", None)
        task = update_task(user=user, task_id=task_id, fields=fields, version=version)
        return Response(TaskSerializer(task).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, task_id: uuid.UUID) -> Response:
        """Delete the task with its attempts."""
        delete_task(user=current_user(request), task_id=task_id)
        return Response(status=204)
