"""Routes for the words of a session: ask about the video, stop a text, read texts and alerts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from contracts.errors import ErrorCode
from contracts.events.base import CURSOR_PATTERN
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from kit.auth.principal import Reader, Writer
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.app_state import from_app_state
from kit.http.path_ids import SessionId
from kit.http.problems import problem_responses
from services.gateway.aggregates.prefer_header import PreferHeader, apply_wait
from services.gateway.sessions.dependencies import SessionPresenterDep, SessionServiceDep
from services.gateway.sessions.schemas import SessionObject
from services.gateway.sessions.words.schemas import NewPrompt, PromptObject, TextPage
from services.gateway.sessions.words.service import SessionWords

router = APIRouter(prefix="/v1/sessions/{session_id}", tags=["sessions"])

_E = ErrorCode

SessionWordsDep = Annotated[SessionWords, from_app_state("session_words")]


@router.post(
    "/prompt",
    status_code=202,
    summary="Ask about the live video",
    responses={
        200: {"model": PromptObject, "description": "The question is answered: with `Prefer: wait=N`, or repeated."},
        **problem_responses(
            _E.SESSION_NOT_FOUND,
            _E.PROMPTS_NOT_SUPPORTED,
            _E.SESSION_ENDED,
            _E.TOO_MANY_PROMPTS,
            _E.ANSWER_SCHEMA_INVALID,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def ask(
    response: Response,
    caller: Writer,
    session_id: SessionId,
    body: NewPrompt,
    *,
    sessions: SessionServiceDep,
    words: SessionWordsDep,
    prefer: PreferHeader = None,
    idempotency_key: IdempotencyHeader = None,
) -> PromptObject:
    """Store a question, which the worker answers at its next chunk by a `session.text` with this `prompt_id`."""
    wait_s = apply_wait(prefer, response)
    key = key_of(caller.tenant, f"POST /v1/sessions/{session_id}/prompt", idempotency_key, body)
    asked = await words.ask(caller.tenant, session_id, body.text, body.answer_schema, key)
    session = await sessions.get(caller.tenant, session_id)
    answer = await words.answer(session, asked, wait_s)
    response.status_code = 202 if answer is None else 200
    request = asked.request
    return PromptObject(
        prompt_id=request.prompt_id,
        session_id=session.id,
        text=request.text,
        answer_schema=request.answer_schema,
        state="waiting" if answer is None else "answered",
        answer=answer,
    )


@router.post(
    "/cancel",
    summary="End the text that is being generated",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.PROMPTS_NOT_SUPPORTED, _E.SESSION_ENDED),
)
async def cancel(
    caller: Writer, session_id: SessionId, presenter: SessionPresenterDep, words: SessionWordsDep
) -> SessionObject:
    """Stop the generation within one token; the session goes on with its next chunk."""
    return await presenter.full(await words.cancel(caller.tenant, session_id))


@router.get(
    "/texts",
    summary="Texts, alerts and questions of a session",
    responses=problem_responses(_E.SESSION_NOT_FOUND, _E.CURSOR_INVALID),
)
async def list_texts(
    caller: Reader,
    session_id: SessionId,
    sessions: SessionServiceDep,
    words: SessionWordsDep,
    *,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[str | None, Query(pattern=CURSOR_PATTERN, description="Of the page before.")] = None,
) -> TextPage:
    """Return what was said, oldest first."""
    return await words.page(await sessions.get(caller.tenant, session_id), cursor, limit)
