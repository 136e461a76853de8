"""Replays into sandboxes: exact copies with marks in a stream of their own, in each way in which Saccade runs NATS."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from contracts.events.base import encode
from contracts.ids import new_id
from contracts.sandbox import copies_in
from contracts.streams import REPLAYS
from kit.bus.connection import connect, request
from kit.bus.event_store import EventStore, StoredEvent
from services.notifier.settings import SandboxNatsSettings
from tests.harness.servers.embedded import ROOT
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.servers.own_service import PATHS
from tests.harness.servers.sandbox_nats import SandboxNats, running
from tests.harness.streams.notifier import Reader, failed, notifier, retrying

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module", params=["compose", "operator_mode", "saccade_up"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxNats]:
    with running(request.param, tmp_path_factory.mktemp("nats")) as server:
        yield server


def sandbox_settings(server: SandboxNats) -> SandboxNatsSettings:
    writer = server.writer
    return SandboxNatsSettings(user=writer.user, password=writer.password, credentials_file=writer.credentials_file)


@asynccontextmanager
async def opened(server: SandboxNats) -> AsyncIterator[tuple[Reader, Client]]:
    async with notifier(server.services, sandbox=sandbox_settings(server)) as reader:
        client = await connect(server.services, "test")
        try:
            yield reader, client
        finally:
            await client.close()


async def plan(http: httpx.AsyncClient, sandbox: str, **wanted: Any) -> dict[str, Any]:
    body = {"into": f"sandbox:{sandbox}", "since": "3600", "speed": "max", "why": "test"} | wanted
    answer = await http.post("/v1/replays", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


async def replayed(http: httpx.AsyncClient, sandbox: str, **wanted: Any) -> dict[str, Any]:
    """Replay into a sandbox and wait for the end."""
    made = await plan(http, sandbox, **wanted)
    path = f"/v1/replays/{made['id']}"
    answer = await http.post(f"{path}/start", json={"expected_count": made["plan"]["count"], "why": "test"})
    assert answer.status_code == 200, answer.text
    async with asyncio.timeout(30):
        while (found := (await http.get(path)).json())["state"] == "running":
            await asyncio.sleep(0.05)
    assert found["state"] == "completed", found
    return dict(found)


async def published(client: Client, count: int) -> tuple[str, list[StoredEvent]]:
    """Publish events of one job, with a header that a library takes for an order."""
    job_id, store = new_id("job"), EventStore(client)
    attack = {"reply_to": f"saccade.evt.local.job.{job_id}.cancelled", "X-Other": "1"}
    for number in range(count):
        data = failed() if number % 2 else retrying()
        message = encode(data, tenant="local", subject_id=job_id, source="/test")
        await store.publish(message, headers=attack)
    events = [one async for one in store.history(0, f"saccade.evt.local.job.{job_id}.*")]
    assert len(events) == count
    return job_id, events


async def copies(client: Client, sandbox: str) -> list[StoredEvent]:
    found, remaining = await EventStore(client, REPLAYS.name).batch(0, copies_in(sandbox), 1000, with_headers=True)
    assert remaining == 0
    return found


async def test_copies_are_exact_marked_and_no_events(server: SandboxNats) -> None:
    async with opened(server) as (reader, client):
        job_id, events = await published(client, 25)
        before = (await request(client, "STREAM.INFO.EVENTS", {}))["state"]["last_seq"]
        heard: list[str] = []

        async def on_event(message: Msg) -> None:
            heard.append(message.subject)

        for subject in ("saccade.evt.>", "live.saccade.evt.>"):
            await client.subscribe(subject, cb=on_event)
        await client.flush()
        first = await replayed(reader.http, "exact", subjects=[job_id])
        second = await replayed(reader.http, "exact", subjects=[job_id], types=["job.failed"])
        stored = await copies(client, "exact")
        assert [copy.body for copy in stored[:25]] == [event.body for event in events]
        assert [copy.subject for copy in stored[:25]] == [
            f"saccade.rpl.exact.{first['id']}.{event.subject.removeprefix('saccade.evt.')}" for event in events
        ]
        window = first["plan"]["first"][0]["cursor"].partition(".")[0]
        for copy, event in zip(stored[:25], events, strict=True):
            own = {name: value for name, value in copy.headers.items() if not name.startswith("Nats-")}
            assert own == {
                "Content-Type": "application/cloudevents+json",
                "Saccade-Replay": first["id"],
                "Saccade-Replay-Of": f"{window}.{event.sequence}",
            }, "no header of the event itself"
        assert {copy.headers["Saccade-Replay"] for copy in stored[25:]} == {second["id"]}
        assert len(stored) == 25 + 12
        assert heard == []
        assert (await request(client, "STREAM.INFO.EVENTS", {}))["state"]["last_seq"] == before


async def test_the_command_makes_credentials_that_receive_what_is_replayed(server: SandboxNats, tmp_path: Path) -> None:
    async with opened(server) as (reader, client):
        job_id, events = await published(client, 10)
        unread = await plan(reader.http, "for-ada", subjects=[job_id])
        assert any("saccade key sandbox for-ada" in warning for warning in unread["plan"]["warnings"])
        made = await asyncio.to_thread(_key_sandbox, server, tmp_path, "for-ada")
        assert made == 0
        warned = (await plan(reader.http, "for-ada", subjects=[job_id]))["plan"]["warnings"]
        assert not any("saccade key" in warning for warning in warned)
        await replayed(reader.http, "somebody", subjects=[job_id])
        mine = await replayed(reader.http, "for-ada", subjects=[job_id])
        lines = [line async for line in _program_of_the_page(server, tmp_path, "for-ada", 10)]
        assert [line.split(" ", 2)[2].encode() for line in lines] == [event.body for event in events]
        assert {line.split()[0] for line in lines} == {mine["id"]}, "what waited for a reader, of its own sandbox"


async def _program_of_the_page(server: SandboxNats, folder: Path, name: str, count: int) -> AsyncIterator[str]:
    """Run the reader of docs/replays.md and yield so many lines of what it prints."""
    page = (ROOT / "docs" / "replays.md").read_text()
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    program = folder / "reader.py"
    program.write_text(code.replace("staging", name))
    environment = {
        "PATH": os.environ["PATH"],  # noqa: TID251 - of this environment
        "PYTHONPATH": PATHS,
        **ONE_AUTHORITY,
        "NATS_URL": server.services.url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-u", str(program), cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE
    )
    try:
        assert process.stdout
        async with asyncio.timeout(20):
            for _ in range(count):
                yield (await process.stdout.readline()).decode().rstrip("\n")
    finally:
        process.kill()
        await process.wait()


def _key_sandbox(server: SandboxNats, folder: Path, name: str) -> int:
    """Run ``saccade key sandbox`` as an operator does."""
    command = [sys.executable, "-m", "cli", "key", "sandbox", name, *server.options]
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": PATHS, **ONE_AUTHORITY}  # noqa: TID251 - of this environment
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    server.reload()
    return done.returncode
