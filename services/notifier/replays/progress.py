"""Progress of replays: reported by the notifier that carries one out, shared over core NATS, stored nowhere.

After a restart it is unknown until the target is open again, which knows it.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, ConfigDict

from contracts.replay import ReplayCounts

log = logging.getLogger(__name__)

_SUBJECT: Final = "live.replay.progress"
_INTERVAL_S: Final = 0.25


class ReplayProgress(BaseModel):
    """Position of a replay."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    #: Sequence up to which everything is done.
    sequence: int
    counts: ReplayCounts = ReplayCounts()


class ProgressBoard:
    """Newest progress of each replay; of several readers, that of the furthest."""

    def __init__(self, client: Client) -> None:
        """Share it with the notifiers of this NATS."""
        self._client = client
        self._newest: dict[str, ReplayProgress] = {}
        self._unsent: set[str] = set()

    def report(self, replay_id: str, progress: ReplayProgress) -> None:
        """Take progress of this process."""
        if self._take(replay_id, progress):
            self._unsent.add(replay_id)

    def newest(self, replay_id: str) -> ReplayProgress | None:
        """Return the newest progress; None while it is unknown."""
        return self._newest.get(replay_id)

    def forget(self, replay_id: str) -> None:
        """Drop the progress of a replay that is not shown any more."""
        self._newest.pop(replay_id, None)

    async def run(self) -> None:
        """Share progress until cancelled."""

        async def on_progress(msg: Msg) -> None:
            try:
                self._take(msg.subject.rpartition(".")[2], ReplayProgress.model_validate_json(msg.data))
            except ValueError as error:
                log.warning("progress on %s is skipped: %s", msg.subject, error)

        subscription = await self._client.subscribe(f"{_SUBJECT}.*", cb=on_progress)
        try:
            while True:
                await asyncio.sleep(_INTERVAL_S)
                unsent, self._unsent = self._unsent, set()
                for replay_id in unsent:
                    if progress := self._newest.get(replay_id):
                        await self._send(replay_id, progress)
        finally:
            if not self._client.is_closed:
                await subscription.unsubscribe()

    async def _send(self, replay_id: str, progress: ReplayProgress) -> None:
        try:
            await self._client.publish(f"{_SUBJECT}.{replay_id}", progress.model_dump_json().encode())
        except (nats.errors.Error, OSError) as error:
            log.debug("progress of %s is not shared: %s", replay_id, type(error).__name__)

    def _take(self, replay_id: str, progress: ReplayProgress) -> bool:
        newest = self._newest.get(replay_id)
        if newest is not None and newest.sequence >= progress.sequence:
            return False
        self._newest[replay_id] = progress
        return True
