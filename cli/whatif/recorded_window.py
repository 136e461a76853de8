"""Window of a what-if as it is recorded: its events, those before it that its jobs need, settings, orders."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from nats.aio.client import Client

from cli.failure import Failure
from cli.history.window import window_of
from contracts.audit import decode_record
from contracts.streams import DISPATCHER_LEASE, EVENTS, LEASES, OPS
from kit.bus.event_store import EventStore
from kit.bus.lineage import position_of_stream
from kit.history.event_lines import HistoryEvent
from kit.history.history import History
from services.dispatcher.scheduling.holds import DRAIN_RECORDS, WORKLOAD_RECORDS, fold_holds
from services.whatif.child_input import Question
from services.whatif.window import HoldChange

#: What decides about jobs; of rules, the jobs that they submit.
_SUBJECTS: Final = ("saccade.evt.*.job.>", "saccade.evt.*.budget.>")
_ENDS: Final = frozenset({"job.succeeded", "job.failed", "job.cancelled"})


async def read_question(
    client: Client, since: str | None, until: str | None, known: Mapping[str, Any], wanted: Mapping[str, Any]
) -> Question:
    """Read a window of the running system.

    Raises:
        Failure: the window is empty.
        SaccadeError: BUS_UNAVAILABLE, HISTORY_EXPIRED.
    """
    history = History(EventStore(client, EVENTS.name))
    window = await window_of(history, await position_of_stream(client, EVENTS.name), since, until, None)
    events = [event async for event in history.read(window.after, window.until, _SUBJECTS)]
    if not events:
        raise Failure("No event of a job is in this window.", code="window_empty", hint="Choose a longer one.")
    first = (await history.bounds()).first - 1
    before = await _before(history, first, window.after, events)
    settings = {**await _settings(client), **known}
    return Question(events, before, settings, wanted, await _holds(client))


def question_of_file(events: Sequence[HistoryEvent], known: Mapping[str, Any], wanted: Mapping[str, Any]) -> Question:
    """Return the question about a file: nothing is known from before it, nor of its settings but what is given.

    Raises:
        Failure: it has no event of a job.
    """
    chosen = [event for event in events if event.type.startswith(("job.", "budget."))]
    if not chosen:
        raise Failure("No event of a job is in this file.", code="window_empty", hint="Export a longer window.")
    starts = (json.loads(event.body)["data"] for event in chosen if event.type == "job.starting")
    executors = {data["executor"] for data in starts}
    return Question(chosen, (), {"executor": "modal" if "modal" in executors else "local", **known}, wanted)


async def _before(history: History, first: int, until: int, events: Sequence[HistoryEvent]) -> list[HistoryEvent]:
    """Return the whole stories of the window's jobs from before it, all that was spent in its month, and budgets."""
    in_window = {event.subject_id for event in events}
    month = (events[0].time.year, events[0].time.month)
    unfinished: dict[str, bool] = {}
    kept: list[HistoryEvent] = []
    async for event in history.read(first, until, _SUBJECTS):
        unfinished[event.subject_id] = event.type not in _ENDS
        kept.append(event)
    recent = {event.subject_id for event in kept if (event.time.year, event.time.month) == month}
    return [
        event
        for event in kept
        if event.type.startswith("budget.")
        or unfinished[event.subject_id]
        or event.subject_id in in_window
        or event.subject_id in recent
    ]


async def _settings(client: Client) -> dict[str, Any]:
    """Return the settings of the dispatcher that leads, or led last; empty if none tells them.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    for stored in await EventStore(client, LEASES.name).load(DISPATCHER_LEASE):
        told = json.loads(stored.body or b"{}").get("settings")
        if isinstance(told, dict):
            return told
    return {}


async def _holds(client: Client) -> list[HoldChange]:
    """Return when operators held work back.

    Raises:
        SaccadeError: BUS_UNAVAILABLE.
    """
    store = EventStore(client, OPS.name)
    records = [
        decode_record(stored.sequence, stored.subject, stored.body)
        for subject in (DRAIN_RECORDS, WORKLOAD_RECORDS)
        async for stored in store.history(0, subject)
    ]
    records.sort(key=lambda each: each.sequence)
    changes: list[HoldChange] = []
    for number, record in enumerate(records, start=1):
        holds = fold_holds(records[:number])
        at: datetime = record.time
        changes.append(HoldChange(at, holds.drained is not None, frozenset(holds.paused)))
    return changes
