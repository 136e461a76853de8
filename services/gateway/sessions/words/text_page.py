"""Page of the texts, alerts and questions of a session, read from its durable events."""

from __future__ import annotations

import logging
from contextlib import aclosing
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor, decode_at
from contracts.events.session import SessionAlert, SessionPromptRequested, SessionText
from contracts.session import Session
from contracts.streams import aggregate
from kit.bus.lineage import Lineage
from kit.history.history import History, HistoryEvent
from services.gateway.sessions.words.schemas import AlertItem, PromptItem, TextItem, TextPage

log = logging.getLogger(__name__)

_VERBS: Final = frozenset({"text", "alert", "prompt_requested"})
#: Events read at once.
_BATCH: Final = 200
#: Sequence that no stream reaches.
_END: Final = 2**63 - 1

Item = TextItem | AlertItem | PromptItem


async def read_text_page(
    history: History, lineage: Lineage, session: Session, after: str | None, limit: int
) -> TextPage:  # fmt: skip
    """Return the first ``limit`` items after a cursor, oldest first.

    Raises:
        SaccadeError: CURSOR_INVALID; BUS_UNAVAILABLE; STORAGE_UNAVAILABLE, SEGMENT_DAMAGED, of the archive.
    """
    position = _position(lineage, session, after)
    if position + 1 < await history.first_in_stream():
        position = max(position, (await history.bounds()).first - 1)  # older ones are nowhere any more
    subjects = (aggregate(session.tenant, "session", session.id),)
    # Of an ended session nothing is looked for behind its last event.
    until = session.sequence if session.state.ended else _END
    items: list[Item] = []
    more = False
    async with aclosing(history.read(position, until, subjects, batch_events=lambda: _BATCH)) as events:
        async for stored in events:
            if more := len(items) == limit:
                break
            if stored.subject.rpartition(".")[2] in _VERBS and (item := _item(stored)):
                items.append(item)
            position = stored.sequence
    cursor = str(Cursor(lineage.current.id, position))
    return TextPage(data=items, next_cursor=cursor if more else None, cursor=cursor)


def _position(lineage: Lineage, session: Session, after: str | None) -> int:
    if not after:
        return session.first_sequence - 1
    try:
        cursor = Cursor.parse(after)
    except ValueError:
        raise SaccadeError(ErrorCode.CURSOR_INVALID) from None
    position = lineage.position_of(cursor)
    if position is None:
        raise SaccadeError(
            ErrorCode.CURSOR_INVALID,
            "What the cursor stands after is no longer stored: the stream was deleted, or restored to an older point.",
            hint="Leave it out to read from the beginning.",
        )
    return max(position, session.first_sequence - 1)


def _item(stored: HistoryEvent) -> Item | None:
    try:
        envelope = decode_at(stored.subject, stored.body)
        data = envelope.parsed()
    except ValueError:
        log.warning("invalid event %d of a session", stored.sequence)
        return None
    match data:
        case SessionText():
            return TextItem(time=envelope.time, data=data)
        case SessionAlert():
            return AlertItem(time=envelope.time, data=data)
        case SessionPromptRequested():
            return PromptItem(time=envelope.time, data=data)
    return None
