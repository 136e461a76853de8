"""Session service: open, read, list, stop and reset live sessions; keep a session and its worker's job consistent."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.caller_account import CallerAccount
from contracts.cost_estimate import CostEstimate
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.session import SessionOpened
from contracts.ids import is_id, new_id
from contracts.job import Job
from contracts.limits import PAGE_DEFAULT, PAGE_MAX, SESSION_IDLE_S, SESSION_LENGTH_S
from contracts.session import (
    Session,
    fold_stored,
    job_id_of_session,
    request_clear,
    request_reset,
    request_stop,
    request_text_cancel,
)
from contracts.workload import Workload
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from services.gateway.aggregates.aggregate_events import AggregateEvents
from services.gateway.aggregates.aggregate_reader import AggregateReader
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.aggregates.page_cursor import SESSIONS, decode_page_cursor, encode_page_cursor
from services.gateway.aggregates.tenant_use import TenantUse
from services.gateway.aggregates.view import GatewayView
from services.gateway.backends.reported_backends import ReportedBackends
from services.gateway.budgets.service import BudgetService
from services.gateway.jobs.service import JobService
from services.gateway.jobs.submission import CheckedJob, check_kind, check_params
from services.gateway.metadata_check import check_metadata
from services.gateway.sessions.caller_accounts import CallerAccounts
from services.gateway.sessions.latest_progress import LatestSessionProgress
from services.gateway.sessions.worker_job import session_end_event, worker_job_event
from services.gateway.settings import GatewaySettings
from services.gateway.telemetry.record import SessionRecord, open_record
from services.gateway.telemetry.stored_frames import newest_frame

log = logging.getLogger(__name__)

#: Pages that ``newest_with_metadata`` reads at most.
_SEARCHED_PAGES: Final = 5
#: Attempts to store the end of a session that other writers interrupt.
_CONFLICT_RETRIES: Final = 50


@dataclass(frozen=True)
class SessionRequest:
    """A client's request for a session, not yet validated; times in seconds."""

    workload: str
    params: dict[str, Any]
    idle_timeout_s: float = SESSION_IDLE_S
    max_length_s: float = SESSION_LENGTH_S
    max_cost_usd: float | None = None
    metadata: dict[str, str] = field(default_factory=dict)
    replay_of: str | None = None


class SessionService:
    """Operations on sessions. All are tenant-scoped."""

    def __init__(
        self,
        *,
        store: EventStore,
        view: GatewayView,
        tail: EventTail,
        jobs: JobService,
        idempotency: Idempotency,
        waiters: CompletionWaiters,
        progress: LatestSessionProgress,
        settings: GatewaySettings,
        backends: ReportedBackends,
        budgets: BudgetService,
        accounts: CallerAccounts,
        use: TenantUse,
        defaults: Mapping[str, Mapping[str, Any]],
    ) -> None:
        """Open and read sessions.

        ``progress`` has the frame counts of workers, also of those that have died; ``defaults`` are the parameters that
        the operator sets where a request does not, by workload.
        """
        self._defaults = defaults
        self._accounts, self._use = accounts, use
        self._view = view
        self._jobs = jobs
        self._events = AggregateEvents[Session](
            "session",
            ErrorCode.SESSION_NOT_FOUND,
            is_valid_id=lambda text: is_id(text, "ses"),
            fold_stored=fold_stored,
            store=store,
            tail=tail,
            idempotency=idempotency,
            use=use,
            from_view=view.session,
        )
        self._reader = AggregateReader(self._events, view.session, waiters)
        self._progress = progress
        self._settings = settings
        self._backends = backends
        self._budgets = budgets

    async def open(self, tenant: str, request: SessionRequest, key: IdempotencyKey | None) -> Session:
        """Validate and store a session and its job. Requests with the same Idempotency-Key open one session.

        Raises:
            SaccadeError: the request is invalid; IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """

        async def opened() -> SessionOpened:
            return (await self._allowed(tenant, request))[0]

        session_id = await self._events.create(tenant, new_id("ses"), key, opened)
        session = await self._events.load(tenant, session_id)
        if session is None:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE)
        await self.reconcile(session)
        return self.known(session)

    async def check(self, tenant: str, request: SessionRequest) -> CheckedJob:
        """Validate a session as ``open`` does, without storing it, and return what its worker would be.

        Raises:
            SaccadeError: as ``open``.
        """
        event, cost = await self._allowed(tenant, request)
        left = await self._budgets.left(tenant, request.max_cost_usd, cost.usd)
        return CheckedJob(check_kind(request.workload, "session"), event.params, {}, cost, left)

    async def _allowed(self, tenant: str, request: SessionRequest) -> tuple[SessionOpened, CostEstimate]:
        """Return the event of a session that is allowed, and its estimated cost.

        Raises:
            SaccadeError: as ``open``.
        """
        self._use.require_session(tenant)
        event = await self._check(tenant, request)
        cost = self._jobs.estimate(check_kind(request.workload, "session"))
        await self._budgets.check(tenant, request.max_cost_usd, cost.usd)
        return event, cost

    async def open_on_account(self, tenant: str, request: SessionRequest, account: CallerAccount) -> Session:
        """Validate and store a session whose worker runs on the caller's Modal account, until ``release_account``.

        Raises:
            SaccadeError: as ``open``.
        """
        session_id = new_id("ses")
        self._use.require_session(tenant)
        self._use.count_event(tenant)
        opened = (await self._check(tenant, request)).model_copy(update={"account": "caller"})
        await self._accounts.hold(job_id_of_session(session_id), account)
        try:
            await self._events.append_once(tenant, session_id, opened, after=0)
            session = await self._events.load_existing(tenant, session_id)
            await self.reconcile(session)
        except BaseException:
            await self.release_account(session_id)
            raise
        return self.known(session)

    async def release_account(self, session_id: str) -> None:
        """Forget the Modal account of a session, if it has one."""
        await self._accounts.release(job_id_of_session(session_id))

    async def read(self, tenant: str, session_id: str, wait_s: float = 0) -> Session:
        """Return a session that includes every event stored before this call.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, also for other tenants' sessions.
        """
        return await self._reader.read(tenant, session_id, wait_s)

    async def get(self, tenant: str, session_id: str, wait_s: float = 0) -> Session:
        """Return a session as the view has it; with ``wait_s``, when it has ended or after that many seconds.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, also for other tenants' sessions.
        """
        return await self._reader.get(tenant, session_id, wait_s)

    def known(self, session: Session) -> Session:
        """Return a session as the view has it, unless the given one is newer."""
        return self._reader.newest(session.id, session)

    async def get_accepting_input(self, tenant: str, session_id: str) -> Session:
        """Return a session that accepts frames and joints.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED.
        """
        session = await self.get(tenant, session_id)
        if session.state.ended or session.stop_requested:
            raise SaccadeError(ErrorCode.SESSION_ENDED, f"The session is {session.state}.")
        return session

    def page(
        self, tenant: str, states: tuple[str, ...] = (), *, cursor: str | None = None, limit: int = PAGE_DEFAULT
    ) -> tuple[list[Session], str | None]:
        """Return a page of a tenant's sessions, newest first, and the next page's cursor.

        Raises:
            SaccadeError: CURSOR_INVALID.
        """
        before = decode_page_cursor(SESSIONS, cursor) if cursor is not None else None
        sessions, last = self._view.sessions(tenant, states, before=before, limit=limit)
        return sessions, encode_page_cursor(SESSIONS, last) if last is not None else None

    def newest_with_metadata(self, tenant: str, metadata: dict[str, str]) -> Session | None:
        """Return the newest of a tenant's latest sessions whose metadata contain these values."""
        before: int | None = None
        for _ in range(_SEARCHED_PAGES):
            sessions, before = self._view.sessions(tenant, before=before, limit=PAGE_MAX)
            for session in sessions:
                if metadata.items() <= session.opened.metadata.items():
                    return session
            if before is None:
                break
        return None

    async def record(self, session: Session) -> SessionRecord:
        """Return what is stored of a session's inputs.

        Raises:
            SaccadeError: SESSION_NOT_STARTED, SESSION_RECORD_EXPIRED; BUS_UNAVAILABLE.
        """
        status = await self._progress.load(session)
        return await open_record(self._events.store.client, session, status.totals.sent)

    async def newest_frame(self, session: Session) -> tuple[bytes, str]:
        """Return the newest stored frame of a session, and its media type.

        Raises:
            SaccadeError: SESSION_NOT_STARTED; BUS_UNAVAILABLE.
        """
        return await newest_frame(self._events.store.client, session)

    async def stop(self, tenant: str, session_id: str) -> Session:
        """Request a session's end durably. A session that no worker has started ends at once. Idempotent.

        Raises:
            SaccadeError: SESSION_NOT_FOUND; BUS_UNAVAILABLE.
        """
        session = await self._reader.decide(
            tenant, session_id, lambda session: request_stop(session, by=f"tenant:{tenant}")
        )
        if not session.state.ended:
            await self.reconcile(session)
        return self.known(session)

    async def reset(self, tenant: str, session_id: str) -> Session:
        """Request durably that a session starts again from an empty model.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED; BUS_UNAVAILABLE.
        """
        return await self._reader.decide(
            tenant, session_id, lambda session: request_reset(session, by=f"tenant:{tenant}")
        )

    async def cancel_text(self, tenant: str, session_id: str) -> Session:
        """Request durably that the text that is being generated ends.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED; BUS_UNAVAILABLE.
        """
        return await self._reader.decide(
            tenant, session_id, lambda session: request_text_cancel(session, by=f"tenant:{tenant}")
        )

    async def clear(self, tenant: str, session_id: str) -> Session:
        """Request durably that the model of a session that has ended is discarded for clients without sessions.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, SESSION_ENDED; BUS_UNAVAILABLE.
        """
        return await self._reader.decide(
            tenant, session_id, lambda session: request_clear(session, by=f"tenant:{tenant}")
        )

    async def reconcile(self, session: Session) -> None:
        """Do what a session still lacks: submit its job, cancel a job that is not needed, or store the session's end.

        Safe after a crash at any point and in several processes at once: every step is a conditional append.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        job_id = job_id_of_session(session.id)
        job = await self._jobs.find(session.tenant, job_id)
        if job is None:
            await self._submit_worker(session, job_id)
            job = await self._jobs.find(session.tenant, job_id)
        if job is None:
            return
        if job.state.ended:
            await self._end(session, job)
        elif session.stop_requested and session.ready_at is None:
            await self._jobs.cancel_unstarted(session.tenant, job.id, by=f"session:{session.id}")

    async def _submit_worker(self, session: Session, job_id: str) -> None:
        """Submit the job of a session, unless it is submitted already."""
        try:
            workload = check_kind(session.opened.workload, "session")
        except SaccadeError as error:  # opened by another version of the gateway, which has this workload
            log.warning("%s gets no worker: %s", session.id, error)
            return
        submitted = worker_job_event(session, workload, self._jobs.estimate(workload))
        await self._jobs.submit_session_worker(session.tenant, job_id, submitted)

    async def _end(self, session: Session, job: Job) -> None:
        """Store that a session has ended with its job, unless that is stored already."""
        for _ in range(_CONFLICT_RETRIES):
            current = await self._events.load(session.tenant, session.id)
            if current is None or current.state.ended:
                return
            status = await self._progress.load(current)
            data = await session_end_event(current, job, status.totals, self._events.store.client)
            try:
                await self._events.append_once(session.tenant, session.id, data, after=current.sequence)
            except Conflict:
                continue
            return

    async def _check(self, tenant: str, request: SessionRequest) -> SessionOpened:
        workload = check_kind(request.workload, "session")
        chosen = {**self._defaults.get(workload.name, {}), **request.params}
        params = check_params(workload, chosen, await self._backends.known())
        check_metadata(request.metadata)
        if not self._settings.supports_sessions:  # before a worker is launched and costs money
            raise SaccadeError(ErrorCode.SESSIONS_NOT_CONFIGURED)
        if request.replay_of is not None:
            await self._check_replay(tenant, request.replay_of, workload)
        return SessionOpened(
            workload=workload.name,
            workload_version=workload.version,
            params=params,
            idle_timeout_s=request.idle_timeout_s,
            max_length_s=request.max_length_s,
            max_cost_usd=request.max_cost_usd,
            metadata=request.metadata,
            replay_of=request.replay_of,
        )

    async def _check_replay(self, tenant: str, session_id: str, workload: Workload) -> None:
        """Check that the inputs of a recorded session can be replayed.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, INVALID_PARAMETER, SESSION_RECORD_EXPIRED.
        """
        not_found = [{"detail": f"There is no session {session_id!r}.", "pointer": "#/replay_of"}]
        try:
            recorded = await self.get(tenant, session_id)
        except SaccadeError as error:
            raise SaccadeError(error.code, not_found[0]["detail"], errors=not_found) from None
        message = ""
        if not workload.replayable:
            message = f"A session of {workload.name} cannot be replayed: its texts are in the transcript."
        elif recorded.opened.workload != workload.name:
            message = f"{session_id} was a session of {recorded.opened.workload}: only the same workload replays it."
        if recorded.opened.replay_of is not None:
            message = f"{session_id} is a replay itself: replay {recorded.opened.replay_of}, which has the frames."
        if message:
            raise SaccadeError(
                ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": "#/replay_of"}]
            )
        sent = max((await self._progress.load(recorded)).totals.sent, recorded.totals.sent)
        if sent:
            record = await open_record(self._events.store.client, recorded, sent)
            if not record.complete:
                raise SaccadeError(
                    ErrorCode.SESSION_RECORD_EXPIRED,
                    f"Only {record.counts.get('frames', 0)} of {sent} frames are still stored.",
                )
