"""Reads of machines: whose they are, and which of them owns a path."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Iterable

from django.db.models import QuerySet

from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.apps.users.models import User
from rootbound_backend.problems import not_found

__all__ = ["Owners", "get_machine", "machines_of", "owner_among"]


def machines_of(user_id: uuid.UUID) -> QuerySet[Machine]:
    """Return a user's machines."""
    return Machine.objects.filter(user_id=user_id)


def get_machine(*, user: User, machine_id: uuid.UUID) -> Machine:
    """Return one of the user's machines.

    Raises
    ------
    Problem
        404.
    """
    found = machines_of(user.pk).filter(pk=machine_id).first()
    if found is None:
        raise not_found("machine")
    return found


def owner_among(machines: Iterable[Machine], path: str) -> Machine | None:
    """Return the machine with the longest owned folder that holds `path`, or None."""
    owned = [
        (len(folder), machine)
        for machine in machines
        for folder in machine.paths
        if path == folder or path.startswith(folder.rstrip("/") + "/")
    ]
    return max(owned, key=lambda one: one[0])[1] if owned else None


class Owners:
    """All machines by user, read once, for those who look at many projects."""

    def __init__(self) -> None:
        self._by_user: dict[uuid.UUID, list[Machine]] = defaultdict(list)
        for machine in Machine.objects.all():
            self._by_user[machine.user_id].append(machine)

    def machine_id(self, user_id: uuid.UUID, path: str) -> str:
        """Return the id of the machine that owns a user's path, "" when none does."""
        found = owner_among(self._by_user.get(user_id, []), path)
        return "" if found is None else str(found.pk)
