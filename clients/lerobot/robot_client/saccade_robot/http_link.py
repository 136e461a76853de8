"""The way to the gateway by plain requests, where NATS cannot be reached; they block, so they run in threads."""

from __future__ import annotations

import asyncio
import http.client
import json
import logging
import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from saccade_robot.clock import CLOCK_PROBES, Exchange, now_s
from saccade_robot.errors import RobotClientError, refusal

log = logging.getLogger(__name__)

REQUEST_S: Final = 2.0


class HttpConnection:
    """One kept connection to a server, used by one thread at a time."""

    def __init__(self, url: str, key: str | None = None, timeout_s: float = REQUEST_S) -> None:
        """Connect to nothing yet.

        Raises:
            RobotClientError: ``invalid_url``.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            hint = "Write it like https://saccade.example or http://127.0.0.1:8080."
            raise RobotClientError("invalid_url", f"{url!r} is not the address of a server.", hint)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        self._connection = kind(parts.hostname, parts.port, timeout=timeout_s)
        self._headers = {"User-Agent": "saccade-robot-client/0.1"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._alone = threading.Lock()
        self._closed = False

    def ask(
        self, method: str, url: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """Send one request and give the answer's status and body.

        Raises:
            OSError: there was no answer.
            http.client.HTTPException: there was something else.
        """
        parts = urlsplit(url)
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        with self._alone:
            try:
                self._connection.request(method, path or "/", body, {**self._headers, **(headers or {})})
                answer = self._connection.getresponse()
                return answer.status, answer.read()
            except BaseException:
                # A connection in the middle of an answer is of no use to the next request.
                self._connection.close()
                raise
            finally:
                if self._closed:
                    self._connection.close()

    def close(self) -> None:
        """Close the connection; a thread that is waiting at it closes it when it is answered."""
        self._closed = True
        if self._alone.acquire(blocking=False):
            self._connection.close()
            self._alone.release()


class HttpLink:
    """Posts telemetry; says for each whether it arrived, may be tried again, or was refused."""

    def __init__(self, url: str, key: str | None = None) -> None:
        """Connect to nothing yet; joints and frames never wait for each other's connection."""
        self._doors = {name: HttpConnection(url, key) for name in ("joints", "frames", "clock")}
        self._said = ""
        self.errors = 0

    async def post(self, door: str, url: str, body: bytes, headers: Mapping[str, str]) -> bool | None:
        """Post and give True when it arrived, False when it never will, None when it may be tried again."""
        loop = asyncio.get_running_loop()
        try:
            status, answer = await loop.run_in_executor(None, self._doors[door].ask, "POST", url, body, dict(headers))
        except (OSError, http.client.HTTPException) as error:
            self._failed(str(error) or type(error).__name__)
            return None
        if 200 <= status < 300:
            self._said = ""
            return True
        problem = refusal(status, answer)
        self._failed(f"{problem.code}: {problem}")
        return None if problem.passing else False

    async def ask_time(self, url: str) -> list[Exchange]:
        """Ask for the server's time some times; empty when it does not answer."""
        return await asyncio.get_running_loop().run_in_executor(None, self._ask_time, url)

    def _ask_time(self, url: str) -> list[Exchange]:
        exchanges: list[Exchange] = []
        for _ in range(CLOCK_PROBES):
            sent_s = now_s()
            try:
                status, body = self._doors["clock"].ask("GET", url)
                received_s = now_s()
                if status != 200:
                    break
                exchanges.append(Exchange(sent_s, float(json.loads(body)["time_s"]), received_s))
            except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
                break
        # The first also opened the connection.
        return exchanges[1:] or exchanges

    def close(self) -> None:
        """Close the connections."""
        for door in self._doors.values():
            door.close()

    def _failed(self, why: str) -> None:
        self.errors += 1
        if self._said != why:
            self._said = why
            log.warning("http: %s", why)
