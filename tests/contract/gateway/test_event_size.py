"""No event is larger than 64 KiB, and a job of a thousand files is still possible."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.events.base import Message, decode, encode
from contracts.events.upload import MediaFacts, UploadCompleted, UploadCreated
from contracts.ids import new_id
from contracts.job import fold
from contracts.limits import EVENT_BYTES
from kit.settings import NatsSettings, S3Settings
from services.dispatcher.jobs.job_repository import JobRepository
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway

pytestmark = pytest.mark.anyio
PHOTOS = 500
SHA256 = "ab" * 32


@pytest.fixture
async def running(servers: tuple[NatsSettings, S3Settings], tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def photos(running: RunningGateway, count: int) -> list[str]:
    """Store uploads that are complete."""
    ids = [new_id("upl") for _ in range(count)]
    messages: list[Message] = []
    for number, upload_id in enumerate(ids):
        created = UploadCreated(
            key=f"uploads/local/{upload_id}/IMG_{number:04}.jpg",
            filename=f"IMG_{number:04}.jpg",
            content_type="image/jpeg",
            size_bytes=5,
        )
        media = MediaFacts(media="image", container="jpeg", codec="mjpeg", width_px=4000, height_px=3000)
        completed = UploadCompleted(size_bytes=5, sha256=SHA256, media=media)
        events = (created, completed)
        messages += [encode(data, tenant="local", subject_id=upload_id, source="/gateway") for data in events]
    for first in range(0, len(messages), 100):
        stored = await asyncio.gather(*map(running.store.publish, messages[first : first + 100]))
    assert await running.tail.wait_for(max(stored), 20)
    return ids


async def submitted_body(running: RunningGateway, job_id: str) -> bytes:
    (stored,) = await running.store.load(f"saccade.evt.local.job.{job_id}.submitted")
    return stored.body


async def test_a_job_of_a_thousand_files_is_stored_in_one_small_event_and_its_worker_gets_all_files(
    running: RunningGateway,
) -> None:
    ids = await photos(running, 2 * PHOTOS)
    inputs = {"photos": ids[:PHOTOS], "masks": ids[PHOTOS:]}
    answer = await running.http.post("/v1/jobs", json={"workload": "nerf", "inputs": inputs})
    assert answer.status_code == 202, answer.text
    job = answer.json()
    assert {name: [file["upload_id"] for file in files] for name, files in job["inputs"].items() if files} == inputs
    assert job["inputs"]["photos"][7] == {
        "upload_id": ids[7],
        "filename": "IMG_0007.jpg",
        "content_type": "image/jpeg",
        "size_bytes": 5,
        "sha256": SHA256,
    }
    body = await submitted_body(running, job["id"])
    assert len(body) <= EVENT_BYTES
    assert SHA256.encode() not in body, "what the uploads' events say is not stored again"
    stored = fold(None, decode(body), 1)
    assert stored is not None
    repository = JobRepository(running.store, UnfinishedJobs(), lambda: True)
    files = (await repository.inputs_of(stored))["masks"]
    assert [file.upload_id for file in files] == inputs["masks"]
    assert files[0].key.endswith("IMG_0500.jpg")
    deleted = await running.http.delete(f"/v1/uploads/{ids[0]}")
    assert (deleted.status_code, code_of(deleted)) == (409, "upload_in_use")


async def test_a_file_is_named_once_in_an_input(running: RunningGateway) -> None:
    upload_id = await running.uploaded(picture(), "image/png")
    wanted = {"workload": "nerf", "inputs": {"photos": [upload_id] * 400}}
    answer = await running.http.post("/v1/jobs", json=wanted)
    assert (answer.status_code, code_of(answer)) == (422, "invalid_parameter")
    assert answer.json()["errors"][0]["pointer"] == "#/inputs/photos/1"


async def test_a_small_job_still_says_in_its_first_event_what_its_files_are(running: RunningGateway) -> None:
    upload_id = await running.uploaded()
    job = await running.submitted(upload_id)
    data = decode(await submitted_body(running, job["id"])).data
    assert [file["filename"] for file in data["inputs"]["reference"]] == ["a.mp4"]
    assert data["input_ids"] == {}


async def test_an_event_above_the_limit_is_a_413_wherever_it_comes_from(running: RunningGateway) -> None:
    rule = {
        "name": "large",
        "match": {"media": "video"},
        "workload": "lap_compare",
        "inputs": ["reference", "other"],
        "metadata": {"note": "x" * 70_000},
    }
    answer = await running.http.post("/v1/rules", json=rule)
    assert answer.status_code in (413, 422), answer.text
    subject = f"saccade.evt.local.upload.{new_id('upl')}.created"
    with pytest.raises(Exception, match="at most 64 KiB") as raised:
        await running.store.publish(Message(subject, new_id("evt"), b"x" * (EVENT_BYTES - 50)))
    assert getattr(raised.value, "kind", None) is not None
    assert raised.value.kind.status == 413
    running.store.check_writes()  # the bus is not to blame


async def test_an_event_of_the_largest_size_is_stored(running: RunningGateway) -> None:
    created = UploadCreated(key="k", filename="", content_type="image/png", size_bytes=1)
    upload_id, now = new_id("upl"), datetime.now(UTC)
    fixed = len(encode(created, tenant="local", subject_id=upload_id, source="/t", event_id="e", time=now).body)
    header_bytes = len("NATS/1.0\r\nNats-Msg-Id: e\r\nContent-Type: application/cloudevents+json\r\n\r\n")
    name = "x" * (EVENT_BYTES - fixed - header_bytes)
    data = created.model_copy(update={"filename": name})
    largest = encode(data, tenant="local", subject_id=upload_id, source="/t", event_id="e", time=now)
    assert await running.store.publish(largest)
    more = encode(
        data.model_copy(update={"filename": name + "x"}),
        tenant="local", subject_id=upload_id, source="/t", event_id="e", time=now,
    )  # fmt: skip
    with pytest.raises(Exception, match="at most 64 KiB"):
        await running.store.publish(more)
