"""Acts on one dead letter: re-drive or discard, each recorded before and after.

Each re-drive happens once: an event's letter is handled by the dispatcher, which finds its own record of it; a delivery
and a job are ordered again only while the streams hold no such order after the fault.
"""

from __future__ import annotations

from typing import Any

from nats.aio.client import Client

from contracts.audit import Attribution
from contracts.commands import (
    ASK_REDELIVERY,
    ASK_REDRIVE,
    AskedRedelivery,
    AskedRedrive,
    DeadLetterRedriven,
    RedeliveryAccepted,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.streams import OPS
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore
from kit.bus.recorded_act import recorded
from kit.bus.service_requests import ask
from services.gateway.dead_letters.letter import Kind, Letter
from services.gateway.dead_letters.plan import DONE, PlanAction
from services.gateway.jobs.service import JobService


class DeadLetterActs:
    """Carries out acts. Who calls them knows that the letter is open."""

    def __init__(self, client: Client, jobs: JobService) -> None:
        """Retry failed jobs by ``jobs``; ask the services that own the rest."""
        self._client = client
        self._jobs = jobs
        self.audit = AuditLog(EventStore(client, OPS.name), "/gateway")

    async def perform(
        self, action: PlanAction, letter: Letter, attribution: Attribution, plan: str | None = None
    ) -> int:
        """Re-drive or discard a letter; return the sequence of the outcome in the audit log.

        Raises:
            SaccadeError: DEAD_LETTER_NOT_REDRIVABLE; what the job, the endpoint or the handler raises;
                SERVICE_UNAVAILABLE, BUS_UNAVAILABLE: it may have been done.
        """
        if action == "discard":
            return await self._discard(letter, attribution, plan)
        return await self._redrive(letter, attribution, plan)

    async def _discard(self, letter: Letter, attribution: Attribution, plan: str | None) -> int:
        async def nothing() -> dict[str, Any]:
            return {"fault": letter.fault}

        act, verbs = letter.act(plan), {"verb": "discard", "done": DONE["discard"]}
        return (await recorded(self.audit, attribution, act, perform=nothing, **verbs)).sequence

    async def _redrive(self, letter: Letter, attribution: Attribution, plan: str | None) -> int:
        if letter.kind is Kind.EVENT:
            request = AskedRedrive(dead_letter=int(letter.id), attribution=attribution, plan=plan)
            return (await ask(self._client, ASK_REDRIVE, DeadLetterRedriven, request)).record or 0
        if letter.action is None:
            raise SaccadeError(
                ErrorCode.DEAD_LETTER_NOT_REDRIVABLE,
                f"The delivery {letter.id} went to an address that its job named.",
                hint="Send the job's events yourself, or discard the letter.",
            )

        async def perform() -> dict[str, Any]:
            if letter.kind is Kind.JOB:
                job = await self._jobs.retry(letter.tenant, letter.subject, failed_attempt=letter.attempt)
                return {"fault": letter.fault, "action": "retry", "attempt": job.attempt}
            endpoint_id, sequence = letter.details["endpoint_id"], letter.details["sequence"]
            asked = AskedRedelivery(tenant=letter.tenant, endpoint_id=endpoint_id, sequence=sequence)
            await ask(self._client, ASK_REDELIVERY, RedeliveryAccepted, asked)
            return {"fault": letter.fault, "action": "redeliver"}

        act, verbs = letter.act(plan), {"verb": "redrive", "done": DONE["redrive"]}
        return (await recorded(self.audit, attribution, act, perform=perform, **verbs)).sequence
