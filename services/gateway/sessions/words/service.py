"""Words of sessions: ask about the video, stop a text, read texts and alerts, follow them in this process."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import DURABLE, decode_at, encode, subject_of
from contracts.events.session import SessionPromptRequested, SessionText
from contracts.ids import new_id
from contracts.session import Session, request_prompt
from contracts.streams import aggregate
from kit.bus.event_store import Conflict, EventStore
from kit.bus.idempotency import Idempotency, IdempotencyKey
from kit.bus.tail import EventTail
from kit.history.history import History
from modal_workers import catalog
from modal_workers.vision_stream.answer_schema import check_answer_schema
from services.gateway.aggregates.aggregate_events import SOURCE, VIEW_TIMEOUT_S
from services.gateway.aggregates.completion_waiters import CompletionWaiters
from services.gateway.sessions.service import SessionService
from services.gateway.sessions.session_readers import SessionReaders
from services.gateway.sessions.words.schemas import TextPage
from services.gateway.sessions.words.text_page import read_text_page
from services.gateway.sessions.words.word_subscription import WordSubscription

#: Attempts to store a question between two events of the worker.
_CONFLICT_RETRIES: Final = 50


@dataclass(frozen=True)
class AskedPrompt:
    """A stored question, and the sequence of its event."""

    request: SessionPromptRequested
    sequence: int


class SessionWords:
    """Operations on the words of sessions. All are tenant-scoped."""

    def __init__(
        self,
        *,
        sessions: SessionService,
        store: EventStore,
        tail: EventTail,
        idempotency: Idempotency,
        waiters: CompletionWaiters,
        session_readers: SessionReaders,
        history: History,
    ) -> None:
        """``session_readers`` gets the events of each session; ``history`` has those of old sessions."""
        self._history = history
        self._sessions, self._store, self._tail = sessions, store, tail
        self._idempotency, self._waiters, self._session_readers = idempotency, waiters, session_readers

    async def ask(
        self,
        tenant: str,
        session_id: str,
        text: str,
        answer_schema: dict[str, Any] | None = None,
        key: IdempotencyKey | None = None,
    ) -> AskedPrompt:
        """Store a question about the video of a session; a ``session.text`` with its id is the answer.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, PROMPTS_NOT_SUPPORTED, SESSION_ENDED, TOO_MANY_PROMPTS,
                ANSWER_SCHEMA_INVALID, IDEMPOTENCY_KEY_REUSED; BUS_UNAVAILABLE.
        """
        session = await self._sessions.get(tenant, session_id)
        check_takes_prompts(session)
        known_id = await self._idempotency.recall(key) if key else None
        if known_id and (asked := await self._find(session, known_id)):
            return asked
        if answer_schema is not None:
            check_answer_schema(answer_schema)
        by = f"tenant:{tenant}"
        request_prompt(session, text, by, answer_schema)  # refused before a key stands for it
        prompt_id = known_id or new_id("prm")
        if key and not known_id:
            prompt_id = await self._idempotency.claim(key, prompt_id)
        for _ in range(_CONFLICT_RETRIES):
            # Not folded from the newest event of each kind: every question that waits counts.
            session = await self._sessions.read(tenant, session_id)
            request = request_prompt(session, text, by, answer_schema).model_copy(update={"prompt_id": prompt_id})
            event_id = f"{session_id}.prompt_requested.{prompt_id}"
            message = encode(request, tenant=tenant, subject_id=session_id, source=SOURCE, event_id=event_id)
            subjects = aggregate(tenant, "session", session_id)
            try:
                sequence = await self._store.publish(message, after=session.sequence, among=subjects)
            except Conflict:
                if key and (asked := await self._find(session, prompt_id)):
                    return asked
                continue
            await self._tail.wait_for(sequence, VIEW_TIMEOUT_S)
            return AskedPrompt(request, sequence)
        raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "Too many other requests changed the session at the same time.")

    async def answer(self, session: Session, asked: AskedPrompt, wait_s: float = 0) -> SessionText | None:
        """Return the answer to a question; None if there is none after ``wait_s``, or when the session has ended.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        prompt_id = asked.request.prompt_id
        if wait_s and self._waits(session, prompt_id):
            await self._waiters.wait(prompt_id, wait_s)
        if self._waits(session, prompt_id):
            return None
        newest = self._sessions.known(session).text
        if newest is not None and newest.prompt_id == prompt_id:
            return newest
        subject = subject_of(DURABLE, session.tenant, "session", session.id, "text")
        async for stored in self._store.history(asked.sequence, subject):
            try:
                data = decode_at(stored.subject, stored.body).parsed()
            except ValueError:  # a worker's broken event is a dead letter, not the end of its session
                continue
            if isinstance(data, SessionText) and data.prompt_id == prompt_id:
                return data
        return None

    async def cancel(self, tenant: str, session_id: str) -> Session:
        """Request durably that the text that is being generated ends; the session goes on with the next chunk.

        Raises:
            SaccadeError: SESSION_NOT_FOUND, PROMPTS_NOT_SUPPORTED, SESSION_ENDED; BUS_UNAVAILABLE.
        """
        check_takes_prompts(await self._sessions.get(tenant, session_id))
        return await self._sessions.cancel_text(tenant, session_id)

    async def page(self, session: Session, after: str | None, limit: int) -> TextPage:
        """Return the first texts, alerts and questions of a session after a cursor, oldest first.

        Raises:
            SaccadeError: CURSOR_INVALID; BUS_UNAVAILABLE.
        """
        return await read_text_page(self._history, self._tail.lineage, session, after, limit)

    @contextmanager
    def subscribe(self, session: Session) -> Iterator[WordSubscription]:
        """Receive the words of a session from now on, and its end even if that was before."""
        subscription = WordSubscription()
        known = self._sessions.known(session)
        subscription.end = known.stopped or known.failed
        self._session_readers.add(session.id, subscription)
        try:
            yield subscription
        finally:
            self._session_readers.remove(session.id, subscription)

    def _waits(self, session: Session, prompt_id: str) -> bool:
        known = self._sessions.known(session)
        return not known.state.ended and any(prompt.prompt_id == prompt_id for prompt in known.prompts)

    async def _find(self, session: Session, prompt_id: str) -> AskedPrompt | None:
        """Return a question of a session that is stored already."""
        subject = subject_of(DURABLE, session.tenant, "session", session.id, "prompt_requested")
        async for stored in self._store.history(session.first_sequence, subject):
            data = decode_at(stored.subject, stored.body).parsed()
            if isinstance(data, SessionPromptRequested) and data.prompt_id == prompt_id:
                await self._tail.wait_for(stored.sequence, VIEW_TIMEOUT_S)
                return AskedPrompt(data, stored.sequence)
            await asyncio.sleep(0)
        return None


def check_takes_prompts(session: Session) -> None:
    """Check that the workload of a session describes video.

    Raises:
        SaccadeError: PROMPTS_NOT_SUPPORTED.
    """
    workload = catalog.workloads().get(session.opened.workload)
    if workload is None or not workload.takes_prompts:
        raise SaccadeError(
            ErrorCode.PROMPTS_NOT_SUPPORTED, f"{session.opened.workload} takes frames, but no questions about them."
        )
