"""Who may replay what: tenants apart, operators, large replays; tickets for a browser."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts import replay as contract
from kit.auth.api_keys import AuthSettings
from services.notifier.replays import replay_service
from tests.harness.replays.history import publish_history
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Reader, notifier, publisher

pytestmark = pytest.mark.anyio

KEYS = {
    "a": ("acme", ["read", "write"]),
    "operator": ("acme", ["read", "write", "operate"]),
    "b": ("beta", ["read", "write"]),
    "reads": ("acme", ["read"]),
    "all": ("_system", ["operate"]),
}


def headers(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}.secret"}


def keys_file(folder: Path, *without: str) -> Path:
    file = folder / "keys.json"
    digest = hashlib.sha256(b"secret").hexdigest()
    keys = [
        {"id": name, "sha256": digest, "tenant": tenant, "scopes": scopes}
        for name, (tenant, scopes) in KEYS.items()
        if name not in without
    ]
    file.write_text(json.dumps(keys))
    return file


async def plan(reader: Reader, key: str, **wanted: Any) -> httpx.Response:
    body = {"into": "sse", "since": "3600", "speed": "max"} | wanted
    return await reader.http.post("/v1/replays", json=body, headers=headers(key))


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json().get("code", "")


async def test_replays_of_tenants_are_apart(nats_server: NatsServer, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(contract, "LARGE_EVENTS", 15)
    monkeypatch.setattr(replay_service, "LARGE_EVENTS", 15)
    auth = AuthSettings(api_keys_file=keys_file(tmp_path))
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, auth) as reader:
        known = await publish_history(jobs.store, 60, tenants=("acme", "beta"), jobs=8)
        of_acme = [event for event in known.events if ".acme." in event.subject]
        assert code(await plan(reader, "reads"))[0] == 403
        assert code(await plan(reader, "a", tenants=["beta"])) == (403, "forbidden")
        assert code(await plan(reader, "all")) == (422, "invalid_parameter")
        # Too many events for a key without the scope; with it, not without a reason.
        assert code(await plan(reader, "a")) == (403, "forbidden")
        assert code(await plan(reader, "operator")) == (422, "invalid_parameter")
        made = (await plan(reader, "operator", why="the receiver was down")).json()
        assert made["plan"]["count"] == len(of_acme)
        assert made["by"] == "operator"
        small = (await plan(reader, "a", types=["job.retrying"], subjects=[made["plan"]["first"][0]["subject"]])).json()
        path = f"/v1/replays/{small['id']}"
        assert code(await reader.http.get(path, headers=headers("b"))) == (404, "replay_not_found")
        assert code(await reader.http.post(f"{path}/cancel", json={}, headers=headers("b"))) == (
            404,
            "replay_not_found",
        )
        assert code(await reader.http.get(f"{path}/stream", headers=headers("b"))) == (404, "replay_not_found")
        assert (await reader.http.get("/v1/replays", headers=headers("b"))).json()["data"] == []
        assert len((await reader.http.get("/v1/replays", headers=headers("all"))).json()["data"]) == 2
        both = await plan(reader, "all", tenants=["*"], why="copy")
        assert both.json()["plan"]["count"] == len(known.events)
        assert (await reader.http.get(f"/v1/replays/{both.json()['id']}", headers=headers("a"))).status_code == 404
        # A browser opens its stream with a ticket.
        started = {"expected_count": small["plan"]["count"]}
        assert (await reader.http.post(f"{path}/start", json=started, headers=headers("a"))).status_code == 200
        ticket = await reader.http.post("/v1/tickets", json={"resource": f"{path}/stream"}, headers=headers("a"))
        assert ticket.status_code == 201, ticket.text
        async with reader.open(ticket.json()["url"]) as stream:
            blocks = await stream.rest()
        assert len(blocks) == small["plan"]["count"] + 2
        assert code(await reader.http.get(f"{path}/stream")) == (401, "unauthenticated")


async def test_a_replay_is_followed_only_as_long_as_the_key_exists(nats_server: NatsServer, tmp_path: Path) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path))
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings, auth) as reader:
        await publish_history(jobs.store, 20, tenants=("acme",), jobs=2)
        made = (await plan(reader, "a")).json()
        path = f"/v1/replays/{made['id']}"
        async with (
            reader.open(f"{path}/events", headers=headers("reads")) as progress,
            reader.open(f"{path}/stream", headers=headers("reads")) as events,
        ):
            assert (progress.status, events.status) == (200, 200)
            keys_file(tmp_path, "reads")
            assert [block.event for block in await progress.rest()] == ["replay.progressed"]
            await events.rest()
        async with reader.open(f"{path}/events", headers=headers("reads")) as again:
            assert again.status == 401
