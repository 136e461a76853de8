"""One connection of ``WS /vision/stream``: every binary message is a frame, and is answered by exactly one message."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Callable
from typing import Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from kit.auth.quotas import Quotas
from kit.tasks import end
from services.gateway.compat.vision.finished_chunks import FinishedChunks
from services.gateway.compat.vision.frame_buffer import FrameBuffer, ReceivedFrame
from services.gateway.compat.vision.stream_session import StreamSession
from services.gateway.message_turns import MessageTurns

log = logging.getLogger(__name__)

#: A client that takes no answer for this long is disconnected.
_SEND_TIMEOUT_S: Final = 20.0
#: Close code for a text message: RFC 6455, section 7.4.1. The replaced system ended the connection without one.
_UNSUPPORTED: Final = 1003


class StreamSocket:
    """An accepted connection until it closes."""

    def __init__(
        self,
        socket: WebSocket,
        max_frames: int,
        new_session: Callable[[float, FinishedChunks], StreamSession],
        *,
        quotas: Quotas,
        tenant: str,
    ) -> None:
        """``new_session`` returns the session of a connection, which adds its results to the chunks.

        Its frames are messages of ``tenant``.
        """
        self._socket = socket
        # The client would take any message for the acknowledgement of a frame: only the log tells.
        self._turns = MessageTurns(quotas, tenant, lambda reason: log.info("a vision stream is delayed: %s", reason))
        self._buffer = FrameBuffer(max_frames)
        self._chunks = FinishedChunks()
        self._session = new_session(time.time(), self._chunks)

    async def run(self) -> None:
        """Acknowledge frames until the client disconnects; never wait for what becomes of them."""
        feeding = asyncio.ensure_future(self._session.feed(self._buffer))
        feeding.add_done_callback(self._on_end_of_feeding)
        try:
            await self._acknowledge()
        except (WebSocketDisconnect, TimeoutError):
            log.info("a vision stream's client is gone")
        finally:
            await end(feeding)
            await self._session.stop()
            if self._buffer.dropped:
                log.info("%d frames of a vision stream were dropped before they were stored", self._buffer.dropped)

    async def _acknowledge(self) -> None:
        count = 0
        while (message := await self._socket.receive())["type"] != "websocket.disconnect":
            picture = message.get("bytes")
            if picture is None:
                await self._socket.close(_UNSUPPORTED, "frames are binary messages")
                return
            await self._turns.next(picture)
            count += 1
            self._session.collect()
            answer = json.dumps(self._chunks.acknowledgement(count, len(picture)))
            self._buffer.add(ReceivedFrame(count, time.time(), picture))
            async with asyncio.timeout(_SEND_TIMEOUT_S):
                await self._socket.send_text(answer)

    def _on_end_of_feeding(self, feeding: asyncio.Future[None]) -> None:
        if not feeding.cancelled() and (error := feeding.exception()):
            log.error("a vision stream's frames are no longer stored", exc_info=error)
            self._chunks.add_error("The frames are no longer stored: connect again.")
