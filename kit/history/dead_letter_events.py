"""Events of dead letters. A letter that is too large, or one of very many, is stored without its event and names it."""

from __future__ import annotations

import logging

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.streams import EVENTS
from kit.bus.dead_letters import DeadLetter
from kit.bus.event_store import EventStore
from kit.history.history import History

log = logging.getLogger(__name__)


class DeadLetterEvents:
    """The events that letters have, or that their streams or the archive still have."""

    def __init__(self, store: EventStore, history: History) -> None:
        """Read by the connection of ``store``; ``history`` is that of the stream of events."""
        self._client, self._history = store.client, history

    async def body_of(self, letter: DeadLetter) -> bytes | None:
        """Return the event of a letter; None if it is stored nowhere any more.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if letter.body:
            return letter.body
        if not letter.sequence or not letter.subject:
            return None
        # After a restore another event may have its sequence: hardly of the same aggregate, and with the same verb.
        found, _ = await EventStore(self._client, letter.stream).batch(letter.sequence - 1, letter.subject, size=1)
        if found and found[0].sequence == letter.sequence:
            return found[0].body
        return await self._archived(letter) if letter.stream == EVENTS.name else None

    async def _archived(self, letter: DeadLetter) -> bytes | None:
        sequence = letter.sequence
        try:
            event = await self._history.first(sequence - 1, sequence, (letter.subject,))
            return event.body if event else None
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            log.warning("the event of dead letter %d cannot be read: %s", letter.number, error)
        return None
