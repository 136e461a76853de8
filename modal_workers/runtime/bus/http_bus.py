"""Job events over HTTPS, through the gateway's worker-ingest routes, for a worker that cannot reach NATS."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from typing import Any, Final

import aiohttp
from pydantic import BaseModel, ConfigDict, ValidationError

from contracts.assignment import Assignment
from contracts.errors import KINDS, ErrorCode, SaccadeError
from contracts.events.base import CONTENT_TYPE, Envelope, Message
from contracts.job import Job, fold
from kit.bus.event_store import Conflict
from modal_workers.runtime.bus.job_bus import BusRefused
from modal_workers.runtime.settings import IngestSettings

log = logging.getLogger(__name__)

#: Interval between two reads of the job.
_POLL_S: Final = 3.0
_READ_S: Final = 5.0
_RETRY_PAUSE_S: Final = 0.2
_NOT_THE_GATEWAY: Final = "The response is not the gateway's: another server answers at INGEST_URL."
#: Statuses below 500 worth a retry: request timeout, too early, too many requests.
_TRANSIENT: Final = frozenset({408, 425, 429})


class _RunEvent(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sequence: int
    event: Envelope


class _Run(BaseModel):
    model_config = ConfigDict(extra="ignore")

    #: Sequence of the job's newest event, readable or not.
    sequence: int
    events: list[_RunEvent]


class _Published(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sequence: int


class HttpBus:
    """``JobBus`` over the gateway's worker-ingest routes, for one run."""

    #: Every event is one HTTP request.
    progress_hz = 2.0
    urgent_deadline_s = 0.7

    def __init__(self, settings: IngestSettings, assignment: Assignment) -> None:
        """Prepare a client for the gateway; the first request connects.

        Raises:
            BusRefused: the settings hold no token.
        """
        if settings.token is None or settings.url is None:
            raise BusRefused(ErrorCode.UNAUTHENTICATED, "INGEST_URL is set and INGEST_TOKEN is not.")
        self._run = f"{settings.url.rstrip('/')}/v1/runs/{assignment.run_id}"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {settings.token.get_secret_value()}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._is_answering = True

    @property
    def is_connected(self) -> bool:
        """Whether the gateway answered the last request."""
        return self._is_answering

    async def load(self) -> Job | None:
        """Return the job, folded from the events that the gateway returns."""
        answer = await self._retried(lambda timeout_s: self._request("GET", "", timeout_s), _READ_S)
        try:
            run = _Run.model_validate(answer)
        except ValidationError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, _NOT_THE_GATEWAY) from error
        job = None
        for stored in run.events:
            job = fold(job, stored.event, stored.sequence)
        return replace(job, sequence=run.sequence) if job else None

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event and return its sequence."""
        headers = {"Content-Type": CONTENT_TYPE} | ({} if after is None else {"Saccade-After": str(after)})

        def post(timeout_s: float) -> Any:
            return self._request("POST", "/events", timeout_s, headers, message.body)

        try:
            return _Published.model_validate(await self._retried(post, deadline_s)).sequence
        except ValidationError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, _NOT_THE_GATEWAY) from error

    async def publish_progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store a progress event."""
        await self.publish(message, deadline_s=deadline_s)

    async def wait_for_change(self, timeout_s: float) -> None:
        """Wait until the next poll is due."""
        await asyncio.sleep(min(timeout_s, _POLL_S))

    async def close(self) -> None:
        """Close the connection."""
        await self._session.close()

    async def _retried(self, request: Any, deadline_s: float) -> Any:
        """Repeat a request while the gateway does not answer.

        Raises:
            Conflict, BusRefused: the gateway's response.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            try:
                answer = await request(max(0.1, min(5.0, end - loop.time())))
            except (TimeoutError, aiohttp.ClientError, ValueError, OSError) as error:
                self._is_answering = False
                if loop.time() + _RETRY_PAUSE_S >= end:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The gateway does not answer.") from error
                await asyncio.sleep(_RETRY_PAUSE_S)
            else:
                self._is_answering = True
                return answer

    async def _request(
        self, method: str, path: str, timeout_s: float, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Any:
        """Send one request and return the parsed body.

        Raises:
            Conflict, BusRefused: the gateway's response.
            aiohttp.ClientError, TimeoutError, ValueError: no response, or one that a retry may change.
        """
        async with (
            asyncio.timeout(timeout_s),
            self._session.request(
                method, self._run + path, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            if 300 <= response.status < 400:  # not followed: the token would be sent to an unknown host
                location = response.headers.get("Location", "another address").partition("?")[0]
                hint = "Set INGEST_URL to the gateway's own origin, with https."
                raise BusRefused(ErrorCode.NOT_FOUND, f"INGEST_URL redirects to {location}.", hint=hint)
            answer = json.loads(await response.read())
            if response.ok:
                return answer
            if response.status == KINDS[ErrorCode.SEQUENCE_CONFLICT].status:
                raise Conflict(self._run)
            if response.status >= 500 or response.status in _TRANSIENT:
                raise aiohttp.ClientError(f"status {response.status}")
            raise _refused(response.status, answer)


def _refused(status: int, answer: Any) -> BusRefused:
    """Return the error of a problem response."""
    problem = answer if isinstance(answer, dict) else {}
    try:
        code = ErrorCode(problem.get("code", ""))
    except ValueError:
        code = ErrorCode.FORBIDDEN
    return BusRefused(
        code,
        str(problem.get("detail", f"The gateway responded with status {status}.")),
        hint=str(problem.get("hint", "")),
    )
