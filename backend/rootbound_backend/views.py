"""What every view shares: closed by default, problem documents, keyed writes, cursors."""

from __future__ import annotations

import base64
import hashlib
import json
import uuid
from datetime import datetime
from typing import Any, TypeVar

from django.db.models import Model, Q, QuerySet
from rest_framework import serializers
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from rootbound_backend.apps.users.models import IdempotencyKey, User
from rootbound_backend.apps.users.services import (
    claim_idempotency_key,
    release_idempotency_key,
    store_idempotent_answer,
)
from rootbound_backend.problems import CONTENT_TYPE, InvalidInput, exception_handler

__all__ = [
    "UserView",
    "current_user",
    "limit_of",
    "paginate",
    "query_params",
    "validated",
]

M = TypeVar("M", bound=Model)

MAX_LIMIT = 1000
DEFAULT_LIMIT = 100
_WRITES = frozenset({"POST", "PATCH", "DELETE"})


def current_user(request: Request) -> User:
    """Return the authenticated user of a request."""
    user = request.user
    if not isinstance(user, User):
        raise TypeError("This view let an anonymous request in.")
    return user


def validated(
    serializer: type[serializers.Serializer[Any]], data: Any, *, partial: bool = False
) -> dict[str, Any]:
    """Return the validated fields of a request's data.

    Raises
    ------
    rest_framework.exceptions.ValidationError
        Which becomes a 400 problem that names the fields.
    """
    checked = serializer(data=data, partial=partial)
    checked.is_valid(raise_exception=True)
    return dict(checked.validated_data)


def query_params(serializer: type[serializers.Serializer[Any]], request: Request) -> dict[str, Any]:
    """Return the validated query parameters of a request."""
    named = request.query_params.dict()
    # JupyterLab adds the time in milliseconds to every GET, so that no browser answers from memory.
    return validated(serializer, {k: v for k, v in named.items() if v or not k.isdecimal()})


class _ReplayedAnswer(Exception):  # noqa: N818 - not an error
    """Carries the remembered answer of a keyed write past the view."""

    def __init__(self, record: IdempotencyKey) -> None:
        super().__init__("answered before")
        self.record = record


class UserView(APIView):
    """Base of the views for people: signed in, and writes may carry an ``Idempotency-Key``."""

    permission_classes = [IsAuthenticated]
    _claimed: IdempotencyKey | None = None

    def initial(self, request: Request, *args: Any, **kwargs: Any) -> None:
        """Check who asks, then look the write's key up."""
        super().initial(request, *args, **kwargs)
        key = request.headers.get("Idempotency-Key")
        if key is None or request.method not in _WRITES or not isinstance(request.user, User):
            return
        if not 1 <= len(key) <= 255 or "\x00" in key:
            raise InvalidInput(
                field="Idempotency-Key",
                detail="The Idempotency-Key header must have 1 to 255 characters.",
            )
        record, answered = claim_idempotency_key(
            user=current_user(request),
            key=key,
            target=f"{request.method} {request.path}"[:1024],
            body_digest=hashlib.sha256(request.body).hexdigest(),
        )
        if answered:
            raise _ReplayedAnswer(record)
        self._claimed = record

    def handle_exception(self, exc: Exception) -> Response:
        """Answer a repeated write as the first time, and free the key after a fault."""
        if isinstance(exc, _ReplayedAnswer):
            status = exc.record.status or 200
            kind = CONTENT_TYPE if status >= 400 else None
            response = Response(exc.record.response, status=status, content_type=kind)
            response["Idempotent-Replayed"] = "true"
            return response
        claimed, self._claimed = self._claimed, None
        if claimed is not None:
            response_or_none = exception_handler(exc, {})
            if response_or_none is None or response_or_none.status_code >= 409:
                # A conflict or an outage may be gone the next time.
                release_idempotency_key(record=claimed)
            else:
                self._claimed = claimed
        return super().handle_exception(exc)

    def finalize_response(
        self, request: Request, response: Any, *args: Any, **kwargs: Any
    ) -> Response:
        """Remember the answer of a keyed write."""
        final = super().finalize_response(request, response, *args, **kwargs)
        if self._claimed is not None and isinstance(final, Response):
            document = json.loads(json.dumps(final.data, default=_plain))
            store_idempotent_answer(
                record=self._claimed, status=final.status_code, response=document
            )
            self._claimed = None
        return final


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, datetime) else str(value)


def limit_of(request: Request) -> int:
    """Return ``?limit=``, 1 to 1000, default 100.

    Raises
    ------
    InvalidInput
        For anything else.
    """
    text = request.query_params.get("limit", str(DEFAULT_LIMIT))
    if not text.isdecimal() or not 1 <= int(text) <= MAX_LIMIT:
        raise InvalidInput(field="limit", detail=f"limit must be a number from 1 to {MAX_LIMIT}.")
    return int(text)


def paginate(
    request: Request, rows: QuerySet[M], *, by: tuple[str, str] | tuple[str], newest_first: bool
) -> tuple[list[M], str | None]:
    """Return one page and the cursor of the next one, by keyset and never by offset.

    Parameters
    ----------
    request
        Its ``?limit=`` and ``?cursor=`` are used.
    rows
        What to page through, without an order.
    by
        One or two fields that order the rows; together unique.
    newest_first
        Whether the order is descending.
    """
    limit = limit_of(request)
    sign, operator = ("-", "lt") if newest_first else ("", "gt")
    cursor = request.query_params.get("cursor")
    if cursor:
        rows = rows.filter(_behind(cursor, by, operator))
    page = list(rows.order_by(*(f"{sign}{field}" for field in by))[: limit + 1])
    if len(page) <= limit:
        return page, None
    return page[:limit], _cursor([getattr(page[limit - 1], field) for field in by])


def _cursor(values: list[Any]) -> str:
    text = json.dumps([_plain(value) if not isinstance(value, int) else value for value in values])
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _behind(cursor: str, by: tuple[str, ...], operator: str) -> Q:
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        values = list(json.loads(base64.urlsafe_b64decode(padded.encode())))
        if len(by) == 1:
            (only,) = values
            return Q(**{f"{by[0]}__{operator}": int(only)})
        moment, last = values
        first: Any = datetime.fromisoformat(moment)
        second = str(uuid.UUID(last))
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(
            field="cursor", detail="The cursor is not one of this list; start without one."
        ) from error
    tie = Q(**{by[0]: first}) & Q(**{f"{by[1]}__{operator}": second})
    return Q(**{f"{by[0]}__{operator}": first}) | tie
