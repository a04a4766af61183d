"""The query parameters of a list of events."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers
from rest_framework.request import Request

from rootbound_backend.apps.attempts.events import EventFilter
from rootbound_backend.apps.attempts.models import EventType
from rootbound_backend.problems import InvalidInput
from rootbound_backend.views import MAX_LIMIT, query_params

__all__ = ["EventQuerySerializer", "event_filter"]

_HIGHEST = 2**62


class EventQuerySerializer(serializers.Serializer[Any]):
    """Which events to list."""

    after = serializers.IntegerField(
        min_value=0, max_value=_HIGHEST, default=0, help_text="Events behind this number."
    )
    before = serializers.IntegerField(
        min_value=1,
        max_value=_HIGHEST,
        required=False,
        help_text="Events in front of this number; without `after`, the nearest ones.",
    )
    limit = serializers.IntegerField(
        min_value=1,
        max_value=MAX_LIMIT,
        default=100,
        help_text="At most so many; a page also ends after 1 MiB.",
    )
    type = serializers.CharField(
        required=False, help_text="One of LOG, ERROR, ARTIFACT, STATUS, or several with commas."
    )
    tail = serializers.IntegerField(
        min_value=1,
        max_value=MAX_LIMIT,
        required=False,
        help_text="The last so many, instead of `limit` from the start.",
    )
    q = serializers.CharField(
        required=False,
        max_length=500,
        help_text=(
            'Words that must be in the event; "..." for a phrase, or, and - as in a search '
            "engine. A search reads a part of the stream at a time: go on with `next` "
            "(or `previous`), also after a page without results."
        ),
    )

    def validate_type(self, value: str) -> list[str]:
        """Return the types as a list."""
        types = [part.strip() for part in value.split(",") if part.strip()]
        unknown = [part for part in types if part not in EventType.values]
        if unknown:
            raise serializers.ValidationError(
                f"{unknown[0][:40]!r} is no type of event; there are {', '.join(EventType.values)}."
            )
        return types


def event_filter(request: Request) -> EventFilter:
    """Return what a request asks for.

    Raises
    ------
    rest_framework.exceptions.ValidationError
        For a parameter that cannot be used.
    InvalidInput
        For `tail` together with `after`.
    """
    fields = query_params(EventQuerySerializer, request)
    tail = fields.get("tail")
    if tail is not None and "after" in request.query_params:
        raise InvalidInput(
            field="tail", detail="tail counts from the end, so it cannot go with after."
        )
    from_end = "before" in fields and "after" not in request.query_params
    return EventFilter(
        after=fields["after"],
        before=fields.get("before"),
        types=fields.get("type", ()),
        query=fields.get("q", ""),
        limit=fields["limit"] if tail is None else tail,
        newest=tail is not None or from_end,
    )
