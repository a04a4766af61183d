"""Endpoints of projects."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.projects.selectors import get_project, projects_of
from rootbound_backend.apps.projects.serializers import (
    ProjectInputSerializer,
    ProjectListSerializer,
    ProjectSerializer,
    RepositoryQuerySerializer,
    RepositorySerializer,
)
from rootbound_backend.apps.projects.services import (
    branches_of_repository,
    create_project,
    delete_project,
    update_project,
)
from rootbound_backend.views import UserView, current_user, paginate, query_params, validated

__all__ = ["ProjectView", "ProjectsView", "RepositoryView"]


class ProjectsView(UserView):
    """The user's projects."""

    @extend_schema(operation_id="projects_list", responses=ProjectListSerializer)
    def get(self, request: Request) -> Response:
        """List projects, newest first."""
        rows = projects_of(current_user(request))
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=True)
        return Response({"results": ProjectSerializer(page, many=True).data, "next": following})

    @extend_schema(request=ProjectInputSerializer, responses={201: ProjectSerializer})
    def post(self, request: Request) -> Response:
        """Make a project of a repository beneath a writable root."""
        fields = validated(ProjectInputSerializer, request.data)
        project = create_project(
            user=current_user(request),
            name=fields["name"],
            repo_path=fields["repo_path"],
            config=fields.get("config", {}),
            default_branch=fields.get("default_branch"),
        )
        return Response(ProjectSerializer(project).data, status=201)


class ProjectView(UserView):
    """One project."""

    @extend_schema(responses=ProjectSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """Return the project."""
        project = get_project(user=current_user(request), project_id=project_id)
        return Response(ProjectSerializer(project).data)

    @extend_schema(request=ProjectInputSerializer(partial=True), responses=ProjectSerializer)
    def patch(self, request: Request, project_id: uuid.UUID) -> Response:
        """Change some fields."""
        user = current_user(request)
        get_project(user=user, project_id=project_id)
        fields = validated(ProjectInputSerializer, request.data, partial=True)
        project = update_project(user=user, project_id=project_id, fields=fields)
        return Response(ProjectSerializer(project).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, project_id: uuid.UUID) -> Response:
        """Delete the project; the repository itself is not touched."""
        delete_project(user=current_user(request), project_id=project_id)
        return Response(status=204)


class RepositoryView(UserView):
    """A repository, before or while it is a project's."""

    @extend_schema(parameters=[RepositoryQuerySerializer], responses=RepositorySerializer)
    def get(self, request: Request) -> Response:
        """Return the branches that work could be merged into."""
        path = query_params(RepositoryQuerySerializer, request)["path"]
        found = branches_of_repository(user=current_user(request), repo_path=path)
        return Response(RepositorySerializer(found).data)
