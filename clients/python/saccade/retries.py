"""Decides whether something that failed is tried again, and when. Pure: it is told the time and throws given dice."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Final

import httpx

#: A service that died comes back within this: its supervisor pauses up to 5 s, and it takes some to start.
COMES_BACK_S: Final = 12.0


class Retries:
    """The tries of one request, or of one connection that is to last."""

    def __init__(
        self,
        *,
        patience_s: float = COMES_BACK_S,
        reached: bool = True,
        first_pause_s: float = 0.3,
        longest_pause_s: float = 2.0,
        now_s: Callable[[], float] = time.monotonic,
        dice: Callable[[], float] = random.random,
    ) -> None:
        """Begin; ``reached`` tells that the server has answered before: one that never was there is not started."""
        self._patience_s = patience_s
        self._reached = reached
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._now_s = now_s
        self._dice = dice
        self._began_s = now_s()
        self._failures = 0

    def succeeded(self) -> None:
        """Forget the failures."""
        self._began_s = self._now_s()
        self._failures = 0
        self._reached = True

    def be_patient(self, patience_s: float) -> None:
        """Allow so much time from the last success on."""
        self._patience_s = patience_s

    def pause_s(self, error: Exception | None = None, *, asked_s: float = 0.0) -> float | None:
        """Give the seconds to wait before the next try, or None to give up.

        They double from try to try, spread by a half so that many clients do not come at once, and are at least
        what the server ``asked`` for.
        """
        if isinstance(error, httpx.ConnectError) and not self._reached:
            return None
        backoff_s = min(self._longest_pause_s, self._first_pause_s * 2.0 ** min(self._failures, 30))
        self._failures += 1
        pause_s = max(backoff_s * (0.5 + self._dice()), asked_s)
        return pause_s if self._now_s() + pause_s <= self._began_s + self._patience_s else None


def retry_after_s(response: httpx.Response, now: datetime | None = None) -> float:
    """Read ``Retry-After``, seconds or a date (RFC 9110, 10.2.3); 0 when there is none that can be read."""
    text = str(response.headers.get("Retry-After", "")).strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        moment = parsedate_to_datetime(text)
    except (ValueError, TypeError, IndexError):
        return 0.0
    moment = moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
    return max(0.0, (moment - (now or datetime.now(timezone.utc))).total_seconds())
