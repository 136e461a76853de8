"""Inputs by URL over HTTP, on a real bus and a real bucket: fetched, checked, and submitted once; or a clear error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.events import decode
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.limits import MIB
from contracts.streams import FETCHES
from kit.bucket import ObjectMissing
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from services.gateway.jobs.submission import JobRequest
from services.gateway.settings import UrlInputSettings
from tests.harness.network.file_servers import FileServer, Talk, answer, file_server, sending
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway, video

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]
CLIP = video()
SECRET = "/clips/lap a.mp4?signature=hush%2Fhush".replace(" ", "%20")
LOOPBACK = UrlInputSettings(
    inputs="public", allowed_networks="127.0.0.1", max_bytes=40 * MIB, stall_s=1.0, first_byte_s=1.0, wait_s=8.0
)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats, EmbeddedS3(tmp_path_factory.mktemp("s3")) as s3:
        yield nats.settings, s3.settings


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path, url_inputs=LOOPBACK) as found:
        yield found


async def ended(running: RunningGateway, upload_id: str) -> dict[str, Any]:
    """Wait until an upload is no longer open."""
    async with asyncio.timeout(20):
        while (found := (await running.http.get(f"/v1/uploads/{upload_id}")).json())["state"] == "created":
            await asyncio.sleep(0.02)
    return found  # type: ignore[no-any-return]


async def fetch(running: RunningGateway, url: str, **more: Any) -> dict[str, Any]:
    answered = await running.http.post("/v1/uploads", json={"url": url, **more})
    assert answered.status_code == 201, answered.text
    assert answered.headers["location"] == f"/v1/uploads/{answered.json()['id']}"
    return await ended(running, answered.json()["id"])


async def recorded(running: RunningGateway) -> list[bytes]:
    """Return the private records that are left."""
    return [stored.body async for stored in EventStore(running.store.client, FETCHES.name).history(0)]


async def events_of(running: RunningGateway, *ids: str) -> list[str]:
    found = [decode(stored.body) async for stored in running.store.history(0)]
    return [envelope.type for envelope in found if envelope.subject in ids]


async def nothing_secret(running: RunningGateway) -> None:
    """Check that no event holds the query of a URL."""
    assert not [stored async for stored in running.store.history(0) if b"hush" in stored.body]


async def test_a_fetched_file_becomes_an_upload_with_its_events(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP, "Content-Type: video/mp4"))) as server:
        created = (await running.http.post("/v1/uploads", json={"url": server.url(SECRET)})).json()
        assert (created["state"], created["size_bytes"], created["url"]) == ("created", None, None)
        path = f"/v1/uploads/{created['id']}"
        assert code_of(await running.http.post(f"{path}/complete")) in ("upload_not_completed", "upload_already_ended")
        done = await ended(running, created["id"])
    shown = server.url("/clips/lap%20a.mp4")
    assert done["source"] == {"url": shown, "job_id": None, "received_bytes": None, "total_bytes": None}
    assert (done["state"], done["filename"], done["content_type"]) == ("completed", "lap a.mp4", "video/mp4")
    assert (done["size_bytes"], done["sha256"]) == (len(CLIP), hashlib.sha256(CLIP).hexdigest())
    assert (done["media"]["codec"], done["media"]["width_px"]) == ("mpeg4", 64)
    assert await events_of(running, created["id"]) == ["upload.created", "upload.completed"]
    assert server.targets == [SECRET]
    await nothing_secret(running)
    upload = running.view.upload(created["id"])
    assert upload
    assert await running.bucket.get(upload.created.key) == CLIP


@pytest.mark.parametrize(
    ("talk", "more", "code"),
    [
        (sending(answer(b"<!DOCTYPE html><html>", "Content-Type: text/html")), {}, "url_not_media"),
        (sending(answer(b"\n<HTML><body>", "Content-Type: video/mp4")), {}, "url_not_media"),
        (sending(answer(b'{"error": "expired"}', "Content-Type: application/json")), {}, "url_not_media"),
        (sending(answer(b"#EXTM3U", "Content-Type: application/vnd.apple.mpegurl")), {}, "url_not_media"),
        (sending(answer(b"no video at all" * 99, "Content-Type: video/mp4")), {}, "media_undecodable"),
        (sending(answer(CLIP[: len(CLIP) // 2], "Content-Type: video/mp4")), {}, "media_no_video"),
        (sending(answer(b"", "Content-Type: video/mp4")), {}, "upload_empty"),
        (sending(answer(CLIP, "Content-Type: video/mp4")), {"sha256": "ab" * 32}, "upload_checksum_mismatch"),
        (sending(answer(CLIP, length=41 * MIB)), {}, "upload_too_large"),
        (sending(answer(CLIP, status="404 Not Found")), {}, "url_status_error"),
        (sending(answer(CLIP, "Content-Encoding: br")), {}, "url_answer_invalid"),
        (sending(answer(CLIP, length=10)), {}, "url_size_mismatch"),
        (sending(answer(CLIP[:900], length=len(CLIP)), hold=True), {}, "url_too_slow"),
        (sending(answer(b"", "Location: /", status="302 Found")), {}, "url_too_many_redirects"),
        (sending(answer(b"", "Location: http://127.0.0.2/", status="302 Found")), {}, "url_address_refused"),
    ],
)  # fmt: skip
async def test_what_cannot_be_used_fails_with_a_code_and_leaves_nothing(
    running: RunningGateway, talk: Talk, more: dict[str, Any], code: str
) -> None:
    async with file_server(talk) as server:
        failed = await fetch(running, server.url(SECRET), **more)
    assert (failed["state"], failed["reason"], failed["error"]["code"]) == ("failed", "refused", code)
    assert failed["error"]["hint"]
    assert "hush" not in str(failed)
    assert await events_of(running, failed["id"]) == ["upload.created", "upload.failed"]
    upload = running.view.upload(failed["id"])
    assert upload
    async with asyncio.timeout(5):
        while await recorded(running) or await is_stored(running, upload.created.key):
            await asyncio.sleep(0.02)
    await nothing_secret(running)


async def is_stored(running: RunningGateway, key: str) -> bool:
    try:
        await running.bucket.size(key)
    except ObjectMissing:
        return False
    return True


async def test_a_content_type_is_by_the_content(running: RunningGateway) -> None:
    """Buckets serve files as application/octet-stream, and many servers by a wrong ending."""
    async with file_server(sending(answer(picture(), "Content-Type: application/octet-stream"))) as server:
        done = await fetch(running, server.url("/a.bin?x=1"))
    assert (done["filename"], done["content_type"], done["media"]["media"]) == ("a.bin", "image/png", "image")


async def test_a_large_file_is_sent_on_in_parts(running: RunningGateway) -> None:
    """19 MiB: two parts and a rest; the clip's index is at its beginning, so that the decoder finds it."""
    padded = CLIP + b"\0\0\0\0free" * (19 * MIB // 8)
    async with file_server(sending(answer(padded, length=None))) as server:
        done = await fetch(running, server.url("/a.mp4"))
    assert done["state"] == "completed", done["error"]
    assert (done["size_bytes"], done["sha256"]) == (len(padded), hashlib.sha256(padded).hexdigest())


async def test_a_transient_error_is_tried_again(running: RunningGateway) -> None:
    answers = iter([sending(answer(b"", status="503 Busy")), sending(answer(CLIP))])

    async def talk(*streams: Any) -> None:
        await next(answers)(*streams)

    async with file_server(talk) as server:
        done = await fetch(running, server.url("/a.mp4"))
    assert (done["state"], len(server.targets)) == ("completed", 2)


@pytest.mark.parametrize(
    ("url", "code"),
    [
        ("http://10.0.0.1/a.mp4", "url_address_refused"),
        ("http://[::1]/a.mp4", "url_address_refused"),
        ("http://2130706433/a.mp4", "url_invalid"),
        ("ftp://example.com/a.mp4", "url_invalid"),
        ("https://user:hush@example.com/a.mp4", "url_invalid"),
        ("a.mp4", "url_invalid"),
    ],
)
async def test_a_refused_url_is_refused_at_once(running: RunningGateway, url: str, code: str) -> None:
    before = await running.types()
    refused = await running.http.post("/v1/uploads", json={"url": url})
    assert (refused.status_code, code_of(refused)) == (422, code)
    assert "hush" not in refused.text
    inputs = {"reference": {"url": url}, "other": [{"url": url}]}
    refused = await running.http.post("/v1/jobs", json={"workload": "lap_compare", "inputs": inputs})
    assert (refused.status_code, code_of(refused)) == (422, code)
    assert refused.json()["errors"][0]["pointer"] == "#/inputs/reference"
    assert await running.types() == before


async def test_a_server_that_does_not_fetch_says_so(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running:
        for path, body in [
            ("/v1/uploads", {"url": "https://example.com/a.mp4"}),
            ("/v1/jobs", {"workload": "lap_compare", "inputs": {"reference": {"url": "https://example.com/a.mp4"}}}),
        ]:
            refused = await running.http.post(path, json=body)
            assert (refused.status_code, code_of(refused)) == (422, "url_input_not_allowed")


class TestJobs:
    """A job whose inputs are fetched."""

    @staticmethod
    def body(server: FileServer, **more: Any) -> dict[str, Any]:
        inputs = {"reference": {"url": server.url(SECRET)}, "other": [{"url": server.url("/b.mp4")}]}
        return {"workload": "lap_compare", "inputs": inputs, "params": {"sectors": 4}, **more}

    async def test_it_is_submitted_when_its_files_are_there(self, running: RunningGateway) -> None:
        async with file_server(sending(answer(CLIP, "Content-Type: video/mp4"))) as server:
            body, headers = self.body(server, metadata={"driver": "Ä"}), {"Idempotency-Key": "one"}
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
        assert all(b"hush" not in record for record in await recorded(running))
        await nothing_secret(running)

    async def test_a_file_that_cannot_be_used_is_the_answer_and_no_job_exists(self, running: RunningGateway) -> None:
        for talk, code in [
            (sending(answer(b"", status="410 Gone")), "url_status_error"),
            (sending(answer(picture(), "Content-Type: image/png")), "wrong_input_media"),
        ]:
            async with file_server(talk) as server:
                body, key = self.body(server), {"Idempotency-Key": code}
                refused = await running.http.post("/v1/jobs", json=body, headers=key)
                again = await running.http.post("/v1/jobs", json=body, headers=key)
            assert (refused.status_code, code_of(refused), code_of(again)) == (422, code, code)
            assert len(server.targets) <= 2
        assert "job.submitted" not in (await running.types())[-4:]
        async with asyncio.timeout(5):
            while any(b"hush" in record for record in await recorded(running)):
                await asyncio.sleep(0.02)

    async def test_the_rest_of_the_request_is_checked_before_anything_is_fetched(self, running: RunningGateway) -> None:
        async with file_server(sending(answer(CLIP))) as server:
            for wrong, code in [
                ({"params": {"opportunities": 9}}, "invalid_parameter"),
                ({"workload": "no_such"}, "unknown_workload"),
                ({"inputs": {"reference": {"url": server.url("/")}}}, "missing_input"),
                ({"inputs": {"x": {"url": server.url("/")}}}, "unknown_input"),
                ({"gpu": "T4"}, "invalid_parameter"),
            ]:
                refused = await running.http.post("/v1/jobs", json=self.body(server) | wrong)
                assert code_of(refused) == code
            checked = await running.http.post("/v1/jobs?dry_run=true", json=self.body(server))
            assert (checked.status_code, checked.json()["params"]["sectors"]) == (200, 4)
        assert server.connections == 0

    async def test_a_fetch_that_takes_longer_is_pending_and_the_job_is_submitted_all_the_same(
        self, servers: Servers, tmp_path: Path
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
            body, headers = self.body(server), {"Idempotency-Key": "slow"}
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

    async def test_a_service_that_stops_answers_who_waits(self, servers: Servers, tmp_path: Path) -> None:
        hanging = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
        patient = LOOPBACK.model_copy(update={"stall_s": 20.0})
        async with (
            running_gateway(*servers, tmp_path, url_inputs=patient) as running,
            file_server(hanging) as server,
        ):
            asking = asyncio.ensure_future(running.http.post("/v1/jobs", json=self.body(server)))
            await _until_asked(server, 2)
            running.loop.waiters.notify_all()
            async with asyncio.timeout(1.5):
                pending = (await asking).json()
            assert pending["code"] == "url_fetch_pending"
            for (upload_id,) in pending["uploads"].values():
                await running.http.delete(f"/v1/uploads/{upload_id}")

    async def test_deleting_an_upload_ends_the_fetch_and_the_job_is_never_submitted(
        self, servers: Servers, tmp_path: Path
    ) -> None:
        hanging = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
        impatient = LOOPBACK.model_copy(update={"wait_s": 0.2, "stall_s": 20.0})
        async with (
            running_gateway(*servers, tmp_path, url_inputs=impatient) as running,
            file_server(hanging) as server,
        ):
            pending = (await running.http.post("/v1/jobs", json=self.body(server))).json()
            job_id, upload_id = pending["job_id"], pending["uploads"]["other"][0]
            assert (await running.http.delete(f"/v1/uploads/{upload_id}")).status_code == 204
            async with asyncio.timeout(5):
                while code_of(found := await running.http.get(f"/v1/jobs/{job_id}")) == "url_fetch_pending":
                    await asyncio.sleep(0.02)
            assert code_of(found) == "upload_already_ended"
            assert await events_of(running, upload_id) == ["upload.created", "upload.failed"]

    async def test_an_accepted_job_returns_at_once_and_is_accepted_once(self, running: RunningGateway) -> None:
        """The call of services that accept for others, with an id of their own."""
        url_jobs, job_id = running.app.state.url_jobs, new_id("job")
        async with file_server(sending(answer(CLIP))) as server:
            request = JobRequest("lap_compare", self.body(server)["inputs"], {})
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

    async def test_what_a_process_that_died_has_accepted_is_carried_out(self, running: RunningGateway) -> None:
        """It had stored the record, and done nothing else; a record of another version is left alone."""
        url_jobs, job_id = running.app.state.url_jobs, new_id("job")
        for noun in ("job", "upload"):
            strange = Message(f"saccade.fetch.acme.{noun}.x", new_id("evt"), b'{"tenant": "local", "id": "x"}')
            await EventStore(running.store.client, FETCHES.name).publish(strange)
        async with file_server(sending(answer(CLIP))) as server:
            request = JobRequest("lap_compare", self.body(server)["inputs"], {})
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


async def test_a_tenant_has_a_share_of_the_fetches_and_a_limit(servers: Servers, tmp_path: Path) -> None:
    waiting = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
    narrow = LOOPBACK.model_copy(update={"at_once_per_tenant": 1, "pending_per_tenant": 2, "stall_s": 20.0})
    async with running_gateway(*servers, tmp_path, url_inputs=narrow) as running, file_server(waiting) as server:
        created = [await running.http.post("/v1/uploads", json={"url": server.url(f"/{n}")}) for n in range(3)]
        assert [one.status_code for one in created] == [201, 201, 429]
        assert code_of(created[2]) == "rate_limited"
        await _until_asked(server, 1)
        await running.http.delete(f"/v1/uploads/{created[0].json()['id']}")
        await _until_asked(server, 2)
        assert server.targets == ["/0", "/1"]
        await running.http.delete(f"/v1/uploads/{created[1].json()['id']}")


async def _until_asked(server: FileServer, count: int) -> None:
    async with asyncio.timeout(10):
        while len(server.targets) < count:
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.1)
    assert len(server.targets) == count


async def test_of_two_gateways_only_one_fetches_a_file(servers: Servers, tmp_path: Path) -> None:
    async with (
        running_gateway(*servers, tmp_path / "one", url_inputs=LOOPBACK) as one,
        running_gateway(*servers, tmp_path / "two", url_inputs=LOOPBACK) as two,
        file_server(sending(answer(CLIP))) as server,
    ):
        bodies = [{"url": server.url("/1")}, {"url": server.url("/2")}]
        asked = [gateway.http.post("/v1/uploads", json=body) for body in bodies for gateway in (one, two)]
        for created in await asyncio.gather(*asked):
            assert (await ended(two, created.json()["id"]))["state"] == "completed"
        await asyncio.sleep(0.3)
    assert sorted(server.targets) == ["/1", "/1", "/2", "/2"]


async def test_an_upload_by_url_with_the_same_key_is_one(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP))) as server:
        made: list[httpx.Response] = [
            await running.http.post("/v1/uploads", json={"url": server.url("/a.mp4")}, headers={"Idempotency-Key": "u"})
            for _ in range(2)
        ]
        assert len({one.json()["id"] for one in made}) == 1
        await ended(running, made[0].json()["id"])
    assert len(server.targets) == 1
