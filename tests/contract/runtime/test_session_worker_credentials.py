"""Rights of the credentials of one session run: its session, the replayed one, nothing else; each right alone, on a
real nats-server in operator mode."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import NoRespondersError
from pydantic import SecretStr

from contracts.events.base import DURABLE, EVENT_CLASSES, Message
from contracts.events.session import SESSION_WORKER_VERBS
from contracts.ids import new_id
from contracts.session import (
    clock_subject,
    job_id_of_session,
    telemetry_delivery_subject,
    telemetry_request_subject,
    telemetry_subject,
)
from contracts.streams import aggregate
from contracts.worker_rights import session_run_grant, session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore
from kit.tasks import end
from modal_workers.runtime.sessions.telemetry_tail import TelemetryMessage
from services.gateway.telemetry.consumer_requests import TelemetryConsumerRequests
from tests.harness.runtime.session_run import TENANT, Run, opened, sent
from tests.harness.servers.embedded import OperatorNats

pytestmark = pytest.mark.anyio

#: Ids of the run whose rights are counted; each test that uses another makes its own.
#: Said and not drawn: they name tests, which every process of a run must call the same.
SESSION, REPLAYED, RUN = (
    "ses_0198c0de-7a11-7b2e-8c3d-5f60718293a4",
    "ses_0198c0de-7a11-7b2e-8c3d-5f60718293b5",
    "run_0198c0de-7a11-7b2e-8c3d-5f60718293a4",
)
GRANT = session_run_grant(TENANT, SESSION, RUN, REPLAYED)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorNats]:
    with OperatorNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def services(server: OperatorNats) -> AsyncIterator[Client]:
    """Streams, and a gateway that replies to runs."""
    client = await connect(server.settings, "services")
    await declare(client)
    await TelemetryConsumerRequests(client).start()
    await client.flush()
    yield client
    await client.close()


@pytest.fixture
async def recorded(server: OperatorNats, services: Client) -> Run:
    """Return the run whose rights are checked, of an open session with data in both recordings."""
    store = EventStore(services)
    if not await store.load(aggregate(TENANT, "session", SESSION)):
        await store.publish(opened(SESSION))
        await sent(services, REPLAYED, b"then")
        await sent(services, SESSION, b"own")
        await sent(services, new_id("ses"), b"foreign")
    return Run(server, SESSION, REPLAYED, RUN)


async def test_its_own_session_works(services: Client, recorded: Run) -> None:
    async with recorded.working() as worker:
        async with asyncio.timeout(20):
            await worker.live(services)
        assert {one.body for one in worker.heard if one.name == "frames"} == {b"then", b"own"}
        newest = (await EventStore(services).load(aggregate(TENANT, "session", SESSION)))[-1]
        assert worker.states[-1].sequence == newest.sequence
        assert worker.refused == []


@pytest.mark.parametrize("right", [*GRANT.publish, *GRANT.subscribe], ids=lambda right: ".".join(right.split(".")[-5:]))
async def test_each_right_is_needed(services: Client, recorded: Run, right: str) -> None:
    async with recorded.working(without=right) as worker:
        living = asyncio.ensure_future(worker.live(services))
        try:
            async with asyncio.timeout(15):
                while not worker.refused:
                    await asyncio.sleep(0.02)
        finally:
            await end(living)
        assert all(right.removesuffix("*").lower() in why for why in worker.refused), worker.refused


async def time_of(robot: Client, run: Run) -> bytes:
    """Request as robots do: repeat while no run replies, as between two runs."""
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(NoRespondersError):
                return (await robot.request(clock_subject(TENANT, run.session_id), timeout=5)).data
            await asyncio.sleep(0.05)


async def test_it_answers_a_robot_and_says_nothing_else_by_that(server: OperatorNats, services: Client) -> None:
    run = Run(server)
    robots = BusTokenIssuer(SecretStr((server.keys / "senders.seed").read_text()))
    token = robots.issue(session_sender_grant(TENANT, run.session_id), 60)
    robot = await connect(server.settings_of(token), "robot")
    async with run.working() as worker:
        await worker.session.serve_clock()
        await worker.client.flush()
        assert set(json.loads(await time_of(robot, run))) == {"time_s"}
        assert worker.refused == []
    async with run.thief() as thief:
        asked: list[str] = []

        async def on_asked(msg: Msg) -> None:
            asked.append(msg.reply)
            await msg.respond(b"once")

        await thief.client.subscribe(clock_subject(TENANT, run.session_id), cb=on_asked)
        await thief.client.flush()
        assert await time_of(robot, run) == b"once"
        for subject in (asked[0], asked[0][:-1] + "x", f"{token.inbox_prefix}.x", "_INBOX.x"):
            assert await thief.is_refused(lambda subject=subject: thief.client.publish(subject, b"")), subject
    await robot.close()


async def test_it_hears_of_its_session_as_it_is_stored(server: OperatorNats, services: Client) -> None:
    run, store = Run(server), EventStore(services)
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()

    def on_event(message: TelemetryMessage) -> None:
        heard.put_nowait((message.name, message.body))

    first, second = opened(run.session_id), opened(run.session_id)
    await store.publish(first)
    async with run.working() as worker:
        following = asyncio.ensure_future(worker.session.follow_events(on_event))
        try:
            async with asyncio.timeout(5):
                assert await heard.get() == ("opened", first.body)
                await store.publish(opened(new_id("ses")))
                await store.publish(second)
                assert await heard.get() == ("opened", second.body), "and of no other"
            # What is stored is read while it goes on to hear what is new, without a pause.
            read: list[bytes] = []
            await worker.session.read_events(lambda message: read.append(message.body))
            assert read == [first.body, second.body]
            third = opened(run.session_id)
            async with asyncio.timeout(2):
                await store.publish(third)
                assert await heard.get() == ("opened", third.body)
        finally:
            await end(following)
        assert worker.refused == []


#: Verbs of all durable session events.
SESSION_VERBS = tuple(
    event_type.removeprefix("session.")
    for event_type, event_class in EVENT_CLASSES.items()
    if event_type.startswith("session.") and event_class.kind == DURABLE
)


async def test_it_says_nothing_of_anything_else(server: OperatorNats, services: Client) -> None:
    run, other = Run(server, replay_of=new_id("ses")), new_id("ses")
    own, store = run.session_id, EventStore(services)
    foreign = [
        f"saccade.evt.{TENANT}.session.{own}.{verb}" for verb in SESSION_VERBS if verb not in SESSION_WORKER_VERBS
    ]
    for session_id in (other, str(run.replay_of)):
        foreign += [f"saccade.evt.{TENANT}.session.{session_id}.{verb}" for verb in SESSION_VERBS]
        foreign += [telemetry_subject(TENANT, session_id, name) for name in ("joints", "frames", "acks")]
        foreign += [f"saccade.evt.{TENANT}.job.{job_id_of_session(session_id)}.started"]
        foreign += [f"$JS.API.DIRECT.GET.EVENTS.saccade.evt.{TENANT}.session.{session_id}.opened"]
    foreign += [
        *(telemetry_subject(TENANT, own, name) for name in ("joints", "frames")),
        telemetry_subject("rival", own, "acks"),
        f"saccade.evt.rival.session.{own}.ready",
        f"saccade.prog.{TENANT}.session.{other}.progressed",
        f"saccade.prog.{TENANT}.session.{own}.ready",
        f"saccade.evt.{TENANT}.job.{run.job_id}.submitted",
        f"live.saccade.evt.{TENANT}.session.{own}.stop_requested",
        f"$JS.API.DIRECT.GET.EVENTS.{aggregate(TENANT, 'session', own)}",
        f"$JS.API.CONSUMER.CREATE.EVENTS.x.{aggregate(TENANT, 'session', own)}",
        clock_subject(TENANT, own),
        telemetry_request_subject(TENANT, run.run_id, other),
        telemetry_request_subject(TENANT, new_id("run"), own),
        telemetry_request_subject("rival", run.run_id, own),
        telemetry_delivery_subject(TENANT, run.run_id, "x"),
        telemetry_delivery_subject(TENANT, new_id("run"), "x"),
        "$JS.API.INFO",
        *(f"$JS.API.STREAM.{verb}.TELEMETRY" for verb in ("INFO", "PURGE", "DELETE", "UPDATE", "MSG.GET", "SNAPSHOT")),
        f"$JS.API.CONSUMER.CREATE.TELEMETRY.x.{telemetry_subject(TENANT, own, '*')}",
        f"$JS.API.CONSUMER.MSG.NEXT.TELEMETRY.{run.run_id}-{own}",
        f"$JS.API.CONSUMER.DELETE.TELEMETRY.{run.run_id}-{own}",
        f"$JS.API.DIRECT.GET.TELEMETRY.{telemetry_subject(TENANT, own, 'frames')}",
        "$JS.ACK.TELEMETRY.x.1.1.1.1.0",
        "$JS.API.DIRECT.GET.EVENTS",
    ]
    before = [one.sequence async for one in store.history(0)]
    async with run.thief() as thief:
        for subject in foreign:
            assert await thief.is_refused(lambda subject=subject: thief.client.publish(subject, b"{}")), subject
    assert [one.sequence async for one in store.history(0)] == before


async def test_it_hears_of_nothing_else(server: OperatorNats, services: Client) -> None:
    run = Run(server)
    own, other = run.session_id, new_id("ses")
    async with run.thief() as thief:
        for subject in (
            ">",
            "saccade.>",
            "live.>",
            f"live.saccade.evt.{TENANT}.session.*.*",
            f"live.saccade.evt.{TENANT}.session.{own}.*",
            f"live.saccade.evt.{TENANT}.session.{other}.*",
            f"live.saccade.evt.rival.session.{own}.*",
            f"live.saccade.evt.{TENANT}.job.{run.job_id}.*",
            f"live.saccade.prog.{TENANT}.session.{own}.*",
            telemetry_subject(TENANT, own, "*"),
            clock_subject(TENANT, other),
            clock_subject(TENANT, "*"),
            clock_subject("rival", own),
            telemetry_request_subject(TENANT, run.run_id, own),
            telemetry_delivery_subject(TENANT, "*", "*"),
            telemetry_delivery_subject(TENANT, new_id("run"), "*"),
            telemetry_delivery_subject("rival", run.run_id, "*"),
            "$JS.>",
            "_INBOX.>",
        ):

            async def listen(subject: str = subject) -> None:
                await thief.client.subscribe(subject)

            assert await thief.is_refused(listen), subject
    async with run.thief() as thief:
        for number in range(GRANT.max_subscriptions + 1):
            await thief.client.subscribe(f"{telemetry_delivery_subject(TENANT, run.run_id, str(number))}")
        async with asyncio.timeout(5):
            await thief.ended.wait()
        assert "maximum subscriptions exceeded" in str(thief.client.last_error).lower()


async def test_what_it_asks_for_is_its_own_session_on_its_own_subjects_whatever_it_writes(
    server: OperatorNats, services: Client
) -> None:
    run, secret = Run(server), new_id("ses")
    await sent(services, secret, b"secret")
    await sent(services, run.session_id, b"own")
    asks = telemetry_request_subject(TENANT, run.run_id, run.session_id)
    taken: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    elsewhere: list[str] = []

    async def on_taken(msg: Msg) -> None:
        if msg.reply:
            await taken.put((msg.subject, msg.data))

    async def on_elsewhere(msg: Msg) -> None:
        elsewhere.append(msg.subject)

    await services.subscribe("saccade.evt.>", cb=on_elsewhere)
    await services.subscribe("saccade.fed.*.*.victim.>", cb=on_elsewhere)
    async with run.thief() as thief:
        for name in ("mine", "again"):
            await thief.client.subscribe(telemetry_delivery_subject(TENANT, run.run_id, name), cb=on_taken)
        for body in (
            b"",
            b"[]",
            b"\xff",
            {"name": "x"},
            {"name": "*", "after": 0},
            {"name": "victim.x", "after": 0},
            {"name": "x y", "after": 0},
            {"name": "", "after": 0},
            {"name": "x", "after": -1},
            {"name": "x", "after": 1 << 63},
            {"name": "x", "after": "many"},
            {"name": "x", "after": 0, "stream": "EVENTS"},
        ):
            raw = body if isinstance(body, bytes) else json.dumps(body).encode()
            assert json.loads((await thief.client.request(asks, raw, timeout=5)).data) == {
                "error": "invalid request"
            }, body
        more = {"deliver_subject": f"saccade.evt.{TENANT}.job.x.failed", "filter_subject": "saccade.tele.>"}
        asked = json.dumps({"name": "mine", "after": 0, "config": more} | more).encode()
        assert json.loads((await thief.client.request(asks, asked, timeout=5)).data) == {"pending": 1}
        async with asyncio.timeout(5):
            assert await taken.get() == (telemetry_subject(TENANT, run.session_id, "frames"), b"own")
        # However often it asks, there is one consumer for it; and the answer goes nowhere but to itself.
        asked = json.dumps({"name": "again", "after": 0}).encode()
        for _ in range(20):
            await thief.client.publish(asks, asked, reply=f"saccade.evt.{TENANT}.job.{new_id('job')}.failed")
        await thief.client.request(asks, asked, timeout=5)
        assert thief.refused == []
    names = (await request(services, "CONSUMER.NAMES.TELEMETRY", {}))["consumers"]
    assert [name for name in names if name.startswith(run.run_id)] == [f"{run.run_id}-{run.session_id}"]
    assert elsewhere == []
    assert b"secret" not in {taken.get_nowait()[1] for _ in range(taken.qsize())}


async def test_nothing_is_lost_while_no_gateway_is_there_or_the_bus_is_away(tmp_path: Path) -> None:
    with OperatorNats(tmp_path) as server:
        services = await connect(server.settings, "services")
        await declare(services)
        run = Run(server)
        async with run.working() as worker:
            following = asyncio.ensure_future(worker.session.follow(worker.heard.append, 0))

            async def until_heard(number: int) -> None:
                async with asyncio.timeout(40):
                    while len(worker.heard) < number:
                        await asyncio.sleep(0.05)

            try:
                await sent(services, run.session_id, b"0", b"1")
                await asyncio.sleep(1.0)
                assert worker.heard == [], "nobody has made a consumer"
                await TelemetryConsumerRequests(services).start()
                await until_heard(2)
                server.kill()
                server.start()
                await sent_when_there(services, run.session_id, b"2")
                await until_heard(3)
                await sent(services, run.session_id, b"3")
                await until_heard(4)
            finally:
                await end(following)
            assert [one.body for one in worker.heard] == [b"0", b"1", b"2", b"3"]
            assert worker.refused == []
        await services.close()


async def sent_when_there(services: Client, session_id: str, body: bytes) -> None:
    message = Message(telemetry_subject(TENANT, session_id, "frames"), new_id("evt"), body)
    await EventStore(services, "TELEMETRY").publish(message, deadline_s=30)


async def test_why_no_worker_makes_its_own_consumer(services: Client) -> None:
    """Show that nats-server limits a consumer to the filter in the request's subject, but not its delivery subject."""
    session_id, victim = new_id("ses"), f"saccade.victim.{new_id('run')}"
    subjects = telemetry_subject(TENANT, session_id, "*")
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_message(msg: Msg) -> None:
        await heard.put(msg.data)

    await services.subscribe(victim, cb=on_message)
    await sent(services, session_id, b"forged")
    config = {"deliver_subject": victim, "ack_policy": "none", "deliver_policy": "all", "mem_storage": True}

    async def make(name: str, filtered: str) -> int:
        body = {"stream_name": "TELEMETRY", "config": config | {"name": name, "filter_subject": filtered}}
        answer = await request(services, f"CONSUMER.CREATE.TELEMETRY.{name}.{subjects}", body)
        return int(answer.get("error", {}).get("err_code", 0))

    names = [new_id("run"), new_id("run")]
    assert await make(names[0], "saccade.tele.>") == 10131
    assert await make(names[1], subjects) == 0
    async with asyncio.timeout(5):
        assert await heard.get() == b"forged"


async def test_the_longest_token_fits_into_a_line_of_the_protocol(server: OperatorNats) -> None:
    token = server.tokens.issue(session_run_grant("t" * 63, new_id("ses"), new_id("run"), new_id("ses")), 600)
    assert len(token.jwt) > 4096
    client = await connect(server.settings_of(token), f"worker {new_id('run')}")
    assert client.is_connected
    await client.close()
