"""Seals: what the database says about the audit log, signed with a key that is not in it."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

__all__ = ["is_sealed", "seal_facts", "seal_position"]

_POSITION = "rootbound.audit.position"
_RETENTION = "rootbound.audit.retention"


def _seal(salt: str, text: str, key: str | bytes) -> str:
    return salted_hmac(salt, text, secret=key, algorithm="sha256").hexdigest()


def _position(run_id: uuid.UUID, seq: int, digest: str, first: int) -> str:
    return f"{run_id}:{first}:{seq}:{digest}"


def seal_position(run_id: uuid.UUID, seq: int, digest: str, *, first: int = 1) -> str:
    """Return the seal of "entry `seq` of this run has this hash", hexadecimal.

    Parameters
    ----------
    run_id, seq, digest
        The run, the entry's number and its hash.
    first
        Where the stretch begins that ends with this entry; default the run's beginning.
    """
    return _seal(_POSITION, _position(run_id, seq, digest, first), settings.SECRET_KEY)


def is_sealed(seal: str, run_id: uuid.UUID, seq: int, digest: str, *, first: int = 1) -> bool:
    """Return whether a seal is ours, made with the present key or one it replaced."""
    text = _position(run_id, seq, digest, first)
    keys = [settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS]
    return any(constant_time_compare(_seal(_POSITION, text, key), seal) for key in keys)


def seal_facts(facts: dict[str, object]) -> str:
    """Return the seal of a retention record."""
    text = "\n".join(f"{name}={_text(value)}" for name, value in sorted(facts.items()))
    return _seal(_RETENTION, text, settings.SECRET_KEY)


def _text(value: object) -> str:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else str(value)
