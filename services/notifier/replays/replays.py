"""Composition of one notifier's replays: records, progress, service, readers and engine."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

from fastapi import FastAPI

from contracts.events.base import Cursor
from kit.bus.audit_log import AuditLog
from kit.bus.idempotency import Idempotency
from kit.history.history import History
from kit.tasks import first_of
from services.notifier.replays.engine import ReplayEngine
from services.notifier.replays.live_traffic import LiveTraffic
from services.notifier.replays.planner import ReplayPlanner
from services.notifier.replays.progress import ProgressBoard
from services.notifier.replays.reader import ReplayReaders
from services.notifier.replays.records import ReplayRecords
from services.notifier.replays.replay_service import ReplayService
from services.notifier.replays.target import TargetKinds


def _now() -> datetime:
    return datetime.now(UTC)


class Replays:
    """The replays of one notifier."""

    def __init__(
        self,
        audit: AuditLog,
        history: History,
        idempotency: Idempotency,
        kinds: TargetKinds,
        *,
        position_of: Callable[[Cursor], int | None],
        heartbeat_s: float,
        maximum_readers: int,
        traffic: LiveTraffic,
        now: Callable[[], datetime] = _now,
    ) -> None:
        """Read ``history``, whose cursors ``position_of`` resolves, and send to targets of ``kinds``."""
        self._records = ReplayRecords(audit)
        self._board = ProgressBoard(audit.store.client)
        self._records.on_forgotten(self._board.forget)
        planner = ReplayPlanner(history, kinds, position_of, now)
        self.service = ReplayService(self._records, planner, self._board, idempotency, now)
        self.readers = ReplayReaders(self.service, history, traffic, heartbeat_s=heartbeat_s, maximum=maximum_readers)
        self._engine = ReplayEngine(self.service, history, kinds, traffic)

    def add_services(self, app: FastAPI) -> None:
        """Set the services of the routes in the application's state."""
        app.state.replay_service, app.state.replay_readers = self.service, self.readers
        self.readers.places = app.state.streams.places

    async def run(self) -> None:
        """Follow the records, share progress and carry out replays until cancelled."""
        await first_of(self._records.run(), self._board.run(), self._engine.run())

    def stop(self) -> None:
        """End all streams: their clients resume elsewhere."""
        self.readers.stopping.set()
