"""What a machine is, for both clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from .models import Model, parse_time

__all__ = ["Machine"]


@dataclass(frozen=True, kw_only=True)
class Machine(Model):
    """A machine of yours whose Local Desktop Agent connects to the server.

    `paths` are the folders that it owns; `token` is set only in the answer that made it.
    """

    id: str
    name: str = ""
    paths: tuple[str, ...] = field(default=(), metadata={"parse": tuple})
    connected: bool = False
    version: str = ""
    last_seen_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    created_at: datetime | None = field(default=None, metadata={"parse": parse_time})
    token: str | None = field(default=None, repr=False)
