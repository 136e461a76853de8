"""Connections on which a response's status and header count, whatever comes after them.

aiohttp parses all bytes of one read at once, and an error in any of them discards the response: a 204 with a body, or a
200 whose first chunk is malformed, would be no answer although the receiver has accepted the event, and the webhook
would be sent again.
"""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

#: End of a header: an empty line. Line feeds alone are accepted, as aiohttp does.
_HEADER_END: Final = re.compile(rb"\n\r?\n")
_LINE_BREAKS: Final = b"\r\n"
#: Statuses whose responses have no body, whatever their header says (RFC 9112, section 6.3).
_WITHOUT_BODY: Final = frozenset({204, 304})
#: Bytes of an incomplete header end that the next read may complete.
_OVERLAP: Final = 2


class HeaderFirstProtocol(ResponseHandler):
    """Parses a response's header before the bytes that follow it, so that an error in those cannot discard it."""

    _in_header = True
    _last_bytes = b""

    def set_response_params(self, **params: Any) -> None:
        """Begin a request; called by aiohttp, with bytes that were received before it."""
        self._in_header, self._last_bytes = True, b""
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a parsed response; called by aiohttp. Interim responses (1xx) come before the final one."""
        message = data[0]
        self._in_header = 100 <= message.code < 200
        if message.code in _WITHOUT_BODY and _announces_body(message.headers):
            self.force_close()  # its bytes would be taken for the next response
        super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse received bytes: up to the end of each header until the final one is parsed, then the rest."""
        if not data:  # aiohttp's way to resume a paused parser
            super().data_received(data)
            return
        while self._in_header and self.exception() is None:
            if not self._last_bytes:
                data = data.lstrip(_LINE_BREAKS)  # skipped by aiohttp too; each would be an end of a header here
            found = _HEADER_END.search(self._last_bytes + data)
            if found is None:
                self._last_bytes = (self._last_bytes + data)[-_OVERLAP:]
                break
            end = found.end() - len(self._last_bytes)
            self._last_bytes = b""
            super().data_received(data[:end])
            data = data[end:]
        if data and self.exception() is None:
            super().data_received(data)
        if (error := self.exception()) is not None and self._payload is not None:
            self._payload.set_exception(error)  # aiohttp would wait for the rest of the body


def _announces_body(headers: Mapping[str, str]) -> bool:
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


class HeaderFirstConnector(aiohttp.TCPConnector):
    """A connector whose connections use that protocol, or a subclass of it."""

    def __init__(self, protocol: type[HeaderFirstProtocol] = HeaderFirstProtocol, **options: Any) -> None:
        """Take aiohttp's options."""
        super().__init__(**options)

        def new_protocol(loop: asyncio.AbstractEventLoop) -> ResponseHandler:
            return protocol(loop)

        self._factory = functools.partial(new_protocol, self._loop)
