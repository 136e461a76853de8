"""Budgets and spending of all tenants, folded from the stream of events; what the leader is about to launch counts too.

An attempt is reserved for in one step of the event loop, before anything is published, so that steps of several jobs
cannot use the same dollar. Two dispatchers that both believe to lead could: so the attempt is launched only once its
``job.starting`` has come back in the order of the stream, and did not bring the tenant beyond a limit there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from datetime import datetime
from typing import Final

from contracts.budget import Budget, BudgetLimits, Refusal, fold
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope
from contracts.events.job import PIPELINE, JobStarting
from contracts.job import Job
from contracts.spending import SPENDING_EVENTS, Account, AccountedAttempt
from kit.bus.event_store import StoredEvent

#: Time for an event of this dispatcher to come back to it.
_RETURN_S: Final = 5.0


async def _at_once(_: int, __: float) -> bool:
    return True


class TenantBudgets:
    """Accounts and budgets by tenant."""

    def __init__(
        self,
        operator: BudgetLimits,
        clock: Callable[[], datetime],
        wait_for: Callable[[int, float], Awaitable[bool]] = _at_once,
    ) -> None:
        """``operator`` limits every tenant; ``wait_for`` waits until the event of a sequence has been folded here."""
        self.operator = operator
        self.clock = clock
        self.budgets: dict[str, Budget] = {}
        self.accounts: dict[str, Account] = {}
        #: Tenants whose usage has changed since this was last cleared.
        self.changed: set[str] = set()
        self._wait_for = wait_for
        #: Attempts that were reserved for and whose ``job.starting`` was not folded yet: run by tenant and job.
        self._unconfirmed: dict[tuple[str, str], str] = {}
        #: Runs that brought their tenant beyond a limit in the order of the stream.
        self._beyond: dict[str, Refusal] = {}

    # ---- fold

    def on_job(self, envelope: Envelope, stored: StoredEvent | None = None) -> None:
        """Apply a job event to the account of its tenant; ``stored`` tells when the server stored it."""
        if envelope.type not in SPENDING_EVENTS:
            return
        tenant, job_id = envelope.tenant, envelope.subject
        account = self._account(tenant)
        if envelope.type == JobStarting.type:
            self._on_starting(envelope, account)
        elif account.fold(envelope, stored.stored_at if stored else None):
            self._unconfirmed.pop((tenant, job_id), None)
        self.changed.add(tenant)
        if not account.attempts and not account.by_day:
            del self.accounts[tenant]

    def _on_starting(self, envelope: Envelope, account: Account) -> None:
        """Apply the start of an attempt; of an own one, find out whether it is still allowed where it is stored."""
        tenant, job_id, run_id = envelope.tenant, envelope.subject, envelope.data.get("run_id")
        own = self._unconfirmed.pop((tenant, job_id), None) == run_id and isinstance(run_id, str)
        limits = self.limits(tenant)
        if own and limits.exist:
            account.release(job_id, str(run_id))
            attempt = _attempt_of(JobStarting.model_validate(envelope.data))
            if refused := account.admit(job_id, attempt, limits, self.clock()):
                self._beyond[str(run_id)] = refused
        account.fold(envelope)

    def on_budget(self, envelope: Envelope, sequence: int) -> None:
        """Apply a budget event."""
        self.budgets[envelope.tenant] = fold(self.budgets.get(envelope.tenant), envelope, sequence)
        self.changed.add(envelope.tenant)

    def lead(self) -> None:
        """Forget what was reserved for under an earlier lease: all that was stored of it is folded by now."""
        for (tenant, job_id), run_id in self._unconfirmed.items():
            self._account(tenant).release(job_id, run_id)
        self._unconfirmed.clear()
        self._beyond.clear()

    def saved_accounts(self) -> tuple[tuple[str, Account], ...]:
        """Return copies of the accounts as the stream has them: without what is reserved and not stored yet."""
        found = []
        for tenant, account in self.accounts.items():
            attempts = {
                job_id: replace(attempt)
                for job_id, attempt in account.attempts.items()
                if self._unconfirmed.get((tenant, job_id)) != attempt.run_id
            }
            if attempts or account.by_day:
                found.append((tenant, Account(dict(account.by_day), attempts)))
        return tuple(found)

    def restore(self, budgets: Iterable[Budget], accounts: Iterable[tuple[str, Account]]) -> None:
        """Go on from what was stored; nothing may have been folded yet."""
        self.budgets = {budget.tenant: budget for budget in budgets}
        self.accounts = dict(accounts)

    # ---- use

    def limits(self, tenant: str) -> BudgetLimits:
        """Return the limits that hold for a tenant."""
        budget = self.budgets.get(tenant)
        return budget.limits(self.operator) if budget else self.operator

    async def reserve(self, job: Job, starting: JobStarting) -> Refusal | None:
        """Reserve what an attempt may cost before it is started, or return why it may not start.

        The end of the attempt before it is folded first, which this dispatcher may have published a moment ago: folded
        afterwards, it would end the reservation, and its own cost would be that of an unknown attempt.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, if the job's events do not come back.
        """
        if not await self._wait_for(job.sequence, _RETURN_S):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The events of the job did not come back in time.")
        # From here to the reservation nothing is awaited: steps of other jobs run beside this one.
        account = self._account(job.tenant)
        refused = account.admit(job.id, _attempt_of(starting), self.limits(job.tenant), self.clock())
        if refused is None:
            self._unconfirmed[job.tenant, job.id] = starting.run_id
        return refused

    def release(self, job: Job, run_id: str) -> None:
        """Release what was reserved for an attempt whose start was certainly not stored."""
        if self._unconfirmed.pop((job.tenant, job.id), None) == run_id:
            self._account(job.tenant).release(job.id, run_id)

    async def confirm(self, job: Job) -> Refusal | None:
        """Return why an attempt whose start is stored may not be launched; None if it may.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, if the event does not come back.
        """
        if not self.limits(job.tenant).exist:
            return None
        if not await self._wait_for(job.sequence, _RETURN_S):
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The start of the attempt did not come back in time.")
        return self._beyond.pop(job.run_id or "", None)

    def excess(self, job: Job, now: datetime) -> Refusal | None:
        """Return the limit because of which a running job must be stopped; None if it may go on."""
        account, limits = self.accounts.get(job.tenant), self.limits(job.tenant)
        return account.excess(job.id, limits, now) if account and limits.exist else None

    def _account(self, tenant: str) -> Account:
        return self.accounts.setdefault(tenant, Account())


def _attempt_of(starting: JobStarting) -> AccountedAttempt:
    return AccountedAttempt(
        run_id=starting.run_id,
        reserved_usd=starting.reserved_usd,
        usd_per_s=starting.usd_per_s or 0.0,
        is_pipeline=starting.executor == PIPELINE,
    )
