"""Quotas of event streams and webhook endpoints: one tenant's leave room for those of others."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from nats.aio.client import Client

from contracts.streams import WEBHOOKS
from kit.bus.connection import connect, request
from kit.bus.event_store import EventStore
from tests.harness.replays.history import publish_history
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import notifier
from tests.harness.webhooks.callers import KEYS, Callers, callers, keys_of_two_tenants, webhook_settings

pytestmark = pytest.mark.anyio
#: A header that makes the record of an endpoint a large one.
LARGE = {"headers": {f"X-{number}": "x" * 1000 for number in range(20)}}
ENDPOINT = {"url": "https://hooks.example.com/x", "types": ["job.succeeded"]}


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def two(nats: EmbeddedNats, tmp_path: Path) -> AsyncIterator[Callers]:
    auth = keys_of_two_tenants(tmp_path)
    assert auth.api_keys_file
    limits = [
        {"tenant": "acme", "quotas": {"event_streams": 2, "webhooks": 2, "deleted_webhooks": 3}},
        {"tenant": "rival", "quotas": {"webhooks": 3}},
    ]
    auth.api_keys_file.write_text(json.dumps([*json.loads(auth.api_keys_file.read_text()), *limits]))
    async with callers(nats, auth, webhook_settings()) as found:
        yield found


async def first_text(
    http: httpx.AsyncClient, stack: contextlib.AsyncExitStack, since: str = "", path: str = "/v1/events"
) -> str:
    """Open a stream that stays open, and return the first text of it."""
    answer = await stack.enter_async_context(http.stream("GET", f"{path}{since and '?since='}{since}"))
    assert answer.status_code == 200, "a browser's EventSource would not come back after any other status"
    texts = answer.aiter_text()
    stack.push_async_callback(texts.aclose)  # type: ignore[attr-defined]
    return await anext(texts)


async def test_a_tenants_streams_are_limited_and_one_more_is_told_to_come_back(two: Callers) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            assert "quota" not in await first_text(two.acme, stack)
        refused = (await two.acme.get("/v1/events")).text
        assert refused.startswith(": Your quota is 2 open event streams; 2 are in use.\n")
        assert "retry: " in refused
        assert "quota" not in await first_text(two.rival, stack)
        metrics = (await two.rival.get("/metrics")).text
        assert 'saccade_quota_refused_total{quota="event_streams",tenant="acme"} 1.0' in metrics
    while ": Your quota" in (await _beginning(two.acme)):
        pass


async def test_a_stream_beyond_the_quota_is_refused_before_its_request_is_checked(two: Callers) -> None:
    wrong = "/v1/events?types=no-type"
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await first_text(two.acme, stack)
        assert (await two.acme.get(wrong)).text.startswith(": Your quota is 2 open event streams")
        assert (await two.acme_reader.get("/v1/jobs/no-job/events")).text.startswith(": Your quota is 2")
        assert (await two.acme.post("/v1/events")).status_code == 405
        assert (await two.rival.get(wrong)).status_code == 422
        nobody = await two.acme.get("/v1/events", headers={"Authorization": "Bearer one.wrong"})
        assert nobody.status_code == 401
    while ": Your quota" in (await _beginning(two.acme)):
        pass
    assert (await two.acme.get(wrong)).status_code == 422


async def test_streams_that_are_refused_count_as_requests(two: Callers, tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(json.dumps([*json.loads(file.read_text()), {"tenant": "acme", "quotas": {"requests": 1}}]))
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await first_text(two.acme, stack)
        statuses = Counter([(await two.acme.get("/v1/events")).status_code for _ in range(20)])
    assert statuses[429] >= 5, statuses
    assert statuses[200] >= 1, statuses


async def test_streams_that_are_opened_at_once_are_limited_too(two: Callers) -> None:
    """Where each begins is asked of NATS, and until it answers none of them is open."""
    async with contextlib.AsyncExitStack() as stack:
        begun = await asyncio.gather(*(first_text(two.acme, stack, "2026-01-01T00:00:00Z") for _ in range(6)))
        assert sum("quota" in text for text in begun) == 4


async def test_streams_of_replays_count_with_the_others(nats: EmbeddedNats, client: Client, two: Callers) -> None:
    await publish_history(EventStore(client), 5, tenants=("acme", "rival"))
    paths = {}
    for http in (two.acme, two.rival):
        answer = await http.post("/v1/replays", json={"into": "sse", "since": "3600"})
        assert answer.status_code == 201, answer.text
        paths[http] = f"/v1/replays/{answer.json()['id']}"
    mine = paths[two.acme]
    async with contextlib.AsyncExitStack() as stack:
        for path in (f"{mine}/events", f"{mine}/stream"):
            assert "quota" not in await first_text(two.acme, stack, path=path)
        for path in (f"{mine}/events", f"{mine}/stream", "/v1/events"):
            refused = await two.acme.get(path)
            assert refused.text.startswith(": Your quota is 2 open event streams; 2 are in use.\n"), path
        assert "quota" not in await first_text(two.rival, stack, path=f"{paths[two.rival]}/events")
    while ": Your quota" in (await _beginning(two.acme)):
        pass
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await first_text(two.acme, stack)
        assert (await two.acme.get(f"{mine}/stream")).text.startswith(": Your quota is 2 open event streams")
    while ": Your quota" in (await _beginning(two.acme)):
        pass
    async with contextlib.AsyncExitStack() as stack:
        begun = await asyncio.gather(*(first_text(two.acme, stack, path=f"{mine}/stream") for _ in range(6)))
        assert sum("quota" in text for text in begun) == 4


async def test_who_has_a_replay_whole_is_told_so_whatever_is_open(
    nats: EmbeddedNats, client: Client, two: Callers
) -> None:
    """An EventSource would ask for it again every two seconds."""
    await publish_history(EventStore(client), 5, tenants=("acme",))
    answer = await two.acme.post("/v1/replays", json={"into": "sse", "since": "3600"})
    assert answer.status_code == 201, answer.text
    replay_id = answer.json()["id"]
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(2):
            await first_text(two.acme, stack)
        for kind in ("events", "stream"):
            path = f"/v1/replays/{replay_id}/{kind}"
            assert (await two.acme.get(path)).text.startswith(": Your quota is 2 open event streams"), path
            whole = await two.acme.get(path, headers={"Last-Event-ID": f"{replay_id}.end"})
            assert whole.status_code == 204, path


async def test_replays_have_a_maximum_of_their_own(nats: EmbeddedNats, client: Client, tmp_path: Path) -> None:
    """As many live streams as this process may have are no reason to refuse a replay's."""
    async with notifier(nats.settings, keys_of_two_tenants(tmp_path), webhook_settings(), max_streams=1) as reader:
        await publish_history(EventStore(client), 5, tenants=("acme",))
        reader.http.headers["Authorization"] = f"Bearer {KEYS['acme']}"
        answer = await reader.http.post("/v1/replays", json={"into": "sse", "since": "3600"})
        assert answer.status_code == 201, answer.text
        async with reader.open("/v1/events") as live, reader.open("/v1/events") as refused:
            assert live.status == 200
            assert await refused.rest() == []
            async with reader.open(f"/v1/replays/{answer.json()['id']}/events") as stream:
                assert [block.event for block in await stream.take(1)] == ["replay.progressed"]


async def _beginning(http: httpx.AsyncClient) -> str:
    async with contextlib.AsyncExitStack() as stack:
        return await first_text(http, stack)


async def test_endpoints_count_and_deleted_ones_until_they_are_forgotten(two: Callers) -> None:
    made = [(await two.acme.post("/v1/webhooks", json=ENDPOINT)).json()["id"] for _ in range(2)]
    refused = await two.acme.post("/v1/webhooks", json=ENDPOINT)
    assert (refused.status_code, refused.json()["code"]) == (409, "too_many_webhooks")
    assert refused.json()["quota"] == {"name": "webhooks", "limit": 2, "used": 2, "until": None}
    for _ in range(2):
        assert (await two.acme.delete(f"/v1/webhooks/{made.pop()}")).status_code == 204
        answer = await two.acme.post("/v1/webhooks", json=ENDPOINT)
        assert answer.status_code == 201, answer.text
        made.append(answer.json()["id"])
    assert (await two.acme.delete(f"/v1/webhooks/{made.pop()}")).status_code == 204
    refused = await two.acme.post("/v1/webhooks", json=ENDPOINT)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    assert refused.json()["quota"] == {"name": "deleted_webhooks", "limit": 3, "used": 3, "until": None}
    assert (await two.rival.post("/v1/webhooks", json=ENDPOINT)).status_code == 201


async def test_endpoints_that_are_created_at_once_are_limited_too(two: Callers) -> None:
    before = len((await two.rival.get("/v1/webhooks")).json()["data"])
    keys = [{"Idempotency-Key": "at-once"}] * 2 + [{}] * 5
    answers = await asyncio.gather(*(two.rival.post("/v1/webhooks", json=ENDPOINT, headers=key) for key in keys))
    made = {answer.json()["id"] for answer in answers if answer.status_code == 201}
    assert before + len(made) == 3, [answer.text for answer in answers]
    assert len((await two.rival.get("/v1/webhooks")).json()["data"]) == 3
    assert {answer.json()["code"] for answer in answers if answer.status_code != 201} == {"too_many_webhooks"}


@pytest.fixture
async def client(nats: EmbeddedNats) -> AsyncIterator[Client]:
    client = await connect(nats.settings, "test")
    yield client
    await client.close()


async def resize(client: Client, max_bytes: int) -> None:
    """Set the size of the stream of endpoints."""
    info = await client.jetstream().stream_info(WEBHOOKS.name)
    changed = await request(client, f"STREAM.UPDATE.{WEBHOOKS.name}", info.config.as_dict() | {"max_bytes": max_bytes})
    assert "error" not in changed, changed


async def stored_bytes(client: Client) -> int:
    return (await client.jetstream().stream_info(WEBHOOKS.name)).state.bytes


async def test_the_bytes_of_a_tenants_endpoints_are_limited(two: Callers, tmp_path: Path) -> None:
    await two.rival.post("/v1/webhooks", json=ENDPOINT)
    made = (await two.rival.get("/v1/webhooks")).json()["data"][0]
    limits = json.loads((tmp_path / "keys.json").read_text())
    limits.append({"tenant": "rival", "quotas": {"webhooks": 100, "webhook_bytes": 20_000}})
    (tmp_path / "keys.json").write_text(json.dumps(limits))
    refused = await two.rival.post("/v1/webhooks", json=ENDPOINT | LARGE)
    assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
    assert refused.json()["quota"]["name"] == "webhook_bytes"
    assert refused.json()["quota"]["limit"] == 20_000
    grown = await two.rival.patch(f"/v1/webhooks/{made['id']}", json=LARGE)
    assert (grown.status_code, grown.json()["quota"]["name"]) == (409, "webhook_bytes")
    assert (await two.rival.patch(f"/v1/webhooks/{made['id']}", json={"description": "x"})).status_code == 200
    assert (await two.rival.post("/v1/webhooks", json=ENDPOINT)).status_code == 201


async def test_a_tenant_with_little_creates_an_endpoint_when_another_has_filled_the_stream(
    nats: EmbeddedNats, client: Client, tmp_path: Path
) -> None:
    auth = keys_of_two_tenants(tmp_path)
    async with callers(nats, auth, webhook_settings()) as two:
        made = []
        for _ in range(12):
            answer = await two.acme.post("/v1/webhooks", json=ENDPOINT | LARGE)
            assert answer.status_code == 201, answer.text
            made.append(answer.json()["id"])
        await resize(client, int(await stored_bytes(client) / 0.7))
        try:
            codes = []
            while not codes or codes[-1] == 201:
                codes.append((answer := await two.acme.post("/v1/webhooks", json=ENDPOINT | LARGE)).status_code)
            assert (answer.status_code, answer.json()["quota"]["name"]) == (409, "webhook_bytes")
            assert answer.json()["quota"]["limit"] < answer.json()["quota"]["used"]
            answer = await two.rival.post("/v1/webhooks", json=ENDPOINT)
            assert answer.status_code == 201, answer.text
            # What is stored can be changed and deleted, also by who has most of it.
            assert (await two.acme.patch(f"/v1/webhooks/{made[0]}", json={"enabled": False})).status_code == 200
            assert (await two.acme.delete(f"/v1/webhooks/{made[0]}")).status_code == 204
        finally:
            await resize(client, WEBHOOKS.max_bytes)
