"""Upkeep of the projection's file: commits a few times a second, and removes what is past retention."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import SaccadeError
from contracts.streams import DELIVERIES, EVENTS
from kit.bus.connection import request
from kit.tasks import first_of
from services.notifier.webhooks.deliveries.delivery_file import DeliveryFile
from services.notifier.webhooks.deliveries.delivery_tables import DeliveryTables
from services.notifier.webhooks.deliveries.event_ranges import EventRanges
from services.notifier.webhooks.deliveries.receiver_tables import PAUSE, ReceiverTables

_COMMIT_S: Final = 0.25
_PRUNE_S: Final = 10.0
#: Time for which a job's own URL is kept at least, though the stream has deleted the event that names it: the job may
#: run, and its deliveries may be tried again.
JOB_URLS_KEPT: Final = timedelta(days=8)
#: Interval at which the event that was stored so long ago is looked up, perhaps in the archive.
_LOOK_UP_S: Final = 600.0
#: Time for which a failing receiver is remembered after its last failure.
_FAILURES_KEPT: Final = 2 * PAUSE + timedelta(days=30)


@dataclass
class _Kept:
    """Position in EVENTS up to which nothing is as young as ``JOB_URLS_KEPT``; None until the archive has told."""

    after: int | None = None


async def keep_up(file: DeliveryFile, client: Client, ranges: EventRanges, now: Callable[[], datetime]) -> None:
    """Commit and prune until cancelled.

    Raises:
        sqlite3.Error: the disk does not accept a write.
    """
    kept = _Kept()
    # Beside the commits: an archive that does not answer must not delay them, nor keep rows that need none of it.
    await first_of(_look_up(kept, ranges, now), _commit_and_prune(file, client, kept, now))


async def _look_up(kept: _Kept, ranges: EventRanges, now: Callable[[], datetime]) -> None:
    while True:
        try:
            kept.after = await ranges.sequence_before(now() - JOB_URLS_KEPT)
        except SaccadeError:
            await asyncio.sleep(_PRUNE_S)
        else:
            await asyncio.sleep(_LOOK_UP_S)


async def _commit_and_prune(file: DeliveryFile, client: Client, kept: _Kept, now: Callable[[], datetime]) -> None:
    deliveries, receivers = DeliveryTables(file), ReceiverTables(file)
    loop = asyncio.get_running_loop()
    prune_at = loop.time()
    while True:
        await asyncio.sleep(_COMMIT_S)
        file.commit()
        if loop.time() >= prune_at:
            prune_at = loop.time() + _PRUNE_S
            try:
                events, records = await stream_state(client, EVENTS.name), await stream_state(client, DELIVERIES.name)
            except SaccadeError:
                continue  # pruned next time
            deliveries.prune(events["first_seq"], records["first_seq"])
            if kept.after is not None:
                receivers.prune(min(events["first_seq"], kept.after + 1), now() - _FAILURES_KEPT)


async def stream_state(client: Client, stream: str) -> dict[str, Any]:
    """Return the first and last sequence and the number of messages of a stream; zeros if it is missing.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    info = await request(client, f"STREAM.INFO.{stream}", {})
    return dict(info.get("state", {"first_seq": 0, "last_seq": 0, "messages": 0}))
