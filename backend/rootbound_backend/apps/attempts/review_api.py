"""Endpoints of reviewing."""

from __future__ import annotations

import uuid

from drf_spectacular.utils import extend_schema
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.attempts import review
from rootbound_backend.apps.attempts.review_serializers import (
    CommentInputSerializer,
    CommentListSerializer,
    CommentSerializer,
    ComparisonListSerializer,
    ComparisonSerializer,
    MergePreviewSerializer,
    MessageSerializer,
    RequestChangesSerializer,
    UpdateSerializer,
    WorktreeListSerializer,
    WorktreesGoneSerializer,
)
from rootbound_backend.apps.attempts.selectors import get_attempt
from rootbound_backend.apps.attempts.serializers import AttemptSerializer
from rootbound_backend.apps.tasks.selectors import get_task
from rootbound_backend.views import UserView, current_user, validated

__all__ = [
    "CommentView",
    "CommentsView",
    "CompareView",
    "MergePreviewView",
    "MessagesView",
    "RequestChangesView",
    "UpdateView",
    "WorktreesView",
]


def _answer(request: Request, attempt_id: uuid.UUID, status: int) -> Response:
    attempt = get_attempt(user=current_user(request), attempt_id=attempt_id)
    return Response(AttemptSerializer(attempt).data, status=status)


class MessagesView(UserView):
    """Steering an agent while it works."""

    @extend_schema(request=MessageSerializer, responses={202: AttemptSerializer})
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Tell the agent something; its next request to the model carries it."""
        text = validated(MessageSerializer, request.data)["text"]
        review.send_message(user=current_user(request), attempt_id=attempt_id, text=text)
        return _answer(request, attempt_id, 202)


class CommentsView(UserView):
    """The comments on an attempt's diff."""

    @extend_schema(operation_id="comments_list", responses=CommentListSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """List comments, oldest first."""
        rows = review.comments_of(user=current_user(request), attempt_id=attempt_id)
        return Response({"results": CommentSerializer(rows, many=True).data, "next": None})

    @extend_schema(request=CommentInputSerializer, responses={201: CommentSerializer})
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Comment on a line, a file or the whole."""
        fields = validated(CommentInputSerializer, request.data)
        comment = review.add_comment(
            user=current_user(request), attempt_id=attempt_id, fields=fields
        )
        return Response(CommentSerializer(comment).data, status=201)


class CommentView(UserView):
    """One comment."""

    @extend_schema(responses={204: None})
    def delete(self, request: Request, attempt_id: uuid.UUID, comment_id: uuid.UUID) -> Response:
        """Delete the comment."""
        review.delete_comment(
            user=current_user(request), attempt_id=attempt_id, comment_id=comment_id
        )
        return Response(status=204)


class RequestChangesView(UserView):
    """Asking for changes."""

    @extend_schema(request=RequestChangesSerializer, responses={201: AttemptSerializer})
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Start an attempt that goes on with the work, told of feedback and comments."""
        fields = validated(RequestChangesSerializer, request.data)
        attempt = review.request_changes(
            user=current_user(request),
            attempt_id=attempt_id,
            feedback=fields.get("feedback", ""),
            version=fields.get("version"),
            status=fields.get("status"),
        )
        return _answer(request, attempt.pk, 201)


class UpdateView(UserView):
    """Bringing work onto the base branch as it is now."""

    @extend_schema(request=UpdateSerializer, responses={201: AttemptSerializer})
    def post(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Start an attempt that rebases the work and runs the gates again."""
        fields = validated(UpdateSerializer, request.data)
        attempt = review.update_attempt(
            user=current_user(request),
            attempt_id=attempt_id,
            resolve=fields.get("resolve", False),
            version=fields.get("version"),
            status=fields.get("status"),
        )
        return _answer(request, attempt.pk, 201)


class MergePreviewView(UserView):
    """What approving would do."""

    @extend_schema(responses=MergePreviewSerializer)
    def get(self, request: Request, attempt_id: uuid.UUID) -> Response:
        """Try the merge without making it."""
        return Response(review.merge_preview(user=current_user(request), attempt_id=attempt_id))


class CompareView(UserView):
    """The attempts of a task side by side."""

    @extend_schema(operation_id="task_compare", responses=ComparisonListSerializer)
    def get(self, request: Request, task_id: uuid.UUID) -> Response:
        """Return size, gates, cost, time and denied operations of each."""
        user = current_user(request)
        get_task(user=user, task_id=task_id)
        rows = review.compare_attempts(user=user, task_id=task_id)
        return Response({"results": ComparisonSerializer(rows, many=True).data, "next": None})


class WorktreesView(UserView):
    """The worktrees of the user's attempts."""

    @extend_schema(operation_id="worktrees_list", responses=WorktreeListSerializer)
    def get(self, request: Request) -> Response:
        """List them with their sizes, the largest first."""
        return Response(review.worktrees_of(user=current_user(request)))

    @extend_schema(operation_id="worktrees_tend", request=None, responses=WorktreesGoneSerializer)
    def post(self, request: Request) -> Response:
        """Remove those that are merged, discarded or empty; their commits are kept."""
        return Response({"removed": review.tend_worktrees(user=current_user(request))})
