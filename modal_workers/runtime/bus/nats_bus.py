"""The bus by NATS: as one of ours, who may subscribe, or with credentials that allow one job's own subjects only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.events.job import JOB_VERBS, WORKER_VERBS
from contracts.job import Job
from contracts.limits import PROGRESS_HZ
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.connection import connect
from kit.bus.event_store import EventStore, StoredEvent
from kit.settings import NatsSettings
from kit.tasks import end
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus, folded

T = TypeVar("T")

#: Between two looks of a run that may not subscribe: one small request.
_POLL_S: Final = 2.0
_READ_S: Final = 5.0
_ANSWER_S: Final = 2.0
#: What a worker says itself while it works; hearing it is no news.
_OWN: Final = tuple(f".{verb}" for verb in WORKER_VERBS if verb not in ("interrupted", "succeeded"))


async def open_nats_bus(settings: NatsSettings, assignment: Assignment) -> JobBus:
    """Connect, with the credentials of one job if there are any.

    Raises:
        BusRefused: the credentials are not taken.
    """
    name = f"worker {assignment.run_id}"
    if settings.credentials is None:
        bus = TrustedBus(await connect(settings, name), assignment)
        await bus.listen()
        return bus
    refusal: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_refused(why: str) -> None:
        if not refusal.done():
            refusal.set_result(why)

    client = await _unless(refusal, connect(settings, name, on_refused))
    return CredentialBus(client, assignment, refusal)


class TrustedBus:
    """NATS for a worker on our own machines: it hears at once what is said of its job."""

    progress_hz = PROGRESS_HZ
    haste_s = 0.25

    def __init__(self, client: Client, assignment: Assignment) -> None:
        """Use a connection."""
        self._client = client
        self._among = aggregate(assignment.tenant, "job", assignment.job_id)
        self._events = EventStore(client)
        self._progress = EventStore(client, "PROGRESS")
        self._news = asyncio.Event()

    async def listen(self) -> None:
        """Subscribe to the job's events."""

        async def on_event(msg: Msg) -> None:
            if not msg.subject.endswith(_OWN):
                self._news.set()

        await self._client.subscribe(LIVE_EVENTS.removesuffix("saccade.evt.>") + self._among, cb=on_event)

    @property
    def client(self) -> Client:
        """Give the connection, for what a live session needs of it."""
        return self._client

    @property
    def is_connected(self) -> bool:
        """Tell whether there is any use in sending something that may be lost."""
        return self._client.is_connected

    async def load(self) -> Job | None:
        """Read the job."""
        return folded(await self._events.load(self._among))

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event."""
        return await self._events.publish(message, after=after, among=self._among, deadline_s=deadline_s)

    async def progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store progress."""
        await self._progress.publish(message, deadline_s=deadline_s)

    async def changed(self, timeout_s: float) -> None:
        """Wait for an event that somebody else has said."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._news.wait()
        self._news.clear()

    async def close(self) -> None:
        """Disconnect."""
        await self._client.close()


class OwnEvents(EventStore):
    """The stream as a run's own credentials show it: the newest event of one subject at a time.

    The server answers other forms of direct get to nobody who may not read them all (docs/adr/0005).
    """

    def __init__(self, client: Client, verbs: Sequence[str] = JOB_VERBS) -> None:
        """Use a connection; ``verbs`` are all that can be said of the thing."""
        super().__init__(client)
        self._verbs = verbs

    async def load(self, subjects: str, deadline_s: float = _READ_S) -> list[StoredEvent]:
        """Read the newest event of each subject, in the order of the stream, as of one moment.

        The reads are many, so the newest event of all is read before and after them: had anything been stored
        meanwhile, a condition on the newest sequence could hold for a thing that was never seen like this.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        stem = subjects.removesuffix("*")
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    newest = await self.newest(subjects)
                    if newest is None:
                        return []
                    found = await asyncio.gather(*(self.newest(stem + verb) for verb in self._verbs))
                    again = await self.newest(subjects)
                    if again is not None and again.sequence == newest.sequence:
                        unique = {stored.sequence: stored for stored in (*found, newest) if stored}
                        return [unique[sequence] for sequence in sorted(unique)]
        except TimeoutError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error

    async def newest(self, subject: str) -> StoredEvent | None:
        """Read the newest event of a subject, or of several; asks until there is an answer."""
        while True:
            try:
                reply = await self.client.request(f"$JS.API.DIRECT.GET.{self.stream}.{subject}", timeout=_ANSWER_S)
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if self.client.is_closed:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
                await asyncio.sleep(0.1)
                continue
            headers = reply.headers or {}
            if "Nats-Sequence" in headers:
                return StoredEvent(int(headers["Nats-Sequence"]), headers["Nats-Subject"], reply.data)
            if headers.get("Status") == "404":
                return None
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS: {headers.get('Description', 'no answer')}.")


class CredentialBus(TrustedBus):
    """NATS for a worker on somebody else's machines: what the server refuses to its credentials ends the run."""

    #: Four trips to a server that may be on another continent.
    haste_s = 0.7

    def __init__(self, client: Client, assignment: Assignment, refusal: asyncio.Future[str]) -> None:
        """Use a connection; ``refusal`` is what the server refused, once it has."""
        super().__init__(client, assignment)
        self._events = self._own = OwnEvents(client)
        self._refusal = refusal
        self._seen = 0

    @property
    def is_connected(self) -> bool:
        """Tell whether there is any use in sending something that may be lost."""
        return super().is_connected and not self._refusal.done()

    async def load(self) -> Job | None:
        """Read the job."""
        job = await _unless(self._refusal, super().load())
        self._seen = job.sequence if job else 0
        return job

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event."""
        return await _unless(self._refusal, super().publish(message, after=after, deadline_s=deadline_s))

    async def progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store progress."""
        await _unless(self._refusal, super().progress(message, deadline_s=deadline_s))

    async def changed(self, timeout_s: float) -> None:
        """Look again and again whether the job has a newer event."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    await _unless(self._refusal, asyncio.sleep(_POLL_S))
                    newest = await _unless(self._refusal, self._own.newest(self._among))
                    if newest is not None and newest.sequence > self._seen:
                        return


async def _unless(refusal: asyncio.Future[str], operation: Coroutine[Any, Any, T]) -> T:
    """Wait for an operation, but no longer than until the server has refused something.

    Raises:
        BusRefused: it has.
    """
    task = asyncio.ensure_future(operation)
    try:
        await asyncio.wait((task, refusal), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(task)
    # What was refused shows as a timeout or a connection that is gone, if the operation ends at all.
    if refusal.done() and (task.cancelled() or task.exception()):
        raise _refused(refusal.result())
    return task.result()


def _refused(why: str) -> BusRefused:
    """Say what the server's words mean to a run."""
    if "permissions violation" in why.lower():
        return BusRefused(
            ErrorCode.FORBIDDEN,
            f"NATS refuses to this run's credentials: {why}.",
            hint="A run may say only what workers say, and only of its own job.",
        )
    return BusRefused(
        ErrorCode.UNAUTHENTICATED,
        f"NATS takes this run's credentials no more: {why}.",
        hint="They have expired, or the account's key was changed.",
    )
