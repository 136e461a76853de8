"""Jobs that run while nodes of a cluster go away: each is submitted, followed by SSE, and told of by webhooks."""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp

from contracts.events import decode
from contracts.events.job import JobStarted
from kit.bus.connection import connect
from kit.bus.event_store import EventStore, StoredEvent
from kit.tasks import end
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.cluster_services import ClusterServices
from tests.harness.streams.resuming_subscriber import ResumingSubscriber
from tests.harness.webhooks.listeners import WebhookListener, listening

ENDS: Final = {"job.succeeded", "job.failed", "job.cancelled"}
#: Two stages, a file and progress; short, so that a fault meets every phase of some job.
SCRIPT: Final = ["stage first", "work 0.2", "save one.bin 4096", "stage second", "progress 0.5 half", "work 0.2"]
_WAIT_S: Final = 120.0


@dataclass
class FollowedJob:
    """A job and who follows it."""

    id: str
    subscriber: ResumingSubscriber
    following: asyncio.Task[None]


@dataclass
class ClusterTraffic:
    """Jobs, and what their clients met."""

    services: ClusterServices
    http: aiohttp.ClientSession
    listener: WebhookListener
    told: str = ""
    jobs: list[FollowedJob] = field(default_factory=list)
    #: Answers with status 503 that clients got, each with ``Retry-After``.
    unavailable: int = 0
    _submitting: asyncio.Task[None] | None = None

    async def submit(self) -> FollowedJob:
        """Submit a job, with one key until it is accepted, and follow it."""
        headers = {"Idempotency-Key": uuid.uuid4().hex}
        body = {"workload": "scripted", "params": {"script": SCRIPT}, "webhook_url": self.listener.url}
        async with asyncio.timeout(_WAIT_S):
            while (job_id := await self.post("/v1/jobs", body, headers)) is None:
                await asyncio.sleep(0.2)
        subscriber = ResumingSubscriber(f"{self.services.url('notifier')}/v1/jobs/{job_id}/events")
        self.jobs.append(FollowedJob(job_id, subscriber, asyncio.create_task(subscriber.follow())))
        return self.jobs[-1]

    async def post(self, path: str, body: dict[str, object], headers: dict[str, str]) -> str | None:
        """Send a request; return the id of what was made, None after a 503 and while the gateway restarts."""
        try:
            async with self.http.post(f"{self.services.url('gateway')}{path}", json=body, headers=headers) as answer:
                found = await answer.json()
                if answer.status == 503:
                    assert found["code"] in ("bus_unavailable", "starting"), found
                    assert int(answer.headers["Retry-After"]) > 0
                    self.unavailable += 1
                    return None
                assert answer.status in (200, 201, 202), f"{answer.status}: {found} {self.told}"
                return str(found["id"])
        except aiohttp.ClientConnectionError:
            return None

    def start(self) -> None:
        """Submit one job after the other, each when the one before it has ended."""

        async def submit_for_ever() -> None:
            while True:
                await self.until_ended(await self.submit())

        self._submitting = asyncio.create_task(submit_for_ever())

    async def stop(self) -> None:
        """Submit no more."""
        assert self._submitting
        if self._submitting.done():
            self._submitting.result()
        await end(self._submitting)

    @property
    def statuses(self) -> set[int]:
        """Return the statuses that clients got of event streams."""
        return set().union(*(job.subscriber.statuses for job in self.jobs))

    async def until_more(self, count: int) -> None:
        """Wait until so many more jobs have ended."""
        wanted = self._ended() + count
        async with asyncio.timeout(_WAIT_S):
            while self._ended() < wanted:
                assert self._submitting
                if self._submitting.done():
                    self._submitting.result()
                await asyncio.sleep(0.05)

    def _ended(self) -> int:
        return sum(job.following.done() for job in self.jobs)

    async def until_ended(self, job: FollowedJob) -> None:
        """Wait until a job's stream has ended."""
        try:
            async with asyncio.timeout(_WAIT_S):
                await asyncio.shield(job.following)
        except TimeoutError as error:
            raise AssertionError(f"{job.id}: the stream did not end: {job.subscriber} {self.told}") from error

    async def check(self, cluster: EmbeddedCluster) -> int:
        """Wait for the ends of all jobs, and hold what is stored against what clients got; return how many events."""
        client = await connect(cluster.settings, "check")
        try:
            store, count = EventStore(client), 0
            for job in self.jobs:
                await self.until_ended(job)
                history = [stored async for stored in store.history(0, f"saccade.evt.*.job.{job.id}.>")]
                self._check_job(job, history)
                await self._webhooks_of({decode(stored.body).id for stored in history})
                count += len(history)
        finally:
            await client.close()
        return count

    def _check_job(self, job: FollowedJob, history: list[StoredEvent]) -> None:
        envelopes = [decode(stored.body) for stored in history]
        types, told = [envelope.type for envelope in envelopes], f"{job.id} {self.told}"
        assert Counter(types)["job.succeeded"] == 1, f"{told}: {types}"
        assert sum(kind in ENDS for kind in types) == 1, f"{told}: ended more than once: {types}"
        assert types[-1] == "job.succeeded", f"{told}: something happened after the end: {types}"
        runs = [data.run_id for data in (envelope.parsed() for envelope in envelopes) if isinstance(data, JobStarted)]
        assert len(runs) == len(set(runs)), f"{told}: one run was claimed twice: {types}"
        assert job.subscriber.ids == [envelope.id for envelope in envelopes], f"{told}: the client's events differ"
        assert len(set(job.subscriber.ids)) == len(job.subscriber.ids), f"{told}: stored twice: {types}"

    async def _webhooks_of(self, ids: set[str]) -> None:
        try:
            async with asyncio.timeout(_WAIT_S):
                while ids - set(self.listener.ids()):
                    await asyncio.sleep(0.1)
        except TimeoutError as error:
            raise AssertionError(f"no webhook came of {ids - set(self.listener.ids())} {self.told}") from error


@asynccontextmanager
async def cluster_traffic(services: ClusterServices, told: str = "") -> AsyncIterator[ClusterTraffic]:
    """Open clients of the services, and a listener for their webhooks."""
    timeout = aiohttp.ClientTimeout(total=60)
    async with listening() as listener, aiohttp.ClientSession(timeout=timeout) as http:
        traffic = ClusterTraffic(services, http, listener, told)
        try:
            yield traffic
        finally:
            tasks = [job.following for job in traffic.jobs] + ([traffic._submitting] if traffic._submitting else [])
            await end(*tasks)
