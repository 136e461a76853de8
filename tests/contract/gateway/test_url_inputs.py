"""Inputs by URL over HTTP, on a real bus and a real bucket: fetched, checked, and submitted once; or a clear error."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.limits import MIB
from kit.bucket import ObjectMissing
from kit.settings import NatsSettings, S3Settings
from tests.harness.network.file_servers import Talk, answer, file_server, sending
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
)

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*servers, tmp_path, url_inputs=LOOPBACK) as found:
        yield found


async def fetch(running: RunningGateway, url: str, **more: Any) -> dict[str, Any]:
    answered = await running.http.post("/v1/uploads", json={"url": url, **more})
    assert answered.status_code == 201, answered.text
    assert answered.headers["location"] == f"/v1/uploads/{answered.json()['id']}"
    return await ended(running, answered.json()["id"])


async def test_a_fetched_file_becomes_an_upload_with_its_events(running: RunningGateway) -> None:
    async with file_server(sending(answer(CLIP, "Content-Type: video/mp4"))) as server:
        wanted = {"url": server.url(SECRET), "metadata": {"lap": "7"}}
        created = (await running.http.post("/v1/uploads", json=wanted)).json()
        assert (created["state"], created["size_bytes"], created["url"]) == ("created", None, None)
        path = f"/v1/uploads/{created['id']}"
        assert code_of(await running.http.post(f"{path}/complete")) in ("upload_not_completed", "upload_already_ended")
        done = await ended(running, created["id"])
    shown = server.url("/clips/lap%20a.mp4")
    assert done["source"] == {"url": shown, "job_id": None, "received_bytes": None, "total_bytes": None}
    assert done["metadata"] == {"lap": "7"}
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


async def test_a_tenant_has_a_share_of_the_fetches_and_a_limit(servers: Servers, tmp_path: Path) -> None:
    waiting = sending(answer(CLIP[:300], length=len(CLIP)), hold=True)
    narrow = LOOPBACK.model_copy(update={"at_once_per_tenant": 1, "pending_per_tenant": 2, "stall_s": 20.0})
    async with running_gateway(*servers, tmp_path, url_inputs=narrow) as running, file_server(waiting) as server:
        bodies = [{"url": server.url(f"/{n}")} for n in range(6)]
        answers = await asyncio.gather(*(running.http.post("/v1/uploads", json=body) for body in bodies))
        refused = [code_of(one) for one in answers if one.status_code == 429]
        created = {one.json()["source"]["url"]: one.json()["id"] for one in answers if one.status_code == 201}
        assert (len(created), refused) == (2, ["rate_limited"] * 4), "also of requests at the same time"
        await until_asked(server, 1)
        await running.http.delete(f"/v1/uploads/{created[server.url(server.targets[0])]}")
        await until_asked(server, 2)
        await running.http.delete(f"/v1/uploads/{created[server.url(server.targets[1])]}")


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
