"""Index of all dead letters, folded from the streams alone: a count needs no view of any service.

Every source may be read at its own pace: what a record says holds whatever was folded before it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from contracts.audit import AuditRecord
from contracts.commands import DISPATCHER
from contracts.events.base import decode_at
from contracts.events.delivery import WebhookRedeliveryRequested
from kit.bus.dead_letters import parse_dead_letter
from kit.bus.event_store import StoredEvent
from services.gateway.dead_letters.letter import (
    NOTIFIER,
    Kind,
    Letter,
    LetterState,
    delivery_id,
    of_dead_letter,
    of_delivery,
    of_job,
)

_DISCARDED: Final = "discarded"
_REDRIVEN: Final = "redriven"
_FAILED: Final = "redrive_failed"
#: Without any series an alert cannot say that ten minutes ago there were none.
_ALWAYS_COUNTED: Final = ((Kind.JOB.value, DISPATCHER), (Kind.DELIVERY.value, NOTIFIER))
_UNKNOWN_TIME: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Outcome:
    """Newest outcome of an act on a letter."""

    sequence: int
    verb: str
    #: Plan that the act was a part of; clients choose the ids of requests, and may use one twice.
    plan: str | None
    #: Fault that the act was about; None if the record does not say.
    fault: int | None
    #: Code of the error, if it failed.
    error_code: str | None


@dataclass(frozen=True)
class _Range:
    """Request to deliver a range of events again."""

    record: int
    since: int
    until: int | None

    def covers(self, sequence: int) -> bool:
        return self.since < sequence and (self.until is None or sequence <= self.until)


@dataclass
class DeadLetterIndex:
    """Letters by id, and what has become of them.

    A million jobs may leave 100,000s of letters, and the metrics count the open ones every few seconds: what is asked
    often looks at no letter.
    """

    #: Of each kind by id, in the order of their faults.
    _letters: dict[Kind, dict[str, Letter]] = field(default_factory=lambda: {kind: {} for kind in Kind})
    _open: set[str] = field(default_factory=set)
    #: Open letters by kind and service.
    _counts: Counter[tuple[str, str]] = field(default_factory=Counter)
    _outcomes: dict[str, Outcome] = field(default_factory=dict)
    #: Re-drives of a letter that failed.
    _failed_acts: Counter[str] = field(default_factory=Counter)
    #: Id of the newest intent on a letter, and the plan that it was a part of.
    _begun: dict[str, tuple[str, str | None]] = field(default_factory=dict)
    #: Sequence of the newest order to retry a job.
    _retried: dict[str, int] = field(default_factory=dict)
    #: Record of the newest order to deliver a single event again, by endpoint and sequence: a plan orders thousands of
    #: them, so no question may look at each.
    _redelivered: dict[tuple[str, int], int] = field(default_factory=dict)
    _redelivered_ranges: dict[str, list[_Range]] = field(default_factory=dict)

    # ---- fold

    def on_dead_letter(self, stored: StoredEvent) -> None:
        """Add an event's letter; ``stored`` was read with its headers."""
        found = parse_dead_letter(stored)
        self._add(of_dead_letter(found, found.time or _UNKNOWN_TIME))

    def on_failed_delivery(self, stored: StoredEvent) -> None:
        """Add a delivery that was given up."""
        if letter := of_delivery(stored):
            self._add(letter)

    def on_redelivery(self, stored: StoredEvent) -> None:
        """Apply an order to deliver again."""
        data = decode_at(stored.subject, stored.body).parsed()
        if not isinstance(data, WebhookRedeliveryRequested):
            return
        if data.sequences is None:
            order = _Range(stored.sequence, data.since_sequence or 0, data.until_sequence)
            self._redelivered_ranges.setdefault(data.endpoint_id, []).append(order)
            # Such an order is rare, an act of somebody.
            for letter in self._letters[Kind.DELIVERY].values():
                if letter.details["endpoint_id"] == data.endpoint_id and order.covers(letter.details["sequence"]):
                    self._count(letter)
            return
        for sequence in data.sequences:
            place = data.endpoint_id, sequence
            self._redelivered[place] = max(stored.sequence, self._redelivered.get(place, 0))
            self._count(self.get(delivery_id(*place)))

    def on_failed_job(self, stored: StoredEvent) -> None:
        """Add a failed job."""
        if letter := of_job(stored):
            self._add(letter)

    def on_retried_job(self, stored: StoredEvent) -> None:
        """Apply an order to retry a job."""
        job_id = stored.subject.split(".")[4]
        self._retried[job_id] = max(stored.sequence, self._retried.get(job_id, 0))
        self._count(self.get(job_id))

    def on_record(self, record: AuditRecord) -> None:
        """Apply the record of an act."""
        if record.data.phase == "intent":
            plan = record.data.details.get("plan")
            self._begun[record.subject_id] = record.id, plan if isinstance(plan, str) else None
            return
        if record.verb == _FAILED:
            self._failed_acts[record.subject_id] += 1
        intent, plan = self._begun.get(record.subject_id, ("", None))
        fault, error = record.data.details.get("fault"), record.data.details.get("error")
        self._outcomes[record.subject_id] = Outcome(
            record.sequence,
            record.verb,
            plan if intent == record.data.intent else None,
            fault if isinstance(fault, int) else None,
            str(error["code"]) if isinstance(error, dict) else None,
        )
        self._count(self.get(record.subject_id))

    def _add(self, letter: Letter) -> None:
        letters = self._letters[letter.kind]
        known = letters.get(letter.id)
        if known is not None:
            if known.fault > letter.fault:
                return
            self._remove(known)
        letters[letter.id] = letter
        self._count(letter)

    def _remove(self, letter: Letter) -> None:
        del self._letters[letter.kind][letter.id]
        self._set_open(letter, is_open=False)

    def _count(self, letter: Letter | None) -> None:
        """Count a letter as what it is now."""
        if letter is not None:
            self._set_open(letter, is_open=self.state(letter) is LetterState.OPEN)

    def _set_open(self, letter: Letter, *, is_open: bool) -> None:
        place = letter.kind.value, letter.service
        if is_open and letter.id not in self._open:
            self._open.add(letter.id)
            self._counts[place] += 1
        elif not is_open and letter.id in self._open:
            self._open.remove(letter.id)
            self._counts[place] -= 1

    def prune(self, kind: Kind, first: int) -> None:
        """Remove the letters whose record is older than the first of its stream."""
        # A source is read in the order of its stream, so the oldest fault is the first.
        old = list(itertools.takewhile(lambda letter: letter.fault < first, self._letters[kind].values()))
        for letter in old:
            self._remove(letter)

    # ---- questions

    def get(self, letter_id: str) -> Letter | None:
        """Return a letter."""
        found = (letters.get(letter_id) for letters in self._letters.values())
        return next((letter for letter in found if letter is not None), None)

    def all(self) -> Iterator[Letter]:
        """Yield every letter, whatever has become of it."""
        for letters in self._letters.values():
            yield from letters.values()

    def state(self, letter: Letter) -> LetterState:
        """Return what has become of a letter."""
        outcome = self.outcome(letter)
        if outcome is not None and outcome.verb == _DISCARDED:
            return LetterState.DISCARDED
        if letter.kind is Kind.EVENT:
            redriven = outcome is not None and outcome.verb == _REDRIVEN
        elif letter.kind is Kind.JOB:
            redriven = self._retried.get(letter.id, 0) > letter.fault
        else:
            endpoint_id, sequence = letter.details["endpoint_id"], letter.details["sequence"]
            redriven = self._redelivered.get((endpoint_id, sequence), 0) > letter.fault or any(
                order.record > letter.fault and order.covers(sequence)
                for order in self._redelivered_ranges.get(endpoint_id, [])
            )
        return LetterState.REDRIVEN if redriven else LetterState.OPEN

    def outcome(self, letter: Letter) -> Outcome | None:
        """Return the newest outcome of an act on this fault of a letter."""
        outcome = self._outcomes.get(letter.id)
        if outcome is None or outcome.fault not in (None, letter.fault):
            return None
        return outcome

    def attempt(self, letter: Letter) -> int:
        """Return how often it was tried; a job and a delivery count for themselves."""
        return letter.attempt + (self._failed_acts[letter.id] if letter.kind is Kind.EVENT else 0)

    def begun_by(self, letter_id: str) -> str | None:
        """Return the plan that the newest intent on a letter was a part of."""
        return self._begun.get(letter_id, ("", None))[1]

    def counts(self) -> Counter[tuple[str, str]]:
        """Return the number of open letters by kind and service; zero where a service could have some and has none."""
        counted = Counter(dict.fromkeys(_ALWAYS_COUNTED, 0))
        counted.update(self._counts)
        return counted
