"""The WebSocket that a machine's LDA holds open: requests go down, answers come up."""

from __future__ import annotations

import asyncio
import json
import logging
import uuid
from typing import Any

import redis.asyncio as redis
from channels.generic.websocket import AsyncWebsocketConsumer
from django.conf import settings
from redis.exceptions import RedisError

from rootbound_backend.apps.local_access.machine_models import Machine
from rootbound_backend.apps.local_access.machines import admit_machine, note_seen
from rootbound_backend.lda_exchange import ANSWER_KEPT_S, Keys
from rootbound_backend.websockets import CLOSE_BAD_FRAME, end_if_cancelled, end_task, run_in_db

__all__ = ["MachineConsumer"]

logger = logging.getLogger(__name__)

CLOSE_REPLACED = 4409
CLOSE_SHUT_OUT = 4403

LOOK_S = 3
"""How often a quiet connection says that it is there, in seconds."""

PRESENCE_S = 4 * LOOK_S
CHECK_EVERY_S = 5.0
"""How often a token is looked at again: one that was renewed ends its connection."""

MAX_ANSWER_BYTES = 32 * 1024 * 1024


class MachineConsumer(AsyncWebsocketConsumer):
    """Carries requests from Redis to one machine's LDA, and its answers back.

    The newest connection of a machine has it; an older one that still seems open is closed.
    """

    channel_layer_alias = "none"
    _task: asyncio.Task[None] | None = None

    async def connect(self) -> None:
        """Let the LDA in by its machine's token, or refuse it (403)."""
        headers = {name.lower(): value.decode("latin-1") for name, value in self.scope["headers"]}
        scheme, _, token = headers.get(b"authorization", "").partition(" ")
        lda_id, _, boot_id = headers.get(b"x-rootbound-lda", "").partition(":")
        version = headers.get(b"x-rootbound-version", "")
        machine: Machine | None = None
        if scheme.lower() == "bearer" and settings.LDA_LINK == "outward" and boot_id:
            machine = await run_in_db(
                admit_machine, token=token.strip(), lda_id=lda_id, version=version
            )
        if machine is None:
            await self.close()
            return
        self._machine, self._keys = machine, Keys.of(machine.pk)
        self._under_way: dict[str, str] = {}
        self._connection = uuid.uuid4().hex
        self._facts = json.dumps(
            {"connection": self._connection, "audience": f"{lda_id}:{boot_id}", "version": version}
        )
        self._redis = redis.Redis.from_url(settings.REDIS_URL, decode_responses=True)
        await self.accept()
        logger.info("%s of %s is connected", machine.name, machine.user_id)
        self._task = asyncio.create_task(self._guarded())

    async def disconnect(self, code: int) -> None:
        """Say that the machine is gone, unless another connection has it."""
        if self._task is None:
            return
        end_task(self._task)
        await asyncio.wait([self._task])
        try:
            if await self._has_the_machine():
                await self._redis.delete(self._keys.here)
        except RedisError:
            logger.info("Redis does not hear that %s is gone; it will see", self._machine.name)
        finally:
            await self._redis.aclose()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        """Hand an answer to the one who asked."""
        answer = _answer(text_data)
        if answer is None:
            await self.close(CLOSE_BAD_FRAME)
            return
        frame = self._under_way.pop(answer["id"], None)
        if frame is None:
            return  # nobody asked that here
        key = Keys.answer(answer["id"])
        document = json.dumps({"status": answer["status"], "body": answer["body"]})
        try:
            async with self._redis.pipeline() as pipe:
                pipe.rpush(key, document)
                pipe.expire(key, ANSWER_KEPT_S)
                pipe.lrem(self._keys.under_way, 0, frame)
                await pipe.execute()
        except RedisError:
            # The request stays noted as under way, so it is sent, and answered, once more.
            logger.warning("An answer of %s waits for Redis", self._machine.name)
            await self.close()

    async def _guarded(self) -> None:
        while True:
            try:
                return await self._carry()
            except asyncio.CancelledError:
                raise
            except RedisError as error:
                logger.warning("%s waits for Redis: %s", self._machine.name, error)
                await asyncio.sleep(1)
            except Exception:
                logger.exception("The connection of %s failed", self._machine.name)
                await self.close(1011)
                return None

    async def _carry(self) -> None:
        """Send what waits, until another connection has the machine or its token is void."""
        loop, noted = asyncio.get_running_loop(), 0.0
        await self._redis.set(self._keys.here, self._facts, ex=PRESENCE_S)
        frames: Any = await self._redis.lrange(self._keys.under_way, 0, -1)
        for frame in frames:
            await self._down(frame)
        while True:
            end_if_cancelled()
            frame = await self._redis.blmove(
                self._keys.waiting, self._keys.under_way, LOOK_S, "LEFT", "RIGHT"
            )
            end_if_cancelled()
            if not await self._has_the_machine():
                if frame:
                    await self._give_back(str(frame))
                await self.close(CLOSE_REPLACED)
                return
            if frame:
                await self._down(str(frame))
            await self._redis.set(self._keys.here, self._facts, ex=PRESENCE_S)
            if loop.time() - noted >= CHECK_EVERY_S:
                good = await run_in_db(
                    note_seen,
                    machine_id=self._machine.pk,
                    token_digest=self._machine.token_digest,
                )
                noted = loop.time()
                if not good:
                    await self.close(CLOSE_SHUT_OUT)
                    return

    async def _down(self, frame: str) -> None:
        self._under_way[str(json.loads(frame)["id"])] = frame
        await self.send(text_data=frame)

    async def _give_back(self, frame: str) -> None:
        async with self._redis.pipeline() as pipe:
            pipe.lrem(self._keys.under_way, 0, frame)
            pipe.lpush(self._keys.waiting, frame)
            await pipe.execute()

    async def _has_the_machine(self) -> bool:
        text: Any = await self._redis.get(self._keys.here)
        # Lapsed means that nobody else has come.
        return text is None or json.loads(text)["connection"] == self._connection


def _answer(text: str | None) -> dict[str, Any] | None:
    """Return an LDA's frame, or None when it is not an answer."""
    if text is None or len(text) > MAX_ANSWER_BYTES:
        return None
    try:
        frame = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(frame, dict):
        return None
    types = {"id": str, "status": int, "body": str}
    return frame if all(isinstance(frame.get(key), kind) for key, kind in types.items()) else None
