"""Looking at the services that the backend needs."""

from __future__ import annotations

from typing import Any

import redis
from django.conf import settings
from django.db import DatabaseError, connection

from rootbound_backend.apps.users.models import User
from rootbound_backend.celery import app
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem

__all__ = ["service_details"]


def service_details(user: User) -> dict[str, dict[str, Any]]:
    """Return state and detail of PostgreSQL, Redis, the worker and the user's LDA."""
    broker = _redis()
    worker = _worker() if broker["state"] == "ready" else _failed("Redis does not answer.")
    return {"postgres": _postgres(), "redis": broker, "worker": worker, "lda": _lda(user)}


def _ready(detail: str) -> dict[str, Any]:
    return {"state": "ready", "detail": detail}


def _failed(detail: str) -> dict[str, Any]:
    return {"state": "failed", "detail": detail}


def _postgres() -> dict[str, Any]:
    try:
        with connection.cursor() as cursor:
            cursor.execute("SHOW server_version")
            return _ready(f"PostgreSQL {cursor.fetchone()[0]}")
    except DatabaseError:
        return _failed("PostgreSQL does not answer; run `rootbound up`.")


def _redis() -> dict[str, Any]:
    try:
        client = redis.Redis.from_url(settings.REDIS_URL, socket_timeout=2)
        try:
            facts: Any = client.info("server")
            return _ready(f"Redis {facts['redis_version']}")
        finally:
            client.close()
    except redis.RedisError:
        return _failed("Redis does not answer; run `rootbound up`.")


def _worker() -> dict[str, Any]:
    answers = app.control.ping(timeout=0.5)
    if answers:
        return _ready(f"{len(answers)} Celery worker(s)")
    return _failed("No Celery worker answers; run `rootbound up`.")


def _lda(user: User) -> dict[str, Any]:
    try:
        facts = lda_request("GET", "/health", user_id=user.pk, timeout_s=3)
    except Problem as problem:
        return _failed(problem.detail)
    return _ready(f"LDA {facts.get('version')}, tier {facts.get('sandbox', {}).get('tier')}")
