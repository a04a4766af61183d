"""Tokens and money by day, project and role."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from django.db.models import (
    BigIntegerField,
    Count,
    F,
    FloatField,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.fields.json import KT
from django.db.models.functions import Cast, Coalesce, TruncDate
from django.utils import timezone
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.models import PMDecomposition
from rootbound_backend.apps.tasks.models import AgentRole
from rootbound_backend.apps.users.models import User
from rootbound_backend.fields import StrictSerializer
from rootbound_backend.views import UserView, current_user, query_params

__all__ = ["CostsView", "costs_of"]

DEFAULT_DAYS = 30
MAX_DAYS = 366


class CostQuerySerializer(StrictSerializer):
    """Which days, and whose work."""

    project = serializers.UUIDField(required=False, help_text="One project; default all of yours.")
    since = serializers.DateField(required=False, help_text="First day; default 29 days back.")
    until = serializers.DateField(required=False, help_text="Last day; default today.")
    time_zone = serializers.CharField(
        max_length=64, required=False, help_text="Where a day begins, such as Europe/Oslo."
    )

    def validate_time_zone(self, value: str) -> str:
        """Refuse a name that is none."""
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError) as error:
            raise serializers.ValidationError(f"There is no time zone {value!r}.") from error
        return value

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        """Check that the days go together."""
        since, until = _days(attrs.get("since"), attrs.get("until"), attrs.get("time_zone"))
        if until < since:
            raise serializers.ValidationError({"until": ["until must not be before since."]})
        if (until - since).days >= MAX_DAYS:
            raise serializers.ValidationError({"since": [f"Ask for at most {MAX_DAYS} days."]})
        return {**attrs, "since": since, "until": until}


class CostRowSerializer(serializers.Serializer[Any]):
    """What the agents of one role used for one project on one day."""

    day = serializers.DateField()
    project = serializers.UUIDField()
    project_name = serializers.CharField()
    role = serializers.ChoiceField(choices=AgentRole.choices)
    runs = serializers.IntegerField(help_text="Attempts and plans that were made that day.")
    input_tokens = serializers.IntegerField()
    output_tokens = serializers.IntegerField()
    cost_usd = serializers.FloatField(help_text="Of the runs whose model has a known price.")
    unpriced_runs = serializers.IntegerField(help_text="Runs with tokens but no known price.")


class CostListSerializer(serializers.Serializer[Any]):
    """Rows by day, project and role."""

    since = serializers.DateField()
    until = serializers.DateField()
    results = CostRowSerializer(many=True)


class CostsView(UserView):
    """What the agents used."""

    @extend_schema(
        operation_id="costs_list", parameters=[CostQuerySerializer], responses=CostListSerializer
    )
    def get(self, request: Request) -> Response:
        """Return tokens and money by day, project and role, oldest day first."""
        fields = query_params(CostQuerySerializer, request)
        rows = costs_of(current_user(request), **fields)
        days = {"since": fields["since"], "until": fields["until"]}
        return Response(CostListSerializer({**days, "results": rows}).data)


def costs_of(
    user: User,
    *,
    since: date,
    until: date,
    project: Any = None,
    time_zone: str | None = None,
) -> list[dict[str, Any]]:
    """Return what a user's agents used, by day, project and role.

    Parameters
    ----------
    user
        Whose projects.
    since, until
        First and last day.
    project
        Id of one project; None for all.
    time_zone
        Where a day begins; None for the server's.

    Returns
    -------
    list of dict
        As in `CostRowSerializer`; a run counts on the day on which it was made. The PM's plans
        count as role PM.
    """
    zone = ZoneInfo(time_zone) if time_zone else timezone.get_default_timezone()
    span = {
        "created_at__gte": datetime.combine(since, time(), zone),
        "created_at__lt": datetime.combine(until + timedelta(days=1), time(), zone),
    }
    attempts = Attempt.objects.filter(task__project__owner=user, **span)
    plans = PMDecomposition.objects.filter(project__owner=user, **span)
    if project is not None:
        attempts = attempts.filter(task__project_id=project)
        plans = plans.filter(project_id=project)
    found = _sums(
        attempts.annotate(
            project_pk=F("task__project_id"),
            project_name=F("task__project__name"),
            role=F("task__agent_role"),
        ),
        zone,
    )
    found += _sums(
        plans.annotate(
            project_pk=F("project_id"),
            project_name=F("project__name"),
            role=Value(AgentRole.PM.value),
        ),
        zone,
    )
    return _merged(found)


def _sums(rows: QuerySet[Any], zone: ZoneInfo | Any) -> list[dict[str, Any]]:
    def number(name: str, field: Any) -> Any:
        return Cast(KT(f"usage__{name}"), field)

    tokens = Q(usage__input_tokens__gt=0) | Q(usage__output_tokens__gt=0)
    sums = (
        rows.annotate(day=TruncDate("created_at", tzinfo=zone))
        .order_by()
        .values("day", "project_pk", "project_name", "role")
        .annotate(
            runs=Count("pk"),
            input_tokens=Coalesce(Sum(number("input_tokens", BigIntegerField())), 0),
            output_tokens=Coalesce(Sum(number("output_tokens", BigIntegerField())), 0),
            cost_usd=Coalesce(Sum(number("cost_usd", FloatField())), 0.0),
            unpriced_runs=Count(
                "pk", filter=tokens & (Q(usage__cost_usd=None) | ~Q(usage__has_key="cost_usd"))
            ),
        )
    )
    return [dict(row) for row in sums]


def _merged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add rows of the same day, project and role together, and put them in order."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    counted = ("runs", "input_tokens", "output_tokens", "cost_usd", "unpriced_runs")
    for row in rows:
        row["project"] = row.pop("project_pk")
        key = (row["day"], row["project_name"], str(row["project"]), row["role"])
        known = found.setdefault(key, row)
        if known is not row:
            known.update({name: known[name] + row[name] for name in counted})
    return [found[key] for key in sorted(found)]


def _days(since: date | None, until: date | None, zone: str | None) -> tuple[date, date]:
    last = until or timezone.localdate(timezone=ZoneInfo(zone) if zone else None)
    return since or last - timedelta(days=DEFAULT_DAYS - 1), last
