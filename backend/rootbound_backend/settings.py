"""Settings, all from the environment and the state folder.

Environment
-----------
ROOTBOUND_HOME
    State folder; default the user's state folder for ``rootbound``.
ROOTBOUND_DATABASE_URL
    ``postgresql://user[:password]@host/db?host=/socket/folder``; without a password the one in
    ``secrets/postgres.password`` is used. Behind a pooler that shares connections between
    transactions, and has no prepared statements, add ``prepared=off``.
ROOTBOUND_REDIS_URL
    ``unix:///path/redis.sock``, ``redis://host:port/db`` or ``rediss://...``.
ROOTBOUND_BACKEND_URL
    Where the LDA reaches this backend; default ``http://127.0.0.1:8000``.
ROOTBOUND_LDA
    ``embedded`` (default): one LDA runs beside this backend and is reached on loopback.
    ``outward``: each user's LDA connects to this backend, which reaches no machine by itself.
ROOTBOUND_ALLOWED_HOSTS
    Further host names under which this backend answers, separated by commas.
ROOTBOUND_HUB_API_URL, ROOTBOUND_HUB_SERVICE
    JupyterHub's API, such as ``http://hub:8081/hub/api``, whose tokens are then good here, and our
    name among its services (default ``rootbound``).
ROOTBOUND_MAX_PARALLEL
    Attempts that may run at once on this machine; default 4.
ROOTBOUND_MAX_PARALLEL_BY_PROVIDER
    Attempts that may use a provider's models at once, such as ``GLM=2,GEMINI=4``; default any.
ROOTBOUND_RETENTION_DAYS, ROOTBOUND_RETENTION_MAX_MB
    What projects without a rule of their own keep of ended attempts; default 90 and 5120; 0 for
    no limit.
ROOTBOUND_MIN_FREE_MB
    Free disk space below which nothing new begins; default 256.
ROOTBOUND_LOG_LEVEL
    Level of our own logger; default ``INFO``.

Secrets are read from ``$ROOTBOUND_HOME/secrets`` and never made here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from platformdirs import user_state_path

HOME = Path(os.environ.get("ROOTBOUND_HOME") or user_state_path("rootbound"))
SECRETS_DIR = HOME / "secrets"


def _secret(name: str) -> str:
    """Return the text of a secret file, or "" when it does not exist yet."""
    try:
        return (SECRETS_DIR / name).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return ""


def _database(url: str) -> dict[str, Any]:
    """Translate a PostgreSQL URL into Django's database settings."""
    parts = urlsplit(url)
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    query.pop("prepared", None)  # ours
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")) or "rootbound",
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or "") or _secret("postgres.password"),
        "HOST": query.pop("host", None) or parts.hostname or "",
        "PORT": query.pop("port", None) or (str(parts.port) if parts.port else ""),
        "CONN_HEALTH_CHECKS": True,
        # Threads that come and go take theirs from a pool; the backend's lanes keep one each.
        "OPTIONS": {"pool": {"min_size": 1, "max_size": 32, "timeout": 15}, **query},
    }


def _choice(variable: str, *known: str) -> str:
    """Return a variable's value, by default the first of those that it may have."""
    value = os.environ.get(variable) or known[0]
    if value not in known:
        raise SystemExit(f"{variable} is {value!r}; give {' or '.join(known)}.")
    return value


def _counts(text: str) -> dict[str, int]:
    """Read ``NAME=NUMBER,...``."""
    pairs = (part.partition("=") for part in text.split(",") if part.strip())
    return {name.strip().upper(): int(number) for name, _, number in pairs}


def _celery_broker(url: str) -> str:
    return f"redis+socket://{url.removeprefix('unix://')}" if url.startswith("unix://") else url


SECRET_KEY = _secret("django.key")
DEBUG = False
# Nothing here is ambient (no cookies), so a rebound name gains nothing; the list is still closed.
ALLOWED_HOSTS = [
    *("127.0.0.1", "localhost", "[::1]", "rootbound"),
    *filter(None, map(str.strip, os.environ.get("ROOTBOUND_ALLOWED_HOSTS", "").split(","))),
]

DATABASE_URL = os.environ.get("ROOTBOUND_DATABASE_URL") or "postgresql:///rootbound"
REDIS_URL = os.environ.get("ROOTBOUND_REDIS_URL") or "redis://127.0.0.1:6379/0"
BACKEND_URL = (os.environ.get("ROOTBOUND_BACKEND_URL") or "http://127.0.0.1:8000").rstrip("/")
LDA_LINK = _choice("ROOTBOUND_LDA", "embedded", "outward")
HUB_API_URL = os.environ.get("ROOTBOUND_HUB_API_URL", "").rstrip("/")
HUB_SERVICE = os.environ.get("ROOTBOUND_HUB_SERVICE") or "rootbound"
MAX_PARALLEL = int(os.environ.get("ROOTBOUND_MAX_PARALLEL") or 4)
MAX_PARALLEL_BY_PROVIDER = _counts(os.environ.get("ROOTBOUND_MAX_PARALLEL_BY_PROVIDER") or "")
# How long a request for access can be decided after its attempt has ended, in seconds.
ACCESS_REQUEST_TTL_S = int(os.environ.get("ROOTBOUND_ACCESS_REQUEST_TTL_S") or 3600)
RETENTION_DAYS = float(os.environ.get("ROOTBOUND_RETENTION_DAYS") or 90)
RETENTION_MAX_MB = int(os.environ.get("ROOTBOUND_RETENTION_MAX_MB") or 5120)
MIN_FREE_MB = int(os.environ.get("ROOTBOUND_MIN_FREE_MB") or 256)

DATABASES = {"default": _database(DATABASE_URL)}
PREPARED_STATEMENTS = parse_qs(urlsplit(DATABASE_URL).query).get("prepared") != ["off"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"
AUTH_USER_MODEL = "users.User"

INSTALLED_APPS = [
    "django.contrib.contenttypes",
    "django.contrib.auth",
    "django.contrib.postgres",
    "channels",
    "rest_framework",
    "drf_spectacular",
    "django_celery_beat",
    "rootbound_backend.apps.users",
    "rootbound_backend.apps.projects",
    "rootbound_backend.apps.tasks",
    "rootbound_backend.apps.agents",
    "rootbound_backend.apps.attempts",
    "rootbound_backend.apps.local_access",
    "rootbound_backend.apps.schedules",
]
# No sessions, cookies, CSRF or pages: every request carries its own proof of identity.
MIDDLEWARE: list[str] = []
ROOT_URLCONF = "rootbound_backend.urls"
ASGI_APPLICATION = "rootbound_backend.asgi.application"
APPEND_SLASH = False
TEMPLATES: list[dict[str, Any]] = []
USE_TZ = True
TIME_ZONE = "UTC"
USE_I18N = False
DATA_UPLOAD_MAX_MEMORY_SIZE = 32 * 1024 * 1024

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [
        "rootbound_backend.authentication.IdentityAuthentication",
        "rootbound_backend.authentication.BearerAuthentication",
    ],
    # A view that names no permission is closed, not open.
    "DEFAULT_PERMISSION_CLASSES": ["rootbound_backend.authentication.Closed"],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
    "EXCEPTION_HANDLER": "rootbound_backend.problems.exception_handler",
    "TEST_REQUEST_DEFAULT_FORMAT": "json",
}
SPECTACULAR_SETTINGS = {
    "TITLE": "Rootbound",
    "DESCRIPTION": "Run AI coding agents on your own machine, confined and audited.",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SERVE_PERMISSIONS": ["rest_framework.permissions.IsAuthenticated"],
    "COMPONENT_SPLIT_REQUEST": True,
    "ENUM_NAME_OVERRIDES": {
        "AttemptStatusEnum": "rootbound_backend.apps.attempts.models.AttemptStatus",
        "TaskStatusEnum": "rootbound_backend.apps.tasks.models.TaskStatus",
        "DecompositionStatusEnum": "rootbound_backend.apps.local_access.models.DecompositionStatus",
        "AccessStatusEnum": "rootbound_backend.apps.local_access.access_models.AccessStatus",
        "AccessScopeEnum": "rootbound_backend.apps.local_access.access_models.AccessScope",
        "RoleEnum": "rootbound_backend.apps.tasks.models.AgentRole",
        "ScheduleKindEnum": "rootbound_backend.apps.schedules.models.ScheduleKind",
        "ScheduleRunStatusEnum": "rootbound_backend.apps.schedules.models.ScheduleRunStatus",
        "FailureEnum": "rootbound_backend.apps.attempts.failures.Failure",
    },
}

CHANNEL_LAYERS = {
    "default": {
        "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {"hosts": [REDIS_URL], "prefix": "rootbound"},
    }
}

CELERY_BROKER_URL = _celery_broker(REDIS_URL)
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_SERIALIZER = "json"
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_ACKS_LATE = True
CELERY_TASK_REJECT_ON_WORKER_LOST = True
CELERY_TASK_DEFAULT_QUEUE = "rootbound"
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_HIJACK_ROOT_LOGGER = False
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# The lease in the database is what hands work over again; the broker's redelivery is a last resort.
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 3600, "global_keyprefix": "rootbound-"}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    "hand-over-queued-attempts": {
        "task": "attempts.tasks.sweep_queued_attempts_task",
        "schedule": 10.0,
    },
    "reap-lost-attempts": {"task": "attempts.tasks.reap_attempts_task", "schedule": 15.0},
    "tend-events": {"task": "attempts.tasks.tend_events_task", "schedule": 300.0},
    "start-ready-tasks": {"task": "attempts.tasks.start_ready_tasks_task", "schedule": 30.0},
    "sweep-decompositions": {
        "task": "local_access.tasks.sweep_decompositions_task",
        "schedule": 20.0,
    },
    "expire-access-requests": {
        "task": "local_access.tasks.expire_requests_task",
        "schedule": 60.0,
    },
    "sweep-policies": {"task": "local_access.tasks.sweep_policies_task", "schedule": 5.0},
    "prepare-audit-partitions": {
        "task": "local_access.tasks.prepare_audit_partitions_task",
        "schedule": 3600.0,
    },
    "tend-schedules": {"task": "schedules.tasks.tend_schedules_task", "schedule": 5.0},
    "forget-idempotency-keys": {
        "task": "users.tasks.forget_idempotency_keys_task",
        "schedule": 3600.0,
    },
}

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {
        "line": {"format": "%(asctime)s %(levelname)s %(name)s: %(message)s"},
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": "WARNING"},
    "loggers": {
        "rootbound_backend": {"level": os.environ.get("ROOTBOUND_LOG_LEVEL") or "INFO"},
        # Requests of people's mistakes (4xx) are not news.
        "django.request": {"level": "ERROR"},
    },
}
