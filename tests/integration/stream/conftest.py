"""Fixtures of the stream's tests."""

from __future__ import annotations

from tests.integration.backend.conftest import client, lda, other, stranger, user

__all__ = ["client", "lda", "other", "stranger", "user"]
