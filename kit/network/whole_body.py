"""Connections that note what a server sends after the end of a body: its header announced less than the whole file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from kit.network.metered_socket import ReceivedTooMuchError
from kit.network.response_protocol import HeaderFirstProtocol

if TYPE_CHECKING:
    from aiohttp.connector import Connection


class WholeBodyProtocol(HeaderFirstProtocol):
    """Notes what a server sends after the end of a body."""

    #: Whether bytes followed the body.
    excess = False
    #: Whether the socket ended the connection, at its limit.
    received_too_much = False
    _body: StreamReader | None = None

    def set_response_params(self, **params: Any) -> None:
        """Begin a request."""
        self._body = None
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a parsed response; a second one follows the first one's body."""
        message, body = data
        if not 100 <= message.code < 200:
            self.excess = self.excess or self._body is not None
            self._body = body
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes."""
        ended = self._body_ended
        super().data_received(data)
        self.excess = self.excess or bool(data and ended) or (self._body_ended and self.exception() is not None)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Note why the connection ended."""
        self.received_too_much = isinstance(exc, ReceivedTooMuchError)
        super().connection_lost(exc)

    @property
    def _body_ended(self) -> bool:
        return self._body is not None and self._body.is_eof()


class DownloadResponse(aiohttp.ClientResponse):
    """A response that keeps its connection's protocol after the body has ended."""

    protocol: WholeBodyProtocol

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the response; called by aiohttp after the request was sent."""
        assert isinstance(connection.protocol, WholeBodyProtocol)
        self.protocol = connection.protocol
        return await super().start(connection)
