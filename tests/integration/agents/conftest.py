"""Fixtures: a real LDA process, a receiver in the backend's place, a repository, stub models."""

from tests.integration.lda.lda_support import lda, receiver, repo, stub

__all__ = ["lda", "receiver", "repo", "stub"]
