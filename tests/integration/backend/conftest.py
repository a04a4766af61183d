"""Fixtures of the backend's tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest

# The tests import models, and pytest-django sets Django up only after the folder's conftest.
django.setup()


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
