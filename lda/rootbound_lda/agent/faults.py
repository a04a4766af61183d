"""What a vendor's error means: try again, or end the run with a typed reason and one sentence."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

from pydantic_ai import exceptions as vendor

from ..keys import without_keys
from ..wire import AgentConfig, Failure

MAX_ATTEMPTS: Final = 4
_BACKOFF_S: Final = (1.0, 4.0, 12.0)
_MAX_WAIT_S: Final = 120.0
_GLM_QUOTA: Final = ("1110", "1111", "1112", "1113", "1121", "1304", "1308", "1309", "1310")
_GLM_REFUSED: Final = ("1301",)
_GLM_NO_MODEL: Final = ("1211", "1212", "1220", "1221", "1222")
_GLM_AUTH: Final = ("1000", "1001", "1002", "1003", "1004")


class AgentStopped(Exception):  # noqa: N818 - it is not always an error
    """The agent's part is over without a result.

    Attributes
    ----------
    failure
        Reason from the closed vocabulary.
    """

    def __init__(self, failure: Failure, sentence: str) -> None:
        super().__init__(sentence)
        self.failure: Failure = failure


@dataclass(frozen=True, slots=True)
class Fault:
    """A failed model request, understood.

    Attributes
    ----------
    failure
        The reason if the run ends here.
    retry
        Whether the same request may succeed later.
    retry_after
        Seconds the vendor asked to wait, if it did.
    """

    failure: Failure
    sentence: str
    retry: bool
    retry_after: float | None = None

    def delay(self, attempt: int) -> float | None:
        """Return the seconds to wait before attempt ``attempt + 1``, or ``None`` to give up."""
        if not self.retry or attempt >= MAX_ATTEMPTS:
            return None
        if self.retry_after is not None and self.retry_after > _MAX_WAIT_S:
            return None
        jittered = _BACKOFF_S[attempt - 1] * random.uniform(0.5, 1.0)  # noqa: S311 - jitter
        return max(jittered, self.retry_after or 0.0)


def understand(error: Exception, config: AgentConfig) -> Fault:
    """Turn whatever a model request raised into a `Fault`.

    A bare ``TypeError`` or ``ValueError`` from deep inside a codec is how some broken answers
    show, so an unknown exception counts as a broken answer and is tried again.
    """
    who = f"{config.provider} ({config.model})"
    code = str(getattr(error, "provider_error_code", None) or "")
    text = str(error)
    after = getattr(error, "retry_after", None)
    if _is_auth(error, code, text):
        name = config.key_name or f"{config.provider}_API_KEY"
        return Fault(
            "PROVIDER_AUTH", f"{who} did not accept the key {name}; set a valid one.", retry=False
        )
    if isinstance(error, vendor.ModelQuotaExceededError) or code in _GLM_QUOTA:
        sentence = f"The quota or balance at {who} is used up; top it up or use another model."
        return Fault("PROVIDER_QUOTA", sentence, retry=False)
    if isinstance(error, vendor.ModelRateLimitError) and "perday" in text.lower():
        sentence = f"The daily quota at {who} is used up; wait, top it up or use another model."
        return Fault("PROVIDER_QUOTA", sentence, retry=False)
    if isinstance(error, vendor.ModelRateLimitError):
        sentence = f"{who} still limits the rate of requests; try again later."
        return Fault("PROVIDER_QUOTA", sentence, retry=True, retry_after=after)
    if isinstance(error, vendor.ContentFilterError) or code in _GLM_REFUSED:
        sentence = f"{who} refused the request by its content rules; reword the task."
        return Fault("PROVIDER_REFUSED", sentence, retry=False)
    if isinstance(error, vendor.ModelContextWindowExceededError) or code == "1261":
        sentence = f"The conversation no longer fits {who}; split the task or use a larger model."
        return Fault("PROVIDER_REFUSED", sentence, retry=False)
    if isinstance(error, vendor.ModelNotFoundError) or code in _GLM_NO_MODEL:
        sentence = f"{who} has no such model; change the model in the agent's profile."
        return Fault("PROVIDER_REFUSED", sentence, retry=False)
    if isinstance(error, vendor.ModelRequestRejectedError):
        sentence = f"{who} rejected the request: {_first_line(text)}"
        return Fault("PROVIDER_REFUSED", sentence, retry=False)
    sentence = f"{who} does not answer properly ({_first_line(text)}); try again later."
    return Fault("PROVIDER_UNAVAILABLE", sentence, retry=True, retry_after=after)


def _is_auth(error: Exception, code: str, text: str) -> bool:
    if isinstance(error, vendor.ModelAuthenticationError) or code in _GLM_AUTH:
        return True
    # Gemini answers 400 to a wrong key.
    return isinstance(error, vendor.ModelAPIError) and "api key not valid" in text.lower()


def _first_line(text: str) -> str:
    line = without_keys(text).strip().splitlines()[0] if text.strip() else "no reason given"
    return line[:300]
