"""The test session's own state folder, and the addresses of its PostgreSQL and Redis.

The addresses follow from the folder, so Django can be configured before the servers run; the
fixtures `postgres_server` and `redis_server` start them when a test needs them.
"""

from __future__ import annotations

import atexit
import shutil
import tempfile
from pathlib import Path

from rootbound_server_ext.stack import postgres, redis, secrets

SESSION_HOME = Path(tempfile.mkdtemp(prefix="rb-test-"))
secrets.ensure_secrets(SESSION_HOME)
atexit.register(shutil.rmtree, SESSION_HOME, ignore_errors=True)

POSTGRES = postgres.PostgresServer(SESSION_HOME)
REDIS = redis.RedisServer(SESSION_HOME)


def session_environment() -> dict[str, str]:
    """Return the variables that the stack guard would give the backend."""
    return {
        "ROOTBOUND_HOME": str(SESSION_HOME),
        "ROOTBOUND_DATABASE_URL": POSTGRES.url,
        "ROOTBOUND_REDIS_URL": REDIS.url,
        "ROOTBOUND_BACKEND_URL": "http://127.0.0.1:9",
    }
