"""A Celery worker with nothing to do, to measure a round trip against."""

from __future__ import annotations

import os

from celery import Celery

QUEUE = "bare"
URL = os.environ.get("BARE_CELERY_URL", "")

app = Celery("bare", broker=URL, backend=URL)
app.conf.update(task_default_queue=QUEUE, broker_connection_retry_on_startup=True)


@app.task(name="bare.nothing")
def nothing() -> int:
    """Return at once."""
    return 1
