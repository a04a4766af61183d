"""Endpoints of roots and decompositions."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.local_access.decompositions import (
    approve_decomposition,
    create_decomposition,
    decode_plan_report,
    store_plan,
)
from rootbound_backend.apps.local_access.selectors import (
    decompositions_of_project,
    get_decomposition,
    get_root,
    roots_of,
)
from rootbound_backend.apps.local_access.serializers import (
    ApproveDecompositionSerializer,
    DecompositionInputSerializer,
    DecompositionListSerializer,
    DecompositionSerializer,
    LocalAccessStatusSerializer,
    RootInputSerializer,
    RootListSerializer,
    RootPatchSerializer,
    RootSerializer,
    UnsavedInputSerializer,
    UnsavedSerializer,
)
from rootbound_backend.apps.local_access.services import (
    delete_root,
    grant_root,
    set_root_enabled,
)
from rootbound_backend.apps.projects.selectors import owns_project
from rootbound_backend.authentication import IngestAuthentication, IsIngest
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = [
    "DecompositionApproveView",
    "DecompositionPlanView",
    "DecompositionView",
    "LocalAccessStatusView",
    "ProjectDecompositionsView",
    "RootView",
    "RootsView",
    "UnsavedView",
]


class LocalAccessStatusView(UserView):
    """What Rootbound may touch, and who enforces it."""

    @extend_schema(responses=LocalAccessStatusSerializer)
    def get(self, request: Request) -> Response:
        """Return the LDA's health and the user's roots."""
        user = current_user(request)
        try:
            lda = {"reachable": True, **lda_request("GET", "/health", user_id=user.pk, timeout_s=5)}
        except Problem as problem:
            lda = {"reachable": False, "detail": problem.detail}
        roots = roots_of(user).order_by("created_at", "id")
        return Response({"lda": lda, "roots": RootSerializer(roots, many=True).data})


class RootsView(UserView):
    """The user's writable roots."""

    @extend_schema(operation_id="roots_list", responses=RootListSerializer)
    def get(self, request: Request) -> Response:
        """List roots, oldest first."""
        rows = roots_of(current_user(request))
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=False)
        return Response({"results": RootSerializer(page, many=True).data, "next": following})

    @extend_schema(request=RootInputSerializer, responses={201: RootSerializer})
    def post(self, request: Request) -> Response:
        """Grant a folder for writing."""
        path = validated(RootInputSerializer, request.data)["path"]
        root = grant_root(user=current_user(request), path=path)
        return Response(RootSerializer(root).data, status=201)


class RootView(UserView):
    """One writable root."""

    @extend_schema(responses=RootSerializer)
    def get(self, request: Request, root_id: uuid.UUID) -> Response:
        """Return the root."""
        return Response(RootSerializer(get_root(user=current_user(request), root_id=root_id)).data)

    @extend_schema(request=RootPatchSerializer, responses=RootSerializer)
    def patch(self, request: Request, root_id: uuid.UUID) -> Response:
        """Switch the root on or off."""
        user = current_user(request)
        get_root(user=user, root_id=root_id)
        wanted = validated(RootPatchSerializer, request.data)["is_enabled"]
        root = set_root_enabled(user=user, root_id=root_id, is_enabled=wanted)
        return Response(RootSerializer(root).data)

    @extend_schema(responses={204: None})
    def delete(self, request: Request, root_id: uuid.UUID) -> Response:
        """Withdraw the root."""
        delete_root(user=current_user(request), root_id=root_id)
        return Response(status=204)


class UnsavedView(UserView):
    """What the user has open with unsaved changes, which no agent and no merge may overwrite."""

    @extend_schema(request=UnsavedInputSerializer, responses=UnsavedSerializer)
    def post(self, request: Request) -> Response:
        """Take an editor's report; it lapses unless it is repeated."""
        fields = validated(UnsavedInputSerializer, request.data)
        user = current_user(request)
        body = {"user_id": str(user.pk), **fields}
        return Response(lda_request("POST", "/unsaved", user_id=user.pk, body=body, timeout_s=5))


def _grant(request: Request) -> IngestGrant:
    if not isinstance(request.auth, IngestGrant):
        raise TypeError("This view let a request without an ingest token in.")
    return request.auth


class ProjectDecompositionsView(UserView):
    """The decompositions of one project."""

    @extend_schema(operation_id="decompositions_list", responses=DecompositionListSerializer)
    def get(self, request: Request, project_id: uuid.UUID) -> Response:
        """List decompositions, newest first."""
        user = current_user(request)
        if not owns_project(user=user, project_id=project_id):
            raise not_found("project")
        rows = decompositions_of_project(user=user, project_id=project_id)
        page, following = paginate(request, rows, by=("created_at", "id"), newest_first=True)
        shown = DecompositionSerializer(page, many=True)
        return Response({"results": shown.data, "next": following})

    @extend_schema(request=DecompositionInputSerializer, responses={202: DecompositionSerializer})
    def post(self, request: Request, project_id: uuid.UUID) -> Response:
        """Ask the PM agent for a plan."""
        user = current_user(request)
        if not owns_project(user=user, project_id=project_id):
            raise not_found("project")
        fields = validated(DecompositionInputSerializer, request.data)
        decomposition = create_decomposition(user=user, project_id=project_id, **fields)
        return Response(DecompositionSerializer(decomposition).data, status=202)


class DecompositionView(UserView):
    """One decomposition."""

    @extend_schema(responses=DecompositionSerializer)
    def get(self, request: Request, decomposition_id: uuid.UUID) -> Response:
        """Return the decomposition."""
        found = get_decomposition(user=current_user(request), decomposition_id=decomposition_id)
        return Response(DecompositionSerializer(found).data)


class DecompositionApproveView(UserView):
    """Approving a plan."""

    @extend_schema(request=ApproveDecompositionSerializer, responses=DecompositionSerializer)
    def post(self, request: Request, decomposition_id: uuid.UUID) -> Response:
        """Make the planned tasks."""
        user = current_user(request)
        get_decomposition(user=user, decomposition_id=decomposition_id)
        fields = validated(ApproveDecompositionSerializer, request.data)
        decomposition = approve_decomposition(
            user=user, decomposition_id=decomposition_id, tasks=fields.get("tasks")
        )
        return Response(DecompositionSerializer(decomposition).data)


class DecompositionPlanView(UserView):
    """Where the LDA reports a plan."""

    authentication_classes = [IngestAuthentication]
    permission_classes = [IsIngest]

    @extend_schema(exclude=True)
    def post(self, request: Request, decomposition_id: uuid.UUID) -> Response:
        """Store the LDA's report."""
        report = decode_plan_report(request.body)
        store_plan(grant=_grant(request), decomposition_id=decomposition_id, report=report)
        return Response({"stored": True})
