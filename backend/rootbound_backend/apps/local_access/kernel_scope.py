"""What a confined kernel may ask of the API: to look, and to have agents work; never to widen."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from rootbound_backend.tokens import TokenRefusedError

__all__ = ["KernelGrant", "refusal_of_kernel"]

_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_WRITES = frozenset({
    "attempts", "attempt-cancel", "attempt-comment", "attempt-comments", "attempt-messages",
    "attempt-reject", "attempt-request-changes", "attempt-retry", "attempt-update",
    "decomposition-approve", "decompositions", "task", "tasks",
})  # fmt: skip
_OF_BATCHES = frozenset({"attempt-approve"})


@dataclass(frozen=True)
class KernelGrant:
    """Who asks: a confined kernel that lives.

    Attributes
    ----------
    session_id
        Its session.
    is_batch
        Whether it executes a batch notebook, which merges what passed its gates.
    """

    session_id: uuid.UUID
    is_batch: bool

    @classmethod
    def of(cls, session_id: uuid.UUID) -> KernelGrant:
        """Return the grant of a session.

        Raises
        ------
        TokenRefusedError
            When the kernel has ended: its token ends with it.
        """
        # The apps are loaded later than the settings that name the authentication.
        from rootbound_backend.apps.local_access.kernel_models import KernelSession

        live = KernelSession.objects.filter(pk=session_id, ended_at__isnull=True)
        is_batch = live.values_list("is_batch", flat=True).first()
        if is_batch is None:
            raise TokenRefusedError("The kernel of this token has ended.")
        return cls(session_id, is_batch)


def refusal_of_kernel(grant: KernelGrant, method: str, view: str | None) -> str | None:
    """Return why a kernel may not do this, None when it may.

    Parameters
    ----------
    grant
        The kernel.
    method
        HTTP method.
    view
        Name of the route.
    """
    allowed = _WRITES | _OF_BATCHES if grant.is_batch else _WRITES
    if method in _READS or (method in ("POST", "PATCH") and view in allowed):
        return None
    return (
        "A confined kernel may look, and have agents work, but not change what is granted, "
        "configured or merged; do this in the Rootbound panel or in a terminal."
    )
