"""A live session whose worker is a call on Modal: gateway, dispatcher, worker are real, with a token for each run."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from contracts.events.session import SessionFrameAcked
from contracts.job import Job, State
from contracts.session import job_id_of_session, telemetry_subject
from contracts.streams import TELEMETRY
from contracts.telemetry import FrameAck
from kit.bus.event_store import EventStore
from services.dispatcher.app import Dispatcher
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.executors.run_access import RunAccess
from tests.harness.dispatch.dispatcher import DispatcherHarness, open_dispatcher_harness
from tests.harness.dispatch.operators import until
from tests.harness.runtime.executor_environment import ExecutorServers, serve
from tests.harness.servers.gateway import RunningGateway, picture, running_gateway
from tests.harness.sessions.scripted_session_worker import streamed_catalog
from tests.modal_loopback import Loopback, dialled
from tests.session_workers.watching.spec import WORKLOAD

pytestmark = pytest.mark.anyio

TENANT = "local"
QUICK: dict[str, Any] = {"backoff_s": 0.05, "gpu_notice_s": 0.5, "gpu_climb_s": 60.0, "find_s": 20.0}
CHUNK = 3


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory, ["tests.session_workers.watching.app"]) as servers:
        yield servers


@dataclass
class Rented:
    """A harness whose sessions have their workers on Modal."""

    harness: DispatcherHarness
    gateway: RunningGateway
    executor: ModalExecutor
    loopback: Loopback
    dispatcher: Dispatcher

    async def open(self, **params: Any) -> Streaming:
        body = {"workload": "watching", "params": {"chunk_frames": CHUNK} | params, "idle_timeout_s": 60}
        answer = await self.gateway.http.post("/v1/sessions", json=body)
        assert answer.status_code in (200, 201, 202), answer.text
        return Streaming(self, answer.json()["id"])


@dataclass
class Streaming:
    """One session and its camera."""

    rented: Rented
    id: str
    sent: int = 0

    async def frame(self) -> None:
        headers = {"Content-Type": "image/png", "X-Frame-Seq": str(self.sent), "X-Frame-Captured-At": repr(time.time())}
        content = picture() + f"picture {self.sent}".encode()
        answer = await self.rented.gateway.http.post(f"/v1/sessions/{self.id}/frames", content=content, headers=headers)
        assert answer.status_code == 202, answer.text
        self.sent += 1

    async def shown(self) -> dict[str, Any]:
        found: dict[str, Any] = (await self.rented.gateway.http.get(f"/v1/sessions/{self.id}")).json()
        return found

    async def job(self) -> Job:
        return await self.rented.harness.job(job_id_of_session(self.id), TENANT)

    async def acks(self) -> list[FrameAck]:
        store = EventStore(self.rented.harness.client, TELEMETRY.name)
        history = store.history(0, telemetry_subject(TENANT, self.id, "acks"))
        kept = [SessionFrameAcked.model_validate_json(stored.body) async for stored in history]
        return [ack for one in kept for ack in one.acks]

    async def until(self, true: Callable[[dict[str, Any]], bool], timeout_s: float = 30.0) -> dict[str, Any]:
        end = time.monotonic() + timeout_s
        while not true(shown := await self.shown()):
            assert time.monotonic() < end, json.dumps(shown)
            await asyncio.sleep(0.05)
        return shown

    async def worked_off(self, timeout_s: float = 30.0) -> dict[str, Any]:
        """Wait until each frame that was sent has its verdict."""
        done = lambda frames: sum(frames[name] for name in ("accepted", "dropped", "rejected"))  # noqa: E731
        return await self.until(lambda shown: done(shown["frames"]) >= self.sent, timeout_s)


@pytest.fixture
async def rented(servers: ExecutorServers, tmp_path: Path) -> AsyncIterator[Rented]:
    async with rent(servers, tmp_path, servers.access()) as rented:
        yield rented
        servers.loopback.heal()


@asynccontextmanager
async def rent(
    servers: ExecutorServers, folder: Path, access: RunAccess, *, accounts: bool = True, **gateway: Any
) -> AsyncIterator[Rented]:
    async with AsyncExitStack() as stack:
        stack.enter_context(streamed_catalog())
        harness = await stack.enter_async_context(open_dispatcher_harness(servers.nats, servers.s3))
        told: dict[str, Any] = {"executor": "modal", "worker_bus": "nats"} | gateway
        opening = running_gateway(servers.nats.settings, servers.s3.settings, folder, **told)
        running = await stack.enter_async_context(opening)
        stack.enter_context(dialled(servers.loopback))
        executor = await stack.enter_async_context(
            open_modal_executor(servers.modal_settings(), harness.bucket, access)
        )  # fmt: skip
        opens = partial(open_modal_executor, servers.modal_settings(), harness.bucket, access) if accounts else None
        dispatcher = harness.dispatcher(executor, WORKLOAD, opens_account=opens, **QUICK)
        await stack.enter_async_context(harness.dispatching(dispatcher))
        yield Rented(harness, running, executor, servers.loopback, dispatcher)


async def test_a_session_lives_on_modal_loses_its_container_and_goes_on(rented: Rented) -> None:
    session = await rented.open()
    await session.until(lambda shown: shown["state"] == "ready")
    for _ in range(8):
        await session.frame()
        await session.worked_off()
    told = {ack.seq for ack in await session.acks() if ack.status == "accepted"}
    assert len(told) == 8
    assert (await session.shown())["chunk"]["number"] == 2
    first = await session.job()
    assert (first.executor, first.state) == ("modal", State.RUNNING)
    assert first.call_id

    await asyncio.to_thread(rented.loopback.kill, first.call_id, "internal_failure")
    (killed,) = (one for one in rented.loopback.containers if first.call_id in one.calls)
    await until(lambda: killed.ended, 30)
    for _ in range(3):
        await session.frame()  # while there is no worker
    shown = await session.until(lambda shown: shown["job"]["attempt"] == 2 and shown["job"]["state"] == "running")
    await session.worked_off()
    for _ in range(2):
        await session.frame()
        shown = await session.worked_off()
    ready = [data for what, data in await rented_events(rented, session) if what == "ready"]
    assert [one["resumed_from_chunk"] for one in ready] == [None, 2]

    stopping = await rented.gateway.http.post(f"/v1/sessions/{session.id}/stop")
    assert stopping.status_code in (200, 202), stopping.text
    shown = await session.until(lambda shown: shown["state"] == "stopped")
    assert shown["reason"] == "asked"

    acks = await session.acks()
    assert Counter(ack.seq for ack in acks) == Counter(range(session.sent)), "each frame has one verdict"
    accepted = [ack.seq for ack in acks if ack.status == "accepted"]
    assert told <= set(accepted)
    assert shown["frames"]["sent"] == session.sent
    lines = json.loads(await rented.harness.bucket.get(chunk_of(rented, session, shown["chunk"]["number"])))
    assert [line["seq"] for line in lines] == accepted, "nothing that was accepted is lost, nothing is there twice"

    job = await session.job()
    assert (job.state, job.attempt) == (State.SUCCEEDED, 2)
    events = await rented.harness.events(job.id, TENANT)
    paid = [data["cost"]["usd"] for what, data in events if what in ("interrupted", "succeeded") and data["cost"]]
    assert len(paid) == 2, "each attempt is paid for, once"
    assert shown["cost"]["actual_usd"] == pytest.approx(sum(paid), abs=1e-6)
    stopped = [data for what, data in await rented_events(rented, session) if what == "stopped"]
    assert [one["cost_usd"] for one in stopped] == [shown["cost"]["actual_usd"]]


async def test_a_session_is_replayed_on_modal(rented: Rented) -> None:
    session = await rented.open()
    await session.until(lambda shown: shown["state"] == "ready")
    for _ in range(4):
        await session.frame()
        await session.worked_off()
    await rented.gateway.http.post(f"/v1/sessions/{session.id}/stop")
    ended = await session.until(lambda shown: shown["state"] == "stopped")
    body = {"workload": "watching", "params": {"chunk_frames": CHUNK}, "replay_of": session.id}
    again = Streaming(rented, (await rented.gateway.http.post("/v1/sessions", json=body)).json()["id"])
    shown = await again.until(lambda shown: shown["state"] in ("stopped", "failed"))
    assert (shown["state"], shown["frames"]["accepted"]) == ("stopped", 4), shown
    chunks = [ended["chunk"]["number"], shown["chunk"]["number"]]
    read = [
        json.loads(await rented.harness.bucket.get(chunk_of(rented, one, number)))
        for one, number in zip((session, again), chunks, strict=True)
    ]
    assert read[0] == read[1]


async def test_where_workers_reach_the_gateway_only_a_session_is_refused_before_there_is_one(
    servers: ExecutorServers, tmp_path: Path
) -> None:
    access = RunAccess(servers.nats.tokens, "ingest", "https://vision.example.com")
    async with rent(servers, tmp_path, access, worker_bus="ingest") as rented:
        launched = len(rented.loopback.sent("FunctionMap"))
        answer = await rented.gateway.http.post("/v1/sessions", json={"workload": "watching"})
        assert (answer.status_code, answer.json()["code"]) == (501, "sessions_not_configured")
        assert "NATS" in answer.json()["detail"]
        assert "docs/worker_access.md" in answer.json()["hint"]
        assert (await rented.gateway.types()) == []
        assert len(rented.loopback.sent("FunctionMap")) == launched


async def test_a_dispatcher_that_was_told_otherwise_launches_nothing_for_it(
    servers: ExecutorServers, tmp_path: Path
) -> None:
    access = RunAccess(servers.nats.tokens, "ingest", "https://vision.example.com")
    async with rent(servers, tmp_path, access) as rented:
        launched = len(rented.loopback.sent("FunctionMap"))
        session = await rented.open()
        shown = await session.until(lambda shown: shown["state"] == "failed")
        assert shown["error"]["code"] == "worker_not_started", shown["error"]
        assert "NATS" in shown["error"]["message"], shown["error"]
        assert shown["cost"]["actual_usd"] == 0
        assert len(rented.loopback.sent("FunctionMap")) == launched


async def rented_events(rented: Rented, session: Streaming) -> list[tuple[str, dict[str, Any]]]:
    history = rented.harness.store.history(0, f"saccade.evt.{TENANT}.session.{session.id}.*")
    return [(one.subject.rpartition(".")[2], json.loads(one.body)["data"]) async for one in history]


def chunk_of(rented: Rented, session: Streaming, number: int) -> str:
    return rented.harness.bucket.key("results", job_id_of_session(session.id), f"chunk_{number:04d}.json")
