"""Canaries: texts that must not be found anywhere after an erasure, seeded wherever a tenant's data is stored."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from nats.aio.client import Client

from contracts.callback import callback_subject
from contracts.events.base import EventData, Message, encode
from contracts.events.budget import BudgetSet
from contracts.events.delivery import WebhookDelivered
from contracts.events.job import Cost, JobInput, JobStarted, JobStarting, JobSubmitted, JobSucceeded
from contracts.events.rule import GroupUploadAdded, RuleCreated, RuleDefinition
from contracts.events.upload import UploadCreated
from contracts.ids import new_id
from contracts.streams import STREAMS
from kit.bucket import Bucket
from kit.bus.event_store import EventStore

PATTERN = "canary-"


class Stores(Protocol):
    """Bus and bucket of a test."""

    @property
    def client(self) -> Client:
        """Connection to the bus."""

    @property
    def store(self) -> EventStore:
        """Stream of the events."""

    @property
    def bucket(self) -> Bucket:
        """Bucket."""


@dataclass
class Seeded:
    """What was stored of one tenant."""

    tenant: str
    jobs: list[str] = field(default_factory=list)
    uploads: list[str] = field(default_factory=list)
    canaries: list[str] = field(default_factory=list)

    def canary(self) -> str:
        """Return a new canary."""
        self.canaries.append(f"{PATTERN}{self.tenant}-{len(self.canaries):05d}-x")
        return self.canaries[-1]


async def seed(harness: Stores, tenant: str, count: int, rng: random.Random) -> Seeded:
    """Store data of a tenant with at least ``count`` canaries: jobs that have ended, uploads, rules and records."""
    seeded = Seeded(tenant)
    while len(seeded.canaries) < count:
        await _seed_job(harness, seeded, rng)
    data = RuleCreated(rule=RuleDefinition(name=seeded.canary(), workload="echo", metadata={"a": seeded.canary()}))
    await _publish(harness, tenant, new_id("rul"), data)
    await _publish(harness, tenant, tenant, BudgetSet(daily_usd=1.0, made_by=seeded.canary()))
    return seeded


async def _seed_job(harness: Stores, seeded: Seeded, rng: random.Random) -> None:
    tenant, bucket = seeded.tenant, harness.bucket
    job_id, upload_id = new_id("job"), new_id("upl")
    seeded.jobs.append(job_id)
    seeded.uploads.append(upload_id)
    name = seeded.canary()
    key = bucket.key("uploads", tenant, upload_id, f"{name}.mp4")
    created = UploadCreated(
        key=key, filename=f"{name}.mp4", content_type="video/mp4", size_bytes=1, metadata={"who": seeded.canary()}
    )
    await _publish(harness, tenant, upload_id, created)
    joined = GroupUploadAdded(rule_id=new_id("rul"), upload_id=upload_id, value=seeded.canary(), number=1, count=1)
    await _publish(harness, tenant, new_id("grp"), joined)
    file = JobInput(
        upload_id=upload_id, key=key, filename=name, content_type="video/mp4", size_bytes=1, sha256="0" * 64
    )
    submitted = JobSubmitted(
        workload="echo",
        workload_version="1",
        inputs={"video": [file]},
        params={"note": seeded.canary()},
        metadata={"who": seeded.canary()},
        deadline=datetime(2030, 1, 1, tzinfo=UTC),
    )
    run_id, cost = new_id("run"), Cost(device="cpu", seconds=1, usd=0)
    starting = JobStarting(attempt=1, run_id=run_id, executor="scripted", device="cpu")
    started = JobStarted(attempt=1, run_id=run_id, device="cpu", worker="w")
    succeeded = JobSucceeded(
        attempt=1, run_id=run_id, result={"winner": seeded.canary()}, manifest_key="m", duration_s=1, cost=cost
    )
    for data in (submitted, starting, started, succeeded):
        await _publish(harness, tenant, job_id, data)
    await _seed_messages(harness, seeded, job_id, upload_id, rng)
    for folder in (("results", job_id), ("scratch", job_id, "checkpoints")):
        await bucket.put(bucket.key(*folder, f"{seeded.canary()}.txt"), seeded.canary().encode())
    await bucket.put(key, seeded.canary().encode())


async def _seed_messages(harness: Stores, seeded: Seeded, job_id: str, upload_id: str, rng: random.Random) -> None:
    """Store what other streams than that of the events hold of a job."""
    tenant = seeded.tenant
    delivered = WebhookDelivered(
        endpoint_id=new_id("whk"),
        event_id=new_id("evt"),
        event_type="job.succeeded",
        event_subject=job_id,
        sequence=1,
        attempt=1,
        latency_ms=1,
        response_excerpt=seeded.canary(),
        url_origin="https://example.com",
    )
    messages = [
        encode(delivered, tenant=tenant, subject_id=delivered.endpoint_id, source="/notifier"),
        _message(f"saccade.prog.{tenant}.job.{job_id}.progressed", seeded),
        _message(f"saccade.cap.{tenant}.{rng.getrandbits(64):x}", seeded),
        _message(f"saccade.whk.{tenant}.{new_id('whk')}", seeded),
        _message(f"saccade.cnt.{tenant}.{new_id('rul')}.2026-11-23", seeded),
        _message(f"saccade.fetch.{tenant}.upload.{upload_id}", seeded),
        _message(f"saccade.rpl.box.{new_id('rpl')}.{tenant}.job.{job_id}.submitted", seeded),
        _message(callback_subject(tenant, upload_id), seeded),
        _message(f"saccade.tele.{tenant}.session.ses_{job_id.removeprefix('job_')}.joints", seeded),
    ]
    for message in messages:
        await harness.store.publish(message)
    letter = _message("saccade.dlq.EVENTS.dispatcher", seeded)
    headers = {
        "Saccade-Subject": f"saccade.evt.{tenant}.job.{job_id}.started",
        "Saccade-Error": f"KeyError: '{seeded.canary()}'",
    }
    await harness.store.publish(letter, headers=headers)


async def _publish(harness: Stores, tenant: str, subject_id: str, data: EventData) -> None:
    await harness.store.publish(encode(data, tenant=tenant, subject_id=subject_id, source="/test"))


def _message(subject: str, seeded: Seeded) -> Message:
    return Message(subject, new_id("evt"), f'{{"text": "{seeded.canary()}"}}'.encode())


async def found_in_streams(harness: Stores, tenant: str) -> set[str]:
    """Return the streams in which something of a tenant is found, by body or header."""
    wanted, found = f"{PATTERN}{tenant}-".encode(), set[str]()
    for stream in STREAMS:
        if not stream.allow_direct:
            continue
        store, after, remaining = EventStore(harness.client, stream.name), 0, 1
        while remaining:
            batch, remaining = await store.batch(after, with_headers=True)
            if not batch:
                break
            for stored in batch:
                text = stored.body + repr(stored.headers).encode() + stored.subject.encode()
                if wanted in text or f".{tenant}.".encode() in stored.subject.encode():
                    found.add(stream.name)
            after = batch[-1].sequence
    return found


async def found_in_bucket(bucket: Bucket, tenant: str) -> list[str]:
    """Return the keys of objects that name a tenant's canary, or hold one."""
    wanted = f"{PATTERN}{tenant}-"
    keys = await bucket.list_keys(bucket.key(""))
    return [key for key in keys if wanted in key or wanted.encode() in await bucket.get(key)]


async def found_in_files(folder: Path, tenant: str) -> list[str]:
    """Return the files below a folder that hold a tenant's canary."""
    return await asyncio.to_thread(lambda: list(_files_with(folder, f"{PATTERN}{tenant}-".encode())))


def _files_with(folder: Path, wanted: bytes) -> Iterator[str]:
    for path in sorted(folder.rglob("*")):
        if wanted.decode() in path.name or (path.is_file() and wanted in path.read_bytes()):
            yield str(path.relative_to(folder))
