"""Fill of each stream, the time until it deletes its oldest messages, and how far archive and view are behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client

from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import EVENTS, STREAMS, Stream
from kit.bucket import Bucket
from kit.bus.connection import request
from kit.history.segment_store import SegmentStore
from services.gateway.aggregates.view import GatewayView

_NO_STREAM: Final = 404


@dataclass(frozen=True)
class StreamReport:
    """State of one stream; times are the server's."""

    name: str
    messages: int
    size_bytes: int
    first_sequence: int
    last_sequence: int
    oldest_at: datetime | None
    newest_at: datetime | None
    max_bytes: int | None
    max_age_s: int | None
    when_full: str
    #: Seconds until the oldest message is deleted for its age; None without such a limit, or without messages.
    deletes_in_s: float | None


class StreamReports:
    """Reads the state of the streams from the bus, and of the archive from the bucket."""

    def __init__(
        self,
        client: Client,
        bucket: Bucket,
        view: GatewayView,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """Read from ``client`` and ``bucket``; ``view`` tells how far the gateway has folded the events."""
        self._client, self._view, self._clock = client, view, clock

        async def opened() -> Bucket:
            return bucket

        self._segments = SegmentStore(opened)

    async def read(self) -> list[StreamReport]:
        """Return the state of each stream that exists, in the order of their declaration.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await asyncio.gather(*(self._info(stream) for stream in STREAMS))
        now = self._clock()
        return [_report(stream, info, now) for stream, info in zip(STREAMS, found, strict=True) if info]

    def behind(self, reports: list[StreamReport]) -> int:
        """Return the number of events that the view of this gateway has not folded yet."""
        sequence: int = self._view.sequence
        return max(0, _events(reports) - sequence)

    async def archived_until(self) -> int:
        """Return the sequence of the newest archived event of the present epoch; 0 where nothing is archived.

        Raises:
            SaccadeError: STORAGE_UNAVAILABLE.
        """
        stored = await self._segments.of_epoch(self._view.epoch)
        return max((segment.last for segment in stored), default=0)

    async def _info(self, stream: Stream) -> dict[str, Any] | None:
        answer = await request(self._client, f"STREAM.INFO.{stream.name}", {})
        if error := answer.get("error"):
            if error.get("code") == _NO_STREAM:
                return None
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {error.get('description')}.")
        return answer


def _events(reports: list[StreamReport]) -> int:
    return next((report.last_sequence for report in reports if report.name == EVENTS.name), 0)


def _report(stream: Stream, info: dict[str, Any], now: datetime) -> StreamReport:
    state, config = info["state"], info["config"]
    messages, max_bytes = int(state["messages"]), int(config.get("max_bytes", -1))
    oldest, newest = (_time(state[name]) if messages else None for name in ("first_ts", "last_ts"))
    max_age_s = int(config.get("max_age", 0)) // 1_000_000_000 or None
    deletes_in_s = None
    if oldest and max_age_s:
        deletes_in_s = max(0.0, (oldest + timedelta(seconds=max_age_s) - now).total_seconds())
    return StreamReport(
        name=stream.name,
        messages=messages,
        size_bytes=int(state["bytes"]),
        first_sequence=int(state["first_seq"]),
        last_sequence=int(state["last_seq"]),
        oldest_at=oldest,
        newest_at=newest,
        max_bytes=max_bytes if max_bytes > 0 else None,
        max_age_s=max_age_s,
        when_full="refuses" if config.get("discard") == "new" else "deletes_oldest",
        deletes_in_s=deletes_in_s,
    )


def _time(text: str) -> datetime:
    """Return a time of NATS, which has nanoseconds."""
    return datetime.fromisoformat(text)
