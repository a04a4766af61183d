"""Fixtures of the backend's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest

# The tests import models, and pytest-django sets Django up only after the folder's conftest.
django.setup()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Let the tests empty the audit log between them, which nobody else can."""
    from django.db import connection

    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ALTER TABLE local_access_fsauditevent DISABLE TRIGGER audit_no_truncate")
    connection.close()
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        # Threads of the tests may still hold connections, which would bar dropping the database.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    connection.close()


@pytest.fixture
def user(db: None) -> Any:
    from rootbound_backend.apps.users.services import ensure_user

    return ensure_user(username="alice")


@pytest.fixture
def stranger(db: None) -> Any:
    from rootbound_backend.apps.users.services import ensure_user

    return ensure_user(username="mallory")


@pytest.fixture
def client(user: Any) -> Any:
    from tests.integration.backend.backend_support import client_for

    return client_for("alice")


@pytest.fixture
def other(stranger: Any) -> Any:
    from tests.integration.backend.backend_support import client_for

    return client_for("mallory")


@pytest.fixture
def lda() -> Iterator[Any]:
    from django.conf import settings

    from tests.integration.backend.backend_support import StubLda

    stub = StubLda(Path(settings.HOME))
    yield stub
    stub.close()
    assert stub.refused == []
