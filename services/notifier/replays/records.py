"""Replays, folded from their records in the audit log; each notifier follows them, and tells the others of new ones.

A notice over core NATS says that there are new records; without it they are found within a second.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
from nats.aio.msg import Msg

from contracts.audit import audit_subject, decode_record
from contracts.errors import SaccadeError
from contracts.replay import NOUN, Replay, fold
from kit.bus.audit_log import AuditLog
from kit.bus.jetstream_api import first_stored_since

log = logging.getLogger(__name__)

#: Days after which a replay is forgotten; its records stay.
REMEMBERED_DAYS: Final = 90
_SUBJECTS: Final = audit_subject("*", NOUN, "*", "*")
_NOTICE: Final = "live.replay.recorded"
_CHECK_S: Final = 1.0
_RETRY_S: Final = 0.5


class ReplayRecords:
    """The replays as of the newest record that was read; those of before 90 days are forgotten."""

    def __init__(self, audit: AuditLog) -> None:
        """Read the audit log; ``run`` follows it."""
        self.audit = audit
        self._replays: dict[str, Replay] = {}
        #: Sequence of the record that planned each replay: its place in lists.
        self._places: dict[str, int] = {}
        self._last: int | None = None
        self._reading = asyncio.Lock()
        self._noticed = asyncio.Event()
        self._changed = asyncio.Event()
        self._ready = asyncio.Event()
        self._observers: list[Callable[[str], None]] = []

    async def run(self) -> None:
        """Follow the records until cancelled."""

        async def on_notice(_: Msg) -> None:
            self._noticed.set()

        subscription = await self.audit.store.client.subscribe(_NOTICE, cb=on_notice)
        try:
            while True:
                self._noticed.clear()
                try:
                    await self.catch_up()
                except SaccadeError as error:
                    log.warning("replays: %s", error.message)
                    await asyncio.sleep(_RETRY_S)
                    continue
                try:
                    async with asyncio.timeout(_CHECK_S):
                        await self._noticed.wait()
                except TimeoutError:
                    continue
        finally:
            if not self.audit.store.client.is_closed:
                await subscription.unsubscribe()

    async def wait_until_read(self) -> None:
        """Wait until the records were read once."""
        await self._ready.wait()

    def get(self, replay_id: str) -> Replay | None:
        """Return a replay of any tenant; None if there is none."""
        return self._replays.get(replay_id)

    def on_forgotten(self, observer: Callable[[str], None]) -> None:
        """Call ``observer`` with the id of each replay that is forgotten."""
        self._observers.append(observer)

    def all(self) -> list[Replay]:
        """Return the replays, in the order in which they were planned."""
        return list(self._replays.values())

    def numbered(self) -> list[tuple[int, Replay]]:
        """Return the replays in that order, each with its place."""
        return [(self._places[replay_id], replay) for replay_id, replay in self._replays.items()]

    async def changed(self, timeout_s: float) -> None:
        """Wait for the next change of any replay, but no longer than ``timeout_s``."""
        try:
            async with asyncio.timeout(max(0.0, timeout_s)):
                await self._changed.wait()
        except TimeoutError:
            return

    async def tell(self) -> None:
        """Read what this process has just recorded, and tell the other notifiers.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        try:
            await self.audit.store.client.publish(_NOTICE, b"")
        except (nats.errors.Error, OSError) as error:
            log.warning("replays: no notice was sent: %s", type(error).__name__)
        await self.catch_up()

    async def catch_up(self) -> None:
        """Read all records that are stored by now.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        async with self._reading:
            if self._last is None:
                self._last = await self._begin()
            remaining, folded = 1, False
            while remaining:
                found, remaining = await self.audit.store.batch(self._last, _SUBJECTS)
                for stored in found:
                    self._last = stored.sequence
                    folded |= self._fold(stored.sequence, stored.subject, stored.body)
                if not found:
                    break
            self._forget()
        self._ready.set()
        if folded:
            changed, self._changed = self._changed, asyncio.Event()
            changed.set()

    def _fold(self, sequence: int, subject: str, body: bytes) -> bool:
        try:
            record = decode_record(sequence, subject, body)
        except ValueError as error:
            log.warning("replays: record %d is skipped: %s", sequence, error)
            return False
        replay = fold(self._replays.get(record.subject_id), record)
        if replay is None:
            return False
        self._replays[replay.id] = replay
        self._places.setdefault(replay.id, sequence)
        return True

    def _forget(self) -> None:
        now = datetime.now(UTC)
        until = now - timedelta(days=REMEMBERED_DAYS)
        for replay in self.all():
            if replay.planned_at >= until:
                return
            if replay.state_at(now).ended:
                del self._replays[replay.id], self._places[replay.id]
                for observer in self._observers:
                    observer(replay.id)

    async def _begin(self) -> int:
        """Return the sequence before the oldest record that is read."""
        moment = datetime.now(UTC) - timedelta(days=REMEMBERED_DAYS)
        first = await first_stored_since(self.audit.store.client, self.audit.store.stream, moment, _SUBJECTS)
        return 0 if first is None else first - 1
