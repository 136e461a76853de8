"""Events of whole stories for tests of history: jobs that ended and jobs that have not, of two tenants."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta

from contracts.errors import ErrorBody, ErrorCode
from contracts.events.base import EventData, Message, encode
from contracts.events.job import (
    Cost,
    JobFailed,
    JobInput,
    JobInterrupted,
    JobLaunched,
    JobQueued,
    JobRetrying,
    JobStarted,
    JobStarting,
    JobSubmitted,
    JobSucceeded,
)
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings

#: In names, addresses, metadata and free text of every story.
SECRET = "Ayrton"


def story(tenant: str, *, webhook_url: str | None = None, ends: str = "succeeded") -> list[Message]:
    """Return the events of an upload and of the job on it; ``ends`` may be ``succeeded``, ``failed`` or ``never``."""
    job, run, upload = new_id("job"), new_id("run"), new_id("upl")
    later = datetime.now(UTC) + timedelta(hours=1)
    sha256 = "ab" * 32
    name = f"{SECRET}.mp4"
    given = JobInput(
        upload_id=upload, key=f"uploads/{upload}", filename=name, content_type="video/mp4", size_bytes=7, sha256=sha256
    )
    submitted = JobSubmitted(
        workload="lap_compare",
        workload_version="1.0.0",
        inputs={"reference": [given]},
        params={"driver": SECRET, "laps": 2},
        metadata={SECRET: SECRET},
        webhook_url=webhook_url,
        deadline=later,
    )
    error = ErrorBody(code=ErrorCode.OUT_OF_MEMORY, message=f"{SECRET} was too large", hint=SECRET)
    cost = Cost(device="L4", seconds=3.5, usd=0.000777)
    of_upload: list[EventData] = [
        UploadCreated(key=given.key, filename=name, content_type="video/mp4", size_bytes=7, metadata={"who": SECRET}),
        UploadCompleted(
            size_bytes=7,
            sha256=sha256,
            media=MediaFacts(media="video", container="mp4", codec="h264", width_px=1920, height_px=1080),
        ),
    ]
    of_job: list[EventData] = [
        submitted,
        JobQueued(position=1),
        JobStarting(attempt=1, run_id=run, executor="modal", device="L4", usd_per_s=0.000222),
        JobLaunched(attempt=1, run_id=run, call_id=f"fc-{SECRET}"),
        JobStarted(attempt=1, run_id=run, device="L4", worker=f"host-of-{SECRET}"),
    ]
    if ends == "succeeded":
        done = {"attempt": 1, "run_id": run, "result": {"who": SECRET, "delta_s": 0.25}, "manifest_key": SECRET}
        of_job.append(JobSucceeded.model_validate(done | {"duration_s": 3.0, "cost": cost}))
    else:
        of_job.append(JobInterrupted(attempt=1, run_id=run, failure="out_of_memory", error=error, cost=cost))
        if ends == "failed":
            of_job.append(JobFailed(attempt=1, failure="out_of_memory", error=error))
        else:
            of_job.append(
                JobRetrying(attempt=2, after="out_of_memory", delay_s=1.0, rung=1, not_before=later, deadline=later)
            )
    return [
        *(encode(data, tenant=tenant, subject_id=upload, source="/gateway") for data in of_upload),
        *(encode(data, tenant=tenant, subject_id=job, source="/dispatcher") for data in of_job),
    ]


@asynccontextmanager
async def stored_stories(settings: NatsSettings, stories: list[list[Message]]) -> AsyncIterator[EventStore]:
    """Store stories one event after the other and yield the store."""
    client = await connect(settings, "stories")
    try:
        await declare(client)
        store = EventStore(client)
        for message in (message for told in stories for message in told):
            await store.publish(message)
        yield store
    finally:
        await client.close()


def store_stories(settings: NatsSettings, stories: list[list[Message]]) -> None:
    """Store stories one event after the other."""

    async def store() -> None:
        async with stored_stories(settings, stories):
            pass

    asyncio.run(store())
