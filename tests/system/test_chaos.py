"""Kill -9 of any process at any moment: every job still ends once, and a client that reconnects misses nothing.

``make test`` runs a few rounds, ``make soak`` many; ``--seed`` runs the rounds of a failure again.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from saccade_client import Client

from contracts.events import decode
from contracts.events.job import JobStarted
from kit.bus.event_store import StoredEvent
from tests.system.chaos import ENDS, SCRIPT, WAIT_S, Killer, System, running

VICTIMS = ("nats-server", "rclone", "services.gateway", "services.dispatcher", "services.notifier", "worker")


@dataclass
class Listener:
    """An SSE client that resumes by its cursor."""

    url: str
    job_id: str
    ids: list[str] = field(default_factory=list)
    done: threading.Event = field(default_factory=threading.Event)

    def start(self) -> None:
        threading.Thread(target=self._listen, daemon=True).start()

    def _listen(self) -> None:
        with Client(self.url) as client:
            for event in client.events(job_id=self.job_id, follow=True):
                if event.cursor is None:
                    continue
                self.ids.append(str(event.envelope["id"]))
                if event.type in ENDS:
                    break
        self.done.set()


@pytest.fixture
def system(tmp_path: Path) -> Iterator[System]:
    with running(tmp_path) as system:
        yield system


def check(history: list[StoredEvent], listener: Listener, context: str) -> None:
    """Hold what one job left against what is promised."""
    envelopes = [decode(stored.body) for stored in history]
    types = [envelope.type for envelope in envelopes]
    assert Counter(types)["job.succeeded"] == 1, f"{context}: {types}"
    assert sum(kind in ENDS for kind in types) == 1, f"{context}: ended more than once: {types}"
    assert types[-1] == "job.succeeded", f"{context}: something happened after the end: {types}"
    runs = [data.run_id for data in (envelope.parsed() for envelope in envelopes) if isinstance(data, JobStarted)]
    assert len(runs) == len(set(runs)), f"{context}: one run was claimed twice: {types}"
    assert listener.done.is_set(), f"{context}: the client saw no end: {listener.ids} of {types}"
    assert listener.ids == [envelope.id for envelope in envelopes], f"{context}: the client's events differ"


@pytest.mark.soak
def test_every_job_ends_once_whatever_is_killed(system: System, seed: int, soak_runs: int) -> None:
    """Kill one process after the other, each at a random moment of a short job."""
    choose = random.Random(seed)
    with Client(system.url, timeout_s=60.0) as client:
        for number in range(soak_runs):
            victim, delay_s = VICTIMS[number % len(VICTIMS)], choose.uniform(0.0, 1.2)
            context = f"--seed {seed}: run {number}, {victim} killed after {delay_s:.3f} s"
            killer = Killer(system, victim, delay_s)
            killing = killer.start()
            job = client.submit("scripted", {}, {"script": SCRIPT})
            listener = Listener(system.url, job.id)
            listener.start()
            listener.done.wait(WAIT_S)
            killing.join(WAIT_S)
            # A worker may have done its work before its turn came; everything else runs all the time.
            assert killer.killed or victim == "worker", f"{context}: nothing was killed"
            check(asyncio.run(system.history(job.id)), listener, context)
            manifest = client.artifacts(job.id)
            assert {artifact.name for artifact in manifest.artifacts} == {"one.bin", "two.bin"}, context
