"""Retry schedule of requests and connections: exponential backoff with jitter. Pure."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

#: A crashed service is back within this time: its supervisor waits up to 5 s, then the service starts.
COMES_BACK_S: Final = 12.0
#: A server that answers "unavailable" is asked again for this long: it may itself have waited seconds for its bus.
UNAVAILABLE_S: Final = 30.0


class Retries:
    """Retry state of one request, or of one long-lived connection."""

    def __init__(
        self,
        *,
        patience_s: float = COMES_BACK_S,
        reached: bool = True,
        first_pause_s: float = 0.3,
        longest_pause_s: float = 2.0,
        now_s: Callable[[], float] = time.monotonic,
        random_fraction: Callable[[], float] = random.random,
    ) -> None:
        """Start now; ``reached``: the server has answered before. A refused connection is retried only then."""
        self._patience_s = patience_s
        self._reached = reached
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._now_s = now_s
        self._random_fraction = random_fraction
        self._began_s = now_s()
        self._failures = 0

    def succeeded(self) -> None:
        """Reset the backoff after a success."""
        self._began_s = self._now_s()
        self._failures = 0
        self._reached = True

    def set_patience(self, patience_s: float) -> None:
        """Retry for ``patience_s`` after the first failure since the last success."""
        self._patience_s = patience_s

    def pause_s(self, error: Exception | None = None, *, asked_s: float = 0.0) -> float | None:
        """Return the seconds to wait before the next attempt, or None to stop.

        The pause doubles with each attempt, times a random factor of 0.5 to 1.5, and is at least ``asked_s``, what the
        server asked for.
        """
        if isinstance(error, httpx.ConnectError) and not self._reached:
            return None
        # Of a server that was silent until the time limit, the silence counts too.
        if not self._failures and not isinstance(error, httpx.TimeoutException):
            self._began_s = self._now_s()
        backoff_s = min(self._longest_pause_s, self._first_pause_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        pause_s = max(backoff_s * (0.5 + self._random_fraction()), asked_s)
        return pause_s if self._now_s() + pause_s <= self._began_s + self._patience_s else None


def retry_after_s(response: httpx.Response, now: datetime | None = None) -> float:
    """Return the seconds of ``Retry-After``, which is a number or a date (RFC 9110, 10.2.3); 0 if there is none."""
    text = str(response.headers.get("Retry-After", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds())
