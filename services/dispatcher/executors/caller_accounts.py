"""Executors of jobs that run on their callers' own Modal accounts, which the gateways of these callers know."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Final, Protocol
from weakref import WeakValueDictionary

from nats.aio.client import Client
from nats.errors import Error as NatsError
from nats.errors import NoRespondersError
from pydantic import ValidationError

from contracts.assignment import Assignment
from contracts.caller_account import CallerAccount, CallerAccountRequest, account_subject
from contracts.job import Job
from contracts.workload import Compute
from kit.auth.sealed_box import OneTimeKey
from services.dispatcher.executors.executor import (
    CallBacklog,
    CallState,
    CallStatus,
    Executor,
    LaunchFailed,
    Throttled,
)

log = logging.getLogger(__name__)

_ANSWER_S: Final = 2.0
_RETRY_S: Final = 5.0
#: Time without use after which an account is forgotten here; running calls are polled more often.
_UNUSED_S: Final = 240.0
_GONE: Final = "The caller's Modal account is not known any more: its connection has ended. Connect again."


class OpensAccount(Protocol):
    """Opens the executor of an account; closing it closes its client."""

    def __call__(self, account: CallerAccount) -> AbstractAsyncContextManager[Executor]:
        """Open the executor of an account.

        Raises:
            LaunchFailed: Modal rejects the account.
        """


@dataclass
class _OpenExecutor:
    """Executor of an account, what closes it, and when, by the event loop's clock, unless it is used."""

    executor: Executor
    stack: AsyncExitStack
    expires_at_s: float = 0.0


class CallerExecutors:
    """Open executors, by job."""

    def __init__(self, client: Client, own: Executor, opens: OpensAccount | None) -> None:
        """Fall back to ``own``, the executor of the operator's account; ``opens`` opens that of another account.

        Without ``opens``, no other account is used.
        """
        self._client, self._own, self._opens = client, own, opens
        self._open: dict[str, _OpenExecutor] = {}
        #: One for each job that is asked about now: an account that is slow to open delays no other.
        self._opening: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, job: Job) -> Executor:
        """Return the executor of a job: the operator's, unless the job runs on its caller's account."""
        return CallerExecutor(job.id, self._own, self) if job.submitted.account == "caller" else self._own

    async def find(self, job_id: str) -> Executor | None:
        """Return the executor of a job's caller; None when nobody knows the account.

        Raises:
            LaunchFailed: Modal rejects the account, or (``Throttled``) NATS or Modal does not answer.
        """
        if self._opens is None:
            raise LaunchFailed("Workers here do not run on Modal, so not on a caller's account either.")
        opening = self._opening.setdefault(job_id, asyncio.Lock())
        async with opening:
            if (known := self._open.get(job_id)) is None:
                account = await self._ask(job_id)
                if account is None:
                    return None
                async with AsyncExitStack() as stack:
                    executor = await stack.enter_async_context(self._opens(account))
                    known = self._open[job_id] = _OpenExecutor(executor, stack.pop_all())
        known.expires_at_s = asyncio.get_running_loop().time() + _UNUSED_S
        return known.executor

    async def run(self) -> None:
        """Close what is not used any more, until cancelled: a job that has ended is not asked about."""
        while True:
            await asyncio.sleep(_UNUSED_S / 4)
            now_s = asyncio.get_running_loop().time()
            for job_id in [job_id for job_id, known in self._open.items() if known.expires_at_s < now_s]:
                await _close(job_id, self._open.pop(job_id))

    async def close(self) -> None:
        """Close all executors."""
        while self._open:
            await _close(*self._open.popitem())

    async def _ask(self, job_id: str) -> CallerAccount | None:
        key = OneTimeKey()
        request = CallerAccountRequest(public_key=key.public).model_dump_json().encode()
        try:
            answer = await self._client.request(account_subject(job_id), request, timeout=_ANSWER_S)
        except NoRespondersError:
            return None
        except (NatsError, TimeoutError) as error:
            raise Throttled(
                f"The caller's account could not be asked for ({type(error).__name__}).", _RETRY_S
            ) from None
        try:
            return CallerAccount.model_validate_json(key.open(answer.data))
        except (ValidationError, ValueError):  # its text would show what it is about
            log.error("the answer about the Modal account of %s is unreadable", job_id)  # noqa: TRY400
            return None


async def _close(job_id: str, known: _OpenExecutor) -> None:
    """Close an executor; what its client says of that concerns no other account, and must not end the dispatcher."""
    try:
        await known.stack.aclose()
    except Exception:
        log.exception("the client of the caller's account of %s is not closed cleanly", job_id)


class CallerExecutor:
    """Executor of one job, on the account of its caller. Without the account, the worker's own events tell of it."""

    def __init__(self, job_id: str, own: Executor, accounts: CallerExecutors) -> None:
        """Take what does not depend on the account from the operator's executor."""
        self._job_id, self._own, self._accounts = job_id, own, accounts
        self.name, self.queues = own.name, own.queues

    def devices(self, compute: Compute, gpu: str | None) -> tuple[str, ...]:
        """Return the devices of a workload's ladder, as on the operator's account."""
        return self._own.devices(compute, gpu)

    async def launch(self, assignment: Assignment, compute: Compute) -> str:
        """Start a worker and return its call id.

        Raises:
            LaunchFailed: the account is not known any more, or Modal rejects it or the launch; Throttled.
        """
        try:
            executor = await self._accounts.find(self._job_id)
            if executor is None:
                raise LaunchFailed(_GONE)
            return await executor.launch(assignment, compute)
        except Throttled:
            raise
        except LaunchFailed as error:
            # What the operator should do is not what the caller can do.
            cause = str(error).partition(":")[0].rstrip(".")
            advice = f"On the caller's account: {cause}. Check the account, then connect again."
            raise LaunchFailed(_GONE if str(error) == _GONE else advice) from error

    async def poll(self, call_id: str, *, urgent: bool = False) -> CallStatus:
        """Return the status of a call; as long as nobody knows the account, it counts as running until it is silent."""
        executor = await self._find()
        return CallStatus(CallState.RUNNING) if executor is None else await executor.poll(call_id, urgent=urgent)

    async def backlog(self, workload: str, device: str) -> CallBacklog | None:
        """Return the number of waiting inputs and of workers of this kind; None if unknown."""
        executor = await self._find()
        return None if executor is None else await executor.backlog(workload, device)

    async def cancel(self, call_id: str) -> None:
        """Stop a worker; one whose account nobody knows ends by itself, as its session has ended."""
        executor = await self._find()
        if executor is None:
            log.warning("the call of %s cannot be cancelled: nobody knows its account", self._job_id)
            return
        await executor.cancel(call_id)

    async def find(self, run_id: str) -> str | None:
        """Return the call id of a run's worker that no event contains; None if unknown."""
        executor = await self._find()
        return None if executor is None else await executor.find(run_id)

    async def rates(self) -> Mapping[str, float]:
        """Return nothing: the caller pays."""
        return {}

    async def clear_cache(self, job_id: str) -> None:
        """Do nothing: sessions use no cache."""

    async def close(self) -> None:
        """Do nothing: the accounts are closed together."""

    async def _find(self) -> Executor | None:
        try:
            return await self._accounts.find(self._job_id)
        except LaunchFailed as error:
            log.warning("the caller's account of %s cannot be used: %s", self._job_id, error)
            return None
