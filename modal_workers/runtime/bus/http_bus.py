"""The bus by HTTPS, through the gateway's ingest routes, for a worker that cannot reach NATS."""

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

#: Between two looks at the job.
_POLL_S: Final = 3.0
_READ_S: Final = 5.0
_PAUSE_S: Final = 0.2
#: Answers that another try may change: too many requests, a service or a proxy that is away.
_PASSING: Final = frozenset({408, 425, 429})


class _RunEvent(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sequence: int
    event: Envelope


class _Run(BaseModel):
    model_config = ConfigDict(extra="ignore")

    #: That of the job's newest event, also of one that cannot be read.
    sequence: int
    events: list[_RunEvent]


class _Published(BaseModel):
    model_config = ConfigDict(extra="ignore")

    sequence: int


class IngestBus:
    """The gateway's ingest routes for one run."""

    #: Each is a request of its own.
    progress_hz = 2.0
    haste_s = 0.7

    def __init__(self, settings: IngestSettings, assignment: Assignment) -> None:
        """Take where the gateway is and the run's token; the first request connects.

        Raises:
            BusRefused: there is no token.
        """
        if settings.token is None or settings.url is None:
            raise BusRefused(ErrorCode.UNAUTHENTICATED, "INGEST_URL is set and INGEST_TOKEN is not.")
        self._run = f"{settings.url.rstrip('/')}/v1/runs/{assignment.run_id}"
        self._session = aiohttp.ClientSession(
            headers={"Authorization": f"Bearer {settings.token.get_secret_value()}"},
            cookie_jar=aiohttp.DummyCookieJar(),
        )
        self._answers = True

    @property
    def is_connected(self) -> bool:
        """Tell whether the gateway answered the last request."""
        return self._answers

    async def load(self) -> Job | None:
        """Read the job."""
        answer = await self._patiently(lambda timeout_s: self._request("GET", "", timeout_s), _READ_S)
        try:
            run = _Run.model_validate(answer)
        except ValidationError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "This is not the gateway's answer.") from error
        job = None
        for one in run.events:
            job = fold(job, one.event, one.sequence)
        return replace(job, sequence=run.sequence) if job else None

    async def publish(self, message: Message, *, after: int | None = None, deadline_s: float = 10.0) -> int:
        """Store a state event."""
        headers = {"Content-Type": CONTENT_TYPE} | ({} if after is None else {"Saccade-After": str(after)})

        def post(timeout_s: float) -> Any:
            return self._request("POST", "/events", timeout_s, headers, message.body)

        try:
            return _Published.model_validate(await self._patiently(post, deadline_s)).sequence
        except ValidationError as error:
            raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "This is not the gateway's answer.") from error

    async def progress(self, message: Message, *, deadline_s: float = 1.0) -> None:
        """Store progress."""
        await self.publish(message, deadline_s=deadline_s)

    async def changed(self, timeout_s: float) -> None:
        """Wait until it is time to look again."""
        await asyncio.sleep(min(timeout_s, _POLL_S))

    async def close(self) -> None:
        """Disconnect."""
        await self._session.close()

    async def _patiently(self, request: Any, deadline_s: float) -> Any:
        """Ask again while nothing answers.

        Raises:
            Conflict, BusRefused: the gateway's answer.
            SaccadeError: BUS_UNAVAILABLE, after ``deadline_s``.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + deadline_s
        while True:
            try:
                answer = await request(max(0.1, min(5.0, end - loop.time())))
            except (TimeoutError, aiohttp.ClientError, ValueError, OSError) as error:
                self._answers = False
                if loop.time() + _PAUSE_S >= end:
                    raise SaccadeError(ErrorCode.BUS_UNAVAILABLE, "The gateway does not answer.") from error
                await asyncio.sleep(_PAUSE_S)
            else:
                self._answers = True
                return answer

    async def _request(
        self, method: str, path: str, timeout_s: float, headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> Any:
        """Ask once.

        Raises:
            Conflict, BusRefused: the gateway's answer.
            aiohttp.ClientError, TimeoutError, ValueError: there was none, or it is to be asked for again.
        """
        async with (
            asyncio.timeout(timeout_s),
            self._session.request(
                method, self._run + path, data=body, headers=headers, allow_redirects=False
            ) as response,
        ):
            if 300 <= response.status < 400:  # followed, the token would go wherever it leads
                where = response.headers.get("Location", "elsewhere").partition("?")[0]
                hint = "Set INGEST_URL to the gateway's own origin, with https."
                raise BusRefused(ErrorCode.NOT_FOUND, f"INGEST_URL leads to {where}.", hint=hint)
            answer = json.loads(await response.read())
            if response.ok:
                return answer
            if response.status == KINDS[ErrorCode.SEQUENCE_CONFLICT].status:
                raise Conflict(self._run)
            if response.status >= 500 or response.status in _PASSING:
                raise aiohttp.ClientError(f"status {response.status}")
            raise _refused(response.status, answer)


def _refused(status: int, answer: Any) -> BusRefused:
    """Take over what the gateway says is wrong."""
    said = answer if isinstance(answer, dict) else {}
    try:
        code = ErrorCode(said.get("code", ""))
    except ValueError:
        code = ErrorCode.FORBIDDEN
    return BusRefused(code, str(said.get("detail", f"The gateway answers {status}.")), hint=str(said.get("hint", "")))
