"""Job events over NATS: with full rights on our own machines, or with credentials limited to one job's subjects."""

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
from contracts.job import Job, fold_stored
from contracts.limits import PROGRESS_HZ
from contracts.streams import LIVE_EVENTS, aggregate
from kit.bus.connection import connect
from kit.bus.event_store import Conflict, EventStore, StoredEvent
from kit.bus.leader_reads import is_clustered
from kit.settings import NatsSettings
from kit.tasks import end
from modal_workers.runtime.bus.job_bus import BusRefused, JobBus

T = TypeVar("T")

#: Poll interval of a run that may not subscribe; a poll is one small request.
_POLL_S: Final = 2.0
_READ_S: Final = 5.0
_ANSWER_S: Final = 2.0
#: Maximum lag of a replica that is waited for; what is still missing then was deleted.
_MAX_LAG_S: Final = 2.0
_LAG_RETRY_S: Final = 0.02
#: Events that the worker publishes itself while it works; they are no change worth a read.
_OWN_VERBS: Final = tuple(f".{verb}" for verb in WORKER_VERBS if verb not in ("interrupted", "succeeded"))


async def open_nats_bus(settings: NatsSettings, assignment: Assignment) -> JobBus:
    """Connect to NATS, with the credentials of one job if there are any.

    Raises:
        BusRefused: the credentials are rejected.
    """
    name = f"worker {assignment.run_id}"
    if settings.credentials is None:
        bus = TrustedNatsBus(await connect(settings, name), assignment)
        await bus.listen()
        return bus
    refusal: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def on_refused(reason: str) -> None:
        if not refusal.done():
            refusal.set_result(reason)

    client = await _until_refused(refusal, connect(settings, name, on_refused))
    return CredentialNatsBus(client, assignment, refusal)


class TrustedNatsBus:
    """``JobBus`` over NATS for a worker on our own machines, which may subscribe to its job's events."""

    progress_hz = PROGRESS_HZ
    urgent_deadline_s = 0.25

    def __init__(self, client: Client, assignment: Assignment) -> None:
        """Use an open connection."""
        self._client = client
        self._subjects = aggregate(assignment.tenant, "job", assignment.job_id)
        self._events = EventStore(client)
        self._progress = EventStore(client, "PROGRESS")
        self._changed = asyncio.Event()

    async def listen(self) -> None:
        """Subscribe to the job's events."""

        async def on_event(msg: Msg) -> None:
            if not msg.subject.endswith(_OWN_VERBS):
                self._changed.set()

        await self._client.subscribe(LIVE_EVENTS.removesuffix("saccade.evt.>") + self._subjects, cb=on_event)

    @property
    def client(self) -> Client:
        """Connection, shared with a live session."""
        return self._client

    @property
    def is_connected(self) -> bool:
        """Whether sending an event that may be lost makes sense now."""
        return self._client.is_connected

    async def load(self) -> Job | None:
        """Return the job, folded from its events."""
        return _fold(await self._events.load(self._subjects))

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event and return its sequence."""
        return await self._events.publish(message, after=after, among=self._subjects, deadline_s=deadline_s)

    async def publish_progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store a progress event."""
        await self._progress.publish(message, deadline_s=deadline_s)

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait for an event that another writer published."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        self._changed.clear()

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()


class RestrictedEventStore(EventStore):
    """Event store for a run's own credentials, which may read only the newest event of one subject at a time.

    nats-server allows other forms of direct get only to readers of the whole stream (docs/adr/0005). In a cluster a
    replica answers, which may lag: a read is repeated until it reaches the newest sequence that this run knows.
    """

    def __init__(self, client: Client, verbs: Sequence[str] = JOB_VERBS, known: int = 0) -> None:
        """Use an open connection.

        ``verbs`` are all verbs of the aggregate's events, ``known`` is the sequence of one that this run knows of.
        """
        super().__init__(client)
        self._verbs = verbs
        self._known = known

    async def publish(
        self,
        message: Message,
        *,
        after: int | None = None,
        among: str | None = None,
        deadline_s: float = 10.0,
        headers: dict[str, str] | None = None,
        known_until: int = 0,
    ) -> int:
        """Store an event as ``EventStore`` does; the next read reaches it, or what it is in conflict with.

        Raises:
            Conflict, SaccadeError: as ``EventStore.publish``.
        """
        try:
            given: Any = {"deadline_s": deadline_s, "headers": headers, "known_until": known_until}
            sequence = await super().publish(message, after=after, among=among, **given)
        except Conflict as conflict:
            self._known = max(self._known, conflict.newest)
            raise
        self._known = max(self._known, sequence)
        return sequence

    async def load(
        self, subjects: str, deadline_s: float = _READ_S, *, up_to: int | None = None, with_headers: bool = False
    ) -> list[StoredEvent]:
        """Return the newest event of each subject, in stream order, as one consistent snapshot.

        The newest event of all is read before and after the others: without that, an event stored between two reads
        would make a state that never existed, and a conditional publish could succeed on it.

        Raises:
            ValueError: ``up_to`` or ``with_headers`` is given, which a run's credentials do not allow.
            SaccadeError: BUS_UNAVAILABLE.
        """
        if up_to is not None or with_headers:
            raise ValueError("a run's own credentials read the newest events alone, without headers")
        prefix = subjects.removesuffix("*")
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    newest = await self._newest_known(subjects)
                    if newest is None:
                        return []
                    found = await asyncio.gather(*(self.newest(prefix + verb) for verb in self._verbs))
                    again = await self.newest(subjects)
                    if again is not None and again.sequence == newest.sequence:
                        unique = {stored.sequence: stored for stored in (*found, newest) if stored}
                        return [unique[sequence] for sequence in sorted(unique)]
        except TimeoutError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error

    async def _newest_known(self, subjects: str) -> StoredEvent | None:
        """Return the newest event of all, at least the newest that this run knows of unless that was deleted."""
        end = asyncio.get_running_loop().time() + _MAX_LAG_S
        while True:
            newest = await self.newest(subjects)
            reached = newest is not None and newest.sequence >= self._known
            if reached or not is_clustered(self.client) or asyncio.get_running_loop().time() >= end:
                return newest
            await asyncio.sleep(_LAG_RETRY_S)

    async def newest(self, subject: str) -> StoredEvent | None:
        """Return the newest event of a subject or wildcard; repeat the request until the server answers."""
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


class CredentialNatsBus(TrustedNatsBus):
    """``JobBus`` over NATS with the credentials of one run, for a worker in a cloud.

    A permission violation or expired credentials end the run.
    """

    #: Four round trips to a server that may be on another continent.
    urgent_deadline_s = 0.7

    def __init__(self, client: Client, assignment: Assignment, refusal: asyncio.Future[str]) -> None:
        """Use an open connection; ``refusal`` resolves with the server's reason once it has refused something."""
        super().__init__(client, assignment)
        self._events = self._reader = RestrictedEventStore(client, known=assignment.sequence)
        self._refusal = refusal
        self._loaded_sequence = 0

    @property
    def is_connected(self) -> bool:
        """Whether sending an event that may be lost makes sense now."""
        return super().is_connected and not self._refusal.done()

    async def load(self) -> Job | None:
        """Return the job, folded from its events."""
        job = await _until_refused(self._refusal, super().load())
        self._loaded_sequence = job.sequence if job else 0
        return job

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event and return its sequence."""
        return await _until_refused(self._refusal, super().publish(message, after=after, deadline_s=deadline_s))

    async def publish_progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store a progress event."""
        await _until_refused(self._refusal, super().publish_progress(message, deadline_s=deadline_s))

    async def wait_for_change(self, timeout_s: float) -> None:
        """Poll until the job has an event newer than the last ``load``."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while True:
                    await _until_refused(self._refusal, asyncio.sleep(_POLL_S))
                    newest = await _until_refused(self._refusal, self._reader.newest(self._subjects))
                    if newest is not None and newest.sequence > self._loaded_sequence:
                        return


def _fold(events: list[StoredEvent]) -> Job | None:
    job = None
    for stored in events:
        job = fold_stored(job, stored.subject, stored.body, stored.sequence)
    return job


async def _until_refused(refusal: asyncio.Future[str], operation: Coroutine[Any, Any, T]) -> T:
    """Return an operation's result; stop waiting as soon as the server has refused something.

    Raises:
        BusRefused: the server has refused.
    """
    task = asyncio.ensure_future(operation)
    try:
        await asyncio.wait((task, refusal), return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end(task)
    # A refused operation ends with a timeout or a closed connection, or never.
    if refusal.done() and (task.cancelled() or task.exception()):
        raise _refused(refusal.result())
    return task.result()


def _refused(reason: str) -> BusRefused:
    """Translate the server's reason into an error."""
    if "permissions violation" in reason.lower():
        return BusRefused(
            ErrorCode.FORBIDDEN,
            f"NATS denied this run's credentials: {reason}.",
            hint="A run may publish only worker events, and only of its own job.",
        )
    return BusRefused(
        ErrorCode.UNAUTHENTICATED,
        f"NATS no longer accepts this run's credentials: {reason}.",
        hint="They have expired, or the account's key was changed.",
    )
