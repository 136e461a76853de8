"""HTTP route to the gateway, used where NATS cannot be reached; blocking requests in threads."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from saccade_robot.clock import CLOCK_PROBES, Exchange, now_s
from saccade_robot.errors import RobotClientError, refusal

log = logging.getLogger(__name__)

REQUEST_S: Final = 2.0


class HttpConnection:
    """Persistent connection to a server, used by one thread at a time."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float = REQUEST_S) -> None:
        """Prepare; nothing is connected yet.

        Raises:
            RobotClientError: ``invalid_url``.
        """
        scheme, host, port = _server(url)
        kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
        self._connection = kind(host, port, timeout=timeout_s)
        self._headers = {"User-Agent": "saccade-robot/0.1"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._lock = threading.Lock()
        self._closed = False
        #: Seconds after which the last answer asked for another request (``Retry-After``); 0 if it did not.
        self.asked_s = 0.0

    def request(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send a request and return the status and body of the answer.

        Raises:
            OSError: there was no answer.
            http.client.HTTPException: the answer is not HTTP.
        """
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with self._lock:
            try:
                self._connection.request(method, path or "/", body, {**self._headers, **(headers or {})})
                answer = self._connection.getresponse()
                asked = answer.headers.get("Retry-After", "")
                self.asked_s = float(asked[:9]) if asked.isascii() and asked.isdigit() else 0.0
                return answer.status, answer.read()
            except BaseException:
                # The next request cannot use a connection in the middle of an answer.
                self._connection.close()
                raise
            finally:
                if self._closed:
                    self._connection.close()

    def close(self) -> None:
        """Close the connection; a thread that waits for an answer closes it afterwards."""
        self._closed = True
        if self._lock.acquire(blocking=False):
            self._connection.close()
            self._lock.release()


def _server(url: str) -> tuple[str, str, int | None]:
    """Return scheme, host and port of a server.

    Raises:
        RobotClientError: ``invalid_url``.
    """
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme, parts.hostname, parts.port
    except ValueError:  # a port that is not one, or brackets that do not match
        scheme, host, port = "", None, None
    if scheme not in ("http", "https") or not host:
        hint = "Write it like https://saccade.example or http://127.0.0.1:8080."
        raise RobotClientError("invalid_url", f"{url!r} is not the address of a server.", hint)
    return scheme, host, port


class HttpLink:
    """HTTP route for telemetry; each post arrived, can be retried, or was refused."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """Prepare one connection each for joints, frames and clock; nothing is connected yet."""
        self._connections = {name: HttpConnection(url, key) for name in ("joints", "frames", "clock", "session")}
        self._last_error = ""
        self.errors = 0

    async def post(self, name: str, url: str, body: bytes, headers: Mapping[str, str]) -> bool | None:
        """POST; return True if it arrived, False if it was refused, None if it can be retried."""
        loop = asyncio.get_running_loop()
        try:
            status, answer = await loop.run_in_executor(
                None, self._connections[name].request, "POST", url, body, dict(headers)
            )
        except (OSError, http.client.HTTPException) as error:
            self._failed(str(error) or type(error).__name__)
            return None
        if 200 <= status < 300:
            self._last_error = ""
            return True
        problem = refusal(status, answer)
        self._failed(f"{problem.code}: {problem}")
        return None if problem.retryable else False

    async def measure_clock(self, url: str) -> list[Exchange]:
        """Measure time exchanges with the server; empty if it does not answer."""
        return await asyncio.get_running_loop().run_in_executor(None, self._measure_clock, url)

    def _measure_clock(self, url: str) -> list[Exchange]:
        exchanges: list[Exchange] = []
        for _ in range(CLOCK_PROBES):
            sent_s = now_s()
            try:
                status, body = self._connections["clock"].request("GET", url)
                received_s = now_s()
                if status != 200:
                    break
                exchanges.append(Exchange(sent_s, float(json.loads(body)["time_s"]), received_s))
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                break
        # The first exchange includes opening the connection.
        return exchanges[1:] or exchanges

    async def read(self, url: str) -> dict[str, Any]:
        """Return a JSON object of the server; empty if there is none now."""
        return await asyncio.get_running_loop().run_in_executor(None, self._read, url)

    def _read(self, url: str) -> dict[str, Any]:
        try:
            status, body = self._connections["session"].request("GET", url)
            found = json.loads(body) if status == http.client.OK else None
        except (OSError, http.client.HTTPException, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def close(self) -> None:
        """Close the connections."""
        for connection in self._connections.values():
            connection.close()

    def _failed(self, why: str) -> None:
        self.errors += 1
        if self._last_error != why:
            self._last_error = why
            log.warning("http: %s", why)
