"""Writes on writable roots."""

from __future__ import annotations

import uuid

from django.db import IntegrityError, transaction

from rootbound_backend.apps.local_access.kernels import push_roots_to_kernels
from rootbound_backend.apps.local_access.live_policy import note_change
from rootbound_backend.apps.local_access.models import WritableRoot
from rootbound_backend.apps.local_access.selectors import get_root
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import lda_request
from rootbound_backend.problems import Problem

__all__ = ["delete_root", "grant_root", "set_root_enabled"]


def grant_root(*, user: User, path: str) -> WritableRoot:
    """Grant a folder for writing after the LDA has looked at it.

    It counts for runs that begin from now on; a live one gets it by the decision on its request.

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
    facts = lda_request(
        "POST", "/roots/validate", user_id=user.pk, path=path, body={"path": path}, timeout_s=30
    )
    canonical = str(facts["canonical_path"])
    try:
        with transaction.atomic():
            root = WritableRoot.objects.create(user=user, path=path, canonical_path=canonical)
            note_change(user_id=user.pk, granted=root)
            return root
    except IntegrityError as error:
        raise Problem(
            status=409,
            code="root-exists",
            detail=f"{canonical} is a root already; enable it if it is switched off.",
        ) from error


def set_root_enabled(*, user: User, root_id: uuid.UUID, is_enabled: bool) -> WritableRoot:
    """Switch a root on, after the LDA has looked at it again, or off.

    It holds for live runs at once. Switching off the root that holds a run's project ends the run;
    of another run, the commands that were started with the root are killed.

    Raises
    ------
    Problem
        404; 422 or 503 as for :func:`grant_root`; 409 ``root-moved`` when the path now leads
        elsewhere.
    """
    root = get_root(user=user, root_id=root_id)
    if is_enabled and not root.is_enabled:
        facts = lda_request(
            "POST", "/roots/validate", user_id=user.pk, path=root.canonical_path,
            body={"path": root.path}, timeout_s=30,
        )  # fmt: skip
        if facts["canonical_path"] != root.canonical_path:
            raise Problem(
                status=409,
                code="root-moved",
                detail=(
                    f"{root.path} now leads to {facts['canonical_path']}; delete this root and "
                    "grant the folder again."
                ),
            )
    with transaction.atomic():
        root.is_enabled = is_enabled
        root.save(update_fields=["is_enabled"])
        note_change(user_id=user.pk, granted=root if is_enabled else None)
        push_roots_to_kernels(user_id=user.pk)
    return root


def delete_root(*, user: User, root_id: uuid.UUID) -> None:
    """Withdraw a root, from live runs as well; the folder itself is not touched.

    Raises
    ------
    Problem
        404.
    """
    with transaction.atomic():
        get_root(user=user, root_id=root_id).delete()
        note_change(user_id=user.pk)
        push_roots_to_kernels(user_id=user.pk)
