"""Celery tasks of users."""

from __future__ import annotations

from celery import shared_task

from rootbound_backend.apps.users.services import forget_idempotency_keys

__all__ = ["forget_idempotency_keys_task"]


@shared_task(name="users.tasks.forget_idempotency_keys_task")
def forget_idempotency_keys_task() -> int:
    """Forget answered writes of more than a day ago."""
    return forget_idempotency_keys()
