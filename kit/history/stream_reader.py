"""Reads the history of a stream from the stream itself: ranges in order, states as of a sequence, counts."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from contracts.events.base import EVENT_CLASSES
from contracts.ids import new_id
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import first_stored_since, request
from kit.bus.leader_reads import info_of_leader
from kit.bus.lineage import Lineage, lineage_of
from kit.history.event_lines import HistoryEvent, parse_timestamp
from kit.history.manifest import SubjectCounts
from kit.history.subjects import SubjectFilter, covering, covers, narrowed, overlap, type_in, without_covered

BATCH_EVENTS: Final = 500
_BATCH_BYTES: Final = 4 * 1024 * 1024
#: Attempts to count while the stream grows, after which the events are read.
_COUNTS: Final = 10
#: Types that are counted at the same time.
_AT_ONCE: Final = 8
#: Types of nearly all events of a job that went well or badly: without them a count takes a second round.
_USUAL: Final = tuple(
    f"job.{verb}" for verb in ("submitted", "queued", "starting", "started", "succeeded", "failed", "retrying")
)
#: Ranges up to this length are read whole and filtered here. The server tells with each batch how many events match
#: after it, for which it goes through all subjects that a filter with wildcards matches: 40 ms for 100,000.
_READ_WHOLE: Final = 128
_EVERYTHING: Final = ">"
_EVERY_EVENT: Final = "saccade.evt.*.*.*.*"
#: Events for each of several filters that are read with those of all: a request for each filter costs more.
_JOINED: Final = 40
#: Filters that are read at the same time.
_READ_AT_ONCE: Final = 16
#: Time after which the server deletes a consumer that only counted, if this process has not.
_CONSUMER_S: Final = 5


@dataclass(frozen=True)
class StreamState:
    """State of a stream: what it holds, and the server's clock."""

    #: First stored sequence; one more than ``last`` when nothing is stored.
    first: int
    last: int
    #: When the first event was stored; None when nothing is stored.
    first_time: datetime | None
    now: datetime
    lineage: Lineage
    size_bytes: int


def _counted_at_once(pattern: str) -> str:
    """Return the filter of everything for one of all events: the server counts what matches it by subtraction."""
    return _EVERYTHING if covers(pattern, _EVERY_EVENT) else pattern


def _event(stored: StoredEvent) -> HistoryEvent:
    headers = stored.headers
    timestamp, message_id = headers.get("Nats-Time-Stamp", ""), headers.get("Nats-Msg-Id", "")
    return HistoryEvent(stored.sequence, stored.subject, timestamp, message_id, stored.body)


class StreamReader:
    """Reads one stream."""

    def __init__(self, store: EventStore) -> None:
        """Read the stream of ``store``."""
        self.store = store
        #: Types in the order in which they are counted: those first of which the newest counts found events.
        names = [name for name, data in EVENT_CLASSES.items() if data.kind == "evt"]
        self._types = sorted(names, key=lambda name: (name not in _USUAL, not name.startswith("job."), name))

    async def state(self) -> StreamState:
        """Return what the stream holds, as the node knows it that leads it: another may lack its newest events.

        Raises:
            StreamMissing: there is no such stream.
            SaccadeError: BUS_UNAVAILABLE, also while no node leads it.
        """
        info = await info_of_leader(self.store.client, self.store.stream)
        state = info["state"]
        last = int(state["last_seq"])
        held = int(state["messages"]) > 0
        return StreamState(
            first=int(state["first_seq"]) if held else last + 1,
            last=last,
            first_time=parse_timestamp(state["first_ts"]) if held else None,
            now=parse_timestamp(info["ts"]) if "ts" in info else datetime.now(UTC),
            lineage=await lineage_of(self.store.client, info),
            size_bytes=int(state["bytes"]),
        )

    async def batch(
        self, after: int, subjects: Sequence[str], size: int = BATCH_EVENTS, *, until: int | None = None
    ) -> tuple[list[HistoryEvent], int | None]:
        """Return some matching events after a sequence, and the sequence up to which they were read.

        None: nothing more is stored. ``until`` is the last sequence that the caller wants: later ones may be returned.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        short = until is not None and until - after <= _READ_WHOLE
        pattern, wanted = _EVERYTHING if short else _counted_at_once(covering(subjects)), SubjectFilter(subjects)
        stored, remaining = await self.store.batch(
            after, pattern, size, size_bytes=_BATCH_BYTES, with_headers=True
        )  # fmt: skip
        events = [_event(event) for event in stored if pattern == subjects[0] or wanted.matches(event.subject)]
        return events, stored[-1].sequence if stored and remaining else None

    async def batches(self, begins: Mapping[str, int], until: int) -> list[HistoryEvent]:
        """Return all events of several filters, each after its sequence and up to ``until``; of each in order.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if not begins:
            return []
        if (joined := await self._joined(begins, until)) is not None:
            return joined
        slots = asyncio.Semaphore(_READ_AT_ONCE)

        async def read(subjects: str, after: int) -> list[HistoryEvent]:
            found: list[HistoryEvent] = []
            position: int | None = after
            while position is not None and position < until:
                async with slots:
                    events, position = await self.batch(position, [subjects], min(BATCH_EVENTS, until - position))
                found += [event for event in events if event.sequence <= until]
            return found

        each = await asyncio.gather(*(read(subjects, after) for subjects, after in begins.items()))
        return [event for found in each for event in found]

    async def _joined(self, begins: Mapping[str, int], until: int) -> list[HistoryEvent] | None:
        """Return the events of several filters, read with those between them; None if there are too many of these.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        most = _JOINED * len(begins)
        pattern, wanted = covering(list(begins)), SubjectFilter(list(begins))
        found: list[HistoryEvent] = []
        position = min(begins.values())
        while position < until:
            size = min(BATCH_EVENTS, most, until - position)
            stored, remaining = await self.store.batch(
                position, pattern, size, size_bytes=_BATCH_BYTES, with_headers=True
            )  # fmt: skip
            found += [_event(event) for event in stored if event.sequence <= until and wanted.matches(event.subject)]
            if not stored or not remaining:
                break
            position = stored[-1].sequence
            if min(remaining, until - position) > most:
                return None
        return found

    async def newest(self, subjects: Sequence[str], until: int) -> list[HistoryEvent] | None:
        """Return the newest event at or before a sequence of each subject that matches a filter, in order.

        None in a cluster, where the replica that answers may lack some.

        Raises:
            TooManyResults: they are too many for one request.
            SaccadeError: BUS_UNAVAILABLE.
        """
        found = await self.store.newest_of_several(subjects, until)
        return None if found is None else [_event(event) for event in found]

    async def as_of(self, subjects: str, sequence: int) -> list[HistoryEvent]:
        """Return the newest event of each subject at or before a sequence, in order.

        Raises:
            TooManyResults: the subjects are too many for one request.
            SaccadeError: BUS_UNAVAILABLE.
        """
        if sequence <= 0:
            return []
        stored = await self.store.load(subjects, up_to=sequence, with_headers=True)
        return [_event(event) for event in stored]

    async def sequence_before(self, moment: datetime, state: StreamState) -> int:
        """Return the last sequence before the events that were stored at a time or later.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        first = await first_stored_since(self.store.client, self.store.stream, moment)
        return state.last if first is None else first - 1

    async def count(self, after: int, until: int, subjects: Sequence[str]) -> dict[str, int]:
        """Return how many events of each type there are after a sequence and up to another, without reading them.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        patterns = without_covered(subjects)
        types = [type_in(pattern) for pattern in patterns]
        if None not in types:  # nothing else can match
            return await self._count_types(after, until, patterns, None, sorted(set(filter(None, types))))
        total = await self._pending_between(after, until, [_counted_at_once(pattern) for pattern in patterns])
        if total is None:
            return await self._count_by_reading(after, until, subjects)
        return await self._count_types(after, until, patterns, total, self._types)

    async def _count_types(
        self, after: int, until: int, patterns: Sequence[str], total: int | None, types: Sequence[str]
    ) -> dict[str, int]:
        """Return how many events of each of these types there are; of all of them with None as the total."""
        found: dict[str, int] = {}
        for start in range(0, len(types), _AT_ONCE):
            if total is not None and sum(found.values()) >= total:
                break
            batch = types[start : start + _AT_ONCE]
            numbers = await asyncio.gather(*(self._count_of_type(after, until, patterns, name) for name in batch))
            if None in numbers:
                return await self._count_by_reading(after, until, patterns)
            found |= {name: number for name, number in zip(batch, numbers, strict=True) if number}
        if total is not None and sum(found.values()) != total:  # some are of types that this version does not know
            return await self._count_by_reading(after, until, patterns)
        self._types = sorted(self._types, key=lambda name: name not in found)
        return dict(sorted(found.items()))

    async def _count_of_type(self, after: int, until: int, patterns: Sequence[str], name: str) -> int | None:
        """Return how many events of a type match; None where the server cannot tell."""
        of_type = without_covered([pattern for every in patterns for pattern in narrowed(every, name)])
        return await self._pending_between(after, until, of_type) if of_type else 0

    async def _count_by_reading(self, after: int, until: int, subjects: Sequence[str]) -> dict[str, int]:
        counts = SubjectCounts()
        position: int | None = after
        while position is not None and position < until:
            events, position = await self.batch(position, subjects, until=until)
            for event in events:
                if event.sequence <= until:
                    counts.count(event.subject)
        return counts.by_type()

    async def _pending_between(self, after: int, until: int, patterns: Sequence[str]) -> int | None:
        """Return how many events match between two sequences; None where the server cannot tell.

        The server counts from a sequence to the end, and the stream may grow between two requests: the answer is exact
        if as many events are stored beyond the range before and after them.
        """
        for attempt in range(_COUNTS):
            # To count all events takes the server no time. Where that number never stands still, only matching ones do.
            watched = patterns if attempt else [_EVERYTHING]
            stored = await self._pending(until + 1, watched)
            beyond = stored if watched is patterns or not stored else await self._pending(until + 1, patterns)
            since = await self._pending(after + 1, patterns)
            if since is None or beyond is None:
                return None
            if stored == await self._pending(until + 1, watched):
                return since - beyond
        return None

    async def _pending(self, start: int, patterns: Sequence[str]) -> int | None:
        """Return how many events match from a sequence on; None where the server cannot tell.

        One request for each filter, if they are few: for several in one request the server reads its whole index.
        """
        if len(patterns) > _AT_ONCE or any(overlap(*pair) for pair in itertools.combinations(patterns, 2)):
            return await self._pending_for(start, patterns)
        numbers = [await self._pending_for(start, [pattern]) for pattern in patterns]
        return None if None in numbers else sum(filter(None, numbers))

    async def _pending_for(self, start: int, patterns: Sequence[str]) -> int | None:
        """Return how many events match from a sequence on: what a new consumer would have to deliver."""
        client, stream = self.store.client, self.store.stream
        name = new_id("req").replace("req_", "count-")
        config = {
            "name": name,
            "deliver_policy": "by_start_sequence",
            "opt_start_seq": start,
            "ack_policy": "none",
            "filter_subjects": list(patterns),
            "inactive_threshold": _CONSUMER_S * 1_000_000_000,
            "mem_storage": True,
            "num_replicas": 1,
        }
        answer = await request(client, f"CONSUMER.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})
        if "error" in answer:
            return None  # filters that overlap, or more of them than the server takes
        await client.publish(f"$JS.API.CONSUMER.DELETE.{stream}.{name}", b"")
        return int(answer["num_pending"])
