"""A damaged view is folded again from the stream: no event is skipped because of it, and none becomes a dead letter."""

from __future__ import annotations

import asyncio
import sqlite3
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.errors import SaccadeError
from contracts.events import encode
from contracts.events.base import Envelope
from contracts.events.job import JobQueued, JobSubmitted
from contracts.ids import new_id
from contracts.job import State, fold
from contracts.streams import DEADLETTERS
from kit.bus.event_store import EventStore
from kit.tasks import end
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.aggregates.view import GatewayView
from services.gateway.aggregates.view_follower import ViewFollower
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.servers.event_stores import opened

pytestmark = pytest.mark.anyio


async def submit(store: EventStore) -> str:
    data = JobSubmitted(
        workload="nerf",
        workload_version="1",
        inputs={},
        params={"note": "x" * 500},
        deadline=datetime.now(UTC) + timedelta(hours=1),
    )
    job_id = new_id("job")
    await store.publish(encode(data, tenant="local", subject_id=job_id, source="/test"))
    return job_id


async def queue(store: EventStore, job_id: str) -> int:
    return await store.publish(encode(JobQueued(position=0), tenant="local", subject_id=job_id, source="/test"))


class RunningView:
    """A view that follows the stream, and the sequences that it folds."""

    def __init__(self, store: EventStore, folder: Path) -> None:
        self.view = GatewayView(folder)
        self.follower = ViewFollower(store, self.view, lambda _: None)
        self.follower.set_projectors(job=self._fold)
        self.folded: list[int] = []
        self.task: asyncio.Task[None] | None = None

    def _fold(self, envelope: Envelope, sequence: int) -> None:
        if job := fold(self.view.job(envelope.subject), envelope, sequence):
            self.view.keep_job(job)
        self.folded.append(sequence)

    async def __aenter__(self) -> RunningView:
        self.task = asyncio.create_task(self.follower.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task
        await end(self.task)
        self.view.close()

    async def reach(self, sequence: int) -> None:
        assert await self.follower.tail.wait_for(sequence, 10)


def overwrite(folder: Path, change: str) -> None:
    with sqlite3.connect(folder / "view.sqlite3") as database:
        database.execute(change)
    database.close()


async def test_an_event_of_a_damaged_row_ends_the_process_and_is_not_lost(
    nats_server: EmbeddedNats, tmp_path: Path
) -> None:
    async with opened(nats_server) as store:
        job_id, other = await submit(store), await submit(store)
        async with RunningView(store, tmp_path) as running:
            await running.reach(2)
        overwrite(tmp_path, "UPDATE jobs SET body = substr(body, 1, 40)")
        async with RunningView(store, tmp_path) as running:
            await queue(store, job_id)
            await queue(store, other)
            assert running.task
            with pytest.raises(SaccadeError, match="damaged"):
                await running.task
            assert running.folded == []
        assert not (tmp_path / "view.sqlite3").exists()
        async with RunningView(store, tmp_path) as running:
            await running.reach(4)
            assert running.folded == [1, 2, 3, 4]
            assert [getattr(running.view.job(one), "state", None) for one in (job_id, other)] == [State.QUEUED] * 2
        assert [one async for one in EventStore(store.client, DEADLETTERS.name).history(0)] == []


async def test_a_list_with_a_damaged_row_is_an_error_and_then_whole(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    async with opened(nats_server) as store:
        for _ in range(3):
            await submit(store)
        async with RunningView(store, tmp_path) as running:
            await running.reach(3)
        overwrite(tmp_path, "UPDATE jobs SET body = x'00' WHERE first_sequence = 2")
        async with RunningView(store, tmp_path) as running:
            with pytest.raises(ValueError, match="validation error"):
                running.view.jobs("local", JobFilter(), limit=5)
            assert running.task
            with pytest.raises(SaccadeError, match="damaged"):
                await running.task
        async with RunningView(store, tmp_path) as running:
            await running.reach(3)
            assert len(running.view.jobs("local", JobFilter(), limit=5)[0]) == 3


async def test_a_damaged_page_is_found_when_it_is_read(nats_server: EmbeddedNats, tmp_path: Path) -> None:
    async with opened(nats_server) as store:
        ids = [await submit(store) for _ in range(60)]
        async with RunningView(store, tmp_path) as running:
            await running.reach(60)
        path = tmp_path / "view.sqlite3"
        data = path.read_bytes()
        with sqlite3.connect(path) as database:
            ((page,),) = database.execute("SELECT rootpage FROM sqlite_master WHERE name = 'jobs'").fetchall()
        database.close()
        size = 4096
        path.write_bytes(data[: (page - 1) * size] + b"\xff" * size + data[page * size :])
        async with RunningView(store, tmp_path) as running:
            await queue(store, ids[30])
            assert running.task
            with pytest.raises(SaccadeError, match="damaged"):
                await running.task
            assert running.folded == []
        async with RunningView(store, tmp_path) as running:
            await running.reach(61)
            assert len(running.folded) == 61
        assert [one async for one in EventStore(store.client, DEADLETTERS.name).history(0)] == []
