"""One open stream: writes frames without a task switch while the client keeps up, and bounds what waits when not.

Durable events wait in order and are never dropped; progress is replaced by the newest of its job. Past the bound
the stream is closed, and the client resumes by its cursor.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine, Generator, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from services.notifier.sse import ENDS, HEARTBEAT, REOPENS, Selection, StreamEvent, retry_line

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
#: Why a stream is closed by us: its thing ended, its time is over, its client is too slow, the bus is away, we stop.
Reason = Literal["ended", "rotated", "slow", "bus_away", "stopping"]

_CHUNK_BYTES: Final = 64 * 1024


@dataclass(frozen=True)
class Bounds:
    """How many streams there may be, how long one lasts, and what may wait for its client."""

    max_streams: int
    backlog_events: int
    backlog_bytes: int
    blocked_s: float
    rotate_s: float


class Closed(Exception):  # noqa: N818 - it is news, not a fault
    """The stream was closed while something was written to it."""


class _Begun:
    """A coroutine that was begun by hand and goes on in a task: it has yielded what it waits for."""

    def __init__(self, coroutine: Coroutine[Any, Any, None], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, None]:
        waits_for = self._waits_for
        while True:
            value, thrown = None, None
            try:
                value = yield waits_for
            except BaseException as error:  # noqa: BLE001 - a cancellation belongs to the coroutine
                thrown = error
            try:
                waits_for = self._coroutine.throw(thrown) if thrown else self._coroutine.send(value)
            except StopIteration:
                return


class Subscriber:
    """One client's stream. All methods are called in the event loop."""

    __slots__ = (
        "_bounds",
        "_loop",
        "_progress",
        "_retry",
        "_send",
        "_task",
        "_waiting",
        "_waiting_bytes",
        "_writer",
        "conflated",
        "ended",
        "expires",
        "live",
        "position",
        "reason",
        "selection",
        "written",
    )

    def __init__(self, selection: Selection, send: Send, bounds: Bounds) -> None:
        """Serve ``selection`` through an ASGI ``send`` whose response has begun, in the current task."""
        task = asyncio.current_task()
        assert task
        self._task = task
        self._loop = task.get_loop()
        self._send = send
        self._bounds = bounds
        self._retry = retry_line()
        self._writer: asyncio.Task[None] | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._progress: dict[str, bytes] = {}
        self.selection = selection
        #: The client has been given all of its events up to this sequence.
        self.position = 0
        #: The newest event that was given out ends the stream's thing.
        self.ended = False
        self.reason: Reason | None = None
        #: All history has been given; the hub writes from now on.
        self.live = False
        self.conflated = 0
        self.written = self._loop.time()
        self.expires = self.written + bounds.rotate_s * random.uniform(0.8, 1.2)  # noqa: S311 - spreads reconnects

    def offer(self, event: StreamEvent) -> None:
        """Give a durable event; nothing happens with one that the client has."""
        if event.sequence <= self.position or self.reason:
            return
        self.position = event.sequence
        self._note(event)
        if self._writer is None:
            self._write_now(event.frame)
            return
        self._waiting.append(event.frame)
        self._waiting_bytes += len(event.frame)
        if event.type in ENDS:
            self._progress.pop(event.subject_id, None)
        bounds = self._bounds
        if len(self._waiting) > bounds.backlog_events or self._waiting_bytes > bounds.backlog_bytes:
            self.close("slow")

    def offer_progress(self, event: StreamEvent) -> None:
        """Give progress; for a slow client only the newest of each job waits."""
        if self.reason:
            return
        if self._writer is None:
            self._write_now(event.frame)
        else:
            self.conflated += event.subject_id in self._progress
            self._progress[event.subject_id] = event.frame

    def beat(self) -> None:
        """Write a comment line, unless other bytes are on their way."""
        if self._writer is None and not self.reason:
            self._write_now(HEARTBEAT)

    async def write(self, events: Iterable[StreamEvent]) -> None:
        """Write history at the client's pace, before the stream is live.

        Raises:
            Closed: the client is too slow.
        """
        chunk: list[bytes] = []
        size = 0
        for event in events:
            if event.sequence <= self.position or not self.selection.takes(event):
                continue
            self.position = event.sequence
            self._note(event)
            chunk.append(event.frame)
            size += len(event.frame)
            if size >= _CHUNK_BYTES:
                await self.write_bytes(b"".join(chunk))
                chunk, size = [], 0
        if chunk:
            await self.write_bytes(b"".join(chunk))

    async def write_bytes(self, data: bytes) -> None:
        """Write ready frames at the client's pace, before the stream is live.

        Raises:
            Closed: the client is too slow.
        """
        try:
            async with asyncio.timeout(self._bounds.blocked_s):
                await self._send(self._message(data))
        except TimeoutError:
            self.reason = "slow"
            raise Closed from None

    def close(self, reason: Reason) -> None:
        """End the stream; what waits is written first, unless the client is too slow."""
        if self.reason:
            return
        self.reason = reason
        if reason == "slow":
            self._waiting.clear()
            if self._writer:
                self._writer.cancel()
        if self._writer is None or reason == "slow":
            self._task.cancel()

    def abandon(self) -> None:
        """Forget what waits: the client is gone."""
        self.reason = self.reason or "slow"
        if self._writer:
            self._writer.cancel()

    def _note(self, event: StreamEvent) -> None:
        if event.type in ENDS:
            self.ended = True
        elif event.type in REOPENS:
            self.ended = False

    def _message(self, data: bytes) -> dict[str, Any]:
        self.written = self._loop.time()
        if self._retry and data is not HEARTBEAT:
            data, self._retry = self._retry + data, b""
        return {"type": "http.response.body", "body": data, "more_body": True}

    def _write_now(self, data: bytes) -> None:
        """Step the send coroutine by hand: a write that does not block costs no task."""
        coroutine: Any = self._send(self._message(data))
        try:
            waits_for = coroutine.send(None)
        except StopIteration:
            return
        except OSError:  # gone; its own task hears of it
            return
        self._writer = asyncio.ensure_future(self._write_waiting(_Begun(coroutine, waits_for)))

    async def _write_waiting(self, begun: Awaitable[None]) -> None:
        """Finish a write that blocks, then all that came meanwhile."""
        try:
            async with asyncio.timeout(self._bounds.blocked_s):
                await begun
            while self._waiting or self._progress:
                async with asyncio.timeout(self._bounds.blocked_s):
                    await self._send(self._message(self._next_chunk()))
        except TimeoutError:
            self.reason = "slow"
        except OSError:  # gone; its own task hears of it
            pass
        finally:
            self._writer = None
        if self.reason:
            self._task.cancel()

    def _next_chunk(self) -> bytes:
        chunk: list[bytes] = []
        size = 0
        while self._waiting and size < _CHUNK_BYTES:
            chunk.append(self._waiting.popleft())
            size += len(chunk[-1])
        self._waiting_bytes -= size
        if not self._waiting:
            chunk += self._progress.values()
            self._progress.clear()
        return b"".join(chunk)
