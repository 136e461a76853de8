"""Who may send commands: operators alone. They may ask and read, and change nothing by themselves."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nats.errors
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import SecretStr

from cli.embedded.data_folder import DataFolder
from cli.embedded.programs import OPERATOR, nats_server
from contracts.audit import Act, Attribution, ChainVerifier
from contracts.commands import (
    ASK_REDELIVERY,
    ASK_REDRIVE,
    EVERY_COMMAND,
    OPERATOR_INBOX,
    AskedRedelivery,
    RedeliveryAccepted,
    command,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import DEADLETTERS, OPS
from contracts.worker_rights import run_grant, session_sender_grant
from kit.auth.bus_token import BusTokenIssuer
from kit.bus.audit_log import AuditLog
from kit.bus.connection import connect, declare, request
from kit.bus.dead_letters import DeadLetters
from kit.bus.event_store import EventStore
from kit.bus.service_requests import answer_requests, ask
from kit.http.server import CannotServeError
from kit.settings import NatsSettings, inherited_environment
from services.dispatcher.published_passwords import refuse_published_operator
from tests.harness.servers.embedded import HOST, ROOT, EmbeddedNats, OperatorNats, free_port, wait_for_port

pytestmark = pytest.mark.anyio
SUBJECT = command("dispatcher", "drain").subject
RECORD = "saccade.ops._system.dispatcher.dispatcher.drained"


@dataclass
class Users:
    """A running server and its users: the services', the operators', and those who may do neither's."""

    services: NatsSettings
    operator: NatsSettings
    others: dict[str, NatsSettings]
    #: Whether the server names the operator to the service.
    names_operator: bool


def password_user(url: str, user: str, password: str, inbox: str | None = None) -> NatsSettings:
    return NatsSettings(url=url, user=user, password=SecretStr(password), inbox_prefix=inbox)


@pytest.fixture(scope="module", params=["operator_mode", "deploy", "saccade_up"])
def users(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Users]:
    folder = tmp_path_factory.mktemp("nats")
    yield from {"operator_mode": _operator_mode, "deploy": _deploy, "saccade_up": _saccade_up}[request.param](folder)


def _operator_mode(folder: Path) -> Iterator[Users]:
    with OperatorNats(folder) as server:
        senders = BusTokenIssuer(SecretStr((server.keys / "senders.seed").read_text()))
        worker = server.tokens.issue(run_grant("acme", new_id("job"), new_id("run")), 600)
        sender = senders.issue(session_sender_grant("acme", new_id("ses")), 600)
        operator = NatsSettings(
            url=server.url, credentials_file=str(server.keys / "operators.creds"), inbox_prefix=OPERATOR_INBOX
        )
        others = {"worker": server.settings_of(worker), "sender": server.settings_of(sender)}
        yield Users(server.settings, operator, others, names_operator=True)


class _DeployNats(EmbeddedNats):
    """The users of deploy/nats_users.conf, with values for its variables."""

    def __init__(self, folder: Path, **values: str) -> None:
        self._values = values
        super().__init__(folder)

    def _more_configuration(self) -> str:
        text = (ROOT / "deploy" / "nats_users.conf").read_text()
        values = {"NATS_OPERATOR_USER": "ops", "NATS_OPERATOR_PASSWORD": "o", "NATS_USER": "svc", "NATS_PASSWORD": "s"}
        values |= {"NATS_REPLAYER_USER": "replayer", "NATS_REPLAYER_PASSWORD": "r"}
        for name, value in (values | self._values).items():
            text = text.replace(f"${name}", value)
        return f"authorization {{\n{text}}}\n"


def _deploy(folder: Path) -> Iterator[Users]:
    with _DeployNats(folder) as server:
        operator = password_user(server.url, "ops", "o", OPERATOR_INBOX)
        yield Users(password_user(server.url, "svc", "s"), operator, {}, names_operator=False)


def _saccade_up(folder: Path) -> Iterator[Users]:
    data, port = DataFolder(folder), free_port()
    url = f"nats://{HOST}:{port}"
    process = subprocess.Popen(nats_server(data, port).command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        secrets = data.secrets
        yield Users(
            password_user(url, secrets.nats_user, secrets.nats_password),
            password_user(url, OPERATOR, secrets.operator_password, OPERATOR_INBOX),
            {"sender": password_user(url, "sender", secrets.sender_password, "_INBOX_sender")},
            names_operator=False,
        )
    finally:
        process.kill()
        process.wait(timeout=30)
        data.release()


@asynccontextmanager
async def connected(settings: NatsSettings) -> AsyncIterator[tuple[Client, list[str]]]:
    refused: list[str] = []
    client = await connect(settings, "mallory", refused.append)
    try:
        yield client, refused
    finally:
        await client.close()


async def is_refused(client: Client, refused: list[str], subject: str) -> bool:
    before = len(refused)
    await client.publish(subject, b"{}")
    await client.flush()
    await asyncio.sleep(0.05)
    return len(refused) > before


async def test_an_operator_asks_and_reads_and_changes_nothing(users: Users) -> None:
    headers: list[dict[str, Any]] = []

    async def answer(message: Msg) -> None:
        headers.append(dict(message.headers or {}))
        await message.respond(b"done")

    async with connected(users.services) as (services, _), connected(users.operator) as (operator, refused):
        await declare(services)
        await services.subscribe(EVERY_COMMAND, cb=answer)
        await services.flush()
        forged = {"Nats-Request-Info": '{"user": "somebody else", "name_tag": "somebody else"}'}
        async with asyncio.timeout(5):
            # In the moment after the subscription, another account may be told that nobody is there.
            while not headers:
                with contextlib.suppress(nats.errors.NoRespondersError):
                    assert (await operator.request(SUBJECT, b"{}", timeout=3, headers=forged)).data == b"done"
        named = headers[0].get("Nats-Request-Info", "")
        assert ('"name_tag":"operator"' in named) == users.names_operator
        assert ("somebody else" in named) == (not users.names_operator), "so the service must not believe it there"

        log = AuditLog(EventStore(services, OPS.name), "/test")
        attribution = Attribution(by="ada", why="test", request_id="req_1")
        for _ in range(20):
            intent = await log.intent(Act("_system", "lease", "dispatcher"), "rotate_requested", attribution)
            await log.outcome(intent, "rotated", {})
        letters = EventStore(services, DEADLETTERS.name)
        numbers = [
            await letters.publish(
                Message("saccade.dlq.EVENTS.x", new_id("evt"), b"{}"), headers={"Saccade-Error": "no"}
            )
            for _ in range(3)
        ]
        verifier = ChainVerifier()
        async for stored in EventStore(operator, OPS.name).history(0):
            verifier.add(stored.sequence, stored.subject, stored.body)
        assert (verifier.records, verifier.faults) == (40, [])
        read = DeadLetters(EventStore(operator, DEADLETTERS.name))
        assert [(letter.number, letter.error) async for letter in read.all()] == [(one, "no") for one in numbers]

        for subject in (RECORD, "saccade.evt.acme.job.x.failed", "saccade.dlq.EVENTS.x", "saccade.lease.dispatcher"):
            assert await is_refused(operator, refused, subject) or users.names_operator, subject
        for subject, body in (
            ("STREAM.MSG.DELETE.DEADLETTERS", {"seq": numbers[0]}),
            ("STREAM.PURGE.EVENTS", {}),
            ("STREAM.DELETE.OPS", {}),
        ):
            with contextlib.suppress(SaccadeError):  # refused without a reply
                assert "error" in await request(operator, subject, body, timeout_s=0.4), subject
        # Where the operators have an account of their own, what they publish elsewhere stays in it.
        assert len([stored async for stored in EventStore(services, OPS.name).history(0)]) == 40
        assert len([letter async for letter in DeadLetters(letters).all()]) == 3
        assert await EventStore(services).load("saccade.evt.acme.job.x.failed") == []


async def test_nobody_else_sends_a_command(users: Users) -> None:
    async with connected(users.services) as (services, refused):
        await declare(services)
        heard: list[str] = []

        async def on_command(message: Msg) -> None:
            heard.append(message.subject)

        await services.subscribe(EVERY_COMMAND, cb=on_command)
        assert await is_refused(services, refused, SUBJECT)
        before = (await request(services, "STREAM.INFO.OPS", {}))["state"]["last_seq"]
        for name, settings in users.others.items():
            async with connected(settings) as (other, others_refused):
                for subject in (SUBJECT, "saccade.cmd.gateway.anything", RECORD):
                    assert await is_refused(other, others_refused, subject), (name, subject)
                with pytest.raises((nats.errors.Error, TimeoutError)):
                    await other.request(SUBJECT, b"{}", timeout=0.3)
        await services.flush()
        assert heard == []
        assert (await request(services, "STREAM.INFO.OPS", {}))["state"]["last_seq"] == before


async def test_services_ask_each_other_and_nobody_else_asks_them(users: Users) -> None:
    asked: list[AskedRedelivery] = []

    async def redeliver(request: AskedRedelivery) -> RedeliveryAccepted:
        asked.append(request)
        if request.sequence == 2:
            raise SaccadeError(ErrorCode.WEBHOOK_DISABLED)
        return RedeliveryAccepted(endpoint_id=request.endpoint_id, sequence=request.sequence)

    async with connected(users.services) as (services, _), connected(users.services) as (gateway, _):
        await declare(services)
        await answer_requests(services, {ASK_REDELIVERY: redeliver}, queue="notifier")
        await services.flush()
        wanted = AskedRedelivery(tenant="acme", endpoint_id="whk_1", sequence=1)
        async with asyncio.timeout(10):
            # On a busy machine the server may say for a moment that nobody is there.
            while True:
                with contextlib.suppress(SaccadeError):
                    assert (await ask(gateway, ASK_REDELIVERY, RedeliveryAccepted, wanted)).sequence == 1
                    break
        for sequence, expected in ((2, ErrorCode.WEBHOOK_DISABLED), (3, None)):
            with pytest.raises(SaccadeError) if expected else contextlib.nullcontext() as raised:
                again = wanted.model_copy(update={"sequence": sequence})
                await ask(gateway, ASK_REDELIVERY, RedeliveryAccepted, again)
            assert raised is None or raised.value.code is expected
        with pytest.raises(SaccadeError) as nobody:
            await ask(gateway, ASK_REDRIVE, RedeliveryAccepted, wanted)
        assert nobody.value.code is ErrorCode.SERVICE_UNAVAILABLE
        # Who asks names the subject of the answer: an event's subject is not answered.
        victim = f"saccade.evt.acme.job.{new_id('job')}.failed"
        await gateway.publish(ASK_REDELIVERY.ask_subject, wanted.model_dump_json().encode(), reply=victim)
        await gateway.flush()
        before = len(asked)
        for name, settings in {"operator": users.operator, **users.others}.items():
            async with connected(settings) as (other, refused):
                subject = ASK_REDELIVERY.ask_subject
                assert await is_refused(other, refused, subject) or users.names_operator, name
                with pytest.raises((nats.errors.Error, TimeoutError)):
                    await other.request(subject, wanted.model_dump_json().encode(), timeout=0.3)
        assert len(asked) == before
        assert await EventStore(services).load(victim) == []


def test_the_file_of_the_repository_is_the_one_that_is_written() -> None:
    from cli.nats_users import BASE, written

    assert (ROOT / "deploy" / "nats_users.conf").read_text() == written(BASE, {})


@pytest.fixture
def published(tmp_path: Path) -> Iterator[NatsSettings]:
    """Run the server of deploy with the published password of docker-compose.yml for operators."""
    with _DeployNats(tmp_path, NATS_OPERATOR_USER="operator", NATS_OPERATOR_PASSWORD="development-only") as server:
        yield password_user(server.url, "svc", "s")


async def test_the_published_password_of_operators_is_refused_where_others_reach_the_server(
    published: NatsSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No service knows the password: the dispatcher tries the published one before it does anything."""
    monkeypatch.setenv("SACCADE_ALLOWED_HOSTS", "localhost")
    await refuse_published_operator(published)
    monkeypatch.setenv("SACCADE_ALLOWED_HOSTS", "saccade.example.org")
    with pytest.raises(CannotServeError, match="SACCADE_ALLOWED_HOSTS names other hosts"):
        await refuse_published_operator(published)
    environment = inherited_environment() | {
        "NATS_URL": published.url, "NATS_USER": "svc", "NATS_PASSWORD": "s",
        "S3_ENDPOINT_URL": f"http://{HOST}:1", "S3_ACCESS_KEY_ID": "a", "S3_SECRET_ACCESS_KEY": "b",
        "SACCADE_ALLOWED_HOSTS": "saccade.example.org", "DISPATCHER_DATA_DIR": str(tmp_path / "runs"),
    }  # fmt: skip
    command_line = [sys.executable, "-m", "services.dispatcher"]
    process = await asyncio.create_subprocess_exec(*command_line, cwd=ROOT, env=environment, stderr=subprocess.PIPE)
    async with asyncio.timeout(120):
        _, said = await process.communicate()
    assert process.returncode == 1
    assert "NATS takes a published value for 'operator'" in said.decode()


async def test_an_own_password_of_operators_is_not_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SACCADE_ALLOWED_HOSTS", "saccade.example.org")
    with _DeployNats(tmp_path, NATS_OPERATOR_USER="operator") as server:
        await refuse_published_operator(password_user(server.url, "svc", "s"))
