"""Endpoints of attempts."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from drf_spectacular.utils import extend_schema
from rest_framework.authentication import BaseAuthentication
from rest_framework.exceptions import APIException, PermissionDenied
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend import metrics
from rootbound_backend.apps.attempts.artifacts import (
    AnyRenderer,
    artifact_response,
    list_artifacts,
)
from rootbound_backend.apps.attempts.diff_serializers import DiffSerializer
from rootbound_backend.apps.attempts.event_query import EventQuerySerializer, event_filter
from rootbound_backend.apps.attempts.events import list_events
from rootbound_backend.apps.attempts.ingest import decode_events, ingest_events
from rootbound_backend.apps.attempts.places import place_of
from rootbound_backend.apps.attempts.selectors import attempts_of_task, get_attempt, just_made
from rootbound_backend.apps.attempts.serializers import (
    ArtifactListSerializer,
    AttemptInputSerializer,
    AttemptListSerializer,
    AttemptSerializer,
    EventListSerializer,
    GateListSerializer,
    GateSerializer,
    MoveSerializer,
    RejectSerializer,
    RetrySerializer,
)
from rootbound_backend.apps.attempts.services import (
    approve_attempt,
    cancel_attempt,
    create_attempt,
    reject_attempt,
    retry_attempt,
)
from rootbound_backend.apps.local_access.kernel_scope import KernelGrant
from rootbound_backend.apps.tasks.selectors import get_task
from rootbound_backend.authentication import IngestAuthentication, IsIngest
from rootbound_backend.bodies import read_body
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem, not_found
from rootbound_backend.tokens import IngestGrant
from rootbound_backend.views import UserView, current_user, paginate, validated

__all__ = [
    "ApproveView",
    "ArtifactView",
    "ArtifactsView",
    "AttemptView",
    "CancelView",
    "DiffView",
    "EventsView",
    "GatesView",
    "RejectView",
    "RetryView",
    "TaskAttemptsView",
]


def _answer(request: Request, attempt_id: uuid.UUID, status: int = 200) -> Response:
    attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
    return Response(AttemptSerializer(attempt).data, status=status)


class TaskAttemptsView(UserView):
    """The attempts on one task."""

    @extend_schema(operation_id="attempts_list", responses=AttemptListSerializer)
    def get(self, request: Request, task_id: uuid.UUID) -> Response:
        """List attempts, newest first."""
        user = current_user(request)
        get_task(user=user, task_id=task_id)
        rows = attempts_of_task(user=user, task_id=task_id)
        page, following = paginate(request, rows, by=("number",), newest_first=True)
        return Response({"results": AttemptSerializer(page, many=True).data, "next": following})

    @extend_schema(request=AttemptInputSerializer, responses={201: AttemptSerializer})
    def post(self, request: Request, task_id: uuid.UUID) -> Response:
        """Start an attempt."""
        user = current_user(request)
        try:
            fields = validated(AttemptInputSerializer, request.data)
        except (APIException, Problem):
            get_task(user=user, task_id=task_id)  # of a task that is not there, only that is said
            raise
        if fields.get("reference_paths") and isinstance(request.auth, KernelGrant):
            get_task(user=user, task_id=task_id)
            # What an agent may read so, the kernel could read in the agent's work.
            raise PermissionDenied("A confined kernel cannot point an agent at further files.")
        attempt = create_attempt(
            user=user,
            task_id=task_id,
            reference_paths=fields.get("reference_paths", []),
            agent_id=fields.get("agent_id"),
            version=fields.get("version"),
        )
        return Response(AttemptSerializer(just_made(attempt)).data, status=201)


class AttemptView(UserView):
    """One attempt."""

    @extend_schema(responses=AttemptSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Return the attempt."""
        return _answer(request, attempt_id)


class EventsView(UserView):
    """The stream of an attempt: people read it, the run's LDA writes it."""

    def get_authenticators(self) -> list[BaseAuthentication]:
        """Return the ways in: the run's own token for writing, a person's for reading."""
        if _is_post(self.request):
            return [IngestAuthentication()]
        return super().get_authenticators()

    def get_permissions(self) -> list[Any]:
        """Return who may: the run for writing, a person for reading."""
        return [IsIngest()] if _is_post(self.request) else [IsAuthenticated()]

    def handle_exception(self, exc: Exception) -> Response:
        """Count a refused batch."""
        answer = super().handle_exception(exc)
        if _is_post(self.request):
            metrics.note_rejected("event", str((answer.data or {}).get("code", "internal")))
        return answer

    @extend_schema(responses=EventListSerializer, parameters=[EventQuerySerializer])
    def get(self, request: Request, attempt_id: uuid.UUID) -> HttpResponse:
        """Return events in order: from the start, behind a number, or from the end."""
        attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
        page = list_events(attempt, event_filter(request))
        facts = {
            "next": page.next, "previous": page.previous,
            "first_seq": attempt.first_seq, "last_seq": attempt.last_seq,
        }  # fmt: skip
        # The events are encoded already, so they are not decoded only to be encoded again.
        rows = ",".join(text for _, text in page.events)
        tail = msgspec.json.encode(facts).decode().removeprefix("{")
        return HttpResponse(f'{{"results":[{rows}],{tail}', content_type="application/json")

    @extend_schema(exclude=True)
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Store a batch of the LDA's."""
        grant = request.auth
        if not isinstance(grant, IngestGrant) or grant.attempt_id != attempt_id:
            raise not_found("attempt")
        batch = decode_events(
            read_body(request._request),
            request.headers.get("Content-Type", ""),
            lease_generation=grant.lease_generation,
        )
        if batch.lease_generation != grant.lease_generation:
            raise Problem(
                status=409,
                code="fenced",
                detail="The batch's lease_generation is not the one of its token.",
                extras={"lease_generation": grant.lease_generation},
            )
        return Response({"seq": ingest_events(attempt_id=attempt_id, batch=batch)})


def _is_post(request: Any) -> bool:
    return request is not None and request.method == "POST"


class ArtifactsView(UserView):
    """The files that an attempt left."""

    @extend_schema(operation_id="attempt_artifacts", responses=ArtifactListSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """List names and sizes."""
        attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
        return Response({"results": list_artifacts(attempt), "next": None})


class ArtifactView(UserView):
    """One file that an attempt left."""

    renderer_classes = [AnyRenderer]

    @extend_schema(
        operation_id="attempt_artifact",
        responses={
            (200, "application/octet-stream"): bytes,
            (206, "application/octet-stream"): bytes,
        },
    )
    def get(self, request: Request, attempt_id: uuid.UUID, name: str) -> HttpResponseBase:
        """Return the file, or the one range of bytes that ``Range`` names."""
        attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
        return artifact_response(attempt, name, request.headers.get("Range", ""))


class DiffView(UserView):
    """What an attempt changes."""

    @extend_schema(responses=DiffSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Return the LDA's diff as it is."""
        attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
        return Response(
            lda_request("GET", f"/runs/{attempt.pk}/diff", **place_of(attempt), timeout_s=30)
        )


class GatesView(UserView):
    """The evidence of an attempt."""

    @extend_schema(operation_id="attempt_gates", responses=GateListSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Return the gates in the order in which they ran."""
        attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
        gates = GateSerializer(attempt.gates.all(), many=True)
        return Response({"results": gates.data, "next": None})


class CancelView(UserView):
    """Cancelling."""

    @extend_schema(request=MoveSerializer, responses=AttemptSerializer)
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Cancel a live attempt."""
        fields = validated(MoveSerializer, request.data)
        cancel_attempt(
            user=current_user(request), attempt_id=attempt_id, version=fields.get("version")
        )
        return _answer(request, attempt_id)


class ApproveView(UserView):
    """Approving."""

    @extend_schema(request=MoveSerializer, responses=AttemptSerializer)
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Merge an attempt in review."""
        fields = validated(MoveSerializer, request.data)
        approve_attempt(
            user=current_user(request), attempt_id=attempt_id, version=fields.get("version")
        )
        return _answer(request, attempt_id)


class RejectView(UserView):
    """Rejecting."""

    @extend_schema(request=RejectSerializer, responses=AttemptSerializer)
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Reject an attempt in review."""
        fields = validated(RejectSerializer, request.data)
        reject_attempt(
            user=current_user(request),
            attempt_id=attempt_id,
            reason=fields.get("reason", ""),
            version=fields.get("version"),
        )
        return _answer(request, attempt_id)


class RetryView(UserView):
    """Trying again."""

    @extend_schema(request=RetrySerializer, responses={201: AttemptSerializer})
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Start a new attempt after a failed one or instead of one in review."""
        fields = validated(RetrySerializer, request.data)
        attempt = retry_attempt(
            user=current_user(request),
            attempt_id=attempt_id,
            feedback=fields.get("feedback", ""),
            version=fields.get("version"),
            status=fields.get("status"),
        )
        return _answer(request, attempt.pk, 201)
