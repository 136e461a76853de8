"""The client against the real gateway, notifier, bus and bucket: uploads that resume, jobs, artifacts, errors."""

from __future__ import annotations

import hashlib
import json
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import anyio
import av
import httpx
import numpy as np
import pytest
from saccade import Client, ClientError

from contracts.events.job import Cost, JobSucceeded
from contracts.limits import MIB, PART_BYTES
from contracts.manifest import Artifact, Manifest
from services.kit.s3 import Bucket, open_bucket
from tests.contract.sse_harness import RUN_ID, NotifierProcess, progressed, publisher
from tests.servers import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_for_port


@dataclass
class System:
    """The parts of Saccade that a client meets."""

    nats: EmbeddedNats
    s3: EmbeddedS3
    gateway: str
    notifier: str


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    folder = tmp_path_factory.mktemp("system")
    (folder / "nats").mkdir()
    (folder / "s3").mkdir()
    port = free_port()
    with EmbeddedNats(folder / "nats") as nats, EmbeddedS3(folder / "s3") as s3, NotifierProcess(nats.settings) as sse:
        environment = {
            "NATS_URL": nats.settings.url,
            "S3_ENDPOINT_URL": s3.settings.endpoint_url,
            "S3_ACCESS_KEY_ID": s3.settings.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.settings.secret_access_key.get_secret_value(),
            "GATEWAY_PORT": str(port),
            "GATEWAY_DATA_DIR": str(folder / "gateway"),
        }
        gateway = subprocess.Popen([sys.executable, "-m", "services.gateway"], env=environment)
        try:
            wait_for_port(port, gateway)
            yield System(nats, s3, f"http://{HOST}:{port}", sse.url)
        finally:
            gateway.terminate()
            gateway.wait(10)


@pytest.fixture
def client(system: System) -> Iterator[Client]:
    with Client(system.gateway) as client:
        yield client


def write_clip(path: Path, padding_bytes: int = 0) -> Path:
    """Write a short video; a ``free`` box at its end makes it as large as one likes."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), number * 8, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    if padding_bytes:
        with path.open("ab") as file:
            file.write(struct.pack(">I", padding_bytes + 8) + b"free")
            file.write(np.random.default_rng(1).bytes(padding_bytes))
    return path


def test_a_file_is_uploaded_in_one_piece(client: Client, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    path = write_clip(tmp_path / "lap.mp4")
    upload = client.upload(path, lambda done, total: told.append((done, total)))
    assert upload.state == "completed"
    size = path.stat().st_size
    assert told[-1] == (size, size)


def test_an_upload_in_parts_goes_on_where_it_stopped(client: Client, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "lap.mp4", 2 * PART_BYTES + MIB)
    state_dir = tmp_path / "state"

    class PulledError(Exception):
        """Somebody pulled the plug."""

    def pull(done: int, _: int) -> None:
        if done > PART_BYTES + MIB:
            raise PulledError

    with pytest.raises(PulledError):
        client.upload(path, pull, state_dir=state_dir, multipart=True)
    (kept,) = state_dir.iterdir()
    first_id = json.loads(kept.read_text())["id"]
    told: list[int] = []
    upload = client.upload(path, lambda done, _: told.append(done), state_dir=state_dir, multipart=True)
    assert (upload.id, upload.state) == (first_id, "completed")
    assert told[0] == PART_BYTES, "the part that had arrived was not sent again"
    assert told[-1] == path.stat().st_size
    assert not list(state_dir.iterdir())
    shown = httpx.get(f"{client.url}/v1/uploads/{upload.id}", trust_env=False).json()
    assert shown["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    again = client.upload(path, state_dir=state_dir, multipart=True)
    assert again.id != first_id


def test_refusals_are_typed(client: Client, tmp_path: Path) -> None:
    text = tmp_path / "text.mp4"
    text.write_text("no video at all\n" * 100)
    with pytest.raises(ClientError) as refusal:
        client.upload(text)
    assert refusal.value.code == "media_undecodable"
    assert refusal.value.hint
    assert refusal.value.request_id
    with pytest.raises(ClientError) as refusal:
        client.submit("no_such_workload", {})
    assert (refusal.value.code, refusal.value.status) == ("unknown_workload", 422)
    with pytest.raises(ClientError) as refusal:
        client.job("job_00000000-0000-7000-8000-000000000000")
    assert refusal.value.code == "job_not_found"
    with Client(f"http://{HOST}:{free_port()}") as nobody:
        with pytest.raises(ClientError) as refusal:
            nobody.workloads()
        assert refusal.value.code == "server_unreachable"
        with pytest.raises(ClientError) as refusal:
            list(nobody.events())
        assert refusal.value.code == "server_unreachable"


@pytest.fixture(scope="module")
def inputs(system: System, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("clips")
    with Client(system.gateway) as client:
        workload = next(one for one in client.workloads() if one["name"] == "lap_compare")
        return {one["name"]: client.upload(write_clip(folder / f"{one['name']}.mp4")).id for one in workload["inputs"]}


def test_jobs_are_listed_page_by_page_and_cancelled(system: System, client: Client, inputs: dict[str, str]) -> None:
    jobs = [client.submit("lap_compare", inputs, metadata={"a": "b"}) for _ in range(3)]
    listed = [job.id for job in client.jobs(page_size=2)]
    assert set(listed) >= {job.id for job in jobs}
    assert len(listed) == len(set(listed))
    assert client.job(jobs[0].id).metadata == {"a": "b"}
    assert client.cancel(jobs[0].id).id == jobs[0].id
    with pytest.raises(ClientError) as refusal:
        client.retry(jobs[0].id)
    assert refusal.value.code == "job_not_retryable"
    with Client(system.notifier) as events:
        seen = [event.type for event in events.events(jobs[0].id, follow=False)]
        assert seen == ["job.submitted", "job.cancel_requested"]
        since = [
            event.envelope["subject"] for event in events.events(types=["job.submitted"], since="60", follow=False)
        ]
        assert {job.id for job in jobs} <= set(since)
        newer = list(events.events(jobs[0].id, cursor=jobs[0].cursor, follow=False))
        assert [event.type for event in newer] == seen, "the cursor of the answer is from before the job"


async def leave_files(bucket: Bucket, job_id: str, content: bytes) -> str:
    """Leave three files, one of them damaged since, and their manifest, as a worker does; give the manifest's key."""
    artifacts = []
    for name, body in (("film.mp4", content), ("clips/first.mp4", b"clip"), ("damaged.bin", b"as promised")):
        sent = await bucket.put(bucket.key("results", job_id, name), body)
        facts = {"key": sent.key, "bytes": sent.bytes, "sha256": sent.sha256, "media_type": "video/mp4"}
        artifacts.append(Artifact(name=name, **facts))
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


@pytest.mark.anyio
async def test_a_jobs_events_are_followed_and_its_files_brought_home(
    system: System, client: Client, inputs: dict[str, str], tmp_path: Path
) -> None:
    job = await anyio.to_thread.run_sync(client.submit, "lap_compare", inputs)
    content = np.random.default_rng(2).bytes(3 * MIB)
    async with publisher(system.nats.settings) as jobs, open_bucket(system.s3.settings) as bucket:
        await jobs.start(job.id)
        manifest_key = await leave_files(bucket, job.id, content)

        def follow() -> list[str]:
            with Client(system.notifier) as events:
                return [event.type for event in events.events(job.id)]

        async def end() -> None:
            await anyio.sleep(0.5)
            await jobs.say(job.id, progressed(0.5))
            cost = Cost(device="cpu", seconds=1, usd=0)
            data = JobSucceeded(attempt=1, run_id=RUN_ID, result={}, manifest_key=manifest_key, duration_s=1, cost=cost)
            await jobs.say(job.id, data)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(end)
            seen = await anyio.to_thread.run_sync(follow)
    assert [kind for kind in seen if kind != "job.progressed"] == [
        "job.submitted",
        "job.queued",
        "job.starting",
        "job.started",
        "job.succeeded",
    ]
    assert client.job(job.id, wait_s=5).ended
    folder = tmp_path / "home"
    told: list[tuple[int, int]] = []
    names = ["film.mp4", "clips/first.mp4"]
    paths = client.download(job.id, folder, lambda done, total: told.append((done, total)), names=names)
    assert paths == [folder / "film.mp4", folder / "clips" / "first.mp4"]
    assert paths[0].read_bytes() == content
    assert told[-1] == (len(content) + 4, len(content) + 4)
    with pytest.raises(ClientError) as refusal:
        client.download(job.id, folder, names=["damaged.bin"])
    assert refusal.value.code == "download_failed"
    with pytest.raises(ClientError) as refusal:
        client.download(job.id, folder, names=["nothing"])
    assert refusal.value.code == "artifact_not_found"
    assert sorted(path.name for path in folder.rglob("*") if path.is_file()) == ["film.mp4", "first.mp4"]
