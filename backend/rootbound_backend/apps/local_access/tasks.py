"""Celery tasks of decompositions, requests for access and policies."""

from __future__ import annotations

import uuid

from celery import shared_task
from django.utils import timezone

from rootbound_backend.apps.local_access.access_requests import expire_requests
from rootbound_backend.apps.local_access.audit.partitions import prepare_partitions
from rootbound_backend.apps.local_access.decompositions import (
    hand_over_decomposition,
    sweep_decompositions,
)
from rootbound_backend.apps.local_access.live_policy import sweep_policies

__all__ = [
    "expire_requests_task",
    "prepare_audit_partitions_task",
    "start_plan_task",
    "sweep_decompositions_task",
    "sweep_policies_task",
]


@shared_task(name="local_access.tasks.prepare_audit_partitions_task")
def prepare_audit_partitions_task() -> int:
    """Make the audit log's partitions of the months to come."""
    return prepare_partitions(timezone.now())


@shared_task(name="local_access.tasks.expire_requests_task")
def expire_requests_task() -> int:
    """Close requests for access whose attempts ended long ago."""
    return expire_requests()


@shared_task(name="local_access.tasks.sweep_policies_task")
def sweep_policies_task() -> int:
    """Tell the LDA the changes of policies that it could not be told."""
    return sweep_policies()


@shared_task(name="local_access.tasks.start_plan_task")
def start_plan_task(decomposition_id: str) -> bool:
    """Hand one decomposition over to the LDA; tries again later by itself when it is down."""
    return hand_over_decomposition(uuid.UUID(decomposition_id))


@shared_task(name="local_access.tasks.sweep_decompositions_task")
def sweep_decompositions_task() -> int:
    """Hand over decompositions whose message got lost, and give up silent ones."""
    return sweep_decompositions()
