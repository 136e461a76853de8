"""A gateway in the test's own event loop over real servers, files to upload, and the parts of dispatcher and worker."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import anyio
import av
import httpx
import numpy as np
from fastapi import FastAPI

from contracts.events import EventData, decode, encode
from contracts.events.job import Cost, JobArtifactReady, JobQueued, JobStarted, JobStarting, JobSucceeded
from contracts.ids import new_id
from contracts.job import Job, fold
from contracts.manifest import Artifact, Manifest
from contracts.streams import aggregate
from kit.auth.api_keys import AuthSettings
from kit.bucket import Bucket, open_bucket
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.bus.tail import EventTail
from kit.history.archive_access import open_archive
from kit.settings import ArchiveSettings, NatsSettings, S3Settings
from services.gateway.aggregates.view import GatewayView
from services.gateway.app import GatewayLoop, build_gateway
from services.gateway.settings import GatewaySettings, SessionSettings, UrlInputSettings
from tests.harness.servers.loopback_tls import NO_CERTIFICATES


def video(frames: int = 6, width: int = 64, height: int = 48, codec: str = "mpeg4", container: str = "mp4") -> bytes:
    """Encode a short clip whose brightness changes."""
    file = io.BytesIO()
    with av.open(file, "w", format=container) as output:
        stream = output.add_stream(codec, rate=10)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), number * 20 % 255, np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def sound() -> bytes:
    """Encode an MP4 that has sound and no picture."""
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=8000, layout="mono")
        for number in range(4):
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate, frame.pts = 8000, number * 1024
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return file.getvalue()


def picture(width: int = 32, height: int = 24) -> bytes:
    """Encode a PNG."""
    codec = av.CodecContext.create("png", "w")
    codec.width, codec.height, codec.pix_fmt = width, height, "rgb24"
    codec.time_base = 1
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), 90, np.uint8), format="rgb24")
    return b"".join(bytes(packet) for packet in [*codec.encode(frame), *codec.encode()])


def keys_file(folder: Path, *tenants: str, read_only: tuple[str, ...] = ()) -> Path:
    """Write one key a tenant, ``<tenant>.secret``; those of ``read_only`` may only read."""
    keys = [
        {
            "id": tenant,
            "sha256": hashlib.sha256(b"secret").hexdigest(),
            "tenant": tenant,
            "scopes": ["read"] if tenant in read_only else ["read", "write"],
        }
        for tenant in tenants
    ]
    path = folder / "keys.json"
    path.write_text(json.dumps(keys))
    return path


@dataclass
class RunningGateway:
    """A gateway that runs, and what a test needs to play its clients, dispatcher and workers."""

    app: FastAPI
    loop: GatewayLoop
    view: GatewayView
    http: httpx.AsyncClient
    store: EventStore
    bucket: Bucket
    #: Whose jobs dispatcher and workers speak of.
    tenant: str = "local"

    @property
    def tail(self) -> EventTail:
        """Return the tail by which the gateway follows the stream of events."""
        return self.loop.follower.tail

    @property
    def authenticated(self) -> bool:
        """Return whether requests need an API key."""
        return bool(self.app.state.authenticator.authenticated)

    async def put(self, url: str, body: bytes, headers: dict[str, str] | None = None) -> httpx.Response:
        """PUT bytes to a presigned URL."""
        async with httpx.AsyncClient(verify=NO_CERTIFICATES) as client:
            return await client.put(url, content=body, headers=headers)

    async def send(self, body: bytes, content_type: str = "video/mp4", **announced: Any) -> str:
        """Announce a file, PUT its bytes and give the upload's id."""
        headers = announced.pop("headers", {})
        wanted = {"filename": "a.mp4", "content_type": content_type, "size_bytes": len(body)} | announced
        answer = await self.http.post("/v1/uploads", json=wanted, headers=headers)
        assert answer.status_code == 201, answer.text
        upload = answer.json()
        if wanted["size_bytes"] == len(body):
            sent = await self.put(upload["url"], body, upload["headers"])
            assert sent.is_success, sent.text
        else:  # the URL takes the declared size only; a server that does not check that is played
            key = unquote(urlsplit(upload["url"]).path).split("/", 2)[2]
            await self.bucket.put(key, body, content_type)
        return str(upload["id"])

    async def uploaded(self, body: bytes | None = None, content_type: str = "video/mp4", **announced: Any) -> str:
        """Upload a file that is complete when this returns."""
        headers = announced.get("headers", {})
        upload_id = await self.send(body if body is not None else video(), content_type, **announced)
        answer = await self.http.post(f"/v1/uploads/{upload_id}/complete", headers=headers)
        assert answer.status_code == 200, answer.text
        return upload_id

    async def submitted(self, upload_id: str, **more: Any) -> dict[str, Any]:
        """Submit a job."""
        body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": [upload_id]}} | more
        answer = await self.http.post("/v1/jobs", json=body)
        assert answer.status_code == 202, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def job(self, job_id: str, tenant: str | None = None) -> Job:
        """Fold a job from its events."""
        job: Job | None = None
        for stored in await self.store.load(aggregate(tenant or self.tenant, "job", job_id)):
            job = fold(job, decode(stored.body), stored.sequence)
        assert job
        return job

    async def say(
        self, job_id: str, data: EventData, tenant: str | None = None, *, time: datetime | None = None
    ) -> None:  # fmt: skip
        """Publish an event of a job as dispatcher or worker, by its clock, and wait until the gateway has it."""
        message = encode(data, tenant=tenant or self.tenant, subject_id=job_id, source="/test", time=time)
        sequence = await self.store.publish(message)
        if data.kind == "evt":
            assert await self.tail.wait_for(sequence, 5)

    async def start_job(self, job_id: str, attempt: int = 1) -> str:
        """Bring a job to running and give its run."""
        run_id = new_id("run")
        await self.say(job_id, JobQueued(position=0))
        await self.say(job_id, JobStarting(attempt=attempt, run_id=run_id, executor="local", device="cpu"))
        await self.say(job_id, JobStarted(attempt=attempt, run_id=run_id, device="cpu", worker="test"))
        return run_id

    async def leave(self, job_id: str, run_id: str, name: str, body: bytes, media_type: str) -> Artifact:
        """Leave an artifact as a worker does."""
        sent = await self.bucket.put(self.bucket.key("results", job_id, name), body, media_type)
        artifact = Artifact(name=name, key=sent.key, bytes=sent.bytes, sha256=sent.sha256, media_type=media_type)
        await self.say(job_id, JobArtifactReady(attempt=1, run_id=run_id, artifact=artifact))
        return artifact

    async def finish_job(
        self,
        job_id: str,
        run_id: str,
        artifacts: list[Artifact],
        attempt: int = 1,
        result: dict[str, Any] | None = None,
    ) -> None:
        """Write the manifest and say that the job has succeeded."""
        job, result = await self.job(job_id), result or {"delta_s": 0.5}
        manifest = Manifest(
            job_id=job_id,
            tenant=job.tenant,
            workload=job.submitted.workload,
            workload_version=job.submitted.workload_version,
            attempt=attempt,
            run_id=run_id,
            created_at=job.created_at,
            duration_s=1.5,
            device="cpu",
            result=result,
            artifacts=artifacts,
        )
        key = self.bucket.key("results", job_id, "manifest.json")
        await self.bucket.put(key, manifest.model_dump_json().encode())
        cost = Cost(device="cpu", seconds=1.5, usd=0.25)
        data = JobSucceeded(attempt=attempt, run_id=run_id, result=result, manifest_key=key, duration_s=1.5, cost=cost)
        await self.say(job_id, data)

    async def types(self) -> list[str]:
        """List the types of all stored events."""
        return [decode(stored.body).type async for stored in self.store.history(0)]


@asynccontextmanager
async def running_gateway(
    nats: NatsSettings,
    s3: S3Settings,
    folder: Path,
    *,
    auth: AuthSettings | None = None,
    url_inputs: UrlInputSettings | None = None,
    session_settings: SessionSettings | None = None,
    hold: Callable[[EventTail], Awaitable[None]] | None = None,
    **settings: Any,
) -> AsyncIterator[RunningGateway]:
    """Run a gateway on two servers, with its view in ``folder``; by default it fetches no inputs from URLs.

    It has caught up when this begins; with ``hold``, when that returns.
    """
    auth = auth or AuthSettings()
    async with AsyncExitStack() as stack:
        client = await connect(nats, "test")
        stack.push_async_callback(client.close)
        await declare(client, nats.replicas)
        bucket = await stack.enter_async_context(open_bucket(s3))
        await bucket.create()
        view = GatewayView(folder / "view")
        stack.callback(view.close)
        app, loop = build_gateway(
            GatewaySettings(data_dir=folder / "view", **settings),
            auth,
            client,
            bucket,
            view,
            url_settings=url_inputs or UrlInputSettings(inputs="off"),
            session_settings=session_settings,
            archive=await stack.enter_async_context(open_archive(s3, ArchiveSettings())),
        )
        transport = httpx.ASGITransport(app)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(loop.run)
            with anyio.fail_after(10):
                await (hold(loop.follower.tail) if hold else loop.follower.tail.caught_up.wait())
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", timeout=60) as http:
                yield RunningGateway(app, loop, view, http, EventStore(client), bucket)
            tasks.cancel_scope.cancel()


def code_of(answer: httpx.Response) -> str:
    """Return the code of a problem, having checked that it is one."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    body = answer.json()
    assert body["status"] == answer.status_code
    assert body["request_id"] == answer.headers["x-request-id"]
    assert body["detail"]
    assert body["hint"]
    return str(body["code"])
