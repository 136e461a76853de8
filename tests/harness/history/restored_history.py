"""A long history of jobs in a stream, in seconds: restored, because publishing it takes much longer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from contracts.events.base import encode
from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from kit.bus.connection import connect, declare, request
from kit.bus.jetstream_api import stream_info
from kit.bus.stream_copies import restore_stream
from kit.history.nats_archive import ArchiveBounds, ArchivedMessage, encode_archive
from kit.settings import NatsSettings


async def restore_jobs(settings: NatsSettings, count: int) -> None:
    """Replace the stream of events by one with so many submitted jobs of the tenant ``local``."""
    client = await connect(settings, "history")
    try:
        await declare(client)
        info = await stream_info(client, "EVENTS")
        await request(client, "STREAM.DELETE.EVENTS", {})
        bounds = ArchiveBounds(1, count, 1000 * count, count)
        await restore_stream(client, info["config"], bounds.state(), encode_archive(bounds, _submitted(count)))
    finally:
        await client.close()


def _submitted(count: int) -> Iterator[ArchivedMessage]:
    deadline = datetime.now(UTC) + timedelta(days=1)
    data = JobSubmitted(workload="lap_compare", workload_version="1", inputs={}, params={}, deadline=deadline)
    template = encode(data, tenant="local", subject_id=new_id("job"), source="/test")
    job_id = template.subject.split(".")[4]
    for number in range(1, count + 1):
        other, event_id = new_id("job"), new_id("evt")
        body = template.body.replace(job_id.encode(), other.encode()).replace(template.id.encode(), event_id.encode())
        yield ArchivedMessage(number, template.subject.replace(job_id, other), time.time_ns(), body)
