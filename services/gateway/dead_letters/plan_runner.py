"""Carries out plans, one gateway at a time: letter by letter or job by job, each once, also if a process is killed."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from nats.aio.client import Client

from contracts.audit import AuditRecord
from contracts.errors import ErrorCode, SaccadeError
from kit.bus.audit_log import AuditLog
from kit.bus.lease import Lease
from kit.tasks import first_of
from services.gateway.dead_letters.plan import DONE, TRANSIENT, ItemResult, LeftOut, Plan, PlanItems
from services.gateway.dead_letters.reader import DeadLetterReader

log = logging.getLogger(__name__)

#: Interval between two looks for plans: this process is told of its own ones.
_LOOK_S: Final = 5.0
#: Age at which a plan that is not wholly stored counts as given up.
_UNFROZEN: Final = timedelta(seconds=30)
#: Time for which a service that does not answer is asked again about one item, and the pause in between.
_ITEM_TIMEOUT_S: Final = 120.0
_AGAIN_S: Final = 1.0
_FAILURES_NAMED: Final = 100


class PlanRunner:
    """Background work of every gateway; the one that holds the lease acts."""

    def __init__(
        self, client: Client, reader: DeadLetterReader, audit: AuditLog, items: Mapping[str, PlanItems]
    ) -> None:
        """Find plans by ``reader``, act on their items by the plan's noun, and tell ``audit`` how each part ended."""
        self._reader, self._audit, self._items = reader, audit, items
        self._lease = Lease(client, "dead_letters")
        self._planned = asyncio.Event()

    def wake(self) -> None:
        """Look for plans now."""
        self._planned.set()

    async def run(self) -> None:
        """Carry plans out until cancelled."""
        while True:
            try:
                await self._reader.catch_up()
                if any(self._open()):
                    await self._run_all()
            except SaccadeError as error:
                log.warning("plans of dead letters wait: %s", error.message)
            self._planned.clear()
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._planned.wait()
            except TimeoutError:
                continue

    def _open(self) -> Iterator[Plan]:
        """Yield the open plans, those for jobs first: users wait for them."""
        yield from self._reader.job_plans.open()
        yield from self._reader.plans.open()

    async def _run_all(self) -> None:
        """Carry out the open plans while this process holds the lease."""
        await self._lease.acquire()
        try:
            await first_of(self._lease.keep(), self._run_open())
        finally:
            await self._lease.release()

    async def _run_open(self) -> None:
        await self._reader.catch_up()  # another gateway may have gone on until now
        for plan in list(self._open()):
            if plan.frozen:
                for intent in plan.open_parts:
                    await self._run_part(plan, intent)
            elif plan.began_at <= datetime.now(UTC) - _UNFROZEN:
                for intent in plan.open_parts:
                    details = {"meaning": "The plan was not wholly stored: nothing was changed. Send it again."}
                    await self._audit.outcome(intent, f"{plan.action}_abandoned", details)

    async def _run_part(self, plan: Plan, intent: AuditRecord) -> None:
        counts: Counter[str] = Counter()
        failures: list[dict[str, str]] = []
        skips: list[dict[str, str]] = []
        for item in self._items[plan.noun].items_of(intent):
            try:
                counts[await self._act(plan, intent, item)] += 1
            except LeftOut as skipped:
                counts["skipped"] += 1
                skips.append(skipped.reason)
            except SaccadeError as error:
                if not self._lease.held:
                    raise
                counts["failed"] += 1
                failures.append({"id": item.id, "code": error.code.value, "message": error.message[:200]})
        details: dict[str, Any] = {name: counts[name] for name in ("done", "failed", "skipped")}
        details["failures"] = failures[:_FAILURES_NAMED]
        if skips:
            details["skips"] = skips[:_FAILURES_NAMED]
        await self._audit.outcome(intent, DONE[plan.action], details)
        await self._reader.catch_up()

    async def _act(self, plan: Plan, intent: AuditRecord, item: Any) -> ItemResult:
        """Act on one item if that was not done before, also while a service does not answer for a time.

        Raises:
            LeftOut: it is not any more what the plan was made for.
            SaccadeError: it is refused; BUS_UNAVAILABLE: another gateway goes on.
        """
        loop = asyncio.get_running_loop()
        end_s = loop.time() + _ITEM_TIMEOUT_S
        while True:
            if not self._lease.held:
                raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Another gateway goes on with the plan.")
            try:
                return await self._items[plan.noun].act(plan, intent, item)
            except SaccadeError as error:
                if error.code not in TRANSIENT or loop.time() >= end_s:
                    raise
                await asyncio.sleep(_AGAIN_S)
