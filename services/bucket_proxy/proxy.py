"""Reverse proxy in front of ``rclone serve s3``: all passes unchanged, but answers to range requests and large PUTs.

rclone 1.75 sends the range that was asked for with status 200 (docs/adr/0014). A browser takes that for the whole file:
it never completes a seek in a video. It has no limit of a PUT either: one larger than
S3 takes is refused here, because a presigned URL may not say the size. The proxy is the address of clients, which
presigned URLs name. Services and workers call rclone directly.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Final

import aiohttp
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from multidict import CIMultiDict
from yarl import URL

from contracts.limits import UNSIZED_PUT_BYTES
from services.bucket_proxy.byte_range import ByteRange, is_current, is_signed

#: Headers that belong to one connection (RFC 9110, section 7.6.1). Expect is passed on by other means.
_HOP_BY_HOP: Final = frozenset(
    {
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection"),
        *("te", "trailer", "transfer-encoding", "upgrade", "expect"),
    }
)
#: What pages of other origins may read and send besides what rclone allows.
_EXPOSED: Final = ("ETag", "Content-Range", "Content-Length", "Accept-Ranges", "Last-Modified")
_ALLOWED: Final = ("Range", "If-Range", "If-None-Match")
#: Upper bound of the time for a request's head, and between two requests of a connection.
HEAD_S: Final = 30.0
#: A transfer whose client sends or takes nothing for this long is aborted. A paused video is such a client: browsers
#: ask for the rest when it is played again.
STALLED_S: Final = 120.0
_CONNECT_S: Final = 5.0


class _FaultsOfOurs(logging.Filter):
    """Leaves malformed requests out of the log, in which anybody could write otherwise."""

    def filter(self, record: logging.LogRecord) -> bool:
        return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))


log = logging.getLogger(__name__)
log.addFilter(_FaultsOfOurs())


class BucketProxy:
    """Serves the clients of one S3 server."""

    def __init__(self, upstream: str, *, head_s: float = HEAD_S, stalled_s: float = STALLED_S) -> None:
        """Proxy to the base URL ``upstream``."""
        self._upstream = upstream.rstrip("/")
        self._head_s, self._stalled_s = head_s, stalled_s
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None

    async def start(self, listener: socket.socket) -> None:
        """Serve on a bound socket."""
        self._session = aiohttp.ClientSession(
            # A connection for each request: none is used that rclone has closed, and an answer can be left unread.
            connector=aiohttp.TCPConnector(limit=0, force_close=True),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        server = web.Server(
            self._handle,
            handler_cancellation=True,
            access_log=None,
            logger=log,
            auto_decompress=False,
            # It counts from the connection's start or the end of a request to the end of the next head.
            keepalive_timeout=self._head_s,
            lingering_time=1.0,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.SockSite(self._runner, listener).start()

    async def close(self) -> None:
        """Stop serving; open transfers are aborted."""
        if self._runner:
            await self._runner.cleanup()
        if self._session:
            await self._session.close()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if not request.raw_path.startswith("/"):  # as of other proxies: it would lead to another server
            return _error(HTTPStatus.BAD_REQUEST, "InvalidURI", "The request has no path.", {})
        if request.method == "PUT" and (error := _refused_put(request)):
            return error
        headers = _end_to_end(request.headers)
        try:
            if request.method != "GET" or "Range" not in headers or is_signed(request.raw_path, headers):
                async with await self._ask(request, headers) as answer:
                    is_range = request.method == "GET" and answer.status == HTTPStatus.OK
                    is_range = is_range and "Content-Range" in answer.headers
                    status = HTTPStatus.PARTIAL_CONTENT if is_range else answer.status
                    return await self._send(request, answer, status)
            return await self._answer_range(request, headers)
        except (aiohttp.ClientError, TimeoutError):
            return _unavailable()

    async def _answer_range(self, request: web.BaseRequest, headers: CIMultiDict[str]) -> web.StreamResponse:
        """Return the range of an object that a GET asks for, or the whole object where the header is to be ignored."""
        wanted = ByteRange.parse(headers.popone("Range"))
        if_range = headers.popone("If-Range", "").strip()
        if wanted:
            asked = CIMultiDict([*headers.items(), ("Range", str(wanted))])
            async with await self._ask(request, asked) as answer:
                is_range = answer.status == HTTPStatus.OK and "Content-Range" in answer.headers
                if is_range and (not if_range or is_current(if_range, answer.headers)):
                    return await self._send(request, answer, HTTPStatus.PARTIAL_CONTENT)
                if not is_range and answer.status != HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
                    return await self._send(request, answer, answer.status)
        async with await self._ask(request, headers) as answer:
            size = answer.content_length
            if answer.status != HTTPStatus.OK or wanted is None or size is None:
                return await self._send(request, answer, answer.status)
            if if_range and not is_current(if_range, answer.headers):
                return await self._send(request, answer, answer.status)
            # rclone refused the range: it contains no byte of the object, or it is a suffix longer than the object.
            found = wanted.within(size)
            if found is None:
                return _not_satisfiable(answer.headers, size)
            if found != (0, size - 1):  # the object was replaced between the two requests
                return _unavailable()
            whole = {"Content-Range": f"bytes 0-{size - 1}/{size}"}
            return await self._send(request, answer, HTTPStatus.PARTIAL_CONTENT, whole)

    async def _ask(self, request: web.BaseRequest, headers: Mapping[str, str]) -> aiohttp.ClientResponse:
        assert self._session
        expects = request.headers.get("Expect", "").lower() == "100-continue"
        return await self._session.request(
            request.method,
            URL(self._upstream + request.raw_path, encoded=True),
            headers=headers,
            data=self._body(request, expects=expects) if request.body_exists else None,
            expect100=expects and request.body_exists,
            allow_redirects=False,
        )

    async def _body(self, request: web.BaseRequest, *, expects: bool) -> AsyncIterator[bytes]:
        """Yield the request's body as it arrives; one that the client waits to send begins when rclone wants it."""
        if expects:
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        while True:
            async with asyncio.timeout(self._stalled_s):
                piece = await request.content.readany()
            if not piece:
                return
            yield piece

    async def _send(
        self,
        request: web.BaseRequest,
        answer: aiohttp.ClientResponse,
        status: int,
        changed: Mapping[str, str] | None = None,
    ) -> web.StreamResponse:
        """Send an answer with another status, chunk by chunk as it arrives."""
        headers = _end_to_end(answer.headers)
        headers.update(changed or {})
        headers.setdefault("Server", "saccade")  # otherwise aiohttp sends its version and Python's
        _allow_ranges(headers)
        reason = answer.reason if status == answer.status else None
        response = web.StreamResponse(status=status, reason=reason, headers=headers)
        try:
            async with asyncio.timeout(self._stalled_s):
                await response.prepare(request)
            async for piece in answer.content.iter_any():
                async with asyncio.timeout(self._stalled_s):
                    await response.write(piece)
            async with asyncio.timeout(self._stalled_s):
                await response.write_eof()
        except (aiohttp.ClientError, ConnectionError, TimeoutError):
            # An incomplete answer must not look complete: abort the connection.
            if request.transport:
                request.transport.abort()
        return response


def _refused_put(request: web.BaseRequest) -> web.Response | None:
    """Return the error of S3 for a PUT of too many bytes; None for another. Without a length, rclone refuses it."""
    if (request.content_length or 0) > UNSIZED_PUT_BYTES:
        message = f"One PUT has at most {UNSIZED_PUT_BYTES} bytes."
        return _error(HTTPStatus.BAD_REQUEST, "EntityTooLarge", message, {})
    return None


def _end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    named = {name.strip().lower() for name in headers.get("Connection", "").split(",")}
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in _HOP_BY_HOP | named)


def _allow_ranges(headers: CIMultiDict[str]) -> None:
    """Extend what rclone's CORS headers allow by what pages need for ranges."""
    if "Access-Control-Allow-Origin" not in headers:
        return
    for name, more in (("Access-Control-Expose-Headers", _EXPOSED), ("Access-Control-Allow-Headers", _ALLOWED)):
        listed = [value.strip() for value in headers.get(name, "").split(",") if value.strip()]
        known = {value.lower() for value in listed}
        headers[name] = ", ".join([*listed, *(value for value in more if value.lower() not in known)])


def _not_satisfiable(whole: Mapping[str, str], size_bytes: int) -> web.Response:
    """Return the answer to a range that contains no byte of the object; ``whole`` is the head of the whole object."""
    headers = CIMultiDict({"Content-Range": f"bytes */{size_bytes}", "Accept-Ranges": "bytes"})
    headers.update((name, value) for name, value in whole.items() if name.lower().startswith("access-control-"))
    _allow_ranges(headers)
    status = HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
    return _error(status, "InvalidRange", f"The object has {size_bytes} bytes.", headers)


def _unavailable() -> web.Response:
    return _error(
        HTTPStatus.SERVICE_UNAVAILABLE, "ServiceUnavailable", "The bucket did not answer.", {"Retry-After": "1"}
    )


def _error(status: int, code: str, message: str, headers: Mapping[str, str]) -> web.Response:
    """Return an error as S3 clients read it."""
    body = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n{body}'
    return web.Response(
        status=status, text=text, content_type="application/xml", headers={**headers, "Server": "saccade"}
    )
