"""Rule service: create, read, list, change and delete upload rules."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from typing import Any, Final

from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData
from contracts.events.rule import RuleCreated, RuleDefinition, RuleDeleted, RuleUpdated
from contracts.gpu_ladder import gpu_name
from contracts.ids import is_id, new_id
from contracts.limits import PAGE_DEFAULT, RULES
from contracts.rule import Rule, fold_stored
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from modal_workers import catalog
from services.gateway.aggregates.aggregate_events import AggregateEvents
from services.gateway.aggregates.page_cursor import RULES as RULE_PAGES
from services.gateway.aggregates.page_cursor import decode_page_cursor, encode_page_cursor
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import JobRequest
from services.gateway.rules.definition_check import check_counts, chosen_inputs, chosen_match

#: Attempts of a change that other writers interrupt: the dispatcher's ``rule.skipped``, or another client.
_CONFLICT_RETRIES: Final = 20


class RuleService:
    """Operations on rules. All are tenant-scoped."""

    def __init__(
        self,
        *,
        store: EventStore,
        view: GatewayView,
        tail: EventTail,
        idempotency: Idempotency,
        jobs: JobService,
        use: TenantUse,
    ) -> None:
        """Check rules as ``jobs`` checks requests for jobs."""
        self._view, self._jobs = view, jobs
        self._events = AggregateEvents[Rule](
            "rule",
            ErrorCode.RULE_NOT_FOUND,
            is_valid_id=lambda text: is_id(text, "rul"),
            fold_stored=fold_stored,
            store=store,
            tail=tail,
            idempotency=idempotency,
            use=use,
            from_view=view.rules.get,
        )
        #: By tenant: a new rule is counted before the next one is made.
        self._creating: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)

    async def check(self, tenant: str, wanted: RuleDefinition) -> tuple[RuleDefinition, CostEstimate]:
        """Return a valid definition with its defaults filled in, and the estimated cost of one job.

        Raises:
            SaccadeError: the definition is invalid, as a request for its job would be.
        """
        request = JobRequest(
            wanted.workload,
            {},
            dict(wanted.params),
            wanted.priority,
            wanted.max_cost_usd,
            wanted.gpu,
            wanted.metadata,
            wanted.webhook_url,
        )
        checked = await self._jobs.check(tenant, request)
        workload = catalog.workload(wanted.workload)
        inputs = chosen_inputs(workload, wanted.inputs, wanted.match.media)
        check_counts(workload, wanted.group, inputs)
        filled = {
            "match": chosen_match(wanted.match, inputs),
            "inputs": tuple(declared.name for declared in inputs),
            "params": checked.params,
            "gpu": wanted.gpu and gpu_name(wanted.gpu),
        }
        return wanted.model_copy(update=filled), checked.estimate

    async def create(
        self, tenant: str, wanted: RuleDefinition, made_by: str | None, key: IdempotencyKey | None
    ) -> Rule:
        """Validate and store a rule. Requests with the same Idempotency-Key create one rule, also after a crash.

        Raises:
            SaccadeError: as ``check``; TOO_MANY_RULES; IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """

        async def created() -> RuleCreated:
            definition, _ = await self.check(tenant, wanted)
            if self._view.rules.count(tenant) >= RULES:
                raise SaccadeError(ErrorCode.TOO_MANY_RULES, f"You have {RULES} rules already.")
            return RuleCreated(rule=definition, made_by=made_by)

        async with self._creating[tenant]:
            rule_id = await self._events.create(tenant, new_id("rul"), key, created)
        return await self._newest(tenant, rule_id)

    async def get(self, tenant: str, rule_id: str) -> Rule:
        """Return a rule from the view, else from the bus.

        Raises:
            SaccadeError: RULE_NOT_FOUND, also for deleted rules and those of other tenants.
        """
        rule = self._view.rules.get(rule_id)
        return rule if rule is not None and rule.tenant == tenant else await self._newest(tenant, rule_id)

    def page(
        self, tenant: str, *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> tuple[list[Rule], str | None]:
        """Return a page of a tenant's rules, newest first, and the next page's cursor.

        Raises:
            SaccadeError: CURSOR_INVALID.
        """
        before = decode_page_cursor(RULE_PAGES, cursor) if cursor is not None else None
        rules, last = self._view.rules.page(tenant, before=before, limit=limit)
        return rules, encode_page_cursor(RULE_PAGES, last) if last is not None else None

    async def change(self, tenant: str, rule_id: str, changes: dict[str, Any], made_by: str | None) -> Rule:
        """Replace fields of a rule and validate the whole.

        Raises:
            SaccadeError: as ``check``; RULE_NOT_FOUND; BUS_UNAVAILABLE.
        """
        for _ in range(_CONFLICT_RETRIES):
            rule = await self._newest(tenant, rule_id)
            definition, _ = await self.check(tenant, changed(rule.definition, changes))
            if definition == rule.definition:
                return rule
            if await self._append(rule, RuleUpdated(rule=definition, made_by=made_by)):
                return await self._newest(tenant, rule_id)
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the rule at the same time.")

    async def delete(self, tenant: str, rule_id: str, made_by: str | None) -> None:
        """Delete a rule; its jobs stay.

        Raises:
            SaccadeError: RULE_NOT_FOUND; BUS_UNAVAILABLE.
        """
        for _ in range(_CONFLICT_RETRIES):
            if await self._append(await self._newest(tenant, rule_id), RuleDeleted(made_by=made_by)):
                return
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the rule at the same time.")

    async def _append(self, rule: Rule, data: EventData) -> bool:
        """Store the next event of a rule; return False if another one came in between."""
        try:
            await self._events.append(rule.tenant, rule.id, data, after=rule.sequence)
        except Conflict:
            return False
        return True

    async def _newest(self, tenant: str, rule_id: str) -> Rule:
        rule = await self._events.load_existing(tenant, rule_id)
        if rule.deleted_at is not None:
            raise SaccadeError(ErrorCode.RULE_NOT_FOUND)
        return rule


def changed(definition: RuleDefinition, changes: dict[str, Any]) -> RuleDefinition:
    """Return a definition with other values of some fields.

    Another workload resets what follows from the workload: parameters, inputs, and the media that they take.
    """
    if changes.get("workload", definition.workload) != definition.workload:
        match = definition.match.model_copy(update={"media": None}).model_dump()
        changes = {"params": {}, "inputs": (), "match": match} | changes
    return RuleDefinition.model_validate(definition.model_dump() | changes)
