"""Results of a stream's chunks, each waiting for the acknowledgement that carries it. Pure."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from contracts.events.session import SessionText

#: Results that wait at most: a client that sends no frames gets the newest ones when it goes on.
_WAITING: Final = 32


class FinishedChunks:
    """Results of one connection, in order; each is taken once."""

    def __init__(self) -> None:
        """Start without results."""
        self._waiting: deque[dict[str, Any]] = deque(maxlen=_WAITING)

    def add_text(self, text: SessionText, first_frame_s: float) -> None:
        """Add a chunk; ``first_frame_s`` is when the session's first frame came, seconds since the connection began."""
        if text.prompt_id is not None:
            return  # the answer to a question that was asked elsewhere
        if text.finish_reason == "error":
            self.add_error(text.error.message if text.error else "The inference failed.")
            return
        fields = {
            "caption": text.text,
            "chunk_start_s": _seconds(text.start_s, first_frame_s),
            "chunk_end_s": _seconds(text.end_s, first_frame_s),
            "latency_ms": None if text.latency is None else round(text.latency.total_ms),
            "tokens_generated": text.tokens,
        }
        self._waiting.append({name: value for name, value in fields.items() if value is not None})

    def add_error(self, message: str) -> None:
        """Add what went wrong."""
        self._waiting.append({"inference_error": message})

    def acknowledgement(self, frame: int, size_bytes: int) -> dict[str, Any]:
        """Return the message for a frame; from the second frame on, with the oldest result, which is removed."""
        result = self._waiting.popleft() if frame > 1 and self._waiting else {}
        return {"frame": frame, "bytes": size_bytes, **result}


def _seconds(since_first_frame_s: float | None, first_frame_s: float) -> float | None:
    return None if since_first_frame_s is None else round(max(0.0, since_first_frame_s + first_frame_s), 3)
