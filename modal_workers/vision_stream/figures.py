"""Figures of a vision stream: those of the moment for viewers, and those of the whole session for the result."""

from __future__ import annotations

import math
import time
from array import array
from collections import deque
from collections.abc import Iterable
from typing import Any, Final

from contracts.events.session import SessionText

#: Chunks of which the rate is computed.
_WINDOW: Final = 10


class StreamFigures:
    """Counts of one session, earlier runs included."""

    def __init__(self) -> None:
        """Start with no text."""
        self.texts = self.failed = self.alerts = self.tokens = self.answered = 0
        self._latencies_ms = array("f")
        self._times_s: deque[float] = deque(maxlen=_WINDOW)
        self._newest: SessionText | None = None

    def add(self, text: SessionText, *, live: bool) -> None:
        """Count a text; only ``live`` ones have to do with the rate."""
        self.tokens += text.tokens or 0
        self.answered += text.prompt_id is not None
        if text.error is None:
            self.texts += 1
        else:
            self.failed += 1
        if text.latency is not None and text.error is None:
            self._latencies_ms.append(text.latency.queue_ms + text.latency.total_ms)
        if live:
            self._times_s.append(time.monotonic())
            self._newest = text

    def resume(self, texts: Iterable[SessionText]) -> int:
        """Count the texts of earlier runs, each chunk once; return the number of the newest chunk."""
        chunk = 0
        for text in texts:
            if text.chunk > chunk:
                chunk = text.chunk
                self.add(text, live=False)
        return chunk

    def percentile_ms(self, share: float) -> float | None:
        """Return the latency from a chunk's newest frame to the end of its text that ``share`` of them do not exceed.

        None without texts.
        """
        if not self._latencies_ms:
            return None
        ordered = sorted(self._latencies_ms)
        return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)], 1)

    def now(self) -> dict[str, Any]:
        """Return the figures of the moment."""
        figures: dict[str, Any] = {
            "texts": self.texts,
            "failed_chunks": self.failed,
            "alerts": self.alerts,
            "tokens": self.tokens,
            "chunks_per_s": self._chunks_per_s(),
        }
        if self._newest is not None and self._newest.latency is not None:
            latency = self._newest.latency
            figures |= {
                "latency_ms": round(latency.queue_ms + latency.total_ms, 1),
                "first_token_ms": latency.first_token_ms,
                "prefill_ms": latency.prefill_ms,
                "decode_ms": latency.decode_ms,
            }
            if latency.decode_ms > 0 and self._newest.tokens:
                figures["tokens_per_s"] = round(1e3 * self._newest.tokens / latency.decode_ms, 1)
        return figures

    def _chunks_per_s(self) -> float | None:
        if len(self._times_s) < 2 or self._times_s[-1] == self._times_s[0]:
            return None
        return round((len(self._times_s) - 1) / (self._times_s[-1] - self._times_s[0]), 2)
