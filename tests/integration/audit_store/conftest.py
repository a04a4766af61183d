"""Fixtures of the audit log's tests."""

from __future__ import annotations

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
def client(user: Any) -> Any:
    from tests.integration.backend.backend_support import client_for

    return client_for("alice")
