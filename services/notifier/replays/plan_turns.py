"""Turns of requests that plan replays: those of one tenant do not wait for those of another, and few run at a time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from services.notifier.keyed_slots import KeyedSlots

#: Plans that are made at the same time, of all tenants: each makes the server of the stream count.
PLANS_AT_ONCE: Final = 8
#: Of these, plans of one tenant: the others are left to other tenants.
PLANS_OF_A_TENANT: Final = 2


class PlanTurns:
    """Turns by tenant, and a limit of all."""

    def __init__(self, at_once: int = PLANS_AT_ONCE, of_a_tenant: int = PLANS_OF_A_TENANT) -> None:
        """Allow ``at_once`` plans at a time, and ``of_a_tenant`` of each tenant."""
        self._all = asyncio.Semaphore(at_once)
        self._of_a_tenant, self._alone = KeyedSlots(of_a_tenant), KeyedSlots(1)

    @asynccontextmanager
    async def turn(self, tenant: str, *, alone: bool) -> AsyncIterator[None]:
        """Wait for a turn; with ``alone``, until no other such request of the tenant has one.

        Requests with an Idempotency-Key plan alone: the second of two equal ones finds the plan of the first.
        """
        async with self._alone.slot(tenant) if alone else nullcontext(), self._of_a_tenant.slot(tenant), self._all:
            yield

    @property
    def tenants(self) -> int:
        """Number of tenants for which something is kept."""
        return len({*self._alone, *self._of_a_tenant})
