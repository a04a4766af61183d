"""Writes on writable roots."""

from __future__ import annotations

import uuid

from django.db import IntegrityError, transaction

from rootbound_backend.apps.local_access.models import WritableRoot
from rootbound_backend.apps.local_access.selectors import get_root
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem

__all__ = ["delete_root", "grant_root", "set_root_enabled"]


def grant_root(*, user: User, path: str) -> WritableRoot:
    """Grant a folder for writing after the LDA has looked at it.

    Parameters
    ----------
    user
        Who grants it.
    path
        Absolute path of an existing folder.

    Raises
    ------
    Problem
        422 with the LDA's reason; 409 ``root-exists``; 503 when the LDA does not answer.
    """
    facts = lda_request("POST", "/roots/validate", body={"path": path}, timeout_s=30)
    canonical = str(facts["canonical_path"])
    try:
        with transaction.atomic():
            return WritableRoot.objects.create(user=user, path=path, canonical_path=canonical)
    except IntegrityError as error:
        raise Problem(
            status=409,
            code="root-exists",
            detail=f"{canonical} is a root already; enable it if it is switched off.",
        ) from error


def set_root_enabled(*, user: User, root_id: uuid.UUID, is_enabled: bool) -> WritableRoot:
    """Switch a root on, after the LDA has looked at it again, or off.

    Runs that have begun keep the roots they began with.

    Raises
    ------
    Problem
        404; 422 or 503 as for :func:`grant_root`; 409 ``root-moved`` when the path now leads
        elsewhere.
    """
    root = get_root(user=user, root_id=root_id)
    if is_enabled and not root.is_enabled:
        facts = lda_request("POST", "/roots/validate", body={"path": root.path}, timeout_s=30)
        if facts["canonical_path"] != root.canonical_path:
            raise Problem(
                status=409,
                code="root-moved",
                detail=(
                    f"{root.path} now leads to {facts['canonical_path']}; delete this root and "
                    "grant the folder again."
                ),
            )
    root.is_enabled = is_enabled
    root.save(update_fields=["is_enabled"])
    return root


def delete_root(*, user: User, root_id: uuid.UUID) -> None:
    """Withdraw a root; the folder itself is not touched.

    Raises
    ------
    Problem
        404.
    """
    get_root(user=user, root_id=root_id).delete()
