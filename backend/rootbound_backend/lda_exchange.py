"""Requests to LDAs that connect outwards: through Redis to the process that holds the connection.

Whoever asks puts a signed request on the machine's queue and waits for the answer. The backend
process that the machine is connected to takes it from there (``MachineConsumer``), keeps it noted
as under way and sends it. A request that was under way when that process died is sent again by the
next one; the LDA answers it once.
"""

from __future__ import annotations

import functools
import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

import redis
from django.conf import settings

__all__ = ["ANSWER_KEPT_S", "Answer", "ExchangeError", "Keys", "ask", "presence"]

ANSWER_KEPT_S = 120
"""How long an answer waits for the one who asked, in seconds."""


class ExchangeError(Exception):
    """Nobody answered; the text says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an LDA answered."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one machine in Redis.

    Attributes
    ----------
    waiting, under_way
        Lists of requests: not yet sent, and sent without an answer so far.
    here
        Who is connected; expires when the connection is not kept up.
    """

    waiting: str
    under_way: str
    here: str

    @classmethod
    def of(cls, machine_id: uuid.UUID) -> Keys:
        """Return the keys of a machine."""
        start = f"rootbound-machine:{machine_id}"
        return cls(f"{start}:waiting", f"{start}:under-way", f"{start}:here")

    @staticmethod
    def answer(request_id: str) -> str:
        """Return the key of the answer to one request."""
        return f"rootbound-machine:answer:{request_id}"


@functools.cache
def _redis() -> redis.Redis:
    return redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)


def presence(machine_id: uuid.UUID) -> dict[str, str] | None:
    """Return what the connected LDA of a machine said of itself, None when there is none.

    Raises
    ------
    ExchangeError
        When Redis does not answer.
    """
    try:
        text: Any = _redis().get(Keys.of(machine_id).here)
    except redis.RedisError as error:
        raise ExchangeError("Redis does not answer") from error
    facts: dict[str, str] | None = json.loads(text) if text else None
    return facts


def ask(
    machine_id: uuid.UUID, *, method: str, target: str, token: str, body: str, timeout_s: float
) -> Answer:
    """Send one signed request to a machine's LDA and wait for the answer.

    Parameters
    ----------
    machine_id
        The machine.
    method, target, token, body
        The request; ``token`` was made for exactly this one.
    timeout_s
        Longest wait in seconds.

    Raises
    ------
    ExchangeError
        When no answer comes in time or Redis does not answer.
    """
    keys, request_id = Keys.of(machine_id), uuid.uuid4().hex
    frame = json.dumps(
        {"id": request_id, "method": method, "target": target, "token": token, "body": body}
    )
    client = _redis()
    try:
        pipe = client.pipeline()
        pipe.rpush(keys.waiting, frame)
        pipe.expire(keys.waiting, ANSWER_KEPT_S)
        pipe.execute()
        found = _wait(client, Keys.answer(request_id), timeout_s)
        if found is None:
            # Nobody waits for it any more; what is on its way already, its token ends.
            pipe = client.pipeline()
            pipe.lrem(keys.waiting, 0, frame)
            pipe.lrem(keys.under_way, 0, frame)
            pipe.execute()
    except redis.RedisError as error:
        raise ExchangeError("Redis does not answer") from error
    if found is None:
        raise ExchangeError(f"no answer within {timeout_s:.0f} s")
    document = json.loads(found)
    return Answer(int(document["status"]), str(document["body"]))


def _wait(client: redis.Redis, key: str, timeout_s: float) -> str | None:
    """Wait for the answer, through a restart of Redis, which keeps its lists."""
    deadline = time.monotonic() + timeout_s
    while (left := deadline - time.monotonic()) > 0:
        try:
            found: Any = client.blpop([key], timeout=max(1, min(left, 30)))
        except redis.ConnectionError:
            # Nothing tells when it is back; without a pause the attempts would fill the wait.
            time.sleep(0.2)
            continue
        if found:
            return str(found[1])
    return None
