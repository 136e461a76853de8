"""Dead letters of the three kinds, made as services make them, and operators' requests about them."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, Message, encode
from contracts.events.delivery import WebhookFailed
from contracts.events.job import JobFailed, JobSubmitted
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, DELIVERIES
from kit.bus.event_store import EventStore
from tests.harness.servers.gateway import RunningGateway


@dataclass
class LetterMaker:
    """Publishes what becomes a dead letter."""

    client: Client
    tenant: str = "acme"

    async def say(self, subject_id: str, data: EventData, source: str = "/test") -> int:
        """Publish an event and return its sequence."""
        message = encode(data, tenant=self.tenant, subject_id=subject_id, source=source)
        return await EventStore(self.client).publish(message)

    async def event(
        self, consumer: str = "gateway", error: str = "KeyError: 'x'", subject: str = "", body: bytes = b"{}"
    ) -> int:
        """Store the dead letter of an event, and return its number."""
        subject = subject or f"saccade.evt.{self.tenant}.job.{new_id('job')}.submitted"
        headers = {"Saccade-Sequence": "7", "Saccade-Subject": subject, "Saccade-Error": error}
        message = Message(f"saccade.dlq.EVENTS.{consumer}", new_id("evt"), body)
        return await EventStore(self.client, DEADLETTERS.name).publish(message, headers=headers)

    async def delivery(
        self,
        endpoint_id: str,
        sequence: int,
        *,
        attempt: int = 9,
        last: bool = True,
        status: int = 500,
        event_id: str = "",
    ) -> int:
        """Store the record of a failed attempt to deliver."""
        data = WebhookFailed(
            endpoint_id=endpoint_id,
            event_id=event_id or new_id("evt"),
            event_type="job.succeeded",
            event_subject=new_id("job"),
            sequence=sequence,
            attempt=attempt,
            status=status,
            latency_ms=1.0,
            url_origin="http://127.0.0.1:1",
            error="http_status",
            next_attempt_at=None if last else datetime.now(UTC) + timedelta(hours=1),
        )
        message = encode(data, tenant=self.tenant, subject_id=endpoint_id, source="/notifier")
        return await EventStore(self.client, DELIVERIES.name).publish(message)

    async def job(self, message: str = "frame 17 of job is broken", job_id: str | None = None, attempt: int = 0) -> str:
        """Submit a job, unless it exists, and have it fail."""
        found = job_id or new_id("job")
        if job_id is None:
            submitted = JobSubmitted(
                workload="lap_compare",
                workload_version="1",
                inputs={},
                params={},
                deadline=datetime.now(UTC) + timedelta(hours=1),
            )
            await self.say(found, submitted)
        error = ErrorBody(code=ErrorCode.INPUT_UNREADABLE, message=message, hint="Look.")
        await self.say(found, JobFailed(attempt=attempt, failure="user", error=error))
        return found


@dataclass
class OperatorClient:
    """Requests of one operator to a gateway."""

    running: RunningGateway
    key: str | None = None

    @property
    def _headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}.secret"} if self.key else {}

    async def ls(self, **params: Any) -> dict[str, Any]:
        """List letters."""
        answer = await self.running.http.get("/v1/dead-letters", params=params, headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def ids(self, **params: Any) -> set[str]:
        """List the ids of letters."""
        return {letter["id"] for letter in (await self.ls(**params))["data"]}

    async def show(self, letter_id: str | int) -> dict[str, Any]:
        """Read a letter."""
        answer = await self.running.http.get(f"/v1/dead-letters/{letter_id}", headers=self._headers)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def post(self, path: str, **body: Any) -> Any:
        """Order an act: ``<id>/redrive`` on one letter, ``redrive`` on all that match."""
        bulk = "/" not in path
        url = "/v1/dead-letter-plans" if bulk else f"/v1/dead-letters/{path}"
        given = {"why": "a test"} | body | ({"action": path} if bulk else {})
        return await self.running.http.post(url, json=given, headers=self._headers)

    async def ended(self, plan_id: str, timeout_s: float = 15.0) -> dict[str, Any]:
        """Wait until a plan is carried out."""
        async with asyncio.timeout(timeout_s):
            while True:
                answer = await self.running.http.get(f"/v1/dead-letter-plans/{plan_id}", headers=self._headers)
                assert answer.status_code == 200, answer.text
                found: dict[str, Any] = answer.json()
                if found["state"] != "running":
                    return found
                await asyncio.sleep(0.02)
