"""Plays the worker of a live session: hears its telemetry and says what a worker says, event by event."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from nats.aio.msg import Msg

from contracts.errors import ErrorCode, SaccadeError
from contracts.events import EventData, encode
from contracts.events.base import Message
from contracts.events.job import Cost, JobStarted, JobStarting, JobSucceeded
from contracts.events.session import (
    FrameRejection,
    FrameTotals,
    SessionChunkExported,
    SessionFrameAcked,
    SessionProgressed,
    SessionReady,
    SessionStarted,
)
from contracts.ids import new_id
from contracts.manifest import Artifact
from contracts.session import job_id_of_session, telemetry_subject
from contracts.telemetry import FRAME_REFUSED, FRAME_SEQ, FRAME_SOURCE, FrameAck
from kit.bus.event_store import EventStore
from modal_workers import catalog
from tests.harness.servers.gateway import RunningGateway

WORKLOAD = "streamed"


@contextmanager
def streamed_catalog() -> Iterator[None]:
    """Make the catalog of this process find the scripted session worker."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("WORKER_CATALOG", "tests.session_workers")
        catalog.forget_found()
        yield
    catalog.forget_found()


@dataclass
class ScriptedSessionWorker:
    """One attempt's worker. It accepts every frame that has bytes, as soon as it comes."""

    running: RunningGateway
    session_id: str
    tenant: str = "local"
    run_id: str = field(default_factory=lambda: new_id("run"))
    frames: list[Msg] = field(default_factory=list)
    joints: list[Msg] = field(default_factory=list)
    totals: FrameTotals = field(default_factory=FrameTotals)
    chunks: int = 0
    #: While it is not set, verdicts wait.
    judging: asyncio.Event = field(default_factory=asyncio.Event)
    #: What is wrong with every frame, if anything is.
    wrong: SaccadeError | None = None

    async def claim(self, attempt: int = 1) -> None:
        """Begin the job's attempt and say that frames are taken."""
        job_id = job_id_of_session(self.session_id)
        await self.running.say(
            job_id, JobStarting(attempt=attempt, run_id=self.run_id, executor="local", device="cpu"), self.tenant
        )
        await self.running.say(
            job_id, JobStarted(attempt=attempt, run_id=self.run_id, device="cpu", worker="test"), self.tenant
        )
        await self.say(SessionReady(attempt=attempt, run_id=self.run_id, device="cpu"))

    async def say(self, data: EventData) -> None:
        """Publish an event of the session."""
        message = encode(data, tenant=self.tenant, subject_id=self.session_id, source=f"/worker/{self.run_id}")
        if data.kind == "prog":
            await EventStore(self.running.store.client, "PROGRESS").publish(message)
        else:
            sequence = await self.running.store.publish(message)
            assert await self.running.tail.wait_for(sequence, 20)

    async def judge(self, msg: Msg) -> None:
        """Return a frame its verdict."""
        await self.judging.wait()
        headers = msg.headers or {}
        refused = headers.get(FRAME_REFUSED) or (self.wrong.code if self.wrong else None)
        status: Any = "accepted" if not refused else "dropped" if refused == ErrorCode.RATE_LIMITED else "rejected"
        source, seq = headers[FRAME_SOURCE], int(headers[FRAME_SEQ])
        detail = self.wrong.message if self.wrong else None
        update = {"sent": self.totals.sent + 1, status: getattr(self.totals, status) + 1}
        if refused:
            update["reasons"] = self.totals.reasons | {refused: self.totals.reasons.get(refused, 0) + 1}
        if status == "rejected":
            update["last_rejection"] = FrameRejection(source=source, seq=seq, reason=refused, detail=detail)
        self.totals = self.totals.model_copy(update=update)
        ack = FrameAck(
            source=source,
            seq=seq,
            status=status,
            reason=refused,
            detail=detail,
            age_s=0.01,
            queue_depth=0,
        )
        if self.totals.accepted == 1 and not refused:
            await self.say(SessionStarted(run_id=self.run_id))
        acked = SessionFrameAcked(run_id=self.run_id, acks=[ack], totals=self.totals)
        kept = Message(
            telemetry_subject(self.tenant, self.session_id, "acks"), new_id("evt"), acked.model_dump_json().encode()
        )
        await EventStore(self.running.store.client, "TELEMETRY").publish(kept)
        await self.say(acked)

    async def progress(self, **figures: Any) -> None:
        """Publish progress."""
        await self.say(
            SessionProgressed(run_id=self.run_id, totals=self.totals, figures=figures, frame_age_s=0.02, cost_usd=0.01)
        )

    async def export(self, name: str = "chunk_0001.ply", body: bytes = b"ply") -> None:
        """Leave a chunk."""
        self.chunks += 1
        bucket = self.running.bucket
        sent = await bucket.put(
            bucket.key("results", job_id_of_session(self.session_id), name), body, "application/octet-stream"
        )
        artifact = Artifact(
            name=name, key=sent.key, bytes=sent.bytes, sha256=sent.sha256, media_type="application/octet-stream"
        )
        await self.say(
            SessionChunkExported(
                run_id=self.run_id, chunk=self.chunks, artifact=artifact, totals=self.totals, figures={"splats": 3}
            )
        )

    async def succeed(self, reason: str = "asked", attempt: int = 1) -> None:
        """End the job as a worker does whose session has come to its end."""
        cost = Cost(device="cpu", seconds=2.0, usd=0.5)
        result = {"reason": reason, "chunks": self.chunks, "totals": self.totals.model_dump(), "figures": {}}
        data = JobSucceeded(
            attempt=attempt, run_id=self.run_id, result=result, manifest_key="none", duration_s=2.0, cost=cost
        )
        await self.running.say(job_id_of_session(self.session_id), data, self.tenant)

    async def heard(self, frames: int = 0, joints: int = 0) -> None:
        """Wait until so much has come."""
        async with asyncio.timeout(20):
            while len(self.frames) < frames or len(self.joints) < joints:
                await asyncio.sleep(0.005)


@asynccontextmanager
async def run_scripted_worker(
    running: RunningGateway, session_id: str, tenant: str = "local"
) -> AsyncIterator[ScriptedSessionWorker]:
    """Play a session's worker: it hears telemetry from now on, and is begun by ``claim``."""
    worker = ScriptedSessionWorker(running, session_id, tenant)
    worker.judging.set()

    async def on_frame(msg: Msg) -> None:
        worker.frames.append(msg)
        await worker.judge(msg)

    async def on_joints(msg: Msg) -> None:
        worker.joints.append(msg)

    client = running.store.client
    subscriptions = [
        await client.subscribe(telemetry_subject(tenant, session_id, "frames"), cb=on_frame),
        await client.subscribe(telemetry_subject(tenant, session_id, "joints"), cb=on_joints),
    ]
    await client.flush()
    try:
        yield worker
    finally:
        for subscription in subscriptions:
            await subscription.unsubscribe()


def jpeg(width: int = 32, height: int = 24) -> bytes:
    """Write a picture as a camera does."""
    import io

    from PIL import Image

    file = io.BytesIO()
    Image.new("RGB", (width, height), (90, 60, 30)).save(file, "JPEG")
    return file.getvalue()


async def opened(running: RunningGateway, headers: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """Open a session."""
    answer = await running.http.post("/v1/sessions", json={"workload": "streamed"} | more, headers=headers)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"/v1/sessions/{answer.json()['id']}"
    found: dict[str, Any] = answer.json()
    return found


async def shown(running: RunningGateway, session_id: str) -> dict[str, Any]:
    """Read a session."""
    answer = await running.http.get(f"/v1/sessions/{session_id}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def send(running: RunningGateway, session_id: str, body: bytes | None = None, **headers: str) -> httpx.Response:
    """Send a frame; underscores in the headers' names stand for hyphens."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return await running.http.post(
        f"/v1/sessions/{session_id}/frames", content=jpeg() if body is None else body, headers=given
    )


def batch(*positions: tuple[float, ...], **more: Any) -> dict[str, Any]:
    """Write joint samples, one a second."""
    samples = [[number, 1e9 + number, list(one)] for number, one in enumerate(positions)]
    return {"names": ["pan", "lift"], "unit": "rad", "samples": samples} | more
