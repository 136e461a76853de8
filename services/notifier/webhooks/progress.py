"""A job's progress as webhooks: the newest only, at most one in half a second, tried once and kept nowhere."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

log = logging.getLogger(__name__)

EVERY_S: Final = 0.5
#: Jobs and receivers whose progress is on its way at one time; beyond it progress is left out.
_AT_ONCE: Final = 256

Send = Callable[[str, str, bytes], Awaitable[None]]


@dataclass
class _Slot:
    """The newest progress of one job for one receiver that is not sent yet."""

    body: bytes | None
    task: asyncio.Task[None] | None = None


class ProgressRelay:
    """Conflates progress by receiver and job."""

    def __init__(self, send: Send) -> None:
        """Send by ``send(tenant, receiver_id, body)``, which must not raise."""
        self._send = send
        self._slots: dict[tuple[str, str], _Slot] = {}

    def offer(self, tenant: str, receiver_id: str, job_id: str, body: bytes) -> None:
        """Take progress: it replaces what is not sent yet."""
        key = (receiver_id, job_id)
        if slot := self._slots.get(key):
            slot.body = body
        elif len(self._slots) < _AT_ONCE:
            slot = self._slots[key] = _Slot(body)
            slot.task = asyncio.ensure_future(self._relay(tenant, key, slot))

    def ended(self, job_id: str) -> None:
        """Forget what was not sent of a job that has ended: progress after its end says nothing."""
        for (_, job), slot in self._slots.items():
            if job == job_id:
                slot.body = None

    def tasks(self) -> list[asyncio.Task[None]]:
        """List what is on its way."""
        return [slot.task for slot in self._slots.values() if slot.task]

    async def _relay(self, tenant: str, key: tuple[str, str], slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        try:
            while slot.body is not None:
                body, slot.body = slot.body, None
                began = loop.time()
                await self._send(tenant, key[0], body)
                await asyncio.sleep(EVERY_S - (loop.time() - began))
        finally:
            del self._slots[key]
