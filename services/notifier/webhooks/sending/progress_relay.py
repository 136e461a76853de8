"""A job's progress as webhooks: the newest only, at most one in half a second, tried once and kept nowhere."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

EVERY_S: Final = 0.5
#: Jobs and receivers whose progress is on its way at one time; beyond it progress is left out.
_AT_ONCE: Final = 256

#: And of one lane: a receiver that hangs cannot use up the places of the others.
_OF_LANE: Final = 16


@dataclass(frozen=True)
class Towards:
    """Where progress goes: a receiver, and the lane in which its durable events queue."""

    tenant: str
    receiver_id: str
    lane: str


Send = Callable[[Towards, bytes], Awaitable[None]]


@dataclass
class _Slot:
    """The newest progress of one job for one receiver that is not sent yet."""

    body: bytes | None
    task: asyncio.Task[None] | None = None


class ProgressRelay:
    """Conflates progress by receiver and job."""

    def __init__(self, send: Send) -> None:
        """Send by ``send(towards, body)``, which must not raise."""
        self._send = send
        self._slots: dict[tuple[Towards, str], _Slot] = {}
        self._of_lane: Counter[str] = Counter()

    def offer(self, towards: Towards, job_id: str, body: bytes) -> None:
        """Take progress: it replaces what is not sent yet."""
        key = (towards, job_id)
        if slot := self._slots.get(key):
            slot.body = body
        elif len(self._slots) < _AT_ONCE and self._of_lane[towards.lane] < _OF_LANE:
            self._of_lane[towards.lane] += 1
            slot = self._slots[key] = _Slot(body)
            slot.task = asyncio.ensure_future(self._relay(key, slot))

    def ended(self, job_id: str) -> None:
        """Forget what was not sent of a job that has ended: progress after its end says nothing."""
        for (_, job), slot in self._slots.items():
            if job == job_id:
                slot.body = None

    def tasks(self) -> list[asyncio.Task[None]]:
        """List what is on its way."""
        return [slot.task for slot in self._slots.values() if slot.task]

    async def _relay(self, key: tuple[Towards, str], slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        try:
            while slot.body is not None:
                body, slot.body = slot.body, None
                began = loop.time()
                await self._send(key[0], body)
                await asyncio.sleep(EVERY_S - (loop.time() - began))
        finally:
            del self._slots[key]
            self._of_lane[key[0].lane] -= 1
            self._of_lane += Counter()  # drops the lanes that are at zero
