"""Does a job's work in its worker's place: files in the bucket, a manifest, and the events that say so."""

from __future__ import annotations

from datetime import UTC, datetime

from contracts.events.job import Cost, JobSucceeded
from contracts.manifest import Artifact, Manifest
from kit.bucket import Bucket, open_bucket
from tests.harness.servers.running_services import RunningServices
from tests.harness.streams.notifier import RUN_ID, publisher


async def leave_files(bucket: Bucket, job_id: str, content: bytes, *, damaged: bool) -> str:
    """Leave three files and their manifest, as a worker does, and give the manifest's key; one may be damaged since."""
    artifacts = []
    for name, body in (("film.mp4", content), ("clips/first.mp4", b"clip"), ("facts.bin", b"as promised")):
        sent = await bucket.put(bucket.key("results", job_id, name), body)
        facts = {"key": sent.key, "bytes": sent.bytes, "sha256": sent.sha256, "media_type": "video/mp4"}
        artifacts.append(Artifact(name=name, **facts))
    if damaged:
        await bucket.put(artifacts[2].key, b"as received")
    manifest = Manifest(
        job_id=job_id,
        tenant="local",
        workload="lap_compare",
        workload_version="1",
        attempt=1,
        run_id=RUN_ID,
        created_at=datetime.now(UTC),
        duration_s=1,
        device="cpu",
        result={},
        artifacts=artifacts,
    )
    return (await bucket.put(bucket.key("results", job_id, "manifest.json"), manifest.model_dump_json().encode())).key


async def succeed(services: RunningServices, job_id: str, content: bytes, *, damaged: bool = False) -> None:
    """Do a job's work in its worker's place."""
    async with publisher(services.nats.settings) as jobs, open_bucket(services.s3.settings) as bucket:
        await jobs.start(job_id)
        manifest_key = await leave_files(bucket, job_id, content, damaged=damaged)
        cost = Cost(device="cpu", seconds=1, usd=0)
        data = JobSucceeded(attempt=1, run_id=RUN_ID, result={}, manifest_key=manifest_key, duration_s=1, cost=cost)
        await jobs.say(job_id, data)
