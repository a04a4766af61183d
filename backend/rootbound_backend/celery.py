"""The Celery application: short orchestration tasks that talk to the LDA over HTTP."""

from __future__ import annotations

import os
import sys

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rootbound_backend.settings")

app = Celery("rootbound")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()

# Tasks are short turns on threads beside the consumer, which Python would let wait 5 ms each time.
sys.setswitchinterval(0.0005)
