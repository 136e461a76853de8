"""Test driver in place of gateway, robot and camera of a live session: opens it, sends telemetry, reads events."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from contracts.assignment import Assignment
from contracts.errors import ErrorCode
from contracts.events.base import EventData, Message, decode, encode
from contracts.events.job import JobSubmitted
from contracts.events.session import (
    FrameTotals,
    SessionFrameAcked,
    SessionOpened,
    SessionResetRequested,
    SessionStopRequested,
)
from contracts.ids import new_id
from contracts.session import Session, SessionLaunch, fold_stored, job_id_of_session, telemetry_subject
from contracts.streams import aggregate
from contracts.telemetry import (
    FRAME_CAPTURED,
    FRAME_CLOCK_OFFSET,
    FRAME_REFUSED,
    FRAME_SEQ,
    FRAME_SOURCE,
    FrameAck,
)
from kit.bus.event_store import EventStore
from tests.harness.runtime.job_driver import TENANT, WAIT_S, JobDriver


@dataclass
class SessionDriver:
    """One session."""

    driver: JobDriver
    session_id: str = field(default_factory=lambda: new_id("ses"))
    sent: int = 0

    @property
    def job_id(self) -> str:
        return job_id_of_session(self.session_id)

    @property
    def telemetry(self) -> EventStore:
        return EventStore(self.driver.store.client, "TELEMETRY")

    async def open(
        self,
        params: dict[str, Any],
        *,
        workload: str = "watching",
        replay_of: str | None = None,
        idle_timeout_s: float = 60.0,
        max_length_s: float = 600.0,
    ) -> Assignment:
        """Open it and bring its job to the point where a worker is to be launched."""
        common = {"idle_timeout_s": idle_timeout_s, "max_length_s": max_length_s, "replay_of": replay_of}
        await self.say(SessionOpened(workload=workload, workload_version="1", params=params, **common))
        launch = SessionLaunch(session_id=self.session_id, opened_at=datetime.now(UTC), params=params, **common)
        submitted = JobSubmitted(
            workload=workload,
            workload_version="1",
            inputs={},
            params=launch.model_dump(mode="json"),
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )
        await self.driver.say(self.job_id, submitted)
        return await self.driver.start(self.job_id)

    async def say(self, data: EventData) -> None:
        await self.driver.store.publish(encode(data, tenant=TENANT, subject_id=self.session_id, source="/test"))

    async def stop(self) -> None:
        await self.say(SessionStopRequested(by="test"))

    async def reset(self) -> None:
        await self.say(SessionResetRequested(by="test"))

    async def frame(
        self,
        seq: int,
        picture: bytes | None = None,
        *,
        captured_at_s: float | None = None,
        source: str = "camera",
        offset_s: float | None = None,
        refused: ErrorCode | None = None,
    ) -> None:
        headers = {FRAME_SEQ: str(seq), FRAME_CAPTURED: repr(captured_at_s or time.time()), FRAME_SOURCE: source}
        if offset_s is not None:
            headers[FRAME_CLOCK_OFFSET] = repr(offset_s)
        if refused is not None:
            headers[FRAME_REFUSED] = refused
        body = b"" if refused else picture if picture is not None else f"picture {seq}".encode()
        message = Message(telemetry_subject(TENANT, self.session_id, "frames"), new_id("evt"), body)
        await self.telemetry.publish(message, headers=headers)
        self.sent += 1

    async def joints(self, *samples: tuple[int, float, list[float]], **more: Any) -> None:
        batch = {"names": ["pan"], "unit": "rad", "samples": samples} | more
        message = Message(
            telemetry_subject(TENANT, self.session_id, "joints"), new_id("evt"), json.dumps(batch).encode()
        )
        await self.telemetry.publish(message)

    async def acked(self) -> list[SessionFrameAcked]:
        subject = telemetry_subject(TENANT, self.session_id, "acks")
        return [
            SessionFrameAcked.model_validate_json(stored.body) async for stored in self.telemetry.history(0, subject)
        ]

    async def acks(self) -> list[FrameAck]:
        return [ack for acked in await self.acked() for ack in acked.acks]

    async def totals(self) -> FrameTotals:
        said = await self.acked()
        return said[-1].totals if said else FrameTotals()

    async def session(self) -> Session:
        session = None
        for stored in await self.driver.store.load(aggregate(TENANT, "session", self.session_id)):
            session = fold_stored(session, stored.subject, stored.body, stored.sequence)
        assert session is not None
        return session

    async def types(self) -> list[str]:
        history = self.driver.store.history(0, aggregate(TENANT, "session", self.session_id))
        return [decode(stored.body).type async for stored in history]

    async def until(self, true: Callable[[list[FrameAck]], bool]) -> list[FrameAck]:
        """Wait until the acknowledgements satisfy a condition."""
        end = time.monotonic() + WAIT_S
        while not true(acks := await self.acks()):
            assert time.monotonic() < end, acks
            await asyncio.sleep(0.05)
        return acks

    async def until_published(self, event_type: str, count: int = 1) -> None:
        end = time.monotonic() + WAIT_S
        while (await self.types()).count(event_type) < count:
            assert time.monotonic() < end, (await self.types(), await self.driver.types(self.job_id))
            await asyncio.sleep(0.05)

    async def notes(self, name: str) -> list[dict[str, Any]]:
        return json.loads(await self.driver.bucket.get(self.driver.bucket.key("results", self.job_id, name)))
