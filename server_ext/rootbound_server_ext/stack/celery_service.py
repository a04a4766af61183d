"""Start Celery's worker or beat and say on standard error when it is ready.

Celery's own "ready" line depends on the application's logging; its signals do not.
"""

from __future__ import annotations

import os
from typing import Any

from celery import signals
from celery.__main__ import main as celery_main

from rootbound_server_ext.stack.process import READY_LINE


def _announce(**_: Any) -> None:
    # Straight to the log: Celery has put a logger in the place of sys.stderr.
    os.write(2, f"{READY_LINE}\n".encode())


def main() -> None:
    """Run ``celery`` with this process's arguments."""
    signals.worker_ready.connect(_announce)
    signals.beat_init.connect(_announce)
    celery_main()


if __name__ == "__main__":
    main()
