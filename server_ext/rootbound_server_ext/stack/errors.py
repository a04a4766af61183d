"""The one exception of the stack."""

from __future__ import annotations

__all__ = ["StackError"]


class StackError(Exception):
    """The stack, or one service of it, cannot do what was asked.

    Parameters
    ----------
    message
        One sentence that says what happened and how to get out of it.
    service
        Name of the service concerned, when there is one.
    log_tail
        Last lines of that service's log, oldest first.
    """

    def __init__(self, message: str, *, service: str | None = None, log_tail: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.service = service
        self.log_tail = log_tail
