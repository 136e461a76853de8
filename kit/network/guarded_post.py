"""One POST of JSON to an address that somebody else may have chosen, with limits on time and size of the answer."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from contracts.limits import KIB
from kit.network.address_guard import AddressGuard
from kit.network.guarded_session import guarded_session
from kit.network.name_lookup import Lookup, SystemLookup
from kit.network.urls import parse_url

_ANSWER_BYTES: Final = 64 * KIB
_FAILURES: Final = (aiohttp.ClientError, HttpProcessingError, OSError, ValueError)
_HEADERS: Final = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",  # nothing is decompressed, so there is no decompression bomb
    "Content-Type": "application/json",
    "User-Agent": "Saccade/1",
}


class PostError(Exception):
    """A POST without an answer; the message says why, without the URL's path and without any header."""


@dataclass(frozen=True)
class PostAnswer:
    """Status and body of an answer."""

    status: int
    body: bytes


class GuardedPost:
    """Sends JSON; every request has a connection of its own."""

    def __init__(
        self,
        guard: AddressGuard,
        *,
        https_only: bool,
        timeout_s: float = 15.0,
        lookup: Lookup | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Connect to addresses that ``guard`` allows; by default names and certificates are the system's."""
        self._guard, self._https_only, self._timeout_s = guard, https_only, timeout_s
        self._lookup = lookup or SystemLookup()
        # By default aiohttp's own context: a further one reads all certificates again, 45 ms.
        self._tls = tls or True

    async def send(self, url: str, content: Any, headers: Mapping[str, str]) -> PostAnswer:
        """POST ``content`` as JSON; redirects are not followed.

        Raises:
            PostError: there is no answer.
        """
        try:
            checked = parse_url(url)
        except ValueError as error:
            raise PostError(str(error)) from None
        if self._https_only and checked.scheme != "https":
            raise PostError(f"{checked.host} is not asked without encryption")
        if checked.is_address and (why := self._guard.refusal(checked.host)):
            raise PostError(f"{checked.host} is not an address that may be connected to ({why})")
        try:
            async with asyncio.timeout(self._timeout_s), self._session() as session:
                response = await session.post(
                    checked.as_written,
                    data=json.dumps(content).encode(),
                    headers={**headers, **_HEADERS},
                    allow_redirects=False,
                )
                body = await response.content.read(_ANSWER_BYTES)
                while len(body) < _ANSWER_BYTES and (more := await response.content.read(_ANSWER_BYTES - len(body))):
                    body += more
                response.close()
                return PostAnswer(response.status, body)
        except TimeoutError:
            raise PostError(f"{checked.host} did not answer within {self._timeout_s:g} s") from None
        except _FAILURES as error:
            raise PostError(f"{checked.host} could not be asked ({type(error).__name__})") from None

    def _session(self) -> aiohttp.ClientSession:
        return guarded_session(
            self._guard, self._lookup, self._tls, connector={"use_dns_cache": False, "force_close": True}
        )
