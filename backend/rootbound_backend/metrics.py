"""What this process counts about the stream, and the text in which Prometheus reads it.

Counters belong to the backend's process; depths and states are looked up when somebody asks.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector

__all__ = [
    "DELIVERED",
    "DELIVERY_LAG",
    "FRAMES",
    "HELD",
    "INGESTED",
    "INGEST_LAG",
    "LAG_WARNING_S",
    "REGISTRY",
    "REJECTED",
    "SOCKETS",
    "Families",
    "note_ingested",
    "note_rejected",
]

LAG_WARNING_S = 2.0
"""Lag from which on a viewer is told, in seconds."""

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 5, 15, 60, 600, 3600)

REGISTRY = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

INGESTED = Counter(
    "rootbound_ingested_rows", "Rows stored, without repetitions.", ["kind"], registry=REGISTRY
)
BATCHES = Counter(
    "rootbound_ingested_batches", "Batches accepted, heartbeats too.", ["kind"], registry=REGISTRY
)
REJECTED = Counter(
    "rootbound_rejected_batches", "Batches refused, by problem code.", ["kind", "code"],
    registry=REGISTRY,
)  # fmt: skip
INGEST_LAG = Histogram(
    "rootbound_ingest_lag_seconds",
    "From the event at the LDA to its commit, for the oldest new row of a batch.",
    ["kind"],
    buckets=_BUCKETS,
    registry=REGISTRY,
)
DELIVERY_LAG = Histogram(
    "rootbound_delivery_lag_seconds",
    "From the announcement of a commit to the frame that leaves for a socket.",
    buckets=_BUCKETS,
    registry=REGISTRY,
)
DELIVERED = Counter("rootbound_delivered_events", "Events sent to sockets.", registry=REGISTRY)
FRAMES = Counter(
    "rootbound_sent_frames", "Frames sent to sockets, by lane.", ["lane"], registry=REGISTRY
)
SOCKETS = Gauge("rootbound_sockets", "Open WebSockets.", ["stream"], registry=REGISTRY)
HELD = Gauge(
    "rootbound_held_sockets", "Sockets that wait for an acknowledgement.", registry=REGISTRY
)


def note_ingested(kind: str, rows: int, oldest: datetime | None) -> None:
    """Count one stored batch.

    Parameters
    ----------
    kind
        ``event`` or ``audit``.
    rows
        New rows.
    oldest
        When the first of them happened; None for an empty batch.
    """
    BATCHES.labels(kind).inc()
    INGESTED.labels(kind).inc(rows)
    if oldest is not None:
        INGEST_LAG.labels(kind).observe(max(0.0, time.time() - oldest.timestamp()))


def note_rejected(kind: str, code: str) -> None:
    """Count one refused batch."""
    REJECTED.labels(kind, code).inc()


class Families:
    """A collector of gauges that were looked up for one answer."""

    def __init__(self) -> None:
        self._families: list[Metric] = []

    def add(self, name: str, text: str, values: dict[str, float], label: str = "") -> None:
        """Add one gauge.

        Parameters
        ----------
        name, text
            Name without prefix, and description.
        values
            By label; a single one under "" when there is no label.
        label
            Name of the label; default none.
        """
        family = GaugeMetricFamily(f"rootbound_{name}", text, labels=[label] if label else [])
        for key, value in values.items():
            family.add_metric([key] if label else [], value)
        self._families.append(family)

    def collect(self) -> Iterator[Metric]:
        """Yield what was added."""
        yield from self._families
