"""Random points of random jobs and sessions, read live and from the archive, equal the fold of every event before them.

``make soak`` reads a thousand points with ``--soak-runs 200``; ``make test`` a fixed small share. The seed of a failure
is in its message: ``--seed`` plays it again.
"""

from __future__ import annotations

import asyncio
import random
from pathlib import Path
from typing import Any, Final

import pytest

from contracts.errors import SaccadeError
from services.gateway.aggregates.job_lists import JobFilter
from services.gateway.time_machine.points import Point
from tests.harness.history.archive_stage import archive_stage
from tests.harness.history.random_histories import RandomHistory, random_history
from tests.harness.servers.embedded import EmbeddedS3, NatsServer, S3Server
from tests.harness.servers.gateway import RunningGateway, running_gateway

#: Filters that every job and session passes.
_EVERYTHING: Final[dict[str, Any]] = {"job": JobFilter(), "session": ()}


async def check_points(running: RunningGateway, history: RandomHistory, chance: random.Random, count: int) -> int:
    """Compare so many points, most of them during the life of what is read; return how many had changed since."""
    state = running.app.state
    readers: dict[str, Any] = {"job": state.past_jobs.aggregates, "session": state.past_sessions.aggregates}
    everything, changed_since = history.subjects(), 0
    for _ in range(count):
        tenant, noun, subject_id = chance.choice(everything)
        own = [
            sequence
            for message, sequence in zip(history.messages, history.sequences, strict=True)
            if message.subject.split(".")[4] == subject_id
        ]
        sequence = chance.choice([chance.choice(own), chance.randrange(own[0], own[-1] + 1), own[0] - 1])
        wanted = history.as_of(tenant, noun, subject_id, sequence)
        cursor = f"{running.tail.epoch}.{sequence}"
        point = await state.past_jobs.points.point("at", cursor)
        found = await _read(readers[noun], tenant, subject_id, point)
        assert found == wanted, (noun, subject_id, cursor)
        changed_since += sequence < own[-1]
        # The list of that point has it too, as it was.
        if wanted is not None and chance.random() < 0.1:
            await _check_listed(running, noun, tenant, wanted, point)
    return changed_since


async def _read(reader: Any, tenant: str, subject_id: str, point: Point) -> Any:
    try:
        return await reader.read(tenant, subject_id, point)
    except SaccadeError as error:
        if error.code != "not_created_yet":
            raise
        return None


async def _check_listed(running: RunningGateway, noun: str, tenant: str, wanted: Any, point: Point) -> None:
    past = running.app.state.past_jobs if noun == "job" else running.app.state.past_sessions
    cursor = None
    while True:
        page = await past.page(tenant, _EVERYTHING[noun], point, cursor, 100)
        for found in page.data:
            if found.id == wanted.id:
                assert (found.state, found.cursor) == (wanted.state, f"{running.tail.epoch}.{wanted.sequence}")
                return
        assert page.next_cursor is not None, f"{wanted.id} is not in the list"
        cursor = page.next_cursor


async def play(nats: NatsServer, s3: S3Server, folder: Path, history: RandomHistory, *, seed: int, count: int) -> None:
    async with running_gateway(nats.settings, s3.settings, folder / "live") as running:
        await history.store(running.store)
        assert await running.tail.wait_for(history.sequences[-1], 60)
        changed = await check_points(running, history, random.Random(f"{seed} points"), count)
        assert changed > count // 4, "most points should be of a time before the newest event"
    async with archive_stage(nats, s3) as stage:
        await stage.archive_all()
        await stage.purge_archived()
        bounds = await stage.history.bounds()
        assert bounds.first == 1
        assert bounds.first_in_stream > len(history.messages) // 2
    # The view of this gateway is folded from what the stream still has: the archive alone knows the rest.
    async with running_gateway(nats.settings, s3.settings, folder / "archived") as running:
        assert await check_points(running, history, random.Random(f"{seed} archived"), count)


@pytest.mark.soak
def test_random_points_equal_the_fold_of_their_prefix(
    nats_server: NatsServer, shared_s3: EmbeddedS3, tmp_path: Path, seed: int, soak_runs: int
) -> None:
    history = random_history(seed, 20 + soak_runs, 5 + soak_runs // 4)
    for name in ("live", "archived"):
        (tmp_path / name).mkdir()
    try:
        s3 = shared_s3.with_new_bucket()
        asyncio.run(play(nats_server, s3, tmp_path, history, seed=seed, count=30 + 5 * soak_runs))
    except BaseException as error:
        error.add_note(f"play it again with --seed {seed}")
        raise
