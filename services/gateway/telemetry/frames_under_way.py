"""Frames that this gateway has passed on and that have no verdict yet, by session."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

#: Sessions and frames of a session that are counted; above it, the oldest are forgotten.
_SESSIONS: Final = 256
_FRAMES: Final = 2048


class FramesUnderWay:
    """Counts the frames between this gateway and the workers' verdicts."""

    def __init__(self) -> None:
        """Start without frames."""
        self._frames: OrderedDict[str, OrderedDict[tuple[str, int], None]] = OrderedDict()

    def add(self, session_id: str, source: str, seq: int) -> None:
        """Count a frame; called before it is sent, since its verdict may arrive at once."""
        frames = self._frames.setdefault(session_id, OrderedDict())
        self._frames.move_to_end(session_id)
        frames[source, seq] = None
        if len(frames) > _FRAMES:
            frames.popitem(last=False)
        if len(self._frames) > _SESSIONS:
            self._frames.popitem(last=False)

    def remove(self, session_id: str, source: str, seq: int) -> None:
        """Forget a frame that has a verdict, or that could not be sent."""
        if (frames := self._frames.get(session_id)) is not None:
            frames.pop((source, seq), None)
            if not frames:
                del self._frames[session_id]

    def count(self, session_id: str) -> int:
        """Return the number of a session's frames without a verdict."""
        return len(self._frames.get(session_id, ()))
