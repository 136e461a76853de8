"""Routes of replays: plan, start, pause, resume, cancel, read, follow; and the stream of those into sse or a file."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PAGE_DEFAULT, PAGE_MAX
from contracts.replay import Replay, ReplayState
from kit.auth.api_keys import Principal
from kit.auth.principal import ACCEPTS_KEY, ACCEPTS_TICKET, ReaderOrOperator, WriterOrOperator, tenants_of
from kit.auth.revocation import until_revoked
from kit.bus.idempotency import IdempotencyHeader, key_of
from kit.http.path_ids import ReplayId
from kit.http.problems import problem_responses, request_id_of
from services.notifier.replays.progress import ReplayProgress
from services.notifier.replays.reader import (
    STREAM_ID_PATTERN,
    ReplayReader,
    ReplayReaders,
    StreamOfFrames,
    position_after,
)
from services.notifier.replays.replay_service import ReplayCaller, ReplayService
from services.notifier.replays.schemas import (
    NewReplay,
    ReplayChange,
    ReplayObject,
    ReplayPage,
    ReplayStart,
    replay_object,
)
from services.notifier.streams.sse import HEARTBEAT, frame, stream_head
from services.notifier.streams.ticket_routes import StreamCaller

router = APIRouter(prefix="/v1/replays", tags=["replays"])

_E = ErrorCode
_PAGE: Final = "replays"
_PAGE_PATTERN: Final = f"^{_PAGE}-(0|[1-9][0-9]{{0,17}})$"
_PROGRESS_S: Final = 0.5
_TARGET_ERRORS: Final = (
    _E.WEBHOOKS_NOT_CONFIGURED,
    _E.SANDBOX_NOT_CONFIGURED,
    _E.WEBHOOK_NOT_FOUND,
    _E.WEBHOOK_DISABLED,
)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events."},
    204: {"description": "The client has the last frame."},
}


async def _service(request: Request) -> ReplayService:
    service: ReplayService = request.app.state.replay_service
    await service.records.wait_until_read()
    return service


async def _readers(request: Request) -> ReplayReaders:
    readers: ReplayReaders = request.app.state.replay_readers
    return readers


#: The application keeps ``replay_service`` and ``replay_readers`` in its state.
Service = Annotated[ReplayService, Depends(_service)]
Readers = Annotated[ReplayReaders, Depends(_readers)]


def _caller(request: Request, principal: Principal) -> ReplayCaller:
    authenticated: bool = request.app.state.authenticator.authenticated
    return ReplayCaller(
        tenant=principal.tenant,
        by=principal.key_id,
        by_verified=authenticated,
        operates="operate" in principal.scopes,
        across_tenants=principal.across_tenants,
        request_id=request_id_of(request.scope),
    )


async def _changing(request: Request, principal: WriterOrOperator) -> ReplayCaller:
    return _caller(request, principal)


async def _reading(request: Request, principal: ReaderOrOperator) -> ReplayCaller:
    return _caller(request, principal)


StreamPrincipal = Annotated[Principal, Depends(StreamCaller("read", "operate"))]


async def _streaming(request: Request, principal: StreamPrincipal) -> ReplayCaller:
    return _caller(request, principal)


async def _revoked(request: Request, principal: StreamPrincipal) -> Callable[[], Awaitable[None]]:
    return partial(until_revoked, request.app.state.authenticator, principal)


Changing = Annotated[ReplayCaller, Depends(_changing)]
Reading = Annotated[ReplayCaller, Depends(_reading)]
Streaming = Annotated[ReplayCaller, Depends(_streaming)]
#: Returns when the caller's key is no longer valid.
Revoked = Annotated[Callable[[], Awaitable[None]], Depends(_revoked)]


def _object(service: ReplayService, replay: Replay) -> ReplayObject:
    return replay_object(replay, service.board.newest(replay.id), service.now())


def _selected_tenants(caller: ReplayCaller, principal: Principal, asked: list[str]) -> tuple[str, ...]:
    """Return the tenants whose events are asked for: by default the caller's own.

    Raises:
        SaccadeError: FORBIDDEN; INVALID_PARAMETER, if an operator of all tenants names none.
    """
    for tenant in asked:
        tenants_of(principal, tenant)
    if asked:
        return tuple(dict.fromkeys(asked))
    if caller.tenant.startswith("_"):
        message = "This key is of no tenant: name those whose events are replayed."
        errors = [{"detail": message, "pointer": "#/tenants"}]
        raise SaccadeError(_E.INVALID_PARAMETER, message, hint='Send tenants, ["*"] for all.', errors=errors)
    return (caller.tenant,)


@router.post(
    "",
    status_code=201,
    summary="Plan a replay",
    responses={
        201: {"headers": {"Location": {"schema": {"type": "string"}}}},
        **problem_responses(
            *_TARGET_ERRORS,
            _E.REPLAY_COUNT_DIFFERS,
            _E.TOO_MANY_REPLAYS,
            _E.REPLAY_STATE_CONFLICT,
            _E.IDEMPOTENCY_KEY_INVALID,
            _E.IDEMPOTENCY_KEY_REUSED,
        ),
    },
)
async def plan_replay(
    *,
    response: Response,
    caller: Changing,
    principal: WriterOrOperator,
    service: Service,
    body: NewReplay,
    idempotency_key: IdempotencyHeader = None,
) -> ReplayObject:
    """Count what a replay would send, and keep the window: nothing is sent before it is started.

    With `start` and `expected_count` it starts at once if it has so many events. A plan ends after an hour.
    """
    tenants = _selected_tenants(caller, principal, body.tenants)
    key = key_of(caller.tenant, "POST /v1/replays", idempotency_key, body)
    try:
        wanted = body.request(tenants)
    except ValueError as error:
        errors = [{"detail": str(error), "pointer": "#/into"}]
        hint = "Write sse, file, webhook:whk_… or sandbox:NAME."
        raise SaccadeError(_E.INVALID_PARAMETER, f"into: {error}.", hint=hint, errors=errors) from None
    replay = await service.plan(caller, wanted, body.why, key)
    if body.start and body.expected_count is not None and replay.state is ReplayState.PLANNED:
        replay = await service.start(caller, replay.id, body.expected_count, body.why)
    response.headers["Location"] = f"/v1/replays/{replay.id}"
    return _object(service, replay)


@router.get("", summary="List replays, newest first", responses=problem_responses(_E.CURSOR_INVALID))
async def list_replays(
    caller: Reading,
    principal: ReaderOrOperator,
    service: Service,
    *,
    state: ReplayState | None = None,
    tenant: Annotated[str | None, Query(description="For operators: those of one tenant.", max_length=64)] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT,
    cursor: Annotated[
        str | None,
        Query(description="`next_cursor` of the previous page.", json_schema_extra={"pattern": _PAGE_PATTERN}),
    ] = None,
) -> ReplayPage:
    """Return the replays of the last 90 days."""
    if cursor is not None and not re.fullmatch(_PAGE_PATTERN, cursor):
        raise SaccadeError(_E.CURSOR_INVALID)
    before = int(cursor.rpartition("-")[2]) if cursor is not None else None
    found, following = service.page(caller, tenants_of(principal, tenant), state, before, limit)
    next_cursor = f"{_PAGE}-{following}" if following is not None else None
    return ReplayPage(data=[_object(service, replay) for replay in found], next_cursor=next_cursor)


@router.get("/{replay_id}", summary="Read a replay", responses=problem_responses(_E.REPLAY_NOT_FOUND))
async def read_replay(caller: Reading, service: Service, replay_id: ReplayId) -> ReplayObject:
    """Return a replay with its plan and its progress."""
    return _object(service, service.get(caller, replay_id))


@router.post(
    "/{replay_id}/start",
    summary="Start a planned replay",
    responses=problem_responses(
        _E.REPLAY_NOT_FOUND,
        _E.REPLAY_COUNT_DIFFERS,
        _E.REPLAY_STATE_CONFLICT,
        _E.TOO_MANY_REPLAYS,
        *_TARGET_ERRORS,
    ),
)
async def start_replay(caller: Changing, service: Service, replay_id: ReplayId, body: ReplayStart) -> ReplayObject:
    """Start it, if it has as many events as you expect."""
    return _object(service, await service.start(caller, replay_id, body.expected_count, body.why))


_CHANGES: Final = problem_responses(_E.REPLAY_NOT_FOUND, _E.REPLAY_STATE_CONFLICT)


@router.post("/{replay_id}/pause", summary="Pause a replay", responses=_CHANGES)
async def pause_replay(
    caller: Changing, service: Service, replay_id: ReplayId, body: ReplayChange | None = None
) -> ReplayObject:
    """Send nothing more until it is resumed."""
    return _object(service, await service.pause(caller, replay_id, body.why if body else ""))


@router.post("/{replay_id}/resume", summary="Resume a replay", responses=_CHANGES)
async def resume_replay(
    caller: Changing, service: Service, replay_id: ReplayId, body: ReplayChange | None = None
) -> ReplayObject:
    """Go on after the last event that was sent; its schedule moves back by the pause."""
    return _object(service, await service.resume(caller, replay_id, body.why if body else ""))


@router.post("/{replay_id}/cancel", summary="Cancel a replay", responses=_CHANGES)
async def cancel_replay(
    caller: Changing, service: Service, replay_id: ReplayId, body: ReplayChange | None = None
) -> ReplayObject:
    """End it before its last event."""
    return _object(service, await service.cancel(caller, replay_id, body.why if body else ""))


LastEvent = Annotated[
    str | None,
    Header(alias="Last-Event-ID", description="Id of the last frame that you have.", max_length=200),
]
LastEventQuery = Annotated[
    str | None, Query(description="Last-Event-ID, for clients that send no headers.", max_length=200)
]


@router.get(
    "/{replay_id}/events",
    response_class=Response,
    summary="Follow a replay's progress",
    responses=problem_responses(_E.REPLAY_NOT_FOUND) | _STREAM,
    dependencies=[ACCEPTS_KEY, ACCEPTS_TICKET],
)
async def replay_events(
    *,
    caller: Streaming,
    revoked: Revoked,
    service: Service,
    readers: Readers,
    replay_id: ReplayId,
    last_event: LastEvent = None,
    last_event_id: LastEventQuery = None,
) -> Response:
    """Stream the replay as `replay.progressed` whenever it changes; the last frame is as `replay.completed`."""
    replay = service.get(caller, replay_id)
    if (last_event or last_event_id) == f"{replay.id}.end":
        return Response(status_code=204)

    async def write_all(write: Callable[[bytes], Awaitable[None]]) -> None:
        await write(stream_head())
        shown: tuple[Replay, ReplayState, ReplayProgress | None] | None = None
        sent = b""
        written = asyncio.get_running_loop().time()
        while True:
            followed = service.get(caller, replay_id)
            state = followed.state_at(service.now())
            current = (followed, state, service.board.newest(replay_id))
            # Compared before it is written as JSON, which takes a hundred times as long.
            body = sent if current == shown else _object(service, followed).model_dump_json().encode()
            shown, now = current, asyncio.get_running_loop().time()
            if state.ended:
                await write(frame(f"replay.{state}", body, f"{replay_id}.end"))
                return
            if body != sent:
                await write(frame("replay.progressed", body))
                sent, written = body, now
            elif now - written >= readers.heartbeat_s:
                await write(HEARTBEAT)
                written = now
            await service.records.changed(_PROGRESS_S)

    return StreamOfFrames(readers, caller.tenant, write_all, revoked)


@router.get(
    "/{replay_id}/stream",
    response_class=Response,
    summary="Receive a replay into sse or a file",
    responses=problem_responses(_E.REPLAY_NOT_FOUND, _E.REPLAY_STATE_CONFLICT, _E.INVALID_PARAMETER) | _STREAM,
    dependencies=[ACCEPTS_KEY, ACCEPTS_TICKET],
)
async def replay_stream(
    *,
    caller: Streaming,
    revoked: Revoked,
    service: Service,
    readers: Readers,
    replay_id: ReplayId,
    last_event: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Id of the last frame that you have.",
            json_schema_extra={"pattern": STREAM_ID_PATTERN},
        ),
    ] = None,
    last_event_id: LastEventQuery = None,
) -> Response:
    """Stream the events of a replay into `sse` or `file` at its pace; a planned one waits for its start.

    Between `replay.opened` and `replay.closed` each frame is an event with an id of this replay, which is no cursor.
    Each client is paced on its own, from its own id.
    """
    replay = service.get(caller, replay_id)
    if replay.plan.into.kind not in ("sse", "file"):
        message = f"This replay goes into {replay.plan.into}: it has no stream."
        raise SaccadeError(_E.REPLAY_STATE_CONFLICT, message, hint="Follow its progress at /v1/replays/{id}/events.")
    after = position_after(replay, last_event or last_event_id)
    if after is None:
        return Response(status_code=204)
    return StreamOfFrames(readers, caller.tenant, ReplayReader(readers, replay, after).write_all, revoked)
