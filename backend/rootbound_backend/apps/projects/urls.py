"""Routes."""

from __future__ import annotations

from django.urls import path

from rootbound_backend.apps.projects.api import ProjectsView, ProjectView, RepositoryView

urlpatterns = [
    path("projects/", ProjectsView.as_view(), name="projects"),
    path("projects/<uuid:project_id>/", ProjectView.as_view(), name="project"),
    path("repository/", RepositoryView.as_view(), name="repository"),
]
