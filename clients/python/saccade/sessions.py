"""Live sessions: opened, streamed into, read, ended, begun anew; and the record of what was streamed into them."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlencode

from saccade.api import Api, PageIterator, path_segment, without_none
from saccade.session_inputs import (
    FrameAnswer,
    JointSample,
    JointsAnswer,
    Ply,
    fetch_ply,
    joint_batch,
    send_frame,
    send_joints,
)
from saccade.session_record import RecordedMessage, RecordSize, RecordStream
from saccade.session_stream import SessionStream
from saccade.transport import AsyncTransport, iterate, iterate_async, run_blocking
from saccade.views import SessionView

_ALL: Final = "/v1/sessions"
_LONGEST_WAIT_S: Final = 60
_REQUEST_S: Final = 30.0


class SessionsClient:
    """The sessions of one's own; ``client.sessions``."""

    def __init__(self, api: Api) -> None:
        """Ask by ``api``."""
        self._api = api

    def open(
        self,
        workload: str,
        params: Mapping[str, Any] | None = None,
        *,
        replay_of: str | None = None,
        idle_timeout_s: float | None = None,
        max_length_s: float | None = None,
        max_cost_usd: float | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> SessionView:
        """Open a session; with ``replay_of`` it is given what another one was.

        ``ingest`` of the answer names the ways in, and has credentials which are shown in this answer only.
        """
        body = _opening(
            workload,
            params,
            replay_of=replay_of,
            idle_timeout_s=idle_timeout_s,
            max_length_s=max_length_s,
            max_cost_usd=max_cost_usd,
            metadata=metadata and dict(metadata),
        )
        return run_blocking(self._api.post(SessionView, _ALL, json=body, key=idempotency_key))

    def get(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Read a session; ``wait_s`` lets the server answer only when it has ended, or after so many seconds (60)."""
        return run_blocking(self._api.get(SessionView, _one(session_id), **_waiting(wait_s)))

    def all(self, *, state: str | Sequence[str] | None = None, page_size: int | None = None) -> Iterator[SessionView]:
        """Iterate over sessions, newest first."""
        return iterate(PageIterator(self._api, SessionView, _ALL, {"state": state, "limit": page_size}))

    def stop(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Ask for a session's end; ``wait_s`` as of ``get``."""
        return run_blocking(self._api.post(SessionView, _one(session_id, "stop"), **_waiting(wait_s)))

    def reset(self, session_id: str) -> SessionView:
        """Ask a session to forget what it has seen."""
        return run_blocking(self._api.post(SessionView, _one(session_id, "reset")))

    def send_frame(
        self,
        session_id: str,
        picture: bytes,
        *,
        seq: int | None = None,
        captured_at_s: float | None = None,
        clock_offset_s: float | None = None,
        source: str | None = None,
        wait_s: float | None = None,
    ) -> FrameAnswer:
        """Send a JPEG or PNG once; it is stored when this returns, or with ``wait_s`` (60 at most) judged if it can be.

        Without ``seq`` the server numbers it, without ``captured_at_s`` (unix seconds) it was taken when it arrives.
        ``clock_offset_s`` is the server's clock minus one's own, ``source`` the camera's name.
        """
        head = _head(seq, captured_at_s, clock_offset_s, source)
        return run_blocking(send_frame(self._api, _one(session_id, "frames"), picture, head, wait_s))

    def send_joints(
        self,
        session_id: str,
        names: Sequence[str],
        samples: Iterable[JointSample],
        *,
        unit: str = "rad",
        source: str | None = None,
        clock_offset_s: float | None = None,
        clock_error_s: float = 0.0,
    ) -> JointsAnswer:
        """Send samples ``(seq, captured_at_s, positions)`` of all joints, oldest first; they are stored on return.

        ``warnings`` of the answer says what looks wrong with them: degrees in place of radians, say.
        """
        batch = joint_batch(
            names, samples, unit=unit, source=source, clock_offset_s=clock_offset_s, clock_error_s=clock_error_s
        )
        return run_blocking(send_joints(self._api, _one(session_id, "joints"), batch))

    def ply(self, session_id: str, *, max_splats: int | None = None, etag: str | None = None) -> Ply | None:
        """Fetch the newest model, whole or its most important splats; None if it is still the version ``etag``.

        Raises:
            ClientError: ``session_not_started`` while there is none.
        """
        path = _one(session_id, "ply")
        return run_blocking(fetch_ply(self._api, path, max_splats=max_splats, etag=etag))

    def record(self, session_id: str) -> TelemetryRecord:
        """Read what was streamed into a session, as of now, over any disconnect. Telemetry is kept for some hours."""
        return TelemetryRecord(self._api.record(session_id))


class TelemetryRecord(Iterator[RecordedMessage]):
    """The messages of a record, in the order in which they were stored."""

    def __init__(self, stream: RecordStream) -> None:
        """Connect when something is asked for."""
        self._stream = stream
        self._messages = iterate(stream)

    def __next__(self) -> RecordedMessage:
        return next(self._messages)

    def size(self) -> RecordSize:
        """Ask how much there is."""
        return run_blocking(self._stream.begin())

    def close(self) -> None:
        """Let the connection go."""
        self._messages.close()
        run_blocking(self._stream.close())


class AsyncSessionsClient:
    """The sessions of one's own; ``client.sessions``."""

    def __init__(self, api: Api) -> None:
        """Ask by ``api``."""
        self._api = api

    async def open(
        self,
        workload: str,
        params: Mapping[str, Any] | None = None,
        *,
        replay_of: str | None = None,
        idle_timeout_s: float | None = None,
        max_length_s: float | None = None,
        max_cost_usd: float | None = None,
        metadata: Mapping[str, str] | None = None,
        idempotency_key: str | None = None,
    ) -> SessionView:
        """Open a session; with ``replay_of`` it is given what another one was.

        ``ingest`` of the answer names the ways in, and has credentials which are shown in this answer only.
        """
        body = _opening(
            workload,
            params,
            replay_of=replay_of,
            idle_timeout_s=idle_timeout_s,
            max_length_s=max_length_s,
            max_cost_usd=max_cost_usd,
            metadata=metadata and dict(metadata),
        )
        return await self._api.post(SessionView, _ALL, json=body, key=idempotency_key)

    async def get(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Read a session; ``wait_s`` lets the server answer only when it has ended, or after so many seconds (60)."""
        return await self._api.get(SessionView, _one(session_id), **_waiting(wait_s))

    def all(
        self, *, state: str | Sequence[str] | None = None, page_size: int | None = None
    ) -> AsyncIterator[SessionView]:
        """Iterate over sessions, newest first."""
        return iterate_async(PageIterator(self._api, SessionView, _ALL, {"state": state, "limit": page_size}))

    async def stop(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Ask for a session's end; ``wait_s`` as of ``get``."""
        return await self._api.post(SessionView, _one(session_id, "stop"), **_waiting(wait_s))

    async def reset(self, session_id: str) -> SessionView:
        """Ask a session to forget what it has seen."""
        return await self._api.post(SessionView, _one(session_id, "reset"))

    async def send_frame(
        self,
        session_id: str,
        picture: bytes,
        *,
        seq: int | None = None,
        captured_at_s: float | None = None,
        clock_offset_s: float | None = None,
        source: str | None = None,
        wait_s: float | None = None,
    ) -> FrameAnswer:
        """Send a JPEG or PNG once; it is stored when this returns, or with ``wait_s`` (60 at most) judged if it can be.

        Without ``seq`` the server numbers it, without ``captured_at_s`` (unix seconds) it was taken when it arrives.
        ``clock_offset_s`` is the server's clock minus one's own, ``source`` the camera's name.
        """
        head = _head(seq, captured_at_s, clock_offset_s, source)
        return await send_frame(self._api, _one(session_id, "frames"), picture, head, wait_s)

    async def send_joints(
        self,
        session_id: str,
        names: Sequence[str],
        samples: Iterable[JointSample],
        *,
        unit: str = "rad",
        source: str | None = None,
        clock_offset_s: float | None = None,
        clock_error_s: float = 0.0,
    ) -> JointsAnswer:
        """Send samples ``(seq, captured_at_s, positions)`` of all joints, oldest first; they are stored on return.

        ``warnings`` of the answer says what looks wrong with them: degrees in place of radians, say.
        """
        batch = joint_batch(
            names, samples, unit=unit, source=source, clock_offset_s=clock_offset_s, clock_error_s=clock_error_s
        )
        return await send_joints(self._api, _one(session_id, "joints"), batch)

    async def ply(self, session_id: str, *, max_splats: int | None = None, etag: str | None = None) -> Ply | None:
        """Fetch the newest model, whole or its most important splats; None if it is still the version ``etag``.

        Raises:
            ClientError: ``session_not_started`` while there is none.
        """
        path = _one(session_id, "ply")
        return await fetch_ply(self._api, path, max_splats=max_splats, etag=etag)

    def stream(self, session_id: str, *, joints: bool = False, after: str | None = None) -> SessionStream:
        """Open a WebSocket both ways: ``async with client.sessions.stream(id) as stream``.

        ``joints`` gives the joints as they come too; ``after`` is the cursor of a stream that was cut. It needs the
        package websockets.
        """
        connection = self._api.connection
        assert isinstance(connection, AsyncTransport)
        asked = urlencode(without_none({"joints": "1" if joints else None, "after": after}))
        url = f"ws{connection.url.removeprefix('http')}{_one(session_id, 'stream')}{'?' * bool(asked)}{asked}"
        return SessionStream(url, connection.headers)

    def record(self, session_id: str) -> AsyncTelemetryRecord:
        """Read what was streamed into a session, as of now, over any disconnect. Telemetry is kept for some hours."""
        return AsyncTelemetryRecord(self._api.record(session_id))


class AsyncTelemetryRecord(AsyncIterator[RecordedMessage]):
    """The messages of a record, in the order in which they were stored."""

    def __init__(self, stream: RecordStream) -> None:
        """Connect when something is asked for."""
        self._stream = stream
        self._messages = iterate_async(stream)

    async def __anext__(self) -> RecordedMessage:
        return await self._messages.__anext__()

    async def size(self) -> RecordSize:
        """Ask how much there is."""
        return await self._stream.begin()

    async def close(self) -> None:
        """Let the connection go."""
        await self._messages.aclose()
        await self._stream.close()


def _one(session_id: str, *more: str) -> str:
    return "/".join([_ALL, path_segment(session_id), *more])


def _head(
    seq: int | None, captured_at_s: float | None, clock_offset_s: float | None, source: str | None
) -> dict[str, Any]:
    """Name what is known of a frame as its headers do."""
    return {"Seq": seq, "Captured-At": captured_at_s, "Clock-Offset": clock_offset_s, "Source": source}


def _opening(workload: str, params: Mapping[str, Any] | None, **options: Any) -> dict[str, Any]:
    return {"workload": workload, "params": dict(params or {})} | without_none(options)


def _waiting(wait_s: float | None) -> dict[str, Any]:
    whole_s = min(_LONGEST_WAIT_S, math.ceil(wait_s or 0))
    return {"headers": {"Prefer": f"wait={whole_s}"}, "timeout": _REQUEST_S + whole_s} if whole_s else {}
