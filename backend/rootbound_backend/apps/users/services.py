"""Writes on users and on the memory of answered writes."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.db import IntegrityError, transaction
from django.utils import timezone

from rootbound_backend.apps.users.models import IdempotencyKey, User
from rootbound_backend.problems import Problem
from rootbound_backend.statements import Prepared

__all__ = [
    "KEEP_KEYS",
    "claim_idempotency_key",
    "ensure_user",
    "forget_idempotency_keys",
    "release_idempotency_key",
    "store_idempotent_answer",
]

KEEP_KEYS = timedelta(hours=24)
"""How long an answered write is remembered."""

STALE_CLAIM = timedelta(minutes=5)
"""After this long a write without an answer counts as broken off."""


def ensure_user(*, username: str, name: str = "") -> User:
    """Return the user of a verified identity, made on first sight.

    Parameters
    ----------
    username
        1 to 150 characters.
    name
        Display name; kept up to date when not "".

    Raises
    ------
    Problem
        401 when the username cannot be one.
    """
    if not 1 <= len(username) <= 150 or "\x00" in username:
        raise Problem(
            status=401,
            code="authentication-failed",
            detail="The identity has no usable username; it must have 1 to 150 characters.",
        )
    user = _BY_NAME.first(username)
    if user is None:
        # Safe against a race: the loser of the insert reads the winner's row.
        user, _ = User.objects.get_or_create(
            username=username, defaults={"first_name": name[:150], "password": "!"}
        )
    if name and user.first_name != name[:150]:
        user.first_name = name[:150]
        user.save(update_fields=["first_name"])
    return user


_BY_NAME = Prepared(lambda username: User.objects.filter(username=username), str)


def claim_idempotency_key(
    *, user: User, key: str, target: str, body_digest: str
) -> tuple[IdempotencyKey, bool]:
    """Return the record of a keyed write and whether it is answered already.

    Raises
    ------
    Problem
        409 ``idempotency-key-reused`` for another body, ``idempotency-in-progress`` while the
        first request with the key is at work.
    """
    try:
        with transaction.atomic():
            record = IdempotencyKey.objects.create(
                user=user, key=key, target=target, body_digest=body_digest
            )
            return record, False
    except IntegrityError:
        pass
    with transaction.atomic():
        record = IdempotencyKey.objects.select_for_update().get(user=user, key=key, target=target)
        if record.body_digest != body_digest:
            raise Problem(
                status=409,
                code="idempotency-key-reused",
                detail="This Idempotency-Key was used with another body; use a new key.",
            )
        if record.status is not None:
            return record, True
        if timezone.now() - record.created_at < STALE_CLAIM:
            raise Problem(
                status=409,
                code="idempotency-in-progress",
                detail="The first request with this Idempotency-Key is still at work; wait.",
            )
        record.created_at = timezone.now()
        record.save(update_fields=["created_at"])
        return record, False


def store_idempotent_answer(*, record: IdempotencyKey, status: int, response: Any) -> None:
    """Remember the answer to a keyed write."""
    record.status = status
    record.response = response
    record.save(update_fields=["status", "response"])


def release_idempotency_key(*, record: IdempotencyKey) -> None:
    """Forget a keyed write that came to nothing, so that it can be tried again."""
    record.delete()


def forget_idempotency_keys() -> int:
    """Delete remembered answers older than a day; return how many."""
    deleted, _ = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEEP_KEYS).delete()
    return deleted
