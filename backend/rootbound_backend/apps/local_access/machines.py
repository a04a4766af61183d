"""Writes on machines: adding one, its token, and who may connect with it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import posixpath
import secrets
import uuid
from typing import Any

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from rootbound_backend.apps.attempts.failures import Failure
from rootbound_backend.apps.attempts.models import LIVE_STATUSES, Attempt, EventType
from rootbound_backend.apps.attempts.transitions import (
    append_event,
    lock_attempt,
    move_locked_attempt,
    status_payload,
)
from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.apps.local_access.machine_selectors import (
    get_machine,
    machines_of,
    owner_among,
)
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import InvalidInput, Problem
from rootbound_backend.tokens import lda_signing_key

__all__ = [
    "add_machine",
    "admit_machine",
    "note_seen",
    "remove_machine",
    "renew_machine_token",
    "update_machine",
]

TOKEN_KIND = "rbm"  # noqa: S105 - how a machine's token begins


def add_machine(*, user: User, name: str, paths: list[str]) -> tuple[Machine, str]:
    """Add a machine; return it with the token for its LDA, which is shown this once.

    Raises
    ------
    Problem
        409 when this installation has an LDA of its own, or name or path is taken; 400 for a path
        that is not absolute.
    """
    if settings.LDA_LINK != "outward":
        raise Problem(
            status=409,
            code="machines-not-used",
            detail=(
                "This installation works with its own local desktop agent; set "
                "ROOTBOUND_LDA=outward on the backend to connect machines."
            ),
        )
    secret = secrets.token_urlsafe(32)
    machine = Machine(user=user, name=name, paths=paths, token_digest=_digest(secret))
    _save(machine)
    return machine, _token(machine, secret)


def update_machine(*, user: User, machine_id: uuid.UUID, fields: dict[str, Any]) -> Machine:
    """Change a machine's name or owned paths.

    Raises
    ------
    Problem
        404; otherwise as for :func:`add_machine`.
    """
    machine = get_machine(user=user, machine_id=machine_id)
    for name, value in fields.items():
        setattr(machine, name, value)
    _save(machine)
    return machine


def renew_machine_token(*, user: User, machine_id: uuid.UUID) -> tuple[Machine, str]:
    """Give a machine a new token; the one before, and the LDA that used it, are shut out.

    Raises
    ------
    Problem
        404.
    """
    machine = get_machine(user=user, machine_id=machine_id)
    secret = secrets.token_urlsafe(32)
    machine.token_digest, machine.lda_id = _digest(secret), None
    machine.save(update_fields=["token_digest", "lda_id"])
    return machine, _token(machine, secret)


def remove_machine(*, user: User, machine_id: uuid.UUID) -> None:
    """Remove a machine; what runs there can report no more and ends as LDA_LOST.

    Raises
    ------
    Problem
        404.
    """
    machine = get_machine(user=user, machine_id=machine_id)
    machines = list(machines_of(user.pk))
    live = Attempt.objects.filter(task__project__owner=user, status__in=LIVE_STATUSES)
    rows = live.values_list("pk", "status", "task__project__repo_path")
    for pk, _, path in list(rows):
        if owner_among(machines, path) == machine:
            _end(pk)
    machine.delete()


def _end(attempt_id: uuid.UUID) -> None:
    with transaction.atomic():
        attempt = lock_attempt(attempt_id)
        if attempt.status not in LIVE_STATUSES:
            return
        move_locked_attempt(
            attempt,
            to="FAILED",
            failure=Failure.LDA_LOST,
            message="The machine that this attempt ran on was removed.",
        )
        append_event(attempt, EventType.STATUS, status_payload(attempt))
        attempt.save()


def admit_machine(*, token: str, lda_id: str, version: str) -> Machine | None:
    """Return the machine that a token lets in, None when it lets nobody in.

    Parameters
    ----------
    token
        What the LDA presents.
    lda_id
        The LDA's own id; the first one that uses a token keeps it.
    version
        Of the LDA.
    """
    kind, *parts = token.split(".")
    if kind != TOKEN_KIND or len(parts) != 3:
        return None
    try:
        machine_id, lda = uuid.UUID(parts[0]), uuid.UUID(lda_id)
    except ValueError:
        return None
    machine = Machine.objects.select_related("user").filter(pk=machine_id).first()
    if machine is None or not hmac.compare_digest(machine.token_digest, _digest(parts[1])):
        return None
    if not machine.user.is_active:
        return None
    # One statement, so that of two LDAs with the same token one is first.
    unbound = Machine.objects.filter(pk=machine.pk, lda_id__isnull=True)
    unbound.update(lda_id=lda)
    seen = Machine.objects.filter(pk=machine.pk, lda_id=lda, token_digest=machine.token_digest)
    if not seen.update(version=version[:64], last_seen_at=timezone.now()):
        return None
    return machine


def note_seen(*, machine_id: uuid.UUID, token_digest: str) -> bool:
    """Note that a machine is connected; return whether its token is still good."""
    rows = Machine.objects.filter(pk=machine_id, token_digest=token_digest, user__is_active=True)
    return bool(rows.update(last_seen_at=timezone.now()))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _token(machine: Machine, secret: str) -> str:
    """Return the token: who, the secret, and the public key that the LDA checks requests with."""
    key = serialization.load_pem_private_key(lda_signing_key().encode(), password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise TypeError("The key for requests to the LDA is no Ed25519 key.")
    public = base64.urlsafe_b64encode(key.public_key().public_bytes_raw()).decode().rstrip("=")
    return f"{TOKEN_KIND}.{machine.pk.hex}.{secret}.{public}"


def _save(machine: Machine) -> None:
    for path in machine.paths:
        if not path.startswith("/") or posixpath.normpath(path) != path or "\x00" in path:
            raise InvalidInput(
                field="paths",
                detail=f"{path} is not an absolute path without '.', '..' and a final '/'.",
            )
    machine.paths = sorted(set(machine.paths))
    with transaction.atomic():
        # One at a time for a user, so that two cannot take the same folder at once.
        User.objects.select_for_update(no_key=True).get(pk=machine.user_id)
        for other in machines_of(machine.user_id).exclude(pk=machine.pk):
            if taken := sorted(set(machine.paths) & set(other.paths)):
                raise Problem(
                    status=409,
                    code="machine-path-taken",
                    detail=f"{taken[0]} belongs to your machine {other.name} already.",
                )
        try:
            with transaction.atomic():
                machine.save()
        except IntegrityError as error:
            raise Problem(
                status=409,
                code="machine-name-taken",
                detail=f"You have a machine called {machine.name} already; choose another name.",
            ) from error
