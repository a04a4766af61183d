"""Writes on confined kernels: asking the LDA for one, and what becomes of it."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from rootbound_backend.apps.local_access.kernel_models import KernelSession
from rootbound_backend.apps.local_access.selectors import enabled_root_paths
from rootbound_backend.apps.projects.models import Project
from rootbound_backend.apps.users.models import User
from rootbound_backend.lda_client import LdaRefusedError, LdaUnreachableError, lda_request
from rootbound_backend.problems import not_found
from rootbound_backend.tokens import IngestGrant, issue_ingest_token, issue_kernel_token

__all__ = ["end_kernel", "push_roots_to_kernels", "start_kernel"]

logger = logging.getLogger(__name__)

START_TIMEOUT_S = 60
PUSH_TIMEOUT_S = 20


def start_kernel(
    *,
    user: User,
    kernel_id: uuid.UUID,
    kernel_name: str,
    argv: list[str],
    env: dict[str, str],
    cwd: str = "",
    network: bool = False,
    accept_tier: str = "",
    batch: str = "",
) -> tuple[KernelSession, str]:
    """Have the LDA make a confined kernel ready.

    Parameters
    ----------
    user
        Whose kernel it is; the user's enabled roots are what it may write in.
    kernel_id, kernel_name
        Jupyter's.
    argv
        Program and arguments.
    env
        Variables that the kernel needs, without secrets.
    cwd
        The notebook's folder.
    network
        Whether it may reach the network.
    accept_tier
        The lowest tier of enforcement that will do; "" for what attempts need.
    batch
        Names the folder of a batch, "" when it executes none.

    Returns
    -------
    tuple of KernelSession and str
        The session, and the socket that the provisioner connects to.

    Raises
    ------
    Problem
        409 ``policy-unenforceable`` and 422 with the LDA's reason; 503 when it does not answer.
    """
    session = KernelSession.objects.create(
        user=user,
        project=_project_around(user, cwd),
        kernel_id=kernel_id,
        kernel_name=kernel_name,
        cwd=cwd[:1024],
        network=network,
        is_batch=bool(batch),
    )
    body: dict[str, Any] = {
        "session_id": str(session.pk),
        "kernel_id": str(kernel_id),
        "argv": argv,
        "cwd": cwd,
        "env": env,
        "network": network,
        "accept_tier": accept_tier or None,
        "batch": batch,
        "writable_roots": enabled_root_paths(user_id=user.pk),
        "api_token": issue_kernel_token(username=user.username, session_id=session.pk),
        "ingest": {
            "base_url": settings.BACKEND_URL,
            "token": issue_ingest_token(
                user_id=user.pk, kernel_session_id=session.pk, lease_generation=1
            ),
        },
    }
    try:
        answer = lda_request(
            "POST", "/kernels", user_id=user.pk, path=cwd, body=body, timeout_s=START_TIMEOUT_S
        )
    except (LdaRefusedError, LdaUnreachableError):
        session.delete()
        raise
    return session, str(answer["control"])


def _project_around(user: User, cwd: str) -> Project | None:
    """Return the innermost project of the user's whose repository holds a folder."""
    if not cwd.startswith("/"):
        return None
    holding = [
        project
        for project in Project.objects.filter(owner=user)
        if f"{cwd.rstrip('/')}/".startswith(f"{project.repo_path.rstrip('/')}/")
    ]
    return max(holding, key=lambda project: len(project.repo_path), default=None)


def end_kernel(*, grant: IngestGrant, session_id: uuid.UUID, exit_code: int | None) -> None:
    """Note that a kernel has ended; the same report again changes nothing.

    Raises
    ------
    Problem
        404 for another session than the token's.
    """
    if grant.kernel_session_id != session_id:
        raise not_found("kernel")
    KernelSession.objects.filter(pk=session_id, ended_at__isnull=True).update(
        ended_at=timezone.now(), exit_code=exit_code
    )


def push_roots_to_kernels(*, user_id: uuid.UUID) -> None:
    """After the commit, have the LDA end the kernels that use a root that is withdrawn."""

    def push() -> None:
        roots = enabled_root_paths(user_id=user_id)
        live = KernelSession.objects.filter(user_id=user_id, ended_at__isnull=True)
        for pk, cwd in list(live.values_list("pk", "cwd")):
            try:
                lda_request(
                    "POST", f"/kernels/{pk}/roots", user_id=user_id, path=cwd,
                    body={"writable_roots": roots}, timeout_s=PUSH_TIMEOUT_S,
                )  # fmt: skip
            except LdaRefusedError:
                continue  # it has ended, which is on its way to us
            except LdaUnreachableError as error:
                # Kernels do not outlive the LDA.
                logger.warning("The kernels of %s were not told: %s", user_id, error)
                return

    transaction.on_commit(push, robust=True)
