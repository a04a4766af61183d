"""Endpoints of requests for access."""

from __future__ import annotations

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.attempts.selectors import get_attempt
from rootbound_backend.apps.local_access.access_requests import (
    access_requests,
    get_access_request,
    grant_request,
    refuse_request,
)
from rootbound_backend.apps.local_access.access_serializers import (
    AccessFilterSerializer,
    AccessRequestListSerializer,
    AccessRequestSerializer,
    AccessStatusSerializer,
    GrantSerializer,
)
from rootbound_backend.views import UserView, current_user, paginate, query_params, validated

__all__ = [
    "AccessRequestView",
    "AccessRequestsView",
    "AttemptAccessRequestsView",
    "GrantView",
    "RefuseView",
]


def _page(request: Request, **filters: Any) -> Response:
    rows = access_requests(user=current_user(request), **filters)
    page, following = paginate(request, rows, by=("created_at", "id"), newest_first=True)
    shown = AccessRequestSerializer(page, many=True)
    return Response({"results": shown.data, "next": following})


class AccessRequestsView(UserView):
    """Everything that agents ask for."""

    @extend_schema(
        operation_id="access_requests_list",
        parameters=[AccessFilterSerializer],
        responses=AccessRequestListSerializer,
    )
    def get(self, request: Request) -> Response:
        """List requests, newest first."""
        return _page(request, **query_params(AccessFilterSerializer, request))


class AttemptAccessRequestsView(UserView):
    """What one attempt asks for."""

    @extend_schema(
        operation_id="attempt_access_requests_list",
        parameters=[AccessStatusSerializer],
        responses=AccessRequestListSerializer,
    )
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """List the attempt's requests, newest first."""
        get_attempt(user=current_user(request), attempt_id=attempt_id)
        filters = query_params(AccessStatusSerializer, request)
        return _page(request, attempt=attempt_id, **filters)


class AccessRequestView(UserView):
    """One request for access."""

    @extend_schema(responses=AccessRequestSerializer)
    def get(self, request: Request, request_id: uuid.UUID) -> Response:
        """Return the request."""
        row = get_access_request(user=current_user(request), request_id=request_id)
        return Response(AccessRequestSerializer(row).data)


class GrantView(UserView):
    """Granting what was asked for."""

    @extend_schema(request=GrantSerializer, responses=AccessRequestSerializer)
    def post(self, request: Request, request_id: uuid.UUID) -> Response:
        """Grant access; a live run has it from its next command on."""
        user = current_user(request)
        get_access_request(user=user, request_id=request_id)
        fields = validated(GrantSerializer, request.data)
        row = grant_request(user=user, request_id=request_id, **fields)
        return Response(AccessRequestSerializer(row).data)


class RefuseView(UserView):
    """Refusing what was asked for."""

    @extend_schema(request=None, responses=AccessRequestSerializer)
    def post(self, request: Request, request_id: uuid.UUID) -> Response:
        """Refuse access, or take back what was granted for the task."""
        row = refuse_request(user=current_user(request), request_id=request_id)
        return Response(AccessRequestSerializer(row).data)
