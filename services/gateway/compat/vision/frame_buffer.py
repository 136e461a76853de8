"""Frames of one connection that wait to be stored, as the replaced system kept those that waited for inference."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import Final

from contracts.limits import MIB

#: Bytes that wait at most, unless a single frame has more.
_BYTES: Final = 16 * MIB


@dataclass(frozen=True)
class ReceivedFrame:
    """A frame, its number in its connection, and when it came (Unix seconds)."""

    number: int
    received_at_s: float
    picture: bytes


class FrameBuffer:
    """Bounded buffer: when it is full, the oldest frames are dropped in silence."""

    def __init__(self, max_frames: int, max_bytes: int = _BYTES) -> None:
        """Keep up to ``max_frames`` frames with ``max_bytes`` bytes."""
        self._frames: deque[ReceivedFrame] = deque()
        self._max_frames, self._max_bytes = max_frames, max_bytes
        self._bytes = 0
        self._not_empty = asyncio.Event()
        self.dropped = 0

    def add(self, frame: ReceivedFrame) -> None:
        """Add a frame."""
        self._frames.append(frame)
        self._bytes += len(frame.picture)
        while len(self._frames) > 1 and (len(self._frames) > self._max_frames or self._bytes > self._max_bytes):
            self._bytes -= len(self._frames.popleft().picture)
            self.dropped += 1
        self._not_empty.set()

    async def take(self) -> ReceivedFrame:
        """Wait for a frame; remove and return the oldest."""
        await self._not_empty.wait()
        frame = self._frames.popleft()
        self._bytes -= len(frame.picture)
        if not self._frames:
            self._not_empty.clear()
        return frame
