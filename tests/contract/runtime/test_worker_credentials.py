"""Rights of the credentials of one job in a thief's hands, on a real nats-server in operator mode: that job's work, and
nothing else, until they expire."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import nats
import nats.errors
import pytest
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg

from contracts.events.base import encode
from contracts.events.job import JOB_VERBS, WORKER_VERBS, JobCancelRequested, JobProgressed
from contracts.ids import new_id
from contracts.streams import aggregate
from contracts.worker_rights import run_grant
from kit.auth.bus_token import BusToken
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.embedded import OperatorNats

pytestmark = pytest.mark.anyio

TENANT = "acme"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorNats]:
    with OperatorNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


class Stolen:
    """Connection of a thief, by plain nats-py, with the server's refusals."""

    def __init__(self, server: OperatorNats, token: BusToken, job_id: str, run_id: str) -> None:
        self.server, self.token, self.job_id, self.run_id = server, token, job_id, run_id
        self.refused: list[str] = []
        self.closed = asyncio.Event()
        self.client = Client()

    async def connect(self, **options: Any) -> None:
        async def on_error(error: Exception) -> None:
            self.refused.append(str(error).lower())

        async def on_closed() -> None:
            self.closed.set()

        self.client = Client()
        await self.client.connect(
            self.server.url,
            user_credentials=RawCredentials(self.token.credentials.get_secret_value()),
            inbox_prefix=self.token.inbox_prefix.encode(),
            error_cb=on_error,
            closed_cb=on_closed,
            **options,
        )

    async def is_kept_out(self) -> bool:
        """Try to connect; return whether the server rejects the connection."""
        try:
            await self.connect(allow_reconnect=False, max_reconnect_attempts=0)
        except nats.errors.Error as error:
            return "authorization violation" in str(error).lower() or "expired" in str(error).lower()
        finally:
            await self.client.close()
        return False

    def own(self, verb: str, kind: str = "evt") -> str:
        return f"saccade.{kind}.{TENANT}.job.{self.job_id}.{verb}"

    async def is_refused(self, act: Callable[[], Any]) -> bool:
        """Run an action; return whether the server reported a permission violation."""
        before = len(self.refused)
        await act()
        await self.client.flush()
        for _ in range(100):
            if len(self.refused) > before:
                return "permissions violation" in self.refused[-1]
            await asyncio.sleep(0.01)
        return False


@pytest.fixture
async def services(server: OperatorNats) -> AsyncIterator[Client]:
    client = await connect(server.settings, "services")
    await declare(client)
    yield client
    await client.close()


@asynccontextmanager
async def stolen(server: OperatorNats, lifetime_s: float = 600.0, **options: Any) -> AsyncIterator[Stolen]:
    job_id, run_id = new_id("job"), new_id("run")
    thief = Stolen(server, server.tokens.issue(run_grant(TENANT, job_id, run_id), lifetime_s), job_id, run_id)
    await thief.connect(**options)
    yield thief
    if not thief.client.is_closed:
        await thief.client.close()


async def stored(services: Client, stream: str = "EVENTS") -> list[tuple[str, bytes]]:
    return [(one.subject, one.body) async for one in EventStore(services, stream).history(0)]


async def test_its_own_job_works(server: OperatorNats, services: Client) -> None:
    async with stolen(server) as thief:
        jetstream = thief.client.jetstream()
        for verb in WORKER_VERBS:
            ack = await jetstream.publish(thief.own(verb), b"1", headers={"Nats-Msg-Id": f"{thief.run_id}.{verb}"})
            again = await jetstream.publish(thief.own(verb), b"1", headers={"Nats-Msg-Id": f"{thief.run_id}.{verb}"})
            assert (again.duplicate, again.seq) == (True, ack.seq)
        expected = {
            "Nats-Expected-Last-Subject-Sequence": str(ack.seq),
            "Nats-Expected-Last-Subject-Sequence-Subject": aggregate(TENANT, "job", thief.job_id),
        }
        ack = await jetstream.publish(thief.own("started"), b"2", headers=expected)
        with pytest.raises(nats.js.errors.APIError) as conflict:
            await jetstream.publish(thief.own("started"), b"3", headers=expected)
        assert conflict.value.err_code == 10071
        assert (await jetstream.publish(thief.own("progressed", "prog"), b"4")).stream == "PROGRESS"
        reply = await thief.client.request(f"$JS.API.DIRECT.GET.EVENTS.{thief.own('started')}")
        assert (reply.data, reply.headers["Nats-Sequence"]) == (b"2", str(ack.seq))
        # What others have said of the job is read by its name too.
        asked = encode(JobCancelRequested(by="user"), tenant=TENANT, subject_id=thief.job_id, source="/gateway")
        await EventStore(services).publish(asked)
        reply = await thief.client.request(f"$JS.API.DIRECT.GET.EVENTS.{thief.own('cancel_requested')}")
        assert reply.data == asked.body
        assert thief.refused == []


async def test_it_publishes_nowhere_else(server: OperatorNats, services: Client) -> None:
    other = new_id("job")
    async with stolen(server) as thief:
        before = await stored(services), await stored(services, "PROGRESS")
        foreign = [thief.own(verb) for verb in JOB_VERBS if verb not in WORKER_VERBS]
        foreign += [f"saccade.evt.{TENANT}.job.{other}.{verb}" for verb in JOB_VERBS]
        foreign += [
            f"saccade.evt.rival.job.{thief.job_id}.started",
            f"saccade.prog.{TENANT}.job.{other}.progressed",
            thief.own("started", "prog"),
            f"saccade.evt.{TENANT}.upload.{new_id('upl')}.completed",
            thief.own("started") + ".more",
            f"live.{thief.own('started')}",
            "saccade.lease.dispatcher",
            "saccade.dlq.EVENTS.gateway",
            "saccade.cmd.dispatcher.drain",
            "saccade.ops._system.dispatcher.dispatcher.drained",
            f"saccade.idem.{TENANT}.x",
            f"saccade.fetch.{TENANT}.upload.{new_id('upl')}",
            "$SYS.REQ.SERVER.PING",
            "_INBOX.abc",
        ]
        for subject in foreign:
            assert await thief.is_refused(lambda subject=subject: thief.client.publish(subject, b"{}")), subject
        assert (await stored(services), await stored(services, "PROGRESS")) == before


async def test_no_request_of_the_streams_is_answered(server: OperatorNats, services: Client) -> None:
    secret = f"saccade.evt.{TENANT}.job.{new_id('job')}.submitted"
    sequence = (await services.jetstream().publish(secret, b"secret")).seq
    get = "$JS.API.DIRECT.GET.EVENTS"
    async with stolen(server) as thief:
        for subject, body in [
            ("$JS.API.INFO", {}),
            ("$JS.API.STREAM.LIST", {}),
            ("$JS.API.STREAM.INFO.EVENTS", {}),
            ("$JS.API.STREAM.CREATE.MINE", {"name": "MINE", "subjects": ["mine"]}),
            ("$JS.API.STREAM.PURGE.EVENTS", {}),
            ("$JS.API.STREAM.DELETE.EVENTS", {}),
            ("$JS.API.STREAM.MSG.GET.EVENTS", {"seq": sequence}),
            ("$JS.API.STREAM.MSG.DELETE.EVENTS", {"seq": sequence}),
            ("$JS.API.STREAM.SNAPSHOT.EVENTS", {"deliver_subject": f"{thief.token.inbox_prefix}.x"}),
            ("$JS.API.CONSUMER.CREATE.EVENTS", {"stream_name": "EVENTS", "config": {}}),
            ("$JS.API.CONSUMER.MSG.NEXT.EVENTS.gateway", {}),
            (get, {"seq": sequence}),
            (get, {"multi_last": ["saccade.evt.>"]}),
            (f"{get}.{secret}", {}),
            (f"{get}.saccade.evt.{TENANT}.job.*.submitted", {}),
            (f"{get}.saccade.evt.>", {}),
            (f"$JS.API.DIRECT.GET.PROGRESS.{thief.own('progressed', 'prog')}", {}),
        ]:

            async def ask(subject: str = subject, body: dict[str, Any] = body) -> None:
                with pytest.raises((TimeoutError, nats.errors.Error)):
                    await thief.client.request(subject, json.dumps(body).encode(), timeout=0.3)

            assert await thief.is_refused(ask), subject
        assert (await stored(services))[-1] == (secret, b"secret")


async def test_an_allowed_request_with_another_body_reads_nothing_else(server: OperatorNats, services: Client) -> None:
    """Show that nats-server reads a direct get from the subject or from the body, never from both."""
    secret = f"saccade.evt.{TENANT}.job.{new_id('job')}.submitted"
    sequence = (await services.jetstream().publish(secret, b"secret")).seq
    async with stolen(server) as thief:
        await thief.client.jetstream().publish(thief.own("started"), b"own")
        for body in (
            {"seq": sequence},
            {"last_by_subj": secret},
            {"multi_last": ["saccade.evt.>"]},
            {"seq": 1, "next_by_subj": ">", "batch": 100},
        ):
            for verb in ("started", "*", ">"):
                subject = f"$JS.API.DIRECT.GET.EVENTS.{thief.own(verb)}"
                reply = await thief.client.request(subject, json.dumps(body).encode())
                assert b"secret" not in reply.data
                assert (reply.headers or {}).get("Nats-Subject", thief.own("started")) == thief.own("started")


async def test_it_hears_nothing(server: OperatorNats, services: Client) -> None:
    async with stolen(server) as thief:
        heard: list[str] = []

        async def on_message(msg: Msg) -> None:
            heard.append(msg.subject)

        for subject in [
            ">",
            "*.>",
            "saccade.>",
            "live.>",
            f"live.{thief.own('*')}",
            thief.own("*"),
            "saccade.evt.*.job.*.*",
            "$SYS.>",
            "$JS.>",
            "_INBOX.>",
            f"_INBOX_{new_id('run')}.>",
            f"{thief.token.inbox_prefix}",
        ]:

            async def listen(subject: str = subject) -> None:
                await thief.client.subscribe(subject, cb=on_message)

            assert await thief.is_refused(listen), subject
        other = encode(JobCancelRequested(by="x"), tenant=TENANT, subject_id=new_id("job"), source="/gateway")
        await EventStore(services).publish(other)
        own = encode(JobCancelRequested(by="x"), tenant=TENANT, subject_id=thief.job_id, source="/gateway")
        await EventStore(services).publish(own)
        await thief.client.flush()
        assert heard == []


async def test_answers_cannot_be_sent_where_it_may_not_publish(server: OperatorNats, services: Client) -> None:
    """nats-server checks no reply subject: in one account an acknowledgement to another job's subject is stored there,
    and an own event read to it too. Workers have an account of their own, whose replies stay in it."""
    async with stolen(server) as thief:
        jetstream = thief.client.jetstream()
        failed = f"saccade.evt.{TENANT}.job.{new_id('job')}.failed"
        await jetstream.publish(thief.own("started"), b'{"own": 1}')
        before = await stored(services)
        for reply in (failed, "saccade.prog.a.job.b.progressed", "$JS.API.STREAM.PURGE.EVENTS", "live.saccade.evt.x"):
            await thief.client.publish(thief.own("started"), b'{"own": 2}', reply=reply)
            await thief.client.publish(f"$JS.API.DIRECT.GET.EVENTS.{thief.own('started')}", reply=reply)
        await thief.client.flush()
        await asyncio.sleep(0.3)
        after = await stored(services)
        assert after[: len(before)] == before, "nothing was purged"
        assert {subject for subject, _ in after[len(before) :]} == {thief.own("started")}
        assert failed not in {subject for subject, _ in after}
        assert thief.refused == [], "the server did not stop it; the accounts did"


async def test_it_takes_no_more_than_it_needs(server: OperatorNats, services: Client) -> None:
    async with stolen(server) as thief:
        for number in range(3):
            await thief.client.subscribe(f"{thief.token.inbox_prefix}.{number}")
        async with asyncio.timeout(5):
            await thief.closed.wait()
        assert "maximum subscriptions exceeded" in str(thief.client.last_error).lower()
    async with stolen(server) as thief:
        with pytest.raises(nats.errors.MaxPayloadError):
            await thief.client.publish(thief.own("started"), b"x" * (1024 * 1024 + 1))


async def test_it_is_cut_off_at_its_end_and_stays_out(server: OperatorNats, services: Client) -> None:
    loop = asyncio.get_running_loop()
    async with stolen(server, lifetime_s=2.0, allow_reconnect=False) as thief:
        await thief.client.jetstream().publish(thief.own("started"), b"1")
        began = loop.time()
        async with asyncio.timeout(10):
            await thief.closed.wait()
        assert loop.time() - began < 5
        assert "expired" in str(thief.client.last_error).lower()
        # The server counts whole seconds: in the one in which the token ends it lets in once more, and cuts off.
        await asyncio.sleep(max(0.0, (thief.token.expires_at - datetime.now(UTC)).total_seconds() + 1.1))
        for _ in range(3):
            assert await thief.is_kept_out()
    assert (await stored(services))[-1] == (thief.own("started"), b"1")


async def test_the_longest_token_fits_into_a_line_of_the_protocol(server: OperatorNats) -> None:
    job_id, run_id = new_id("job"), new_id("run")
    thief = Stolen(server, server.tokens.issue(run_grant("t" * 63, job_id, run_id), 600), job_id, run_id)
    await thief.connect(name=f"worker {run_id}")
    assert thief.client.is_connected
    await thief.client.close()


async def test_a_token_of_another_key_does_not_get_in(server: OperatorNats, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    forger = OperatorNats(tmp_path / "other", own_keys=True).tokens
    job_id, run_id = new_id("job"), new_id("run")
    thief = Stolen(server, forger.issue(run_grant(TENANT, job_id, run_id), 600), job_id, run_id)
    assert await thief.is_kept_out()


async def test_progress_of_its_own_job_is_heard_by_those_who_may(server: OperatorNats, services: Client) -> None:
    heard: asyncio.Queue[bytes] = asyncio.Queue()

    async def on_progress(msg: Msg) -> None:
        await heard.put(msg.data)

    async with stolen(server) as thief:
        await services.subscribe(f"live.{thief.own('progressed', 'prog')}", cb=on_progress)
        await services.flush()
        data = JobProgressed(attempt=1, run_id=thief.run_id, stage="a", fraction=0.5, stage_fraction=0.5)
        message = encode(data, tenant=TENANT, subject_id=thief.job_id, source=f"/worker/{thief.run_id}")
        async with asyncio.timeout(5):
            # Said again, as workers do: in the moment of subscribing nats-server may miss one.
            while heard.empty():
                await thief.client.jetstream().publish(message.subject, message.body)
                await asyncio.sleep(0.1)
        async with asyncio.timeout(5):
            assert await heard.get() == message.body
