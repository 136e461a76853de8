"""Event store on JetStream: conditional publish, load of an aggregate's events, history in order.

A publish is retried until the server acknowledges it, with the same event id, so that a lost acknowledgement stores
nothing twice (``Nats-Msg-Id``); a failed condition raises ``Conflict`` and stores nothing.

In a cluster every read contains what was acknowledged before it, unless the store is for display (leader_reads.py).
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import nats.errors
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import Header
from nats.js.errors import APIError

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import CONTENT_TYPE, Message
from kit.bus.jetstream_api import sequence_in
from kit.bus.leader_reads import (
    completed,
    has_deleted,
    is_clustered,
    is_one_subject,
    newest_at_leader,
    next_at_leader,
    shown,
)
from kit.bus.message_size import check_size, refusal
from kit.bus.publish_record import recorded
from kit.bus.stored_event import Conflict, StoredEvent, TooManyResults
from kit.tasks import end as end_task

__all__ = ["Conflict", "EventStore", "StoredEvent", "TooManyResults"]

log = logging.getLogger(__name__)

_WRONG_LAST_SEQUENCE: Final = 10071
#: Only a clustered server answers so: another write to these subjects, or one with this id, is not stored yet, and may
#: fail.
_CONFLICT_IN_FLIGHT: Final = 10164
_SAME_ID_IN_FLIGHT: Final = 10158
#: Only a clustered server answers so, while it has no leader.
_NO_LEADER: Final = frozenset({10008, 10009})
_PASSING: Final = _NO_LEADER | {_CONFLICT_IN_FLIGHT, _SAME_ID_IN_FLIGHT}
_EXPECTED_SEQUENCE: Final = "Nats-Expected-Last-Subject-Sequence"
_EXPECTED_SUBJECT: Final = "Nats-Expected-Last-Subject-Sequence-Subject"
#: A publish that was not stored is shown in the health report for this long, if no other publish follows.
_FAILURE_SHOWN_S: Final = 300.0
#: Pause before a write is tried again that met another one in flight; longer each time: one cut off says so for 17 s.
_PAUSE_S: Final = 0.02
_PAUSE_MAX_S: Final = 0.5
#: Events of a batch that are taken before other tasks run.
_READ_AT_A_TIME: Final = 16
_END_OF_BATCH: Final = frozenset({"204", "404", "408"})
_TOO_MANY_RESULTS: Final = "413"


class EventStore:
    """One stream of events."""

    def __init__(self, client: Client, stream: str = "EVENTS", *, for_display: bool = False) -> None:
        """Use a connection; the stream must have been declared.

        What is read ``for_display`` may lack the newest events of a cluster, and costs its leader nothing.
        """
        self.client = client
        self._for_display = for_display
        self.stream = stream
        self._jetstream = client.jetstream(timeout=5)
        #: Time of the latest publish, if it was not stored, and the number of reconnects by then.
        self._failing_since: tuple[float, int] | None = None

    def check_writes(self) -> None:
        """Check that the latest publish was stored.

        A nats-server that could not write a stream once (a full disk) accepts nothing for it until it is restarted,
        and answers everything else; therefore a reconnect ends the failure too.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if self._failing_since is None or self._failing_since[1] != self.client.stats["reconnects"]:
            return
        seconds = asyncio.get_running_loop().time() - self._failing_since[0]
        if seconds < _FAILURE_SHOWN_S:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, f"NATS did not store an event {seconds:.0f} s ago.")

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
        """Store an event, if ``after`` (when given) is the last sequence ``among`` subjects, and return its sequence.

        ``known_until``: the caller knows every event up to this sequence. If the stream has none of these subjects any
        more, and has deleted none that the caller does not know, the one with sequence ``after`` is the newest still.

        Raises:
            Conflict: the last sequence is another one; nothing was stored.
            SaccadeError: BODY_TOO_LARGE; EVENTS_FULL; BUS_UNAVAILABLE, after ``deadline_s`` without acknowledgement
                (the event may be stored).
        """
        try:
            with recorded(self.stream, message):
                sequence = await self._publish(message, after, among, deadline_s, headers, known_until=known_until)
        except SaccadeError as error:
            if error.code is ErrorCode.BODY_TOO_LARGE:
                raise
            self._failing_since = asyncio.get_running_loop().time(), self.client.stats["reconnects"]
            raise
        self._failing_since = None
        return sequence

    async def _publish(
        self,
        message: Message,
        after: int | None,
        among: str | None,
        deadline_s: float,
        headers: dict[str, str] | None,
        *,
        known_until: int,
    ) -> int:
        """Publish until the server acknowledges.

        Raises:
            Conflict, SaccadeError: as ``publish``.
        """
        sent = {Header.MSG_ID.value: message.id, "Content-Type": CONTENT_TYPE} | (headers or {})
        if after is not None:
            sent[_EXPECTED_SEQUENCE] = str(after)
            sent[_EXPECTED_SUBJECT] = among or message.subject
        check_size(self.stream, message, sent)
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        maybe_stored, pause_s = False, _PAUSE_S
        while True:
            try:
                timeout_s = max(0.1, min(2.0, end - loop.time()))
                ack = await self._jetstream.publish(message.subject, message.body, timeout=timeout_s, headers=sent)
            except APIError as error:
                maybe_stored |= error.err_code in _PASSING and error.err_code != _CONFLICT_IN_FLIGHT
                newest = sequence_in(error.description or "")
                is_none = error.err_code == _WRONG_LAST_SEQUENCE and not newest
                if after and is_none and await has_deleted(self.client, self.stream, after, known_until):
                    after, sent[_EXPECTED_SEQUENCE] = 0, "0"
                    continue
                # A leader that is cut off does not know what ``after`` was read of: the next one decides.
                outdated = (
                    error.err_code == _WRONG_LAST_SEQUENCE and newest < (after or 0) and is_clustered(self.client)
                )
                if (error.err_code in _PASSING or outdated) and loop.time() < end:
                    # Ask until the other write is stored or has failed: who is told of a conflict can read its cause.
                    await asyncio.sleep(random.uniform(0.1, 1) * pause_s)  # noqa: S311 - spreads writers, keeps no secret
                    pause_s = min(1.2 * pause_s, _PAUSE_MAX_S)
                    continue
                in_conflict = error.err_code == _CONFLICT_IN_FLIGHT and not maybe_stored
                if error.err_code != _WRONG_LAST_SEQUENCE and not in_conflict:
                    raise refusal(self.stream, error.err_code, error.description) from error
                if maybe_stored and among and (sequence := await self._find_stored(message, among, newest, end)):
                    return sequence
                raise Conflict(message.subject, newest) from error
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if loop.time() >= end or self.client.is_closed:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
                maybe_stored = True
                await asyncio.sleep(0.1)
            else:
                if not ack.duplicate or after is None:
                    return ack.seq
                if sequence := await self._find_stored(message, among or message.subject, ack.seq, end):
                    return sequence
                raise Conflict(message.subject, ack.seq)

    async def _find_stored(self, message: Message, among: str, reach: int, end: float) -> int | None:
        """Return the sequence of this message if an earlier attempt, whose acknowledgement was lost, stored it.

        Asks until the time ``end`` of the publish: a lost leader is what loses acknowledgements, and without one nobody
        can read. An answer without the sequence ``reach``, which a leader has named, is that of one that was cut off.
        Compares bytes, not ids: two workers launched for one run claim it with the same id.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        subjects = message.subject if among.endswith(">") else among  # never a whole stream
        while True:
            rest_s = end - asyncio.get_running_loop().time()
            found = await self.load(subjects, max(1.0, rest_s))
            for stored in found:
                if stored.body == message.body:
                    return stored.sequence
            if subjects != among or rest_s <= 0 or (found and found[-1].sequence >= reach):
                return None
            await asyncio.sleep(0.1)

    async def load(
        self, subjects: str, deadline_s: float = 5.0, *, up_to: int | None = None, with_headers: bool = False
    ) -> list[StoredEvent]:
        """Return the newest event of each subject, in the order of the stream; with ``up_to`` as of that sequence.

        Up to 1,024 subjects are read at one moment; more, event by event, which takes as long as reading their history.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if not self._asks_leader:
            return await self._load_direct(subjects, deadline_s, up_to, with_headers=with_headers)
        newest = asyncio.ensure_future(newest_at_leader(self.client, self.stream, subjects, deadline_s))
        try:
            if up_to is None and is_one_subject(subjects):
                stored = await newest
                return [shown(stored, with_headers=with_headers)] if stored else []
            found = await self._load_direct(subjects, deadline_s, up_to, with_headers=with_headers)
            wanted: Any = {"subjects": subjects, "deadline_s": deadline_s, "up_to": up_to, "with_headers": with_headers}
            return await completed(self.client, self.stream, found, await newest, **wanted)
        finally:
            await end_task(newest)

    @property
    def _asks_leader(self) -> bool:
        return not self._for_display and is_clustered(self.client)

    async def _load_direct(
        self, subjects: str, deadline_s: float, up_to: int | None, *, with_headers: bool
    ) -> list[StoredEvent]:
        """Return the newest event of each subject, as one replica has them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        body: dict[str, Any] = {"multi_last": [subjects]}
        if up_to is not None:
            body["up_to_seq"] = up_to
        try:
            found, _ = await self._get(body, deadline_s, with_headers=with_headers)
        except TooManyResults:
            found = await self._newest_in_history(subjects, up_to, with_headers=with_headers)
        return sorted(found, key=lambda stored: stored.sequence)

    async def newest_of_several(self, subjects: Sequence[str], up_to: int) -> list[StoredEvent] | None:
        """Return the newest event at or before a sequence of each subject that matches a filter, in order.

        None in a cluster, where the replica that answers may lack some.

        Raises:
            TooManyResults: they are too many for one request.
            SaccadeError: BUS_UNAVAILABLE.
        """
        if self._asks_leader:
            return None
        body = {"multi_last": list(subjects), "up_to_seq": up_to}
        found, _ = await self._get(body, 5.0, with_headers=True)
        return sorted(found, key=lambda stored: stored.sequence)

    async def _newest_in_history(self, subjects: str, up_to: int | None, *, with_headers: bool) -> list[StoredEvent]:
        """Return the newest event of each subject by reading all of them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        newest: dict[str, StoredEvent] = {}
        after, remaining = 0, 1
        while remaining:
            found, remaining = await self.batch(after, subjects, with_headers=with_headers)
            for stored in found:
                after = stored.sequence
                if up_to is None or after <= up_to:
                    newest[stored.subject] = stored
            if not found or (up_to is not None and after >= up_to):
                break
        return list(newest.values())

    async def batch(
        self,
        after: int,
        subjects: str = ">",
        size: int = 500,
        deadline_s: float = 10.0,
        *,
        size_bytes: int | None = None,
        with_headers: bool = False,
    ) -> tuple[list[StoredEvent], int]:
        """Return up to ``size`` events after a sequence, and how many remain after them.

        With ``size_bytes`` the batch ends with the event that exceeds it. In a cluster none remains only if the leader
        says so.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        body: dict[str, Any] = {"seq": after + 1, "next_by_subj": subjects, "batch": size}
        if size_bytes is not None:
            body["max_bytes"] = size_bytes
        found, remaining = await self._get(body, deadline_s, with_headers=with_headers)
        if remaining or not self._asks_leader:
            return found, remaining
        last = found[-1].sequence if found else after
        following = await next_at_leader(self.client, self.stream, last, subjects, deadline_s)
        if following is None:
            return found, 0
        return (found or [shown(following, with_headers=with_headers)]), 1

    async def history(self, after: int, subjects: str = ">") -> AsyncIterator[StoredEvent]:
        """Yield all events after a sequence, in the order of the stream.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        remaining = 1
        while remaining:
            found, remaining = await self.batch(after, subjects)
            if not found:
                return
            for stored in found:
                yield stored
            after = found[-1].sequence

    async def _get(
        self, body: dict[str, Any], deadline_s: float, *, with_headers: bool = False
    ) -> tuple[list[StoredEvent], int]:
        """Request a batch by direct get (NATS ADR-31) and collect it; retried when a reply is lost.

        Raises:
            TooManyResults: at once.
            SaccadeError: BUS_UNAVAILABLE.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            try:
                return await self._get_once(body, max(0.1, min(2.0, end - loop.time())), with_headers=with_headers)
            except (TimeoutError, nats.errors.Error, OSError) as error:
                if loop.time() >= end or self.client.is_closed:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE) from error
                await asyncio.sleep(0.05)

    async def _get_once(
        self, body: dict[str, Any], timeout_s: float, *, with_headers: bool
    ) -> tuple[list[StoredEvent], int]:  # fmt: skip
        """Request and collect one batch, however long it takes while events of it arrive.

        Raises:
            TooManyResults: the request names too many subjects.
            nats.errors.Error, asyncio.TimeoutError: a reply was lost: nothing arrived for ``timeout_s``.
        """
        inbox = self.client.new_inbox()
        done: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        found: list[StoredEvent] = []

        async def on_message(msg: Msg) -> None:
            headers = msg.headers or {}
            status = headers.get("Status")
            if status in _END_OF_BATCH:
                if not done.done():
                    done.set_result(int(headers.get("Nats-Num-Pending", 0)))
            elif status is not None:
                if not done.done():
                    description = f"direct get: {status} {headers.get('Description', '')}"
                    error = TooManyResults if status == _TOO_MANY_RESULTS else nats.errors.Error
                    done.set_exception(error(description))
            else:
                shown = headers if with_headers else {}
                sequence, time = int(headers["Nats-Sequence"]), headers.get("Nats-Time-Stamp", "")
                found.append(StoredEvent(sequence, headers["Nats-Subject"], msg.data, shown, time))
                if len(found) % _READ_AT_A_TIME == 0:
                    await asyncio.sleep(0)  # the client calls this for all messages it has before anything else runs

        subscription = await self.client.subscribe(inbox, cb=on_message)
        try:
            request = json.dumps(body).encode()
            await self.client.publish(f"$JS.API.DIRECT.GET.{self.stream}", request, reply=inbox)
            arrived = -1
            while not done.done():
                if len(found) == arrived:
                    raise TimeoutError
                arrived = len(found)
                await asyncio.wait([done], timeout=timeout_s)
            remaining = done.result()
        finally:
            done.cancel()
            if not self.client.is_closed:
                await subscription.unsubscribe()
        return found, remaining
