# Generated from async_sessions.py by clients/python/generate_sync.py; do not edit.
"""Live sessions for blocking programs: open, stream into, read, stop and reset; and the record of their telemetry."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

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
from saccade_client.transport import iterate, run_blocking
from saccade_client.views import PromptView, SessionView, SessionWord


class SessionsClient:
    """The tenant's sessions: ``client.sessions``."""

    def __init__(self, api: Api) -> None:
        """Send requests with ``api``."""
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
        return run_blocking(self._api.post(SessionView, SESSIONS_PATH, json=body, key=idempotency_key))

    def get(self, session_id: str, *, wait_s: float | None = None, at: Since | None = None) -> SessionView:
        """Read a session; with ``wait_s`` the server answers at its end or after so many seconds (60 at most).

        With ``at``, a cursor, a time or seconds ago, the session as it was then.
        """
        options = wait_options(wait_s) | point_options(at)
        return run_blocking(self._api.get(SessionView, session_path(session_id), **options))

    def changes(self, session_id: str, since: Since, until: Since | None = None) -> ChangesView:
        """Return what changed of a session between two points of the history, with the events and the cost in between.

        A point is a cursor, a time or seconds ago; without ``until`` it is now.
        """
        return run_blocking(self._api.changes(session_path(session_id), since, until))

    def all(
        self, *, state: str | Sequence[str] | None = None, at: Since | None = None, page_size: int | None = None
    ) -> Iterator[SessionView]:
        """Iterate over sessions, newest first; with ``at``, over the list as it was then."""
        search = {"state": state, "at": format_moment(at), "limit": page_size}
        return iterate(PageIterator(self._api, SessionView, SESSIONS_PATH, search))

    def stop(self, session_id: str, *, wait_s: float | None = None) -> SessionView:
        """Request the end of a session; ``wait_s`` as in ``get``."""
        return run_blocking(self._api.post(SessionView, session_path(session_id, "stop"), **wait_options(wait_s)))

    def reset(self, session_id: str) -> SessionView:
        """Request that a session discards its model and starts again."""
        return run_blocking(self._api.post(SessionView, session_path(session_id, "reset")))

    def prompt(
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
        return run_blocking(self._api.post(PromptView, path, json=body, key=idempotency_key, **wait_options(wait_s)))

    def cancel(self, session_id: str) -> SessionView:
        """Request the end of the text that is being generated; the session goes on with its next chunk."""
        return run_blocking(self._api.post(SessionView, session_path(session_id, "cancel")))

    def texts(self, session_id: str, *, page_size: int | None = None) -> Iterator[SessionWord]:
        """Iterate over the texts, alerts and questions of a session so far, oldest first."""
        return iterate(PageIterator(self._api, SessionWord, session_path(session_id, "texts"), {"limit": page_size}))

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
        return run_blocking(send_frame(self._api, session_path(session_id, "frames"), picture, fields, wait_s))

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

        ``warnings`` of the answer lists what looks wrong with them: degrees instead of radians, for example.
        """
        batch = joint_batch(
            names, samples, unit=unit, source=source, clock_offset_s=clock_offset_s, clock_error_s=clock_error_s
        )
        return run_blocking(send_joints(self._api, session_path(session_id, "joints"), batch))

    def ply(self, session_id: str, *, max_splats: int | None = None, etag: str | None = None) -> Ply | None:
        """Fetch the newest model, whole or its most important splats; None if it is still the version ``etag``.

        Raises:
            ClientError: ``session_not_started`` while there is none.
        """
        path = session_path(session_id, "ply")
        return run_blocking(fetch_ply(self._api, path, max_splats=max_splats, etag=etag))

    def record(self, session_id: str) -> TelemetryRecord:
        """Read the telemetry of a session up to now, over any disconnect. Telemetry is kept for some hours."""
        return TelemetryRecord(self._api.record(session_id))


class TelemetryRecord(Iterator[RecordedMessage]):
    """The recorded messages of a session, in the order in which they were stored."""

    def __init__(self, stream: RecordStream) -> None:
        """Read ``stream``; it connects when something is requested."""
        self._stream = stream
        self._messages = iterate(stream)

    def __next__(self) -> RecordedMessage:
        return next(self._messages)

    def size(self) -> RecordSize:
        """Return how many messages are kept."""
        return run_blocking(self._stream.begin())

    def close(self) -> None:
        """Close the connection."""
        self._messages.close()
        run_blocking(self._stream.close())
