"""Celery tasks of decompositions."""

from __future__ import annotations

import uuid

from celery import shared_task

from rootbound_backend.apps.local_access.decompositions import (
    hand_over_decomposition,
    sweep_decompositions,
)

__all__ = ["start_plan_task", "sweep_decompositions_task"]


@shared_task(name="local_access.tasks.start_plan_task")
def start_plan_task(decomposition_id: str) -> bool:
    """Hand one decomposition over to the LDA; tries again later by itself when it is down."""
    return hand_over_decomposition(uuid.UUID(decomposition_id))


@shared_task(name="local_access.tasks.sweep_decompositions_task")
def sweep_decompositions_task() -> int:
    """Hand over decompositions whose message got lost, and give up silent ones."""
    return sweep_decompositions()
