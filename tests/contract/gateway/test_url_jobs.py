"""Jobs with inputs by URL over HTTP: submitted once, when their files have been fetched; or never, with the reason."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from contracts.errors import KINDS, ErrorCode
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import FETCHES
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from services.gateway.jobs.submission import JobRequest
from tests.harness.network.file_servers import FileServer, answer, file_server, sending
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway
from tests.harness.servers.url_inputs import (
    CLIP,
    LOOPBACK,
    SECRET,
    ended,
    events_of,
    nothing_secret,
    recorded,
    until_asked,
    until_forgotten,
)

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path, url_inputs=LOOPBACK) as found:
        yield found


def body_of(server: FileServer, **more: Any) -> dict[str, Any]:
    inputs = {"reference": {"url": server.url(SECRET)}, "other": [{"url": server.url("/b.mp4")}]}
    return {"workload": "lap_compare", "inputs": inputs, "params": {"sectors": 4}, **more}


async def test_it_is_submitted_when_its_files_are_there(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP, "Content-Type: video/mp4"))) as server:
        body, headers = body_of(server, metadata={"driver": "Ä"}), {"Idempotency-Key": "one"}
        answered = await running.http.post("/v1/jobs", json=body, headers=headers)
        again = await running.http.post("/v1/jobs", json=body, headers=headers)
    assert answered.status_code == again.status_code == 202, answered.text
    job = answered.json()
    assert (again.json()["id"], again.json()["inputs"]) == (job["id"], job["inputs"])
    assert (job["state"], job["params"]["sectors"], job["metadata"]) == ("submitted", 4, {"driver": "Ä"})
    assert [(one["filename"], one["size_bytes"]) for given in job["inputs"].values() for one in given] == [
        ("lap a.mp4", len(CLIP)), ("b.mp4", len(CLIP)),
    ]  # fmt: skip
    assert sorted(server.targets) == ["/b.mp4", SECRET]
    assert await events_of(running, job["id"]) == ["job.submitted"]
    upload_id = job["inputs"]["other"][0]["upload_id"]
    upload = (await running.http.get(f"/v1/uploads/{upload_id}")).json()
    assert upload["source"]["job_id"] == job["id"]
    await until_forgotten(running)
    await nothing_secret(running)


async def test_a_file_that_cannot_be_used_is_the_answer_and_no_job_exists(running: RunningGateway) -> None:
    paths = (await running.http.get("/openapi.json")).json()["paths"]
    for talk, code in [
        (sending(answer(b"", status="410 Gone")), "url_status_error"),
        (sending(answer(picture(), "Content-Type: image/png")), "wrong_input_media"),
        (sending(answer(b"", length=LOOPBACK.max_bytes + 1)), "upload_too_large"),
    ]:
        async with file_server(talk) as server:
            body, key = body_of(server), {"Idempotency-Key": code}
            refused = await running.http.post("/v1/jobs", json=body, headers=key)
            again = await running.http.post("/v1/jobs", json=body, headers=key)
        intents = [json.loads(record) for record in await recorded(running)]
        job_id = next(intent["id"] for intent in intents if intent.get("error", {}).get("code") == code)
        read = await running.http.get(f"/v1/jobs/{job_id}")
        assert code_of(refused) == code_of(again) == code_of(read) == code
        assert refused.status_code == again.status_code == read.status_code == KINDS[ErrorCode(code)].status
        for route in (paths["/v1/jobs"]["post"], paths["/v1/jobs/{job_id}"]["get"]):
            assert f"`{code}`" in route["responses"][str(read.status_code)]["description"]
        assert len(server.targets) <= 2
    assert "job.submitted" not in (await running.types())[-4:]
    await until_forgotten(running)


async def test_the_rest_of_the_request_is_checked_before_anything_is_fetched(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP))) as server:
        for wrong, code in [
            ({"params": {"opportunities": 9}}, "invalid_parameter"),
            ({"workload": "no_such"}, "unknown_workload"),
            ({"inputs": {"reference": {"url": server.url("/")}}}, "missing_input"),
            ({"inputs": {"x": {"url": server.url("/")}}}, "unknown_input"),
            ({"gpu": "T4"}, "invalid_parameter"),
        ]:
            refused = await running.http.post("/v1/jobs", json=body_of(server) | wrong)
            assert code_of(refused) == code
        checked = await running.http.post("/v1/jobs?dry_run=true", json=body_of(server))
        assert (checked.status_code, checked.json()["params"]["sectors"]) == (200, 4)
    assert server.connections == 0


async def test_a_fetch_that_takes_longer_is_pending_and_the_job_is_submitted_all_the_same(
    servers: Servers, tmp_path: Path
) -> None:
    released = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer(CLIP[:300], length=len(CLIP)))
        await released.wait()
        writer.write(CLIP[300:])
        await writer.drain()

    impatient = LOOPBACK.model_copy(update={"wait_s": 0.3, "stall_s": 20.0})
    async with (
        running_gateway(*servers, tmp_path, url_inputs=impatient) as running,
        file_server(talk) as server,
    ):
        body, headers = body_of(server), {"Idempotency-Key": "slow"}
        pending = await running.http.post("/v1/jobs", json=body, headers=headers)
        assert (pending.status_code, code_of(pending)) == (503, "url_fetch_pending")
        assert pending.headers["retry-after"]
        job_id, uploads = pending.json()["job_id"], pending.json()["uploads"]
        assert code_of(await running.http.get(f"/v1/jobs/{job_id}")) == "url_fetch_pending"
        source = (await running.http.get(f"/v1/uploads/{uploads['reference'][0]}")).json()["source"]
        assert (source["received_bytes"], source["total_bytes"]) == (300, len(CLIP))
        released.set()
        for upload_ids in uploads.values():
            await ended(running, upload_ids[0])
        async with asyncio.timeout(5):
            while (found := await running.http.get(f"/v1/jobs/{job_id}")).status_code != 200:
                await asyncio.sleep(0.02)
        again = await running.http.post("/v1/jobs", json=body, headers=headers)
        assert (again.status_code, again.json()["id"], found.json()["id"]) == (202, job_id, job_id)
        assert len(server.targets) == 2
        assert await events_of(running, job_id) == ["job.submitted"]


async def test_a_service_that_stops_answers_who_waits(servers: Servers, tmp_path: Path) -> None:
    hanging = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
    patient = LOOPBACK.model_copy(update={"stall_s": 20.0})
    async with (
        running_gateway(*servers, tmp_path, url_inputs=patient) as running,
        file_server(hanging) as server,
    ):
        asking = asyncio.ensure_future(running.http.post("/v1/jobs", json=body_of(server)))
        await until_asked(server, 2)
        running.loop.waiters.notify_all()
        async with asyncio.timeout(6):
            pending = (await asking).json()
        assert pending["code"] == "url_fetch_pending"
        for (upload_id,) in pending["uploads"].values():
            await running.http.delete(f"/v1/uploads/{upload_id}")


async def test_deleting_an_upload_ends_the_fetch_and_the_job_is_never_submitted(
    servers: Servers, tmp_path: Path
) -> None:
    hanging = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
    impatient = LOOPBACK.model_copy(update={"wait_s": 0.2, "stall_s": 20.0})
    async with (
        running_gateway(*servers, tmp_path, url_inputs=impatient) as running,
        file_server(hanging) as server,
    ):
        pending = (await running.http.post("/v1/jobs", json=body_of(server))).json()
        job_id, upload_id = pending["job_id"], pending["uploads"]["other"][0]
        assert (await running.http.delete(f"/v1/uploads/{upload_id}")).status_code == 204
        async with asyncio.timeout(5):
            while code_of(found := await running.http.get(f"/v1/jobs/{job_id}")) == "url_fetch_pending":
                await asyncio.sleep(0.02)
        assert code_of(found) == "upload_already_ended"
        assert await events_of(running, upload_id) == ["upload.created", "upload.failed"]


async def test_an_accepted_job_returns_at_once_and_is_accepted_once(running: RunningGateway) -> None:
    """The call of services that accept for others, with an id of their own."""
    url_jobs, job_id = running.app.state.url_jobs, new_id("job")
    async with file_server(sending(answer(CLIP))) as server:
        request = JobRequest("lap_compare", body_of(server)["inputs"], {})
        accepted = await asyncio.gather(*(url_jobs.accept("local", request, None, job_id) for _ in range(3)))
        assert {one.job_id for one in accepted} == {job_id}
        assert len({str(one.upload_ids) for one in accepted}) == 1
        async with asyncio.timeout(10):
            while await url_jobs.outcome("local", job_id) is None:
                await asyncio.sleep(0.02)
    assert len(server.targets) == 2
    assert await events_of(running, job_id) == ["job.submitted"]
    assert (await url_jobs.accept("local", request, None, job_id)).upload_ids == accepted[0].upload_ids
    assert len(server.targets) == 2


async def test_what_a_process_that_died_has_accepted_is_carried_out(running: RunningGateway) -> None:
    """It had stored the record, and done nothing else; a record of another version is left alone."""
    url_jobs, job_id = running.app.state.url_jobs, new_id("job")
    for noun in ("job", "upload"):
        strange = Message(f"saccade.fetch.acme.{noun}.x", new_id("evt"), b'{"tenant": "local", "id": "x"}')
        await EventStore(running.store.client, FETCHES.name).publish(strange)
    async with file_server(sending(answer(CLIP))) as server:
        request = JobRequest("lap_compare", body_of(server)["inputs"], {})
        intent = await url_jobs._intent("local", request, job_id)
        assert await url_jobs._intents.add(intent)
        await running.loop.fetches.sweep()
        await url_jobs.sweep()
        async with asyncio.timeout(10):
            while await url_jobs.outcome("local", job_id) is None:
                await asyncio.sleep(0.02)
    assert await events_of(running, job_id) == ["job.submitted"]
    assert await events_of(running, *(wanted.id for wanted in intent.fetches)) == [
        "upload.created", "upload.created", "upload.completed", "upload.completed",
    ]  # fmt: skip
