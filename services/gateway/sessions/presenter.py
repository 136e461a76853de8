"""Representation of sessions in HTTP answers."""

from __future__ import annotations

from contracts.events import Cursor
from contracts.job import Job
from contracts.session import Session, job_id_of_session
from kit.bus.tail import EventTail
from services.gateway.aggregates.view import GatewayView
from services.gateway.jobs.service import JobService
from services.gateway.sessions.latest_progress import LatestSessionProgress, SessionStatus
from services.gateway.sessions.schemas import (
    ChunkObject,
    HttpIngest,
    Ingest,
    JobOfSession,
    SessionCost,
    SessionLinks,
    SessionObject,
    WaitingPrompt,
)
from services.gateway.telemetry.nats_access import NatsAccess, NatsIngest
from services.gateway.time_machine.schemas import AsOf


class SessionPresenter:
    """Builds session objects from sessions, their jobs and the latest status of their workers."""

    def __init__(
        self,
        jobs: JobService,
        view: GatewayView,
        progress: LatestSessionProgress,
        nats_access: NatsAccess,
        tail: EventTail,
    ) -> None:
        """Read from the view, except where ``full`` says otherwise."""
        self._jobs, self._view, self._progress = jobs, view, progress
        self._nats_access, self._tail = nats_access, tail

    async def full(self, session: Session, *, from_start: bool = False) -> SessionObject:
        """Return a session object with stored job and status.

        ``from_start`` is for the answer that opens the session: it adds the NATS credentials and sets the cursor
        before the first event.
        """
        return self._present(
            session,
            await self._jobs.find(session.tenant, job_id_of_session(session.id)),
            await self._progress.load(session),
            self._nats_access.describe(session, with_credentials=from_start),
            from_start=from_start,
        )

    async def early(self, session: Session, job: Job | None) -> SessionObject:
        """Return a session object with stored status, given its job, while the view may lack both."""
        status = await self._progress.load(session)
        return self._present(session, job, status, self._nats_access.describe(session))

    def known(self, session: Session) -> SessionObject:
        """Return a session object for a list, without requests to the bus."""
        job = self._view.job(job_id_of_session(session.id))
        return self._present(session, job, self._progress.known(session), self._nats_access.describe(session))

    def past(self, session: Session, job: Job | None, as_of: AsOf) -> SessionObject:
        """Return the object of a session and its job as they were: folded up to a point of the history.

        What workers report live is not part of it: frames are counted up to the newest exported chunk.
        """
        return self._present(session, job, SessionStatus(session.totals), None, as_of=as_of)

    def _present(
        self,
        session: Session,
        job: Job | None,
        status: SessionStatus,
        nats: NatsIngest | None,
        *,
        from_start: bool = False,
        as_of: AsOf | None = None,
    ) -> SessionObject:
        opened, path = session.opened, f"/v1/sessions/{session.id}"
        job_path = f"/v1/jobs/{job_id_of_session(session.id)}"
        progress, chunk = status.progress, session.chunk
        return SessionObject(
            id=session.id,
            workload=opened.workload,
            state=session.state,
            params=opened.params,
            idle_timeout_s=opened.idle_timeout_s,
            max_length_s=opened.max_length_s,
            created_at=session.created_at,
            ready_at=session.ready_at,
            started_at=session.started_at,
            finished_at=session.finished_at,
            frames=status.totals,
            figures=progress.figures if progress else chunk.figures if chunk else {},
            frame_age_s=progress.frame_age_s if progress else None,
            chunk=ChunkObject(number=chunk.chunk, artifact=chunk.artifact.name) if chunk else None,
            text=session.text,
            alert=session.alert,
            prompts=[WaitingPrompt(prompt_id=prompt.prompt_id, text=prompt.text) for prompt in session.prompts],
            reason=session.stopped.reason if session.stopped else None,
            result=session.stopped.result if session.stopped else None,
            job=JobOfSession(id=job.id, state=job.state, attempt=job.attempt) if job else None,
            cost=SessionCost(actual_usd=_actual_usd(session, job, status), max_usd=opened.max_cost_usd),
            error=session.failed.error if session.failed else None,
            replay_of=opened.replay_of,
            metadata=opened.metadata,
            links=SessionLinks(
                self=path if as_of is None else f"{path}?at={as_of.cursor}",
                events=f"{path}/events",
                stream=f"{path}/stream",
                page=f"/sessions/{session.id}",
                job=job_path,
                artifacts=f"{job_path}/artifacts",
                ply=f"{path}/ply",
                texts=f"{path}/texts",
            ),
            ingest=Ingest(
                nats=nats, http=HttpIngest(frames=f"{path}/frames", joints=f"{path}/joints"), ws=f"{path}/stream"
            ),
            cursor=str(Cursor(self._tail.epoch, session.first_sequence - 1 if from_start else session.sequence)),
            as_of=as_of,
        )


def _actual_usd(session: Session, job: Job | None, status: SessionStatus) -> float:
    if end := session.stopped or session.failed:
        return end.cost_usd
    return max(job.actual_usd if job else 0.0, status.progress.cost_usd if status.progress else 0.0)
