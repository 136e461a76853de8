"""Live sessions for asyncio programs: open, stream into, read, stop and reset; and the record of their telemetry."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from saccade_client.api import Api, PageIterator
from saccade_client.history_views import ChangesView
from saccade_client.request_parts import (
    SESSIONS_PATH,
    Since,
    format_moment,
    frame_fields,
    point_options,
    session_body,
    session_path,
    wait_options,
    without_none,
)
from saccade_client.session_inputs import (
    FrameAnswer,
    JointSample,
    JointsAnswer,
    Ply,
    fetch_ply,
    joint_batch,
    send_frame,
    send_joints,
)
from saccade_client.session_record import RecordedMessage, RecordSize, RecordStream
from saccade_client.session_stream import SessionStream
from saccade_client.transport import AsyncTransport, iterate_async
from saccade_client.views import PromptView, SessionView, SessionWord


class AsyncSessionsClient:
    """The tenant's sessions: ``client.sessions``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
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
        """Open a session; with ``replay_of`` it receives the recorded telemetry of that session.

        ``ingest`` of the answer holds the addresses to stream to and their credentials, which are shown only here.
        """
        body = session_body(
            workload,
            params,
            replay_of=replay_of,
            idle_timeout_s=idle_timeout_s,
            max_length_s=max_length_s,
            max_cost_usd=max_cost_usd,
            metadata=metadata and dict(metadata),
        )
        return await self._api.post(SessionView, SESSIONS_PATH, json=body, key=idempotency_key)

    async def get(self, session_id: str, *, wait_s: float | None = None, at: Since | None = None) -> SessionView:
        """Read a session; with ``wait_s`` the server answers at its end or after so many seconds (60 at most).

        With ``at``, a cursor, a time or seconds ago, the session as it was then.
        """
        options = wait_options(wait_s) | point_options(at)
        return await self._api.get(SessionView, session_path(session_id), **options)

    async def changes(self, session_id: str, since: Since, until: Since | None = None) -> ChangesView:
        """Return what changed of a session between two points of the history, with the events and the cost in between.

        A point is a cursor, a time or seconds ago; without ``until`` it is now.
        """
        return await self._api.changes(session_path(session_id), since, until)

    def all(
        self, *, state: str | Sequence[str] | None = None, at: Since | None = None, page_size: int | None = None
    ) -> AsyncIterator[SessionView]:
        """Iterate over sessions, newest first; with ``at``, over the list as it was then."""
        search = {"state": state, "at": format_moment(at), "limit": page_size}
        return iterate_async(PageIterator(self._api, SessionView, SESSIONS_PATH, search))

    async def stop(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Request the end of a session; ``wait_s`` as in ``get``."""
        return await self._api.post(SessionView, session_path(session_id, "stop"), **wait_options(wait_s))

    async def reset(self, session_id: str) -> SessionView:
        """Request that a session discards its model and starts again."""
        return await self._api.post(SessionView, session_path(session_id, "reset"))

    async def prompt(
        self,
        session_id: str,
        text: str,
        *,
        answer_schema: Mapping[str, Any] | None = None,
        wait_s: float | None = None,
        idempotency_key: str | None = None,
    ) -> PromptView:
        """Send a question about the live video; with ``answer_schema``, a JSON Schema, the answer satisfies it.

        The question is stored when this returns. With ``wait_s`` (60 at most) wait for its answer, which otherwise
        comes as the ``session.text`` with its ``prompt_id``.
        """
        body = {"text": text} | without_none({"answer_schema": answer_schema and dict(answer_schema)})
        path = session_path(session_id, "prompt")
        return await self._api.post(PromptView, path, json=body, key=idempotency_key, **wait_options(wait_s))

    async def cancel(self, session_id: str) -> SessionView:
        """Request the end of the text that is being generated; the session goes on with its next chunk."""
        return await self._api.post(SessionView, session_path(session_id, "cancel"))

    def texts(self, session_id: str, *, page_size: int | None = None) -> AsyncIterator[SessionWord]:
        """Iterate over the texts, alerts and questions of a session so far, oldest first."""
        return iterate_async(
            PageIterator(self._api, SessionWord, session_path(session_id, "texts"), {"limit": page_size})
        )

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
        """Send a JPEG or PNG once; it is stored when this returns. With ``wait_s`` (60 at most) wait for its verdict.

        Args:
            session_id: the session.
            picture: the encoded picture.
            seq: number of the frame; the server numbers it if left out.
            captured_at_s: unix seconds; the time of arrival if left out.
            clock_offset_s: the server's clock minus your own.
            source: name of the camera.
            wait_s: how long to wait for the verdict.
        """
        fields = frame_fields(seq, captured_at_s, clock_offset_s, source)
        return await send_frame(self._api, session_path(session_id, "frames"), picture, fields, wait_s)

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

        ``warnings`` of the answer lists what looks wrong with them: degrees instead of radians, for example.
        """
        batch = joint_batch(
            names, samples, unit=unit, source=source, clock_offset_s=clock_offset_s, clock_error_s=clock_error_s
        )
        return await send_joints(self._api, session_path(session_id, "joints"), batch)

    async def ply(self, session_id: str, *, max_splats: int | None = None, etag: str | None = None) -> Ply | None:
        """Fetch the newest model, whole or its most important splats; None if it is still the version ``etag``.

        Raises:
            ClientError: ``session_not_started`` while there is none.
        """
        path = session_path(session_id, "ply")
        return await fetch_ply(self._api, path, max_splats=max_splats, etag=etag)

    def stream(  # asyncio only
        self, session_id: str, *, joints: bool = False, acks: bool = False, after: str | None = None
    ) -> SessionStream:
        """Open a WebSocket in both directions: ``async with client.sessions.stream(id) as stream``.

        ``joints`` also delivers the joints that others send; ``acks`` acknowledges each frame when it is received;
        ``after`` is the cursor of a stream that broke. Needs the package websockets.
        """
        transport = self._api.transport
        assert isinstance(transport, AsyncTransport)
        query = urlencode(
            without_none({"joints": "1" if joints else None, "acks": "1" if acks else None, "after": after})
        )
        url = f"ws{transport.url.removeprefix('http')}{session_path(session_id, 'stream')}{'?' * bool(query)}{query}"
        return SessionStream(url, transport.headers)

    def record(self, session_id: str) -> AsyncTelemetryRecord:
        """Read the telemetry of a session up to now, over any disconnect. Telemetry is kept for some hours."""
        return AsyncTelemetryRecord(self._api.record(session_id))


class AsyncTelemetryRecord(AsyncIterator[RecordedMessage]):
    """The recorded messages of a session, in the order in which they were stored."""

    def __init__(self, stream: RecordStream) -> None:
        """Read ``stream``; it connects when something is requested."""
        self._stream = stream
        self._messages = iterate_async(stream)

    async def __anext__(self) -> RecordedMessage:
        return await self._messages.__anext__()

    async def size(self) -> RecordSize:
        """Return how many messages are kept."""
        return await self._stream.begin()

    async def close(self) -> None:
        """Close the connection."""
        await self._messages.aclose()
        await self._stream.close()
