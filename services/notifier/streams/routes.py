"""``GET /v1/jobs/{id}/events``, ``/v1/sessions/{id}/events`` and ``/v1/events``: server-sent events.

A request that could succeed later is answered by 200 or 204 only, because any other status closes a browser's
EventSource permanently. A request that can never succeed (unknown job, invalid key) gets an ordinary problem.
"""

from __future__ import annotations

import contextlib
import logging
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request, Response
from pydantic import Field
from starlette.types import Receive, Scope, Send

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.ids import JOB_ID_PATTERN, Prefix, id_pattern, is_id, is_job_id
from kit.auth.api_keys import Principal
from kit.auth.principal import ACCEPTS_KEY, ACCEPTS_TICKET
from kit.auth.quota_metrics import QuotaMetrics
from kit.auth.quotas import Quotas
from kit.http.head_requests import IS_HEAD
from kit.http.path_ids import JobId, SessionId
from kit.http.point_in_time import PointText
from kit.http.problems import problem_responses
from services.notifier.metrics import NotifierMetrics
from services.notifier.streams.hub import Hub
from services.notifier.streams.sse import (
    MAX_TYPES,
    TYPES_PATTERN,
    Selection,
    parse_cursor,
    parse_since,
    parse_types,
    stream_head,
)
from services.notifier.streams.sse_connection import TAKE_OVER
from services.notifier.streams.stream_history import StreamHistory, StreamStart
from services.notifier.streams.stream_places import StreamPlaces
from services.notifier.streams.subscriber import StreamClosed, StreamLimits, Subscriber
from services.notifier.streams.ticket_routes import StreamCaller

log = logging.getLogger(__name__)

_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),
]
_EVENTS: Final = (
    "Server-sent events. The comment line `: live` follows the last event of the past; while a long past is read, "
    "`: reading` comes instead of other comments. Clients that know neither ignore them."
)
_STREAM: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}, "description": _EVENTS},
    204: {"description": "The job or session has ended and the client has its last event."},
}
_SUBJECT_PREFIXES: Final[tuple[Prefix, ...]] = ("job", "ses", "upl", "rul", "grp", "whk")
_SUBJECT_PATTERN: Final = "|".join((JOB_ID_PATTERN, *map(id_pattern, _SUBJECT_PREFIXES)))
#: Maximum subjects that one stream can be limited to.
_MAX_SUBJECTS: Final = 50


class RetryLaterResponse(Response):
    """Stream that ends after its head, so that a client retries later: an EventSource reconnects only after a 200."""

    def __init__(self, reason: str = "") -> None:
        """Write ``reason`` in a comment, which clients ignore and people read."""
        super().__init__(status_code=200)
        self._reason = f": {reason}\n".encode() if reason else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Answer."""
        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        await send({"type": "http.response.body", "body": self._reason + stream_head()})


class EventStreamResponse(Response):
    """Start of a stream: the response's head and all history. Live events need no request task."""

    def __init__(self, streams: StreamService, selection: Selection, caller: Principal, start: StreamStart) -> None:
        """Stream ``selection`` to a caller from ``start``."""
        super().__init__(status_code=200)
        self._streams = streams
        self._selection = selection
        self._caller = caller
        self._start = start

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Start the stream and pass it to the hub."""
        streams = self._streams
        if refusal := streams.refusal(self._selection.tenant):  # others have opened while this one was planned
            await refusal(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": [*_HEADERS, (b"connection", b"close")]})
        if scope.get(IS_HEAD):
            await send({"type": "http.response.body", "body": b""})
            return
        subscriber = Subscriber(self._selection, self._caller, streams.limits, streams.on_closed)
        if not scope[TAKE_OVER](subscriber.connection):
            return
        streams.on_opened(subscriber)
        try:
            await streams.history.join(subscriber, self._start)
        except StreamClosed:
            pass
        except SaccadeError as error:  # the bus is unavailable; the client resumes by its cursor
            log.warning("a stream was closed: %s", error)
            subscriber.close("bus_away")
        finally:
            if not subscriber.live:
                subscriber.close("stopping")


class StreamService:
    """Opens event streams within the limits."""

    def __init__(self, hub: Hub, history: StreamHistory, metrics: NotifierMetrics, limits: StreamLimits) -> None:
        """Serve the streams of ``hub``, with ``history``."""
        self.hub = hub
        self.history = history
        self.metrics = metrics
        self.limits = limits
        #: Of the replays too.
        self.places = StreamPlaces()

    def limit_tenants(self, quotas: Quotas) -> None:
        """Limit the streams that each tenant has open here."""
        self.places.quotas = quotas
        self.metrics.registry.register(QuotaMetrics(quotas))

    def on_opened(self, subscriber: Subscriber) -> None:
        """Count an open stream and send its first bytes."""
        self.hub.open.add(subscriber)
        self.places.enter(subscriber.selection.tenant)
        self.metrics.streams.inc()
        subscriber.begin()

    def on_closed(self, subscriber: Subscriber) -> None:
        """Remove a closed stream and count why it was closed."""
        self.hub.remove(subscriber)
        self.places.leave(subscriber.selection.tenant)
        self.metrics.streams.dec()
        self.metrics.conflated.inc(subscriber.conflated)
        if subscriber.reason and subscriber.reason != "gone":
            self.metrics.closed.labels(subscriber.reason).inc()

    def is_full(self, tenant: str) -> bool:
        """Return whether one stream more of a tenant is refused."""
        return self._takes_none or self.places.is_full(tenant)

    @property
    def _takes_none(self) -> bool:
        """Whether there is no room for any stream more, whosever it is."""
        return self.hub.stopping or len(self.hub.open) >= self.limits.max_streams

    def refusal(self, tenant: str) -> Response | None:
        """Return the answer to one stream more; None while there is room for it."""
        if self._takes_none:
            return RetryLaterResponse()
        reason = self.places.refusal(tenant)
        return RetryLaterResponse(reason) if reason else None

    async def open(self, selection: Selection, caller: Principal, cursor: Cursor | None, since: str | None) -> Response:
        """Answer a request for a stream.

        Raises:
            SaccadeError: the request can never succeed.
        """
        since_position = parse_since(since, datetime.now(UTC)) if since and cursor is None else None
        if refusal := self.refusal(selection.tenant):
            return refusal
        try:
            start = await self.history.plan(selection, cursor, since_position)
        except SaccadeError as error:
            if error.code is ErrorCode.BUS_UNAVAILABLE:
                return RetryLaterResponse()
            raise
        return Response(status_code=204) if start.over else EventStreamResponse(self, selection, caller, start)


async def _streams(request: Request) -> StreamService:
    streams: StreamService = request.app.state.streams
    return streams


async def _cursor(
    last_event: Annotated[
        str | None,
        Header(alias="Last-Event-ID", description="Cursor of the last event that you have. Any other text is a gap."),
    ] = None,
    last_event_id: Annotated[str | None, Query(description="Last-Event-ID, for clients that send no headers.")] = None,
    last_event_id_too: Annotated[str | None, Query(alias="lastEventId", include_in_schema=False)] = None,
) -> Cursor | None:
    if last_event is not None:
        # EventSource sends it in UTF-8; headers are read as Latin-1.
        with contextlib.suppress(UnicodeDecodeError):
            last_event = last_event.encode("latin-1").decode()
    return parse_cursor(last_event, last_event_id, last_event_id_too)


Caller = Annotated[Principal, Depends(StreamCaller("read"))]
LastEvent = Annotated[Cursor | None, Depends(_cursor)]
Service = Annotated[StreamService, Depends(_streams)]

#: The application keeps ``streams`` in its state.
router = APIRouter(tags=["events"], dependencies=[ACCEPTS_KEY, ACCEPTS_TICKET])


async def _open_one(
    streams: StreamService, principal: Principal, prefix: Prefix, subject_id: str, cursor: Cursor | None
) -> Response:
    if not (is_job_id(subject_id) if prefix == "job" else is_id(subject_id, prefix)):
        code = ErrorCode.JOB_NOT_FOUND if prefix == "job" else ErrorCode.SESSION_NOT_FOUND
        noun = "job" if prefix == "job" else "session"
        raise SaccadeError(code, f"{subject_id[:80]!r} is not the id of a {noun}.")
    return await streams.open(Selection(principal.tenant, subject_id, ends=True), principal, cursor, None)


@router.get(
    "/v1/jobs/{job_id}/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.JOB_NOT_FOUND) | _STREAM,
    summary="Follow a job",
)
async def job_events(streams: Service, principal: Caller, job_id: JobId, cursor: LastEvent) -> Response:
    """Stream a job's events: its history, then live events, until it ends."""
    return await _open_one(streams, principal, "job", job_id, cursor)


@router.get(
    "/v1/sessions/{session_id}/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.SESSION_NOT_FOUND) | _STREAM,
    summary="Follow a session",
)
async def session_events(streams: Service, principal: Caller, session_id: SessionId, cursor: LastEvent) -> Response:
    """Stream a session's events: its history, then live events, until it ends."""
    return await _open_one(streams, principal, "ses", session_id, cursor)


@router.get(
    "/v1/events",
    response_class=Response,
    responses=problem_responses(ErrorCode.INVALID_PARAMETER) | _STREAM,
    summary="Follow all your events",
)
async def tenant_events(
    *,
    streams: Service,
    principal: Caller,
    cursor: LastEvent,
    types: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": TYPES_PATTERN})]] | None,
        Query(description=f"job.succeeded,job.failed or job.*; at most {MAX_TYPES}."),
    ] = None,
    subject: Annotated[
        list[Annotated[str, Field(json_schema_extra={"pattern": _SUBJECT_PATTERN})]] | None,
        Query(max_length=_MAX_SUBJECTS, description="An id: only its events; repeat it for several."),
    ] = None,
    since: Annotated[PointText | None, Query(description="A cursor, an RFC 3339 time or seconds before now.")] = None,
) -> Response:
    """Stream all your events, from now or from ``since``, without end."""
    subject_ids = frozenset(subject_id for subject_id in subject or () if subject_id)
    for subject_id in subject_ids:
        if not (is_job_id(subject_id) or any(is_id(subject_id, prefix) for prefix in _SUBJECT_PREFIXES)):
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, f"subject: {subject_id[:80]!r} is not an id.")
    only = next(iter(subject_ids)) if len(subject_ids) == 1 else None
    several = frozenset() if only else subject_ids
    selection = Selection(principal.tenant, only, parse_types(types or []), several)
    return await streams.open(selection, principal, cursor, since)
