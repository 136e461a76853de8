"""The sync WebSocket and the upload of the badminton page under stress: violations, slow readers, several gateways."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from contracts.events.job import JobProgressed
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from modal_workers.badminton.spec import CORNER_NAMES, WORKLOAD
from services.gateway.compat.badminton.sync import sync_socket
from tests.harness.servers.gateway import RunningGateway, keys_file, video
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
WORKERS = frozenset(WORKLOAD.requires)
CONNECT = {"type": "Connect", "sessionId": "s", "connectionCount": 0, "lastCloseReason": None, "clientTs": 1}


@pytest.fixture
async def served(servers: Servers, tmp_path: Path) -> AsyncIterator[tuple[RunningGateway, str]]:
    async with served_gateway(*servers, tmp_path, backends=WORKERS) as (running, address):
        yield running, address


@asynccontextmanager
async def socket(address: str, key: str = "") -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{address}/badminton{key}/api/1.31.7/sync", max_msg_size=0) as opened,
    ):
        yield opened


async def connected(opened: aiohttp.ClientWebSocketResponse, *queries: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Connect and follow queries; return the first transition."""
    await opened.send_json(CONNECT)
    added = [
        {"type": "Add", "queryId": number, "udfPath": f"videos:{name}", "args": [args]}
        for number, (name, args) in enumerate(queries)
    ]
    await opened.send_json({"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": added})
    async with asyncio.timeout(10):
        found: dict[str, Any] = await opened.receive_json()
    return found


async def uploaded(address: str) -> str:
    async with httpx.AsyncClient(base_url=f"{address}/badminton") as http:
        return str((await http.post("/api/storage/upload", content=video())).json()["storageId"])


async def call(opened: aiohttp.ClientWebSocketResponse, kind: str, name: str, **args: Any) -> dict[str, Any]:
    """Call a function and return its response, without the transitions before it."""
    request = {"type": kind, "requestId": 7, "udfPath": f"videos:{name}", "args": [args]}
    await opened.send_json(request)
    async with asyncio.timeout(10):
        while (found := await opened.receive_json())["type"] == "Transition":
            continue
    return dict(found)


@pytest.mark.parametrize(
    "text",
    [
        "no JSON",
        json.dumps(CONNECT | {"sessionId": 5}),
        json.dumps({"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []}),
        json.dumps(CONNECT | {"lastCloseReason": "x" * 70_000}),
    ],
)
async def test_who_breaks_the_protocol_is_disconnected_and_told_why(
    served: tuple[RunningGateway, str], text: str
) -> None:
    async with socket(served[1]) as opened:
        await opened.send_str(text)
        async with asyncio.timeout(10):
            closed = await opened.receive()
        assert (closed.type, closed.data) == (aiohttp.WSMsgType.CLOSE, 1008)
        assert closed.extra


async def test_a_query_that_fails_says_so_and_the_others_go_on(served: tuple[RunningGateway, str]) -> None:
    async with socket(served[1]) as opened:
        wanted = (("getVideo", {}), ("getVideo", {"videoId": "gone"}), ("listVideos", {}), ("steal", {}))
        first = await connected(opened, *wanted)
        assert [one["type"] for one in first["modifications"]] == [
            "QueryFailed", "QueryUpdated", "QueryUpdated", "QueryFailed",
        ]  # fmt: skip
        assert "videoId" in first["modifications"][0]["errorMessage"]
        assert first["modifications"][1]["value"] is None
        lone = {"type": "Mutation", "requestId": 1, "udfPath": "videos:createVideo", "args": [{"filename": "\ud800"}]}
        await opened.send_str(json.dumps(lone))
        async with asyncio.timeout(10):
            assert (await opened.receive_json())["success"] is False


async def test_a_mutation_that_is_sent_again_is_executed_once(served: tuple[RunningGateway, str]) -> None:
    urls = []
    for _ in range(2):
        async with socket(served[1]) as opened:  # the same session, after a reconnect
            await connected(opened)
            urls.append((await call(opened, "Mutation", "generateUploadUrl"))["result"])
            async with asyncio.timeout(10):
                assert (await opened.receive_json())["type"] == "Transition", "which completes it"
    assert urls[0] == urls[1]


async def test_a_client_gets_fewer_and_newer_values_than_there_were(served: tuple[RunningGateway, str]) -> None:
    running, address = served
    video_id = await uploaded(address)
    async with socket(address) as opened:
        await connected(opened, ("getVideo", {"videoId": video_id}))
        await call(opened, "Action", "processVideo", videoId=video_id)
        job = (await running.http.get("/v1/jobs", params={"workload": "badminton"})).json()["data"][0]
        run_id = await running.start_job(job["id"])
        for frame in range(1, 101):
            data = JobProgressed(
                attempt=1, run_id=run_id, stage="detect", fraction=0.5, stage_fraction=0.5, frame=frame, frame_count=100
            )
            await running.say(job["id"], data)
            await asyncio.sleep(0.01)
        frames: list[int | None] = []
        async with asyncio.timeout(10):
            while frames[-1:] != [100]:
                message = await opened.receive_json()
                frames += [change["value"].get("currentFrame") for change in message["modifications"]]
        assert len(frames) < 30
        assert frames[-1] == 100


async def test_a_silent_connection_is_pinged(
    served: tuple[RunningGateway, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sync_socket, "PING_S", 0.2)
    async with socket(served[1]) as opened, asyncio.timeout(10):
        await connected(opened)
        assert [await opened.receive_json() for _ in range(2)] == [{"type": "Ping"}] * 2


async def test_two_gateways_start_one_analysis(servers: Servers, tmp_path: Path) -> None:
    async with (
        served_gateway(*servers, tmp_path / "a", backends=WORKERS) as (running, first),
        served_gateway(*servers, tmp_path / "b", backends=WORKERS) as (_, second),
    ):
        video_id = await uploaded(first)

        async def process(address: str) -> dict[str, Any]:
            async with socket(address) as opened:
                await connected(opened)
                return await call(opened, "Action", "processVideo", videoId=video_id)

        answers = await asyncio.gather(*(process(address) for address in (first, second) for _ in range(3)))
        assert [one.get("success") for one in answers] == [True] * 6, answers
        jobs = (await running.http.get("/v1/jobs", params={"workload": "badminton"})).json()["data"]
        assert len([job for job in jobs if job["params"]["video_id"] == video_id]) == 1

        video_id, corners = await uploaded(first), {name: [8, 8] for name in CORNER_NAMES}
        async with httpx.AsyncClient(params={"videoId": video_id}) as http:
            asked = await http.get(f"{second}/badminton/api/court-keypoints/manual/status")
            assert asked.json()["has_manual_keypoints"] is False
            body = {"videoId": video_id, "keypoints": corners}
            assert (await http.post(f"{first}/badminton/api/court-keypoints/manual/set", json=body)).is_success
        await process(second)
        newest = (await running.http.get("/v1/jobs", params={"workload": "badminton"})).json()["data"][0]
        assert (newest["params"]["video_id"], newest["params"]["court_keypoints"]) == (video_id, corners)


async def test_an_upload_that_is_cut_off_stores_nothing(served: tuple[RunningGateway, str]) -> None:
    running, address = served
    body = video()
    host, port = address.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /badminton/api/storage/upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(body)}\r\n\r\n"
    writer.write(head.encode() + body[:-100])
    await writer.drain()
    types = await running.types()
    async with asyncio.timeout(10):
        while len(created := await running.types()) == len(types):
            await asyncio.sleep(0.02)
    writer.close()
    assert created[-1] == "upload.created"
    await asyncio.sleep(0.5)
    assert (await running.types())[-1] == "upload.created"
    keys = await running.bucket.list_keys(running.bucket.key("uploads", "local"))
    newest = max(running.view.rows()["uploads"])[0]
    assert not [key for key in keys if newest in key]
    assert await reader.read() == b""


async def test_queries_of_one_client_keep_no_other_tenant_waiting(servers: Servers, tmp_path: Path) -> None:
    """A hundred queries were evaluated in one go, for 0.4 s and more, and the gateway did nothing else meanwhile."""
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    rival = {"Authorization": "Bearer rival.secret"}
    async with (
        served_gateway(*servers, tmp_path, auth=auth, backends=WORKERS) as (_, address),
        httpx.AsyncClient(base_url=address, headers=rival) as http,
        socket(address, "/k/acme.secret") as opened,
    ):
        await connected(opened)
        assert (await http.get("/v1/clock")).status_code == 200  # its connection is open
        added = [
            {"type": "Add", "queryId": number, "udfPath": "videos:getVideo", "args": [{"videoId": "gone"}]}
            for number in range(100)
        ]
        await opened.send_json({"type": "ModifyQuerySet", "baseVersion": 1, "newVersion": 2, "modifications": added})
        transition = asyncio.ensure_future(opened.receive_json())
        answer = asyncio.ensure_future(http.get("/v1/clock"))
        done, _ = await asyncio.wait([transition, answer], return_when=asyncio.FIRST_COMPLETED)
        assert done == {answer}
        assert len((await transition)["modifications"]) == 100


async def test_reports_that_are_asked_for_slowly_keep_no_other_tenant_waiting(servers: Servers, tmp_path: Path) -> None:
    """Their bodies are large, so few are read at a time: one tenant could read all of those, and slowly."""
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    async with served_gateway(*servers, tmp_path, auth=auth, backends=WORKERS) as (_, address):
        path, at = "/badminton/api/export/pdf", address.removeprefix("http://")
        head = f"POST {path} HTTP/1.1\r\nHost: {at}\r\nAuthorization: Bearer acme.secret\r\n"
        head += "Expect: 100-continue\r\nContent-Length: 100\r\n\r\n"
        slow = [await asyncio.open_connection(*at.split(":")) for _ in range(2)]
        for reader, writer in slow:
            writer.write(head.encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")  # its body is being read
        refused = [asyncio.ensure_future(reader.read(1)) for reader, _ in slow]
        async with httpx.AsyncClient(base_url=address, timeout=60) as http:
            rival = {"Authorization": "Bearer rival.secret"}
            answer = await http.post(path, json={"videoId": "gone"}, headers=rival)
        assert (answer.status_code, answer.json()["code"]) == (404, "upload_not_found")
        assert not [task for task in refused if task.done()]
        for _, writer in slow:
            writer.close()
        await asyncio.gather(*refused)


async def test_sockets_of_a_tenant_are_limited_with_those_of_its_sessions(servers: Servers, tmp_path: Path) -> None:
    """Nothing limited them: a tenant could take all files that the gateway may open."""
    keys = keys_file(tmp_path, "acme", "rival")
    limits = [{"tenant": "acme", "quotas": {"session_sockets": 1}}]
    keys.write_text(json.dumps([*json.loads(keys.read_text()), *limits]))

    async def status(path: str) -> int:
        try:
            async with aiohttp.ClientSession() as session, session.ws_connect(f"{address}/badminton/k/{path}"):
                return 101
        except aiohttp.WSServerHandshakeError as error:
            return error.status

    async with served_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys), backends=WORKERS) as served:
        _, address = served
        async with socket(address, "/k/acme.secret") as opened:
            await connected(opened)
            assert await status("acme.secret/api/1.31.7/sync") == 429
            assert await status("acme.secret/ws/upl_x") == 429
            assert await status("rival.secret/api/1.31.7/sync") == 101
        async with asyncio.timeout(10):
            while await status("acme.secret/ws/upl_x") != 101:  # a socket that is closed leaves its place
                await asyncio.sleep(0.05)
