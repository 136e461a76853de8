"""``GET /v1/jobs/{id}/events``, ``/v1/sessions/{id}/events`` and ``/v1/events``: server-sent events.

Whoever may be a browser's EventSource, and could succeed later, gets 200 or 204 and nothing else: any other status
ends an EventSource for ever. What can never succeed (no such job, no valid key) is an ordinary problem.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from starlette.types import Receive, Scope, Send

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.ids import Prefix, is_id, is_job_id
from kit.auth.api_keys import Principal
from kit.http.problems import problem_responses
from services.notifier.metrics import Metrics
from services.notifier.streams.connection import TAKE_OVER
from services.notifier.streams.hub import Hub
from services.notifier.streams.replay import Plan, Replay
from services.notifier.streams.sse import HEARTBEAT, Selection, parse_cursor, parse_since, parse_types, retry_line
from services.notifier.streams.subscriber import Bounds, Closed, Subscriber
from services.notifier.streams.ticket_routes import principal_of

log = logging.getLogger(__name__)

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": "Server-sent events."},
    204: {"description": "It has ended and the client has its last event."},
}
_SUBJECTS: Final[tuple[Prefix, ...]] = ("job", "ses", "upl", "whk")
#: Things that one stream may be of, if it is not of all.
_SUBJECTS_MOST: Final = 50


class ComeAgain(Response):
    """Tells a client to come again later, in the only way that an EventSource survives."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": HEARTBEAT + retry_line() + b"\n"})


class EventStreamResponse(Response):
    """The beginning of a stream: the response's head and all history. What is live needs no request any more."""

    def __init__(self, streams: Streams, selection: Selection, plan: Plan) -> None:
        """Stream ``selection`` as ``plan`` says."""
        super().__init__(status_code=200)
        self._streams = streams
        self._selection = selection
        self._plan = plan

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Begin the stream and give it to the hub."""
        streams = self._streams
        if streams.hub.stopping:
            await ComeAgain()(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, (b"connection", b"close")]})
        subscriber = Subscriber(self._selection, streams.bounds, streams.ended)
        if not scope[TAKE_OVER](subscriber.connection):
            return
        streams.begun(subscriber)
        try:
            await streams.replay.join(subscriber, self._plan)
        except Closed:
            pass
        except SaccadeError as error:  # the bus is away; the client resumes where it is
            log.warning("a stream was cut: %s", error)
            subscriber.close("bus_away")
        finally:
            if not subscriber.live:
                subscriber.close("stopping")


class Streams:
    """All that a stream needs."""

    def __init__(self, hub: Hub, replay: Replay, metrics: Metrics, bounds: Bounds) -> None:
        """Keep them."""
        self.hub = hub
        self.replay = replay
        self.metrics = metrics
        self.bounds = bounds

    def begun(self, subscriber: Subscriber) -> None:
        """Count a stream that is open."""
        self.hub.open.add(subscriber)
        self.metrics.streams.inc()
        subscriber.beat()

    def ended(self, subscriber: Subscriber) -> None:
        """Forget a stream that has ended."""
        self.hub.remove(subscriber)
        self.metrics.streams.dec()
        self.metrics.conflated.inc(subscriber.conflated)
        if subscriber.reason and subscriber.reason != "gone":
            self.metrics.closed.labels(subscriber.reason).inc()

    async def open(self, selection: Selection, cursor: Cursor | None, since: str | None) -> Response:
        """Answer a request for a stream.

        Raises:
            SaccadeError: what can never succeed.
        """
        start = parse_since(since, datetime.now(UTC)) if since and cursor is None else None
        if self.hub.stopping or len(self.hub.open) >= self.bounds.max_streams:
            return ComeAgain()
        try:
            plan = await self.replay.plan(selection, cursor, start)
        except SaccadeError as error:
            if error.code is ErrorCode.BUS_UNAVAILABLE:
                return ComeAgain()
            raise
        return Response(status_code=204) if plan.over else EventStreamResponse(self, selection, plan)


async def _streams(request: Request) -> Streams:
    streams: Streams = request.app.state.streams
    return streams


async def _cursor(
    last_event: Annotated[str | None, Header(alias="Last-Event-ID")] = None,
    last_event_id: Annotated[str | None, Query(description="Last-Event-ID, for clients that send no headers.")] = None,
    last_event_id_too: Annotated[str | None, Query(alias="lastEventId", include_in_schema=False)] = None,
) -> Cursor | None:
    return parse_cursor(last_event, last_event_id, last_event_id_too)


Asks = Annotated[Principal, Depends(principal_of)]
Last = Annotated[Cursor | None, Depends(_cursor)]
Open = Annotated[Streams, Depends(_streams)]

#: The application keeps ``streams`` in its state.
router = APIRouter(tags=["events"])


async def _one(
    streams: Streams, principal: Principal, prefix: Prefix, subject_id: str, cursor: Cursor | None
) -> Response:
    if not (is_job_id(subject_id) if prefix == "job" else is_id(subject_id, prefix)):
        code = ErrorCode.JOB_NOT_FOUND if prefix == "job" else ErrorCode.SESSION_NOT_FOUND
        raise SaccadeError(code, f"{subject_id!r} is not an id of one.")
    return await streams.open(Selection(principal.tenant, subject_id, ends=True), cursor, None)


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.JOB_NOT_FOUND) | _STREAM,
    summary="Follow a job",
)
async def job_events(
    streams: Open, principal: Asks, job_id: Annotated[str, Path(max_length=100)], cursor: Last
) -> Response:
    """Stream a job's events: its history, then what happens, until it ends."""
    return await _one(streams, principal, "job", job_id, cursor)


@router.get(
    "/v1/sessions/{session_id}/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.SESSION_NOT_FOUND) | _STREAM,
    summary="Follow a session",
)
async def session_events(
    streams: Open, principal: Asks, session_id: Annotated[str, Path(max_length=100)], cursor: Last
) -> Response:
    """Stream a session's events: its history, then what happens, until it ends."""
    return await _one(streams, principal, "ses", session_id, cursor)


@router.get(
    "/v1/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.INVALID_PARAMETER) | _STREAM,
    summary="Follow all your events",
)
async def tenant_events(
    *,
    streams: Open,
    principal: Asks,
    cursor: Last,
    types: Annotated[list[str] | None, Query(description="job.succeeded,job.failed or job.*")] = None,
    subject: Annotated[
        list[str] | None, Query(max_length=_SUBJECTS_MOST, description="An id: only its events; several, each named.")
    ] = None,
    since: Annotated[
        str | None, Query(max_length=100, description="A cursor, an RFC 3339 time or seconds before now.")
    ] = None,
) -> Response:
    """Stream all your events, from now or from ``since``, for ever."""
    named = frozenset(one for one in subject or () if one)
    for one in named:
        if not (is_job_id(one) or any(is_id(one, prefix) for prefix in _SUBJECTS)):
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"subject: {one[:80]!r} is not an id.")
    only = next(iter(named)) if len(named) == 1 else None
    among = frozenset() if only else named
    return await streams.open(Selection(principal.tenant, only, parse_types(types or []), among), cursor, since)
