"""Work of tenants that is done in pieces: in order for each tenant, by turns for the tenants. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

T = TypeVar("T")


class TenantTurns(Generic[T]):
    """Work that waits, by tenant; iterating yields all of it."""

    def __init__(self) -> None:
        """Start empty."""
        #: The tenant whose turn it is comes first.
        self._waiting: dict[str, deque[T]] = {}

    def __len__(self) -> int:
        """Return how much work waits."""
        return sum(map(len, self._waiting.values()))

    @property
    def tenants(self) -> int:
        """Number of tenants that have any."""
        return len(self._waiting)

    def __bool__(self) -> bool:
        """Return whether any work waits; asked for each piece, so nothing is counted."""
        return bool(self._waiting)

    def __iter__(self) -> Iterator[T]:
        for works in self._waiting.values():
            yield from works

    def of(self, tenant: str) -> deque[T] | None:
        """Return what waits of a tenant, the oldest first; None where nothing does."""
        return self._waiting.get(tenant)

    def firsts(self) -> Iterator[T]:
        """Yield the oldest work of each tenant."""
        return (works[0] for works in self._waiting.values())

    def put(self, tenant: str, work: T) -> None:
        """Add work, behind the earlier one of its tenant."""
        self._waiting.setdefault(tenant, deque()).append(work)

    def step(self, do_piece: Callable[[T], bool]) -> bool:
        """Do a piece for the tenant whose turn it is; return whether it was the last one of its work.

        ``do_piece`` returns that. Work that raises is over.
        """
        return self.step_of(next(iter(self._waiting)), do_piece)

    def step_of(self, tenant: str, do_piece: Callable[[T], bool]) -> bool:
        """Do a piece for a tenant that has some, as ``step``."""
        works, is_over = self._waiting.pop(tenant), True
        try:
            is_over = do_piece(works[0])
        finally:
            if is_over:
                works.popleft()
            if works:
                self._waiting[tenant] = works  # behind the other tenants
        return is_over
