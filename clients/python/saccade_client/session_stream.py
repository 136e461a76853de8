"""WebSocket of a live session: sends frames and joints, receives verdicts and events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import httpx

from saccade_client.errors import UNAVAILABLE, ClientError, RefusedError, refusal
from saccade_client.request_parts import without_none
from saccade_client.retries import UNAVAILABLE_S, Retries, retry_after_s
from saccade_client.session_inputs import FrameAnswer, JointSample, content_type_of, joint_batch

if TYPE_CHECKING:
    from websockets.asyncio.client import ClientConnection

_OPEN_S: Final = 30.0
#: Largest message, above the gateway's limit for a picture.
_LONGEST: Final = 64 * 1024 * 1024
_NORMAL: Final = 1000
_ACKED: Final = "session.frame_acked"
#: Prefix of the error codes of frames that the gateway refused; their verdict comes too.
_FRAME_ERRORS: Final = "frame_"


class SessionStream:
    """Connection that lasts until the session ends; open it with ``async with``, in one event loop.

    One task may send while another reads, from ``acks`` or from the stream itself, which yields every message.
    Messages are dictionaries with a ``type``: the events of the session (CloudEvents), ``joints``, ``clock_pong``,
    ``warning``, ``gap``, ``prompt_accepted``, ``going_away``, and ``error`` about something that was sent; with
    ``acks`` also one ``ack`` for each frame, in order, and ``resume``.
    """

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        """Store the address; ``async with`` connects."""
        self._url = url
        self._headers = headers
        self._socket: ClientConnection | None = None
        #: Number of the newest frame; whether the caller gave it.
        self._seq, self._seq_given = -1, False
        #: Resume position: ``client.sessions.stream(id, after=cursor)`` starts after it.
        self.cursor: str | None = None

    async def __aenter__(self) -> SessionStream:
        """Connect; a server that starts or is busy is asked again, as by other calls.

        Raises:
            ClientError: refused, unreachable, or ``websockets`` is not installed.
        """
        retries = Retries(patience_s=UNAVAILABLE_S)
        while (answer := await self._connect()) is not None:
            pause_s = retries.pause_s(asked_s=retry_after_s(answer)) if answer.status_code in UNAVAILABLE else None
            if pause_s is None:
                raise refusal(answer)
            await asyncio.sleep(pause_s)
        return self

    async def _connect(self) -> httpx.Response | None:
        """Connect once; return the answer of a server that refused.

        Raises:
            ClientError: unreachable, or ``websockets`` is not installed.
        """
        try:
            from websockets.asyncio.client import connect  # noqa: PLC0415 - an optional dependency
            from websockets.exceptions import InvalidHandshake, InvalidStatus  # noqa: PLC0415
        except ImportError:
            hint = "pip install websockets"
            raise ClientError("package_missing", "Streams need the package websockets.", hint) from None
        try:
            self._socket = await connect(
                self._url, additional_headers=self._headers, open_timeout=_OPEN_S, max_size=_LONGEST
            )
        except InvalidStatus as error:
            refused = error.response
            return httpx.Response(
                refused.status_code, headers=list(refused.headers.raw_items()), content=bytes(refused.body)
            )
        except (OSError, TimeoutError, InvalidHandshake) as error:
            message = f"{self._url.partition('?')[0]} does not answer ({error})."
            raise ClientError("server_unreachable", message, "Check that the server runs.", retryable=True) from error
        return None

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Disconnect; the session continues."""
        await self.close()

    def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        """Iterate over all messages until the session has ended."""
        return self._messages()

    async def close(self) -> None:
        """Disconnect; the session continues."""
        if self._socket is not None:
            await self._socket.close()

    async def send_frame(
        self,
        picture: bytes,
        *,
        seq: int | None = None,
        captured_at_s: float | None = None,
        clock_offset_s: float | None = None,
        source: str | None = None,
    ) -> int:
        """Send a JPEG or PNG and return its number; by default it was captured now, and its number continues yours.

        While you give no number, frames are numbered by the clock, as the server does it: also the first frame of
        another connection or program is newer than all before.

        Raises:
            ClientError: the connection is closed.
        """
        number = self._next_number() if seq is None else seq
        self._seq, self._seq_given = number, self._seq_given or seq is not None
        head = {
            "seq": number,
            "captured_at_s": time.time() if captured_at_s is None else captured_at_s,
            "content_type": content_type_of(picture),
        } | without_none({"clock_offset_s": clock_offset_s, "source": source})
        written = json.dumps(head).encode()
        await self._send(len(written).to_bytes(4, "big") + written + picture)
        return number

    async def send_joints(
        self,
        names: Sequence[str],
        samples: Iterable[JointSample],
        *,
        unit: str = "rad",
        source: str | None = None,
        clock_offset_s: float | None = None,
    ) -> None:
        """Send samples, oldest first.

        Raises:
            ClientError: the connection is closed.
        """
        batch = joint_batch(names, samples, unit=unit, source=source, clock_offset_s=clock_offset_s)
        await self._send(json.dumps({"type": "joints"} | batch))

    async def ask_time(self) -> None:
        """Request the server's time; it comes as ``clock_pong`` with ``sent_at_s`` and ``time_s``."""
        await self._send(json.dumps({"type": "clock_ping", "sent_at_s": time.time()}))

    async def prompt(self, text: str, *, answer_schema: Mapping[str, Any] | None = None) -> None:
        """Send a question about the live video; ``prompt_accepted`` has its id, a ``session.text`` the answer."""
        more = without_none({"answer_schema": answer_schema and dict(answer_schema)})
        await self._send(json.dumps({"type": "prompt", "text": text} | more))

    async def cancel(self) -> None:
        """Request the end of the text that is being generated."""
        await self._send(json.dumps({"type": "cancel"}))

    async def stop(self) -> None:
        """Request the end of the session."""
        await self._send(json.dumps({"type": "stop"}))

    async def reset(self) -> None:
        """Request that the session discards its model and starts again."""
        await self._send(json.dumps({"type": "reset"}))

    async def acks(self) -> AsyncIterator[FrameAnswer]:
        """Iterate over the frames' verdicts until the session has ended; other messages are skipped.

        A frame that the gateway refuses has the verdict ``rejected`` too.

        Raises:
            RefusedError: a message that was sent could not be read, or is not allowed.
            ClientError: the connection is closed.
        """
        async for message in self._messages():
            if message["type"] == _ACKED:
                for ack in message["data"]["acks"]:
                    yield FrameAnswer.model_validate(ack)
            elif message["type"] == "error" and not str(message.get("code")).startswith(_FRAME_ERRORS):
                raise _refused(message)

    async def _messages(self) -> AsyncIterator[dict[str, Any]]:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        socket = self._opened()
        while True:
            try:
                text = await socket.recv()
            except ConnectionClosed:
                if socket.close_code == _NORMAL:
                    return
                raise _closed(socket.close_reason) from None
            message = json.loads(text)
            if message.get("type") == "cursor":
                self.cursor = message.get("cursor")
            else:
                yield message

    def _next_number(self) -> int:
        following = self._seq + 1
        return following if self._seq_given else max(time.time_ns() // 1000, following)

    async def _send(self, message: str | bytes) -> None:
        from websockets.exceptions import ConnectionClosed  # noqa: PLC0415

        socket = self._opened()
        try:
            await socket.send(message)
        except ConnectionClosed:
            raise _closed(socket.close_reason) from None

    def _opened(self) -> ClientConnection:
        if self._socket is None:
            raise ClientError("stream_closed", "The stream is not open.", "Use it within `async with`.")
        return self._socket


def _refused(message: dict[str, Any]) -> RefusedError:
    status = message.get("status")
    return RefusedError(
        str(message.get("code", "refused")),
        str(message.get("detail") or message.get("title") or "The server refused the message."),
        str(message.get("hint", "")),
        status=status if isinstance(status, int) else 0,
        problem=message,
    )


def _closed(reason: str | None) -> ClientError:
    message = f"The connection of the stream broke{f' ({reason})' if reason else ''}."
    hint = "Open it again with after=stream.cursor; send frames without a verdict again with the same numbers."
    return ClientError("stream_closed", message, hint, retryable=True)
