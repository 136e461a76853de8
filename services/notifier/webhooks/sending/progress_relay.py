"""A job's progress as webhooks: the newest only, at most one per half second, sent once and not stored."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

INTERVAL_S: Final = 0.5
#: Maximum pairs of job and receiver whose progress is being sent; beyond it progress is dropped.
_MAX_SLOTS: Final = 256
#: Maximum of them per lane: a receiver that hangs cannot use up the slots of the others.
_MAX_SLOTS_PER_LANE: Final = 16


@dataclass(frozen=True)
class ProgressTarget:
    """Receiver of progress, and the lane of its durable events."""

    tenant: str
    receiver_id: str
    lane: str


Send = Callable[[ProgressTarget, bytes], Awaitable[None]]


@dataclass
class _Slot:
    """Newest unsent progress of one job for one receiver."""

    body: bytes | None
    task: asyncio.Task[None] | None = None


class ProgressRelay:
    """Conflates progress by receiver and job."""

    def __init__(self, send: Send) -> None:
        """Send by ``send(target, body)``, which must not raise."""
        self._send = send
        self._slots: dict[tuple[ProgressTarget, str], _Slot] = {}
        self._slots_per_lane: Counter[str] = Counter()

    def offer(self, target: ProgressTarget, job_id: str, body: bytes) -> None:
        """Send progress as soon as possible; it replaces what is not sent yet."""
        key = (target, job_id)
        if slot := self._slots.get(key):
            slot.body = body
        elif len(self._slots) < _MAX_SLOTS and self._slots_per_lane[target.lane] < _MAX_SLOTS_PER_LANE:
            self._slots_per_lane[target.lane] += 1
            slot = self._slots[key] = _Slot(body)
            slot.task = asyncio.ensure_future(self._relay(key, slot))

    def discard(self, job_id: str) -> None:
        """Drop the unsent progress of a job that has ended."""
        for (_, job), slot in self._slots.items():
            if job == job_id:
                slot.body = None

    def tasks(self) -> list[asyncio.Task[None]]:
        """Return the tasks that are sending."""
        return [slot.task for slot in self._slots.values() if slot.task]

    async def _relay(self, key: tuple[ProgressTarget, str], slot: _Slot) -> None:
        loop = asyncio.get_running_loop()
        try:
            while slot.body is not None:
                body, slot.body = slot.body, None
                started = loop.time()
                await self._send(key[0], body)
                await asyncio.sleep(INTERVAL_S - (loop.time() - started))
        finally:
            del self._slots[key]
            self._slots_per_lane[key[0].lane] -= 1
            self._slots_per_lane += Counter()  # drops the lanes that are at zero
