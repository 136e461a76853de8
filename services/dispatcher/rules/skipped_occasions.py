"""Occasions that a rule has skipped: read from the stream once, then what was added to it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from typing import Final

from contracts.events.base import decode
from contracts.rule import Rule
from kit.bus.event_store import EventStore

#: Names that are kept in memory of one rule, and rules of which they are kept.
_MAXIMUM_NAMES: Final = 20_000
_MAXIMUM_RULES: Final = 200


@dataclass
class _Known:
    """Names of the occasions whose skips are stored in ``(after, read_to]``."""

    after: int
    read_to: int
    names: set[str] = field(default_factory=set)


class SkippedOccasions:
    """Index of the stream's ``rule.skipped``, by rule.

    A rule past its daily limit skips every upload: each check reads the newest skips alone, not those of the whole day.
    """

    def __init__(self, store: EventStore) -> None:
        """Read the stream EVENTS by ``store``."""
        self._store = store
        self._known: dict[str, _Known] = {}

    async def contains(self, rule: Rule, name: str, after: int) -> bool:
        """Return whether a rule has skipped the occasion with this name, in an event after a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        known = self._known.pop(rule.id, None)
        if known is None or after < known.after or len(known.names) > _MAXIMUM_NAMES:
            known = _Known(after, after)
        self._known[rule.id] = known  # the one that was used last is dropped last
        if len(self._known) > _MAXIMUM_RULES:
            del self._known[next(iter(self._known))]
        subject = f"saccade.evt.{rule.tenant}.rule.{rule.id}.skipped"
        async for stored in self._store.history(known.read_to, subject):
            with contextlib.suppress(ValueError):  # an event that cannot be read says nothing about an occasion
                known.names.add(decode(stored.body).id)
            known.read_to = max(known.read_to, stored.sequence)
        return skip_id(rule, name) in known.names


def skip_id(rule: Rule, name: str) -> str:
    """Return the id of the event by which a rule skips an occasion."""
    return f"{rule.id}.skipped.{name}"
