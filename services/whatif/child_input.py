"""Input of the child process of a what-if: a line with the question, then the events of the window."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from kit.bus.event_store import StoredEvent
from kit.history.event_lines import HistoryEvent, encode_line
from services.whatif.window import HoldChange, RecordedWindow, window_of


@dataclass(frozen=True)
class Question:
    """A window, and with which settings it is replayed."""

    events: Sequence[HistoryEvent]
    #: Events from before the window.
    before: Sequence[HistoryEvent] = ()
    #: Settings with which it was recorded, and those that are to be other ones.
    settings: Mapping[str, Any] = field(default_factory=dict)
    changes: Mapping[str, Any] = field(default_factory=dict)
    holds: Sequence[HoldChange] = ()


def encode_question(question: Question) -> bytes:
    """Return the child's standard input."""
    head = {
        "settings": dict(question.settings),
        "changes": dict(question.changes),
        "holds": [
            {"at": each.at.isoformat(), "drained": each.drained, "paused": sorted(each.paused)}
            for each in question.holds
        ],
        "before": len(question.before),
    }
    lines = (encode_line(event) for event in (*question.before, *question.events))
    return json.dumps(head).encode() + b"\n" + b"".join(lines)


def window_of_input(head: Mapping[str, Any], lines: Sequence[HistoryEvent]) -> RecordedWindow:
    """Return the window of the child's standard input."""
    before = int(head["before"])
    return window_of(
        stored_of(lines[before:]),
        stored_of(lines[:before]),
        recorded_settings=head["settings"],
        holds=[
            HoldChange(datetime.fromisoformat(each["at"]), each["drained"], frozenset(each["paused"]))
            for each in head["holds"]
        ],
    )


def stored_of(lines: Iterable[HistoryEvent]) -> list[StoredEvent]:
    """Return events as a store has them."""
    return [StoredEvent(each.sequence, each.subject, each.body, timestamp=each.timestamp) for each in lines]
