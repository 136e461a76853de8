"""What a robot may do with the credentials of one session: send into it and ask the time, and nothing else."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nats.errors
import nkeys
import pytest
from nats.aio.client import Client, RawCredentials
from nats.aio.msg import Msg
from pydantic import SecretStr

from cli.embedded import programs
from cli.embedded.data_folder import DataFolder
from contracts.errors import SaccadeError
from contracts.ids import new_id
from contracts.session import clock_subject, telemetry_subject
from contracts.streams import TELEMETRY
from contracts.worker_rights import run_identity, session_sender_grant
from kit.auth.bus_token import BusTokenIssuer, credentials, sign, verify
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings
from services.gateway.settings import GatewaySettings, SessionSettings
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3, OperatorNats
from tests.harness.servers.gateway import running_gateway
from tests.harness.sessions.scripted_session_worker import streamed_catalog

pytestmark = pytest.mark.anyio

TENANT = "acme"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OperatorNats]:
    with OperatorNats(tmp_path_factory.mktemp("nats")) as server:
        yield server


def senders(server: OperatorNats) -> BusTokenIssuer:
    return BusTokenIssuer(SecretStr((server.keys / "senders.seed").read_text()))


class Robot:
    """A robot's connection, by nats-py as it comes, and what the server has refused on it."""

    def __init__(self) -> None:
        self.client = Client()
        self.refused: list[str] = []

    async def connect(self, url: str, inbox_prefix: str, **options: Any) -> None:
        async def on_error(error: Exception) -> None:
            self.refused.append(str(error).lower())

        await self.client.connect(url, inbox_prefix=inbox_prefix.encode(), error_cb=on_error, **options)

    async def is_refused(self, act: Callable[[], Any]) -> bool:
        before = len(self.refused)
        await act()
        await self.client.flush()
        for _ in range(100):
            if len(self.refused) > before:
                return "permissions violation" in self.refused[-1]
            await asyncio.sleep(0.01)
        return False

    async def publish(self, subject: str, body: bytes) -> str:
        return (await self.client.jetstream().publish(subject, body, headers={"Frame-Seq": "1"})).stream


@asynccontextmanager
async def robot(server: OperatorNats, session_id: str, lifetime_s: float = 60, **options: Any) -> AsyncIterator[Robot]:
    token = senders(server).issue(session_sender_grant(TENANT, session_id), lifetime_s)
    found = Robot()
    creds = RawCredentials(token.credentials.get_secret_value())
    await found.connect(server.url, token.inbox_prefix, user_credentials=creds, **options)
    try:
        yield found
    finally:
        await found.client.close()


@pytest.fixture
async def services(server: OperatorNats) -> AsyncIterator[Client]:
    client = await connect(server.settings, "services")
    await declare(client)
    yield client
    await client.close()


async def test_its_own_session_works(server: OperatorNats, services: Client) -> None:
    session_id = new_id("ses")
    async with robot(server, session_id) as sender:
        for name in ("joints", "frames"):
            assert await sender.publish(telemetry_subject(TENANT, session_id, name), b"x" * 1000) == "TELEMETRY"
        found = [one.subject async for one in EventStore(services, TELEMETRY.name).history(0)]
        assert [one.rpartition(".")[2] for one in found] == ["joints", "frames"]
        # A worker, in its own account, tells the time.
        key = nkeys.from_seed(bytearray((server.keys / "workers.seed").read_text().strip().encode()))
        user = nkeys.from_seed(bytearray(nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER)))
        rights = {"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": -1, "data": -1, "payload": -1}
        claims = {
            "iss": key.public_key.decode(),
            "sub": user.public_key.decode(),
            "iat": int(time.time()),
            "nats": rights,
        }
        seed = nkeys.encode_seed(bytes(range(32)), nkeys.PREFIX_BYTE_USER).decode()
        worker = Client()
        await worker.connect(server.url, user_credentials=RawCredentials(credentials(sign(claims, key), seed)))

        async def tell(msg: Msg) -> None:
            await msg.respond(b'{"time_s": 7}')

        await worker.subscribe(clock_subject(TENANT, session_id), cb=tell)
        await worker.flush()
        async with asyncio.timeout(10):
            while True:  # another account learns of a subscription some time after the subscriber's own flush
                try:
                    answer = await sender.client.request(clock_subject(TENANT, session_id), b"", timeout=2)
                    break
                except nats.errors.NoRespondersError:
                    await asyncio.sleep(0.02)
        await worker.close()
        assert json.loads(answer.data) == {"time_s": 7}
        assert sender.refused == []


async def test_nothing_else_does(server: OperatorNats, services: Client) -> None:
    session_id, other = new_id("ses"), new_id("ses")
    async with robot(server, session_id) as sender:
        for subject in (
            *(telemetry_subject(TENANT, other, name) for name in ("joints", "frames")),
            telemetry_subject("rival", session_id, "frames"),
            telemetry_subject(TENANT, session_id, "acks"),
            clock_subject(TENANT, other),
            f"saccade.evt.{TENANT}.session.{session_id}.stopped",
            f"saccade.evt.{TENANT}.job.{new_id('job')}.submitted",
            "$JS.API.STREAM.INFO.TELEMETRY",
            f"$JS.API.DIRECT.GET.TELEMETRY.{telemetry_subject(TENANT, session_id, 'frames')}",
            "_INBOX.abc",
        ):
            assert await sender.is_refused(lambda subject=subject: sender.client.publish(subject, b"{}")), subject
        for subject in (
            ">", telemetry_subject(TENANT, session_id, "*"), clock_subject(TENANT, session_id), "live.>", "_INBOX.>",
        ):  # fmt: skip

            async def listen(subject: str = subject) -> None:
                await sender.client.subscribe(subject)

            assert await sender.is_refused(listen), subject


async def test_it_ends_and_is_no_workers_token(server: OperatorNats, services: Client) -> None:
    session_id = new_id("ses")
    token = senders(server).issue(session_sender_grant(TENANT, session_id), 1)
    with pytest.raises(SaccadeError):
        run_identity(verify(token.jwt, senders(server).public_key, token.expires_at.replace(year=2000)).tags)
    await asyncio.sleep(2.1)
    late = Robot()
    creds = RawCredentials(token.credentials.get_secret_value())
    with pytest.raises(nats.errors.Error):
        await late.connect(
            server.url, token.inbox_prefix, user_credentials=creds, allow_reconnect=False, max_reconnect_attempts=0
        )
    await late.client.close()


async def test_who_opens_a_session_is_given_them_once(
    server: OperatorNats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_CLIENT_NATS_URL", server.url)
    monkeypatch.setenv("GATEWAY_SESSION_SEED_FILE", str(server.keys / "senders.seed"))
    with EmbeddedS3(tmp_path) as s3, streamed_catalog():
        async with running_gateway(server.settings, s3.settings, tmp_path) as running:
            made = (await running.http.post("/v1/sessions", json={"workload": "streamed"})).json()
            given = made["ingest"]["nats"]
            found = Robot()
            creds = RawCredentials(given["credentials"])
            await found.connect(given["url"], given["inbox_prefix"], user_credentials=creds)
            assert await found.publish(given["subjects"]["frames"], b"x") == "TELEMETRY"
            await found.client.close()
            shown = (await running.http.get(f"/v1/sessions/{made['id']}")).json()["ingest"]["nats"]
            assert (shown["url"], shown["subjects"]) == (given["url"], given["subjects"])
            assert (shown["credentials"], shown["password"]) == (None, None)
            for stored in [one async for one in running.store.history(0)]:
                assert b"SEED" not in stored.body


async def test_without_an_address_there_is_no_way_in_by_nats(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server, EmbeddedS3(tmp_path) as s3, streamed_catalog():
        async with running_gateway(server.settings, s3.settings, tmp_path) as running:
            made = (await running.http.post("/v1/sessions", json={"workload": "streamed"})).json()
            assert made["ingest"]["nats"] is None
            assert made["ingest"]["http"]["frames"] == f"/v1/sessions/{made['id']}/frames"


async def test_the_embedded_systems_sender_sends_and_does_no_more(tmp_path: Path) -> None:
    """Its nats-server is configured as `saccade up` does it."""
    folder = DataFolder(tmp_path / "data")
    with EmbeddedNats(tmp_path) as unused:
        unused.kill()
        port = int(unused.url.rpartition(":")[2])
        ports = dict.fromkeys(("nats-server", "rclone", programs.BUCKET_PROXY, *programs.SERVICES), port)
        told = programs.service_environment(folder, ports, "127.0.0.1", embedded=True)
        assert told["GATEWAY_CLIENT_NATS_URL"] == f"nats://127.0.0.1:{port}"
        # With API keys the sender's password would be every tenant's.
        for host in ("127.0.0.1", "10.0.0.5"):
            with_keys = programs.service_environment(folder, ports, host, embedded=False)
            assert [name for name in with_keys if name.startswith("GATEWAY_CLIENT_NATS")] == []
        command = programs.nats_server(folder, port).command
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.DEVNULL)
        try:
            settings = NatsSettings(
                url=told["NATS_URL"], user=told["NATS_USER"], password=SecretStr(told["NATS_PASSWORD"])
            )
            client = await connect(settings, "services")
            await declare(client)
            sender, session_id = Robot(), new_id("ses")
            await sender.connect(
                told["GATEWAY_CLIENT_NATS_URL"],
                told["GATEWAY_CLIENT_NATS_INBOX_PREFIX"],
                user=told["GATEWAY_CLIENT_NATS_USER"],
                password=told["GATEWAY_CLIENT_NATS_PASSWORD"],
            )
            assert await sender.publish(telemetry_subject("local", session_id, "joints"), b"x") == "TELEMETRY"
            for subject in (telemetry_subject("local", session_id, "acks"), "$JS.API.STREAM.LIST", "saccade.evt.x"):
                assert await sender.is_refused(lambda subject=subject: sender.client.publish(subject, b"")), subject

            async def listen() -> None:
                await sender.client.subscribe("saccade.>")

            assert await sender.is_refused(listen)
            await sender.client.close()
            await client.close()
        finally:
            process.kill()
            await process.wait()
            folder.release()


def test_settings_take_the_notifiers_ticket_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFIER_TICKET_KEY", "shared")
    shared = SessionSettings().ticket_key
    assert shared is not None
    assert shared.get_secret_value() == "shared"
    assert "shared" not in repr(SessionSettings())
    assert GatewaySettings().worker_key is None
