"""Test driver in place of gateway and dispatcher: submits jobs, starts attempts, reads events. Decides nothing."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from contracts.assignment import Assignment
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Envelope, EventData, decode, encode
from contracts.events.job import (
    JobCancelRequested,
    JobInput,
    JobInterrupted,
    JobProgressed,
    JobRetrying,
    JobStarting,
    JobSubmitted,
)
from contracts.ids import new_id
from contracts.job import Job, State, fold
from contracts.streams import aggregate
from kit.bucket import Bucket, open_bucket
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from tests.harness.runtime.job_changes import job_changes

TENANT = "test"
WAIT_S = 90.0


@dataclass
class JobDriver:
    """Publishes and reads the events of jobs."""

    store: EventStore
    progress: EventStore
    bucket: Bucket

    async def submit(
        self,
        *script: str,
        inputs: dict[str, list[JobInput]] | None = None,
        workload: str = "scripted",
        device: str = "cpu",
    ) -> Assignment:
        """Bring a scripted job to the point where its first worker is to be launched."""
        job_id = new_id("job")
        submitted = JobSubmitted(
            workload=workload,
            workload_version="1",
            inputs=inputs or {},
            params={"script": list(script)},
            deadline=datetime.now(UTC) + timedelta(hours=1),
        )
        await self.say(job_id, submitted)
        return await self.start(job_id, device)

    async def start(self, job_id: str, device: str = "cpu") -> Assignment:
        """Start the next attempt."""
        job = await self.job(job_id)
        run_id, attempt = new_id("run"), job.attempt + 1
        starting = JobStarting(attempt=attempt, run_id=run_id, executor="test", device=device)
        sequence = await self.say(job_id, starting)
        return Assignment(
            job_id=job_id,
            tenant=TENANT,
            workload=job.submitted.workload,
            attempt=attempt,
            run_id=run_id,
            device=device,
            usd_per_s=0.001,
            params=job.submitted.params,
            inputs=job.submitted.inputs,
            sequence=sequence,
        )

    async def replace_attempt(self, assignment: Assignment) -> Assignment:
        """Publish the run as lost and start another attempt."""
        if (await self.job(assignment.job_id)).state is not State.INTERRUPTED:
            error = SaccadeError(ErrorCode.WORKER_LOST).body()
            lost = JobInterrupted(attempt=assignment.attempt, run_id=assignment.run_id, failure="lost", error=error)
            await self.say(assignment.job_id, lost)
        now = datetime.now(UTC)
        retrying = JobRetrying(
            attempt=assignment.attempt + 1, after="lost", delay_s=0, not_before=now, deadline=now + timedelta(hours=1)
        )
        await self.say(assignment.job_id, retrying)
        return await self.start(assignment.job_id)

    async def request_cancel(self, job_id: str) -> None:
        await self.say(job_id, JobCancelRequested(by="test"))

    async def upload(self, filename: str, body: bytes) -> JobInput:
        upload_id = new_id("upl")
        key = self.bucket.key("uploads", TENANT, upload_id, filename)
        await self.bucket.put(key, body, "video/mp4")
        return JobInput(
            upload_id=upload_id,
            key=key,
            filename=filename,
            content_type="video/mp4",
            size_bytes=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
        )

    async def say(self, job_id: str, data: EventData) -> int:
        return await self.store.publish(encode(data, tenant=TENANT, subject_id=job_id, source="/test"))

    async def job(self, job_id: str) -> Job:
        job = None
        for stored in await self.store.load(aggregate(TENANT, "job", job_id)):
            job = fold(job, decode(stored.body), stored.sequence)
        assert job is not None
        return job

    async def events(self, job_id: str) -> list[Envelope]:
        """Return every event of the job, in order."""
        return [decode(stored.body) async for stored in self.store.history(0, aggregate(TENANT, "job", job_id))]

    async def types(self, job_id: str) -> list[str]:
        return [event.type for event in await self.events(job_id)]

    async def newest_progress(self, job_id: str) -> tuple[datetime, JobProgressed] | None:
        for stored in await self.progress.load(f"saccade.prog.{TENANT}.job.{job_id}.*"):
            event = decode(stored.body)
            data = event.parsed()
            assert isinstance(data, JobProgressed)
            return event.time, data
        return None

    async def until_progress(self, job_id: str) -> JobProgressed:
        """Wait for the first progress event."""
        end = time.monotonic() + WAIT_S
        while (newest := await self.newest_progress(job_id)) is None:
            assert time.monotonic() < end, "no progress came"
            await asyncio.sleep(0.05)
        return newest[1]

    async def until_job(self, job_id: str, true: Callable[[Job], bool]) -> Job:
        """Wait until the job satisfies a condition."""
        end = time.monotonic() + WAIT_S
        async with job_changes(self.store.client, aggregate(TENANT, "job", job_id)) as wait_for_change:
            while True:
                job = await self.job(job_id)
                if true(job):
                    return job
                assert time.monotonic() < end, f"the job stayed {job.state}: {await self.types(job_id)}"
                await wait_for_change()

    async def until(self, job_id: str, state: State) -> Job:
        """Wait until the job is in this state."""
        return await self.until_job(job_id, lambda job: job.state is state)


@asynccontextmanager
async def open_job_driver(nats: NatsSettings, s3: S3Settings) -> AsyncIterator[JobDriver]:
    """Connect to both servers and create streams and bucket."""
    client = await connect(nats, "job-driver")
    await declare(client, nats.replicas)
    async with open_bucket(s3) as bucket:
        await bucket.create()
        yield JobDriver(EventStore(client), EventStore(client, "PROGRESS"), bucket)
    await client.close()
