"""Why an attempt fails: a closed vocabulary, each reason with one sentence."""

from __future__ import annotations

from django.db import models

__all__ = ["SENTENCES", "Failure", "sentence"]


class Failure(models.TextChoices):
    """Typed reason of a failed attempt or decomposition."""

    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"
    GATE_INSTALL = "GATE_INSTALL"
    GATE_LINT = "GATE_LINT"
    GATE_TEST = "GATE_TEST"
    GATE_TIMEOUT = "GATE_TIMEOUT"
    NO_CHANGES = "NO_CHANGES"
    AGENT_BLOCKED = "AGENT_BLOCKED"
    AGENT_LIMIT_STEPS = "AGENT_LIMIT_STEPS"
    AGENT_LIMIT_TOKENS = "AGENT_LIMIT_TOKENS"
    AGENT_LIMIT_COST = "AGENT_LIMIT_COST"
    AGENT_LIMIT_TIME = "AGENT_LIMIT_TIME"
    PROVIDER_AUTH = "PROVIDER_AUTH"
    PROVIDER_QUOTA = "PROVIDER_QUOTA"
    PROVIDER_UNAVAILABLE = "PROVIDER_UNAVAILABLE"
    PROVIDER_REFUSED = "PROVIDER_REFUSED"
    POLICY_UNENFORCEABLE = "POLICY_UNENFORCEABLE"
    REPO_INVALID = "REPO_INVALID"
    MERGE_CONFLICT = "MERGE_CONFLICT"
    LDA_UNREACHABLE = "LDA_UNREACHABLE"
    LDA_LOST = "LDA_LOST"
    INTERNAL = "INTERNAL"


SENTENCES: dict[str, str] = {
    Failure.CANCELLED: "You cancelled the attempt; its branch is kept, and a retry starts afresh.",
    Failure.REJECTED: "You rejected the result; retry with feedback to have it done differently.",
    Failure.GATE_INSTALL: "The install command failed; read its log and correct install_cmd.",
    Failure.GATE_LINT: "The lint command still fails; read its log, then retry with feedback.",
    Failure.GATE_TEST: "The test command still fails; read its log, then retry with feedback.",
    Failure.GATE_TIMEOUT: (
        "A gate took longer than allowed; raise gate_timeout_s in the project's configuration."
    ),
    Failure.NO_CHANGES: "The agent changed nothing; describe the task more exactly and retry.",
    Failure.AGENT_BLOCKED: "The agent could not go on; read its last message and retry with help.",
    Failure.AGENT_LIMIT_STEPS: (
        "The agent used all its steps; the branch is kept: raise max_steps or split the task."
    ),
    Failure.AGENT_LIMIT_TOKENS: (
        "The agent used all its tokens; the branch is kept: raise max_tokens or split the task."
    ),
    Failure.AGENT_LIMIT_COST: (
        "The agent reached its cost limit; the branch is kept: raise the budget or split the task."
    ),
    Failure.AGENT_LIMIT_TIME: (
        "The agent ran out of time; the branch is kept: raise max_seconds or split the task."
    ),
    Failure.PROVIDER_AUTH: (
        "The model's provider refused the key; run `rootbound doctor` to see which key is used."
    ),
    Failure.PROVIDER_QUOTA: (
        "The model's provider says the quota is used up; add credit or choose another agent."
    ),
    Failure.PROVIDER_UNAVAILABLE: (
        "The model's provider did not answer; check the network and the base URL, then retry."
    ),
    Failure.PROVIDER_REFUSED: (
        "The model's provider refused the request; rephrase the task or choose another agent."
    ),
    Failure.POLICY_UNENFORCEABLE: (
        "This machine cannot enforce the policy; run `rootbound doctor`, or accept the lower "
        "tier for this project by name."
    ),
    Failure.REPO_INVALID: (
        "The repository or its root cannot be used; check the path and the writable roots."
    ),
    Failure.MERGE_CONFLICT: "The result conflicts with the base branch; retry on the new base.",
    Failure.LDA_UNREACHABLE: (
        "The local desktop agent did not answer; start it with `rootbound up` and retry."
    ),
    Failure.LDA_LOST: (
        "The local desktop agent lost this run, probably by a restart; the branch is kept: retry."
    ),
    Failure.INTERNAL: "Rootbound failed here; `rootbound logs worker` shows why.",
}


def sentence(reason: str) -> str:
    """Return what happened and what to do, for a reason of the vocabulary."""
    return SENTENCES[reason]
