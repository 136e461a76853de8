"""A replay sends exactly what its plan counted: random selections and windows, while the stream grows.

``make soak`` makes 1,000 of them, ``make test`` a fixed small share.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from contracts.replay import ReplaySelection
from kit.tasks import end
from tests.harness.replays.history import TYPES, publish_history
from tests.harness.servers.embedded import NatsServer
from tests.harness.streams.notifier import Publisher, notifier, publisher, submitted

pytestmark = pytest.mark.anyio

#: ``make soak`` makes so many runs; then this is what issue 18 asks for.
FULL_RUNS, FULL_SELECTIONS = 200, 1000


async def keep_publishing(jobs: Publisher, job_id: str) -> None:
    while True:
        await jobs.say(job_id, submitted())
        await asyncio.sleep(0.01)


@pytest.mark.soak
@pytest.mark.timeout(1800)  # a soak is long; each request in it has a limit of its own
async def test_random_selections_send_what_was_counted(nats_server: NatsServer, seed: int, soak_runs: int) -> None:
    chance = random.Random(seed)
    async with publisher(nats_server.settings) as jobs, notifier(nats_server.settings) as reader:
        known = await publish_history(jobs.store, 600, seed, tenants=("local", "one", "two"), jobs=12)
        first, last = known.events[0].sequence, known.events[-1].sequence
        ids = sorted({event.subject.split(".")[4] for event in known.events})
        growing = asyncio.create_task(keep_publishing(jobs, ids[0]))
        whole = (await reader.http.post("/v1/replays", json={"into": "sse", "since": "3600"})).json()
        epoch = whole["window"]["after"].partition(".")[0]
        total = 0
        try:
            for number in range(max(1, soak_runs * FULL_SELECTIONS // FULL_RUNS)):
                after, until = sorted((chance.randrange(first - 1, last + 1), chance.randrange(first - 1, last + 1)))
                selection = ReplaySelection(
                    tenants=tuple(chance.choice((["local"], ["one"], ["local", "two"], ["*"]))),
                    types=tuple(chance.sample([*TYPES, "job.*"], chance.randrange(4))),
                    subjects=tuple(chance.sample(ids, chance.randrange(4))),
                )
                expected = known.selected(selection, after, until)
                body: dict[str, Any] = selection.model_dump(mode="json") | {
                    "into": "sse",
                    "since": f"{epoch}.{after}",
                    "until": f"{epoch}.{until}",
                    "speed": "max",
                    "why": "soak",
                }
                planned = await reader.http.post("/v1/replays", json=body)
                where = f"seed {seed}, selection {number}: {body}"
                assert planned.status_code == 201, (where, planned.text)
                replay = planned.json()
                assert replay["plan"]["count"] == len(expected), where
                assert [event["cursor"] for event in replay["plan"]["last"]] == [
                    f"{epoch}.{event.sequence}" for event in expected[-5:]
                ], where
                path = f"/v1/replays/{replay['id']}"
                started = await reader.http.post(f"{path}/start", json={"expected_count": len(expected)})
                assert started.status_code == 200, (where, started.text)
                async with reader.open(f"{path}/stream") as stream:
                    blocks = await stream.rest()
                assert [block.data.encode() for block in blocks[1:-1]] == [event.body for event in expected], where
                ended = (await reader.http.get(path)).json()
                assert (ended["state"], ended["progress"]["sent"]) == ("completed", len(expected)), where
                total += len(expected)
        finally:
            await end(growing)
        assert total > 0
