"""The callbacks of one notifier in this event loop, a job of a video as the services publish it, and its artifacts."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Literal

from contracts.callback import PLAN_SUFFIX, Callback
from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, encode
from contracts.events.job import Cost, JobFailed, JobProgressed, JobStageCompleted, JobSubmitted, JobSucceeded
from contracts.events.upload import UploadFailed
from contracts.ids import new_id
from contracts.streams import CALLBACKS
from kit.bucket import Bucket, open_bucket
from kit.bus.connection import connect, declare, epoch_of
from kit.bus.event_store import EventStore
from kit.network.address_guard import AddressGuard
from kit.settings import NatsSettings, S3Settings
from kit.tasks import end
from services.notifier.callbacks.artifacts import Artifacts
from services.notifier.callbacks.engine import CallbackEngine
from services.notifier.ended_subjects import EndedSubjects
from services.notifier.metrics import NotifierMetrics
from services.notifier.on_event import follow_events, follow_progress
from services.notifier.webhooks.sending.sender import Sender
from tests.harness.callbacks.convex_site import ConvexSite
from tests.harness.streams.notifier import RUN_ID, Publisher
from tests.harness.webhooks.delivery import Clock

TENANT = "local"
STAGES = ("court", "detect", "track", "analyse", "render", "report")
SUMMARY = {
    "videoId": "v1",
    "duration": 61.5,
    "fps": 29.97,
    "totalFrames": 1843,
    "processedFrames": 1843,
    "videoWidth": 1920,
    "videoHeight": 1080,
    "playerCount": 2,
    "hasCourtDetection": True,
    "hasRallyDetection": True,
    "rallyCount": 7,
    "courtDetection": {"detected": True, "confidence": 0.9},
}
RESULT = {
    "players": [{"player": 0, "distance_m": 81.25, "mean_speed_m_s": 2.0, "top_speed_m_s": None}],
    "warnings": ["The video has 15 frames per second."],
    "missing": [],
}
PLAYERS = [{"player_id": 0, "total_distance": 81.25, "avg_speed": 7.2}]
RESULTS = json.dumps({"video_id": "v1", "players": [], "skeleton_data": []}).encode()
VIDEO = b"\x00\x00\x00\x18ftypmp42" * 1000


@dataclass
class VideoJob:
    """One accepted video: its callback, and its job as gateway, dispatcher and worker publish it."""

    publisher: Publisher
    callback: Callback
    bucket: Bucket | None = None
    tenant: str = TENANT

    @property
    def job_id(self) -> str:
        return self.callback.job_id

    async def say(self, data: EventData) -> int:
        return await self.publisher.say(self.job_id, data, self.tenant)

    async def start(self) -> None:
        """Submit, queue and start the job."""
        submitted = JobSubmitted(
            workload="badminton",
            workload_version="1",
            inputs={},
            params={},
            metadata={"videoId": self.callback.video_id},
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )
        await self.say(submitted)
        await self.publisher.start(self.job_id, self.tenant)

    async def progress(self, fraction: float, frame: int | None = None, frame_count: int | None = None) -> None:
        data = JobProgressed(
            attempt=1,
            run_id=RUN_ID,
            stage="detect",
            fraction=fraction,
            stage_fraction=fraction,
            frame=frame,
            frame_count=frame_count,
        )
        await self.say(data)

    async def complete_stage(self, stage: str = "court") -> None:
        await self.say(JobStageCompleted(attempt=1, run_id=RUN_ID, stage=stage, duration_s=1.5))

    async def leave(self, **artifacts: bytes) -> None:
        """Put artifacts into the bucket: by default all that a callback reads."""
        assert self.bucket
        files = artifacts or {
            "compat/summary.json": json.dumps(SUMMARY).encode(),
            "compat/results.json": RESULTS,
            "processed.mp4": VIDEO,
        }
        for name, body in files.items():
            await self.bucket.put(self.bucket.key("results", self.job_id, name), body)

    async def succeed(self) -> None:
        cost = Cost(device="cpu", seconds=1, usd=0)
        data = JobSucceeded(attempt=1, run_id=RUN_ID, result=RESULT, manifest_key="k", duration_s=1, cost=cost)
        await self.say(data)

    async def fail(self) -> None:
        error = ErrorBody(code=ErrorCode.CLIP_TOO_SHORT, message="The video has 3 frames.", hint="Send a longer one.")
        await self.say(JobFailed(attempt=1, failure="user", error=error))

    async def fail_upload(self, reason: Literal["refused", "deleted"] = "refused") -> None:
        error = ErrorBody(code=ErrorCode.MEDIA_NO_VIDEO, message="It is no video.", hint="Send a video.")
        message = encode(
            UploadFailed(reason=reason, error=error if reason == "refused" else None),
            tenant=self.tenant,
            subject_id=self.callback.upload_ids[0],
            source="/test",
        )
        await self.publisher.store.publish(message)

    async def stored(self) -> Callback:
        """Read the callback's record."""
        found = await EventStore(self.publisher.client, CALLBACKS.name).load(self.callback.subject)
        return Callback.model_validate_json(found[-1].body)


async def accept(
    publisher: Publisher, site: ConvexSite, bucket: Bucket | None = None, video_id: str = "v1", tenant: str = TENANT
) -> VideoJob:
    """Store a callback as the gateway does when it accepts a video."""
    callback = new_callback(site, video_id, tenant)
    await EventStore(publisher.client, CALLBACKS.name).publish(callback.message(), after=0)
    return VideoJob(publisher, callback, bucket, tenant)


def new_callback(site: ConvexSite, video_id: str = "v1", tenant: str = TENANT) -> Callback:
    return Callback(
        tenant=tenant,
        video_id=video_id,
        site_url=site.callback_url.removesuffix(PLAN_SUFFIX),
        dialect=site.dialect,
        generation=1,
        fingerprint="f",
        job_id=new_id("job"),
        upload_ids=(new_id("upl"),),
        accepted_at=datetime.now(UTC),
    )


@dataclass
class RunningCallbacks:
    """The callbacks of one notifier."""

    engine: CallbackEngine
    clock: Clock

    def pass_(self, **time: float) -> None:
        """Advance the clock."""
        self.clock.ahead += timedelta(**time)
        self.engine.recheck()


@contextlib.asynccontextmanager
async def run_callbacks(
    nats: NatsSettings, s3: S3Settings | None, clock: Clock | None = None
) -> AsyncIterator[RunningCallbacks]:
    """Run the callbacks of a notifier; at the end they are cancelled, as by a kill."""
    client = await connect(nats, "callbacks")
    await declare(client)
    store = EventStore(client)
    epoch, head = await epoch_of(client, "EVENTS")
    clock = clock or Clock()
    async with Sender(AddressGuard.allowing(["127.0.0.0/8"]), https_only=False) as sender:
        engine = CallbackEngine(store, sender, Artifacts(s3), NotifierMetrics(), clock)
        ended = EndedSubjects()
        tail = follow_events(store, ended.on_event, engine.on_event)
        await follow_progress(client, ended, engine.on_progress)
        tasks = [asyncio.ensure_future(one) for one in (tail.run(head, epoch), engine.run())]
        try:
            async with asyncio.timeout(15):
                while not engine.active:
                    await asyncio.sleep(0.01)
            yield RunningCallbacks(engine, clock)
            for task in tasks:
                assert not task.done(), task.result()
        finally:
            await end(*tasks)
            await client.close()


@contextlib.asynccontextmanager
async def workers_bucket(s3: S3Settings) -> AsyncIterator[Bucket]:
    """Open the bucket in which workers leave their artifacts."""
    async with open_bucket(s3) as bucket:
        await bucket.create()
        yield bucket
