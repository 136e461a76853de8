"""A dispatcher over Modal is killed at each await between job.starting and job.launched, and the next one goes on: one
launch counts and is paid for, once. The points are enumerated: all in a soak, in each other run one of ``SHARE``.

A job of the gateway's was submitted fifty times over at once, and every event is delivered five times more than it
should be; without a soak, plays after the first one have five submits. Nothing runs in
containers here: the workers are those of tests/harness/dispatch/claiming_workers.py.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import modal
import modal.config
import pytest
from nats.aio.client import Client

from contracts.events.base import Message
from contracts.ids import new_id
from contracts.job import State
from contracts.streams import LIVE_EVENTS
from kit.bus.connection import connect, epoch_of
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.tail import EventTail
from kit.tasks import end
from modal_workers.deployment import SECRET
from modal_workers.lap_compare.spec import WORKLOAD as LAP_COMPARE
from services.dispatcher.app import Dispatcher
from services.dispatcher.executors.modal_executor import ModalExecutor, open_modal_executor
from services.dispatcher.scheduling.on_job import on_stored
from tests.harness.dispatch.claiming_workers import Begins, ClaimingWorkers
from tests.harness.dispatch.crash_points import CrashInjector, CrashPoint, ModalProxy
from tests.harness.dispatch.dispatcher import DispatcherHarness, open_dispatcher_harness
from tests.harness.runtime.executor_environment import ExecutorServers, bucket_secret, deploy
from tests.harness.servers.embedded import EmbeddedS3, OperatorNats
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.share import Share
from tests.modal_loopback import dialled, running
from tests.modal_loopback.records import CPU
from tests.workers.scripted.spec import WORKLOAD as SCRIPTED

pytestmark = pytest.mark.anyio

SUBMITS = 50
#: In the plays after the first one of a short suite: two thirds of the time of a play were submits.
FEW_SUBMITS = 5
DELIVERIES = 5
#: One of so many points is died at.
SHARE = 3
QUICK: dict[str, Any] = {"poll_s": 0.02, "find_s": 0.02, "backoff_s": 0.01}
#: Deaths that are tried at a point that there is, until the process comes by.
TRIES = 4
#: Longer than anything takes on a busy machine.
WAIT_S = 30.0


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with ExitStack() as stack:
        nats = stack.enter_context(OperatorNats(tmp_path_factory.mktemp("nats")))
        s3 = stack.enter_context(EmbeddedS3(tmp_path_factory.mktemp("s3")))
        loopback = stack.enter_context(running(tmp_path_factory.mktemp("m")))
        loopback.secrets[SECRET] = bucket_secret(s3.settings)
        # Modal takes every call and has a machine for none: the test's own workers do the work.
        loopback.capacity.update({CPU: 0, "T4": 0})
        deploy(loopback, ["modal_workers.lap_compare.app", "tests.workers.scripted.app"])
        yield ExecutorServers(nats, s3, loopback)
        assert loopback.unimplemented == set()


@dataclass(frozen=True)
class Scenario:
    """A job, and when the first of its workers begins."""

    begins: Begins
    #: Points that there are at least.
    points: frozenset[CrashPoint]
    gpu: str | None = None
    #: Too large for the argument of a call: it goes by the bucket.
    is_large: bool = False


def both_sides(*places: str) -> frozenset[CrashPoint]:
    return frozenset(side for place in places for side in (CrashPoint("before", place), CrashPoint("after", place)))


START = "advance _step _wait_or_start start"
INTENT, LAUNCH = f"{START} _begin publish publish _publish request", f"{START} launch launch"
ACK = f"{START} launch record_call publish publish _publish request"
ALWAYS = both_sides(INTENT, LAUNCH, "FunctionGet", "FunctionMap", ACK)
SCENARIOS = {
    "a worker that begins at once": Scenario("at once", ALWAYS),
    "a worker whose run was given up": Scenario("late", ALWAYS),
    "a worker that begins before its call is known": Scenario(
        "first", ALWAYS | both_sides("advance load load _load_direct _get _get_once", "FunctionGetOutputs")
    ),
    "a worker on a GPU": Scenario("at once", ALWAYS | both_sides("FunctionBindParams"), gpu="T4"),
    "an assignment that goes by the bucket": Scenario(
        "late", ALWAYS | both_sides(f"{LAUNCH} put call send"), is_large=True
    ),
}


class WatchedStore(EventStore):
    """The event store of a process that may die from the intent on, until the ack."""

    def __init__(self, client: Client, injector: CrashInjector) -> None:
        super().__init__(client)
        self._injector = injector

    async def publish(self, message: Message, **condition: Any) -> int:
        verb = message.subject.rpartition(".")[2]
        if verb == "starting" and not self._injector.over.is_set():
            self._injector.armed = True
        sequence = await super().publish(message, **condition)
        if verb == "launched":
            self._injector.disarm()
        return sequence


@dataclass
class Scene:
    """What all dispatchers of a scenario have in common."""

    servers: ExecutorServers
    harness: DispatcherHarness
    gateway: RunningGateway
    upload_id: str
    #: Ends with the scene.
    stack: AsyncExitStack
    #: Of the run that is played now.
    workers: ClaimingWorkers
    #: Clients of Modal that are not needed any more.
    closing: list[asyncio.Task[None]] = field(default_factory=list)
    #: How often a job is submitted over at once.
    submits: int = SUBMITS
    #: Its client is that of all dispatchers that take over.
    settled: ModalExecutor = field(init=False)

    async def submit(self, scenario: Scenario) -> tuple[str, str]:
        """Submit a job, by HTTP many times over and all at once if the gateway takes such; gives its id and tenant."""
        if scenario.gpu or scenario.is_large:
            params = {"script": ["x" * 1000] * 8 if scenario.is_large else []}
            return await self.harness.submit(workload="scripted", params=params, gpu=scenario.gpu), "acme"
        body = {"workload": "lap_compare", "inputs": {"reference": self.upload_id, "other": self.upload_id}}
        headers = {"Idempotency-Key": new_id("evt")}

        async def post() -> Any:
            """Submit as a client does: with the same key again where the bus was too slow to answer in time."""
            for _ in range(5):
                answer = await self.gateway.http.post("/v1/jobs", json=body, headers=headers)
                if answer.status_code != 503:
                    break
            return answer

        answers = await asyncio.gather(*(post() for _ in range(self.submits)))
        assert {answer.status_code for answer in answers} == {202}, answers[0].text
        (job_id,) = {answer.json()["id"] for answer in answers}
        return str(job_id), "local"

    @asynccontextmanager
    async def armed(self, injector: CrashInjector) -> AsyncIterator[Dispatcher]:
        """Run a dispatcher that has no connection but its own; leaves without a word of it, dead or not."""
        async with AsyncExitStack() as stack:
            wire = await stack.enter_async_context(injector.wire(self.servers.nats.url))
            settings = self.servers.nats.settings.model_copy(update={"url": wire.url})
            client = await connect(settings, "mortal")
            stack.push_async_callback(client.close)
            front = await self.stack.enter_async_context(self.front(injector))
            modal.config.config.override_locally("server_url", front.url)
            modal_client = await modal.Client.from_credentials.aio(*self.token())
            # It waits half a second for requests that a dead process has left: beside what the test does next.
            stack.callback(lambda: self.closing.append(asyncio.create_task(modal_client.close.aio())))
            dispatcher = self.dispatcher(modal_client, client, WatchedStore(client, injector))
            advance = dispatcher.lifecycle.advance

            async def advance_or_die(job_id: str, tenant: str, *, granted: bool) -> Any:
                look = await injector.run(advance(job_id, tenant, granted=granted))
                if injector.armed:  # the ack was the worker's own
                    injector.disarm()
                return look

            dispatcher.lifecycle.advance = advance_or_die  # type: ignore[method-assign]
            async with self.redelivering(dispatcher, client):
                running = asyncio.create_task(dispatcher.run(asyncio.Event()))
                stack.push_async_callback(end, running)
                stack.callback(wire.cut)
                yield dispatcher

    def front(self, injector: CrashInjector) -> ModalProxy:
        return ModalProxy(self.servers.loopback.environment["MODAL_SERVER_URL"], injector, self.spawned)

    async def spawned(self, call_id: str, message: Any) -> None:
        await self.workers.spawned(call_id, message)

    def token(self) -> tuple[str, str]:
        given = self.servers.loopback.environment
        return given["MODAL_TOKEN_ID"], given["MODAL_TOKEN_SECRET"]

    def dispatcher(self, modal_client: modal.Client, client: Client, store: EventStore) -> Dispatcher:
        executor = ModalExecutor(modal_client, self.settled.settings, self.harness.bucket, self.settled.access)
        harness = DispatcherHarness(client, self.harness.bucket)
        return harness.dispatcher(executor, LAP_COMPARE, SCRIPTED, store=store, **QUICK)

    @asynccontextmanager
    async def redelivering(self, dispatcher: Dispatcher, client: Client) -> AsyncIterator[None]:
        """Hand every event that is stored from now on to a dispatcher's handlers five times more."""

        def again(stored: StoredEvent) -> None:
            for _ in range(DELIVERIES):
                on_stored(dispatcher.reconciler, stored)

        tail = EventTail(EventStore(client), again, live=LIVE_EVENTS, name="again")
        _, last = await epoch_of(self.harness.client, "EVENTS")
        task = asyncio.create_task(tail.run(last))
        try:
            await tail.caught_up.wait()
            yield
        finally:
            await end(task)


@asynccontextmanager
async def a_scene(servers: ExecutorServers, folder: Path) -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        harness = await stack.enter_async_context(open_dispatcher_harness(servers.nats, servers.s3))
        gateway = await stack.enter_async_context(running_gateway(servers.nats.settings, servers.s3.settings, folder))
        stack.enter_context(dialled(servers.loopback))
        scene = Scene(
            servers,
            harness,
            gateway,
            await gateway.uploaded(),
            stack,
            ClaimingWorkers(harness, CrashInjector(None), "at once"),
        )
        front = await stack.enter_async_context(scene.front(CrashInjector(None)))
        modal.config.config.override_locally("server_url", front.url)
        opening = open_modal_executor(servers.modal_settings(), harness.bucket, servers.access())
        scene.settled = await stack.enter_async_context(opening)
        yield scene
        await asyncio.gather(*scene.closing)


async def play(scene: Scene, scenario: Scenario, injector: CrashInjector) -> None:
    """Submit a job to a dispatcher that dies at a point, and have another one bring it to its end."""
    harness = scene.harness
    scene.workers = workers = ClaimingWorkers(harness, injector, scenario.begins)
    _, before = await epoch_of(harness.client, "EVENTS")
    async with scene.armed(injector):
        job_id, tenant = await scene.submit(scenario)
        async with asyncio.timeout(WAIT_S):
            await injector.over.wait()
    await workers.begun()
    is_launched, begun = bool(workers.calls), await harness.verbs(job_id, tenant)
    is_known = is_launched and ("launched" in begun or scenario.begins != "late")
    if injector.dead.is_set():
        check_death(injector.passed[-1], begun, workers)
    await harness.forget_lease()
    next_one = scene.dispatcher(scene.settled.client, harness.client, harness.store)
    async with scene.redelivering(next_one, harness.client), harness.dispatching(next_one):
        job = await harness.reach(job_id, tenant=tenant, timeout_s=WAIT_S)
        await workers.home()
    verbs = await harness.verbs(job_id, tenant)
    assert job.state is State.SUCCEEDED, verbs
    assert (verbs.count("started"), verbs.count("succeeded")) == (1, 1), verbs
    entries = [data["cost"] for _, data in await harness.events(job_id, tenant) if data.get("cost")]
    assert len(entries) == 1, "one entry in the ledger"
    assert len(workers.worked) == 1, "one launch counts"
    assert sorted(workers.worked + workers.turned_away) == sorted(workers.calls), "every other one has left at once"
    assert len(workers.turned_away) == (is_launched and not is_known), "a worker that is known is adopted"
    assert verbs.count("starting") == (1 if is_known or "starting" not in begun else 2), verbs
    submitted = [one.subject async for one in harness.store.history(before, "saccade.evt.*.job.*.submitted")]
    assert len(submitted) == 1, "one job"
    if tenant == "local":
        assert await scene.gateway.tail.wait_for((await epoch_of(harness.client, "EVENTS"))[1], WAIT_S)
        told = (await scene.gateway.http.get(f"/v1/jobs/{job_id}")).json()
        assert told["cost"]["actual_usd"] == entries[0]["usd"] > 0


def check_death(died_at: CrashPoint, verbs: list[str], workers: ClaimingWorkers) -> None:
    """See that it died where it should have: what it had not sent has not happened, what was answered has."""
    happened = {INTENT: "starting" in verbs, ACK: "launched" in verbs, "FunctionMap": bool(workers.calls)}
    if died_at.place == ACK and workers.begins == "first":
        return  # the worker was there before it
    if died_at.place in happened:
        assert happened[died_at.place] is (died_at.side == "after"), verbs


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENARIOS)
async def test_wherever_it_dies_one_launch_counts(
    servers: ExecutorServers, tmp_path: Path, name: str, share: Share
) -> None:
    scenario = SCENARIOS[name]
    died: set[CrashPoint] = set()
    async with a_scene(servers, tmp_path) as scene:
        whole = CrashInjector(None)
        await play(scene, scenario, whole)
        if not share.is_whole:
            scene.submits = FEW_SUBMITS
        enumerated = list(dict.fromkeys([*whole.passed, *sorted(scenario.points)]))
        to_try = deque(share.of(enumerated, SHARE))
        wanted = scenario.points & {*to_try}
        known, tries = {*enumerated}, Counter[CrashPoint]()
        while to_try:
            point = to_try.popleft()
            tries[point] += 1
            injector = CrashInjector(point)
            try:
                await play(scene, scenario, injector)
            except BaseException as error:
                error.add_note(f"{name}: died {point}, after {injector.passed}")
                raise
            if injector.dead.is_set():
                died.add(point)
            elif point in wanted and tries[point] < TRIES:
                # On a busy machine a request may be late, and a step that gives up passes no further point.
                to_try.append(point)
            # What a connection's state decides may differ from run to run.
            new = [one for one in injector.passed if one not in known]
            to_try += share.of(new, SHARE)
            known |= {*injector.passed}
    assert wanted <= died, wanted - died


async def test_a_job_that_has_ended_is_not_touched_by_events_that_come_again(
    servers: ExecutorServers, tmp_path: Path
) -> None:
    scenario = SCENARIOS["a worker whose run was given up"]
    async with a_scene(servers, tmp_path) as scene:
        await play(scene, scenario, CrashInjector(CrashPoint("after", "FunctionMap")))
        calls = len(servers.loopback.sent("FunctionMap"))
        stored = [one async for one in scene.harness.store.history(0)]
        late_one = scene.dispatcher(scene.settled.client, scene.harness.client, scene.harness.store)
        async with scene.harness.dispatching(late_one):
            while not late_one.reconciler.leading:
                await asyncio.sleep(0.01)
            for one in stored:
                for _ in range(DELIVERIES):
                    on_stored(late_one.reconciler, one)
                await asyncio.sleep(0.01)  # the attendants have time to fall for it
            async with asyncio.timeout(WAIT_S):
                while len(late_one.jobs):
                    await asyncio.sleep(0.01)
        assert [one async for one in scene.harness.store.history(0)] == stored
        assert len(servers.loopback.sent("FunctionMap")) == calls
