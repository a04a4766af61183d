"""Fixtures for the tests of the LDA process."""

from tests.integration.lda.lda_support import lda, receiver, repo, stub

__all__ = ["lda", "receiver", "repo", "stub"]
