"""Tokens and money by day, project and role."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from rootbound_backend.apps.attempts.models import Attempt
from rootbound_backend.apps.local_access.models import PMDecomposition
from tests.integration.backend.backend_support import (
    make_agent,
    make_attempt,
    make_project,
    make_task,
)


def used(attempt: Attempt, moment: datetime, **usage: Any) -> None:
    Attempt.objects.filter(pk=attempt.pk).update(created_at=moment, usage=usage)


def test_costs_add_up_by_day_project_and_role(client: Any, user: Any, other: Any) -> None:
    one, two = make_project(user, test_cmd="true"), make_project(user, test_cmd="true")
    make_agent(user, "QA")
    first = make_attempt(user, make_task(one, "A"))
    second = make_attempt(user, make_task(one, "B"))
    elsewhere = make_attempt(user, make_task(two, "C", agent_role="QA"))
    evening = datetime(2026, 3, 1, 23, 30, tzinfo=UTC)
    used(first, evening, steps=1, input_tokens=100, output_tokens=10, cost_usd=0.25)
    used(second, evening, steps=1, input_tokens=50, output_tokens=5, cost_usd=None)
    used(elsewhere, datetime(2026, 3, 3, 8, tzinfo=UTC), input_tokens=7, output_tokens=3)
    plan = PMDecomposition.objects.create(
        project=one, user_prompt="x", usage={"input_tokens": 1000, "cost_usd": 1.5}
    )
    PMDecomposition.objects.filter(pk=plan.pk).update(created_at=evening)

    path = "/api/costs/?since=2026-03-01&until=2026-03-04"
    rows = client.get(path + "&time_zone=UTC").json()["results"]
    table = {(row["day"], row["project"], row["role"]): row for row in rows}
    backend = table["2026-03-01", str(one.pk), "BACKEND"]
    assert {key: backend[key] for key in ("runs", "input_tokens", "output_tokens")} == {
        "runs": 2, "input_tokens": 150, "output_tokens": 15,
    }  # fmt: skip
    assert backend["cost_usd"] == pytest.approx(0.25)
    assert backend["unpriced_runs"] == 1
    assert table["2026-03-01", str(one.pk), "PM"]["cost_usd"] == pytest.approx(1.5)
    qa = table["2026-03-03", str(two.pk), "QA"]
    assert (qa["input_tokens"], qa["unpriced_runs"], qa["cost_usd"]) == (7, 1, 0.0)
    assert len(rows) == 3

    # In Oslo that evening is the next day.
    oslo = client.get(path + f"&project={one.pk}&time_zone=Europe/Oslo").json()["results"]
    assert {row["day"] for row in oslo} == {"2026-03-02"}
    assert {row["project"] for row in oslo} == {str(one.pk)}
    assert other.get(path).json()["results"] == []


def test_costs_default_to_thirty_days_and_refuse_nonsense(client: Any, user: Any) -> None:
    make_attempt(user)
    answer = client.get("/api/costs/?time_zone=UTC").json()
    until = date.fromisoformat(answer["until"])
    assert (until - date.fromisoformat(answer["since"])).days == 29
    assert [row["runs"] for row in answer["results"]] == [1]
    for query in ("since=2026-02-02&until=2026-02-01", "since=2020-01-01", "time_zone=Mars/Base"):
        refused = client.get(f"/api/costs/?{query}")
        assert refused.status_code == 400, refused.content
        assert refused["Content-Type"] == "application/problem+json"
