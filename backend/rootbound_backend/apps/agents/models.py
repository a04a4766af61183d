"""Agent profiles."""

from __future__ import annotations

import uuid

from django.conf import settings
from django.db import models

from rootbound_backend.apps.tasks.models import AgentRole

__all__ = ["DEFAULT_MODELS", "KEY_NAMES", "AgentProfile", "Provider"]


class Provider(models.TextChoices):
    """Whose model it is."""

    GLM = "GLM", "GLM"
    GEMINI = "GEMINI", "Gemini"


DEFAULT_MODELS = {Provider.GLM: "glm-7", Provider.GEMINI: "gemini-2.5-flash"}
KEY_NAMES = {provider: f"{provider}_API_KEY" for provider in Provider}
"""Names under which the LDA looks for a key; the key itself is never stored here."""


class AgentProfile(models.Model):
    """How an agent of one role thinks: model, prompt, settings and limits.

    Attributes
    ----------
    base_url
        Address of the model's API; null for the LDA's default.
    settings
        Model settings; ``replay: true`` marks a replayed model, ``key_name`` names another key.
    limits
        Limits of a run, as in the LDA's run payload; absent ones have its defaults.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="agents"
    )
    name = models.CharField(max_length=255)
    provider = models.CharField(max_length=16, choices=Provider.choices)
    model = models.CharField(max_length=255)
    system_prompt = models.TextField(blank=True, default="")
    role = models.CharField(max_length=16, choices=AgentRole.choices)
    base_url = models.CharField(max_length=1024, null=True, blank=True)
    settings = models.JSONField(default=dict, blank=True)
    limits = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        """Options."""

        ordering = ["created_at", "id"]
        indexes = [models.Index(fields=["owner", "created_at", "id"], name="agent_by_owner")]
        constraints = [
            models.CheckConstraint(
                condition=models.Q(provider__in=Provider.values), name="agent_provider_known"
            ),
            models.CheckConstraint(
                condition=models.Q(role__in=AgentRole.values), name="agent_role_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def is_replay(self) -> bool:
        """Whether a script answers instead of a model."""
        return self.settings.get("replay") is True
