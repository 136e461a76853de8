"""Shares of a process's event loop that tenants have used, and how long their next requests wait for that. Pure.

A token bucket of seconds for each tenant. A rate of requests alone does not bound what a tenant takes from the others:
a list of two hundred jobs costs as much as ten submissions.
"""

from __future__ import annotations

from typing import Final

#: Share of the loop that a tenant may use for long while others send requests too.
SHARE: Final = 0.25
#: What it may use at once beyond that.
_BURST_S: Final = 0.25
#: Part of the burst below which a tenant counts as busy.
_BUSY: Final = 0.8
#: A tenant whose latest request is older is no reason for another one to wait.
_ACTIVE_S: Final = 1.0
#: Tenants that are kept; beyond it the one whose latest request is the oldest is forgotten.
_MOST_TENANTS: Final = 1000


class LoopTimeShares:
    """Time that each tenant has left; all times are seconds of one monotonic clock."""

    def __init__(self) -> None:
        """Start with full buckets."""
        self._left: dict[str, tuple[float, float]] = {}
        self._seen: dict[str, float] = {}

    def seen(self, tenant: str, now_s: float) -> None:
        """Note a request of a tenant."""
        self._seen.pop(tenant, None)
        self._seen[tenant] = now_s  # the latest last
        if len(self._seen) > _MOST_TENANTS:
            oldest = next(iter(self._seen))
            del self._seen[oldest]
            self._left.pop(oldest, None)

    def wait_s(self, tenant: str, now_s: float) -> float:
        """Return how long a request of a tenant waits: until its bucket is no longer empty, unless it is alone."""
        left_s = self._left_s(tenant, now_s)
        if left_s >= 0 or not self.has_others(tenant, now_s):
            return 0.0
        return -left_s / SHARE

    def is_busy(self, tenant: str, now_s: float) -> bool:
        """Return whether a tenant has used much lately, so that its requests should begin one after another."""
        return self._left_s(tenant, now_s) < _BURST_S * _BUSY and self.has_others(tenant, now_s)

    def use(self, tenant: str, spent_s: float, now_s: float) -> None:
        """Take what a request used from a tenant's bucket."""
        # Alone it may use the whole loop, but owes at most a burst when others come.
        left_s = max(-_BURST_S, self._left_s(tenant, now_s) - spent_s)
        self._left[tenant] = (left_s, now_s)

    def _left_s(self, tenant: str, now_s: float) -> float:
        left_s, at_s = self._left.get(tenant, (_BURST_S, now_s))
        return min(_BURST_S, left_s + (now_s - at_s) * SHARE)

    def has_others(self, tenant: str, now_s: float) -> bool:
        """Return whether another tenant was there within the last second."""
        for other, at_s in reversed(self._seen.items()):
            if now_s - at_s > _ACTIVE_S:
                return False
            if other != tenant:
                return True
        return False
