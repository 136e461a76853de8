"""Slots for concurrent work, shared by tenants so that none of them can hold all. Pure.

A tenant may take a slot while it holds fewer than are free, the dynamic threshold of shared-memory switches (Choudhury
and Hahne, "Dynamic queue length thresholds for shared-memory packet switches", 1998): one tenant alone gets half of the
pool, two get a third each, and the next tenant finds as many free as each of them holds.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class SlotPool(Generic[T]):
    """Slots, and those that wait for one."""

    def __init__(self, per_tenant: int) -> None:
        """Hold as many slots that one tenant alone gets ``per_tenant``."""
        self._free = 2 * per_tenant
        self._held: Counter[str] = Counter()
        self._waiting: dict[str, deque[T]] = {}

    def is_open(self, tenant: str) -> bool:
        """Return whether a tenant may take a slot now."""
        return self._held[tenant] < self._free

    def take(self, tenant: str) -> None:
        """Take a slot."""
        self._free -= 1
        self._held[tenant] += 1

    def release(self, tenant: str) -> None:
        """Return a slot."""
        self._free += 1
        self._held[tenant] -= 1
        if not self._held[tenant]:
            del self._held[tenant]

    def wait(self, tenant: str, waiter: T) -> None:
        """Note who waits for a slot; once is enough."""
        waiting = self._waiting.setdefault(tenant, deque())
        if waiter not in waiting:
            waiting.append(waiter)

    def leave(self, tenant: str, waiter: T) -> None:
        """Note that somebody waits no more."""
        waiting = self._waiting.get(tenant, ())
        if waiter in waiting:
            self._waiting[tenant].remove(waiter)
        if not waiting:
            self._waiting.pop(tenant, None)

    def next_waiting(self) -> T | None:
        """Remove and return who has waited longest, of the next tenant that may take a slot; None when nobody may."""
        tenant = next((tenant for tenant in self._waiting if self.is_open(tenant)), None)
        if tenant is None:
            return None
        waiting = self._waiting.pop(tenant)
        waiter = waiting.popleft()
        if waiting:
            self._waiting[tenant] = waiting  # behind the other tenants
        return waiter
