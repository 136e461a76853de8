"""Upload of photos by one form, as the replaced product-photo service's page sends it, through a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.limits import MIB
from kit.auth.api_keys import AuthSettings
from services.gateway.compat.nerf import photo_forms
from services.gateway.compat.nerf.photo_groups import new_group, photo_id
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, picture
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

#: The gateway, the base URL of a client that sends no credential, and the tenant that it acts for.
Client = tuple[RunningGateway, httpx.AsyncClient, str]
File = tuple[str, bytes, str]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("servers")) as both:
        yield both


WITHOUT_KEYS = pytest.mark.parametrize("client", ["without keys"], indirect=True)


@pytest.fixture(params=["without keys", "with keys"])
async def client(
    request: pytest.FixtureRequest, servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Client]:
    nats, s3 = servers
    auth, base, tenant = None, "", "local"
    if request.param == "with keys":
        monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps([{"system": "nerf", "word": "w", "key": "shop"}]))
        auth, base, tenant = AuthSettings(api_keys_file=keys_file(tmp_path, "shop")), "/compat/nerf/k/w", "shop"
    async with (
        served_gateway(nats.settings, s3.settings, tmp_path, auth=auth) as (running, address),
        httpx.AsyncClient(base_url=address + base, timeout=None) as http,
    ):
        if auth is not None:
            async with httpx.AsyncClient(base_url=address) as stranger:
                sent = await stranger.post("/api/upload/photos", files=[("files", ("a.png", picture(), "image/png"))])
                assert sent.status_code == 401
                assert (await stranger.get("/api/upload/status/upload_x")).status_code == 401
        yield running, http, tenant


def photos(count: int) -> list[File]:
    """Return different pictures."""
    return [(f"{n}.png", picture() + b"%d" % n, "image/png") for n in range(count)]


async def send(http: httpx.AsyncClient, files: list[File], **fields: str) -> dict[str, Any]:
    answer = await http.post("/api/upload/photos", files=[("files", file) for file in files], data=fields)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_a_form_of_photos_becomes_a_job(client: Client) -> None:
    running, http, tenant = client
    told = await send(http, photos(3), auto_start_nerf="false")
    assert set(told) == {
        *("job_id", "status", "uploaded_count", "total_count", "validated_images"),
        *("validation_summary", "errors", "auto_start_nerf"),
    }
    assert (told["status"], told["uploaded_count"], told["total_count"]) == ("complete", 3, 3)
    assert told["validation_summary"] == {"total": 3, "valid": 3, "warnings": 3, "errors": 0}
    assert [photo["filename"] for photo in told["validated_images"]] == ["0.png", "1.png", "2.png"]
    first = told["validated_images"][0]
    assert first["size"] == len(photos(1)[0][1])
    assert (first["dimensions"], first["status"], first["errors"]) == ({"width": 32, "height": 24}, "warning", [])
    assert "small" in first["warnings"][0]
    assert "20 or more" in told["errors"][0]
    assert told["auto_start_nerf"] is False

    name = told["job_id"]
    state = (await http.get(f"/api/upload/status/{name}")).json()
    assert (state["status"], state["progress"], state["uploaded_count"], state["total_count"]) == (
        "complete",
        100,
        3,
        3,
    )
    job = (await http.post("/api/nerf/colmap", json={"job_id": name})).json()
    assert (job["job_id"], job["status"], job["total_images"]) == (name, "processing", 3)
    submitted = (await running.job(job["id"], tenant)).submitted
    ids = [photo["file_id"] for photo in told["validated_images"]]
    assert [one.upload_id for one in submitted.inputs["photos"]] == ids
    assert (await http.post("/api/nerf/colmap", json={"job_id": name})).json()["id"] == job["id"]
    in_use = await http.delete(f"/api/upload/{name}")
    assert (in_use.status_code, code_of(in_use)) == (409, "upload_in_use")


async def test_bad_files_are_named_and_the_others_stay(client: Client) -> None:
    running, http, tenant = client
    files = [
        *photos(1),
        ("notes.txt", b"no photo", "text/plain"),
        ("broken.jpg", b"\xff\xd8\xff no photo", "image/jpeg"),
        ("empty.png", b"", "image/png"),
        ("again.png", photos(1)[0][1], "application/octet-stream"),
        ("called a photo.png", photos(1)[0][1], "video/mp4"),
    ]
    told = await send(http, files)
    seen = {photo["filename"]: photo for photo in told["validated_images"]}
    assert {name: photo["status"] for name, photo in seen.items()} == {
        "0.png": "warning",
        "notes.txt": "error",
        "broken.jpg": "error",
        "empty.png": "error",
        "again.png": "warning",
        "called a photo.png": "error",
    }
    assert "no photo" in seen["notes.txt"]["errors"][0]
    assert all(seen[name]["errors"] for name in ("broken.jpg", "empty.png"))
    assert "same file as '0.png'" in seen["again.png"]["warnings"][1]
    assert told["validation_summary"] == {"total": 6, "valid": 2, "warnings": 2, "errors": 4}
    keys = await running.bucket.list_keys(running.bucket.key("uploads", tenant))
    stored = {photo["file_id"] for photo in seen.values() if photo["status"] != "error"}
    found = {key.split("/")[-2] for key in keys}
    assert stored <= found
    assert not found & {seen["broken.jpg"]["file_id"], seen["empty.png"]["file_id"]}

    job = (await http.post("/api/nerf/colmap", json={"job_id": told["job_id"]})).json()
    used = {one.upload_id for one in (await running.job(job["id"], tenant)).submitted.inputs["photos"]}
    assert used == stored


@WITHOUT_KEYS
async def test_a_form_starts_its_job_and_doubtful_photos_are_refused_where_asked_for(client: Client) -> None:
    _, http, _ = client
    told = await send(http, photos(20), auto_start_nerf="true")
    assert told["auto_start_nerf"] is True, told["errors"]
    name = told["job_id"]
    begun = (await http.get(f"/api/nerf/colmap/status/{name}")).json()
    assert (begun["status"], begun["total_images"]) == ("processing", 20)

    strict = await send(http, photos(2), strict_validation="True", auto_start_nerf="true")
    assert (strict["validation_summary"]["errors"], strict["auto_start_nerf"]) == (2, False)
    assert all("small" in photo["errors"][0] for photo in strict["validated_images"])
    none = await http.post("/api/nerf/colmap", json={"job_id": strict["job_id"]})
    assert (none.status_code, code_of(none)) == (404, "upload_not_found")


@WITHOUT_KEYS
async def test_photos_are_deleted_by_their_form(client: Client) -> None:
    running, http, tenant = client
    told = await send(http, photos(2))
    deleted = await http.delete(f"/api/upload/{told['job_id']}")
    assert (deleted.status_code, "deleted" in deleted.json()["message"]) == (200, True)
    keys = await running.bucket.list_keys(running.bucket.key("uploads", tenant))
    assert not [key for key in keys for photo in told["validated_images"] if photo["file_id"] in key]
    for answer in (await http.get(f"/api/upload/status/{told['job_id']}"), await http.delete("/api/upload/upload_x")):
        assert (answer.status_code, code_of(answer)) == (404, "upload_not_found")
    assert (await http.get("/api/upload/info")).json()["image_count"]["maximum"] == 500


@WITHOUT_KEYS
async def test_what_is_no_form_of_photos_is_refused(client: Client) -> None:
    _, http, _ = client
    empty = await http.post("/api/upload/photos", files=[("other", ("a.png", picture(), "image/png"))])
    assert (empty.status_code, code_of(empty)) == (400, "malformed_request")
    text = await http.post("/api/upload/photos", content=b"x", headers={"Content-Type": "image/png"})
    assert (text.status_code, code_of(text)) == (400, "malformed_request")
    unknown = await http.post("/api/nerf/colmap", json={"job_id": new_group()})
    assert (unknown.status_code, code_of(unknown)) == (404, "upload_not_found")
    reader, writer = await asyncio.open_connection(http.base_url.host, http.base_url.port)
    head = f"POST /api/upload/photos HTTP/1.1\r\nHost: {http.base_url.host}\r\nContent-Length: {1 << 40}\r\n"
    writer.write(f"{head}Content-Type: multipart/form-data; boundary=x\r\n\r\n".encode())
    assert b" 413 " in await reader.readline()
    writer.close()


@WITHOUT_KEYS
async def test_a_client_that_goes_away_leaves_whole_photos_only(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, http, tenant = client
    group = new_group()
    monkeypatch.setattr(photo_forms, "new_group", lambda: group)
    head = b'--b\r\nContent-Disposition: form-data; name="files"; filename="%d.png"\r\nContent-Type: image/png\r\n\r\n'

    async def body() -> AsyncIterator[bytes]:
        yield head % 0 + photos(1)[0][1] + b"\r\n" + head % 1
        for _ in range(10):
            yield bytes(MIB)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await http.post(
            "/api/upload/photos", content=body(), headers={"Content-Type": "multipart/form-data; boundary=b"}
        )
    find = running.app.state.uploads.find
    while not (second := await find(tenant, photo_id(group, 1))) or second.reason is None:
        await asyncio.sleep(0.02)
    assert (second.created.filename, second.reason) == ("1.png", "deleted")
    while (await find(tenant, photo_id(group, 0))).state != "completed":
        await asyncio.sleep(0.02)
    assert (await http.get(f"/api/upload/status/{group}")).json()["total_count"] == 1


@WITHOUT_KEYS
async def test_a_bucket_that_is_away_refuses_the_form_and_the_next_one_succeeds(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    running, http, _ = client

    async def fail(*_: Any, **__: Any) -> None:
        raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)

    with monkeypatch.context() as patched:
        patched.setattr(running.bucket, "put", fail)
        answer = await http.post("/api/upload/photos", files=[("files", file) for file in photos(2)])
    assert (answer.status_code, code_of(answer)) == (503, "storage_unavailable")
    assert (await send(http, photos(2)))["uploaded_count"] == 2


def test_a_files_upload_follows_from_the_form() -> None:
    group = new_group()
    assert photo_id(group, 3) == photo_id(group, 3) != photo_id(group, 4)
    assert group != new_id("upl")


async def test_forms_that_are_received_are_limited_and_those_of_one_tenant_leave_room(
    servers: Servers, tmp_path: Path
) -> None:
    """Each holds up to a part of a file in memory, for as long as its client likes: a tenant could fill all of it."""
    nats, s3 = servers
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    async with served_gateway(nats.settings, s3.settings, tmp_path, auth=auth) as (_, address):
        at = address.removeprefix("http://")
        head = f"POST /api/upload/photos HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer acme.secret\r\n"
        head += "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\nExpect: 100-continue\r\n\r\n"
        opened = [await asyncio.open_connection(*at.split(":")) for _ in range(photo_forms.FORMS_OF_ONE + 2)]
        for _, writer in opened:
            writer.write(head.encode())
        told = [asyncio.ensure_future(reader.readline()) for reader, _ in opened]
        while sum(task.done() for task in told) < photo_forms.FORMS_OF_ONE:
            await asyncio.wait([task for task in told if not task.done()], return_when=asyncio.FIRST_COMPLETED)
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            http.headers["Authorization"] = "Bearer rival.secret"
            assert (await send(http, photos(1)))["uploaded_count"] == 1
        receiving = [task for task in told if task.done()]
        assert {task.result() for task in receiving} == {b"HTTP/1.1 100 Continue\r\n"}
        assert len(receiving) == photo_forms.FORMS_OF_ONE
        for task, (_, writer) in zip(told, opened, strict=True):
            if task in receiving:
                writer.close()
        rest = [task for task in told if task not in receiving]
        assert await asyncio.gather(*rest) == [b"HTTP/1.1 100 Continue\r\n"] * 2, "their turn comes"
        for _, writer in opened:
            writer.close()
