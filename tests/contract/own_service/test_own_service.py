"""The service of docs/own-service.md, run as a user does: its process is killed, and each job is billed once."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from contracts.events.base import Message, encode
from contracts.events.job import Cost, JobSucceeded
from contracts.ids import new_id
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.loopback_tls import ONE_AUTHORITY
from tests.harness.servers.own_service import PATHS, OwnService
from tests.harness.servers.service_users import ConfiguredNats, SignedNats

EVENTS, KILLS = 60, 3


@pytest.fixture(scope="module", params=[ConfiguredNats, SignedNats], ids=["configured", "signed"])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ConfiguredNats | SignedNats]:
    with request.param(tmp_path_factory.mktemp("nats")) as server:
        asyncio.run(_declare(server))
        yield server


async def _declare(server: ConfiguredNats | SignedNats) -> None:
    client = await connect(server.settings, "operator")
    await declare(client)
    await client.close()


def succeeded(usd: float, tenant: str = "acme") -> Message:
    cost = Cost(device="T4", seconds=3, usd=usd)
    data = JobSucceeded(attempt=1, run_id=new_id("run"), result={}, manifest_key="k", duration_s=3, cost=cost)
    return encode(data, tenant=tenant, subject_id=new_id("job"), source="/test")


async def _publish(server: ConfiguredNats | SignedNats, messages: list[Message]) -> None:
    client = await connect(server.settings, "operator")
    for message in messages:
        await EventStore(client).publish(message)
    await client.close()


def key_service(
    server: ConfiguredNats | SignedNats, folder: Path, *words: str, code: int = 0
) -> subprocess.CompletedProcess[str]:
    """Run ``saccade key service``."""
    command = [sys.executable, "-m", "cli", "key", "service", *words, *server.options, "--json"]
    kept = {"PATH": os.environ["PATH"], "PYTHONPATH": PATHS, **ONE_AUTHORITY}  # noqa: TID251 - of this environment
    done = subprocess.run(
        command,
        cwd=folder,
        env=kept | server.environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == code, done.stdout + done.stderr
    server.reload()
    return done


def test_each_job_is_billed_once_although_the_service_is_killed(
    server: ConfiguredNats | SignedNats, tmp_path: Path
) -> None:
    done = key_service(server, tmp_path, "billing", "--events", "job.succeeded", "--ack-wait-s", "1")
    minted = json.loads(done.stdout)
    assert minted["consumers"] == ["billing-job-succeeded"]
    assert stat.S_IMODE((tmp_path / "billing.creds").stat().st_mode) == 0o600
    messages = [succeeded(number / 1000) for number in range(1, EVENTS + 1)]
    after_restarts = messages.pop()
    messages.insert(7, Message(succeeded(1).subject, new_id("evt"), b"not JSON"))
    service = OwnService(tmp_path, minted["url"], tmp_path / "billing.creds")
    for part in range(KILLS):
        service.start()
        share = EVENTS // KILLS + 1
        asyncio.run(_publish(server, messages[part * share : (part + 1) * share]))
        service.wait_for_bills(part * share // 2)
        time.sleep(random.uniform(0, 0.02))
        service.end(signal.SIGKILL)
    service.start()
    # The bill of an event of now says that this process runs, and with it its handler of SIGTERM.
    asyncio.run(_publish(server, [after_restarts]))
    service.wait_for_bills(EVENTS)
    # A process may have died before it wrote the letter: the event comes again after its ack_wait.
    end = time.monotonic() + 30
    while not (letters := asyncio.run(_dead_letters(server))):
        assert time.monotonic() < end, "no dead letter of the event that cannot be read"
        time.sleep(0.2)
    assert service.end(signal.SIGTERM) == 0
    bills = service.bills()
    assert len(bills) == len(dict(bills)) == EVENTS, "one of each job"
    assert sum(dict(bills).values()) == pytest.approx(sum(range(1, EVENTS + 1)) / 1000)
    assert letters == ["saccade.dlq.EVENTS.billing-job-succeeded"]


async def _dead_letters(server: ConfiguredNats | SignedNats) -> list[str]:
    client = await connect(server.settings, "operator")
    found = [one.subject async for one in EventStore(client, "DEADLETTERS").history(0)]
    await client.close()
    return found


def test_a_service_of_one_tenant_has_no_events_of_another(server: ConfiguredNats | SignedNats, tmp_path: Path) -> None:
    minted = json.loads(
        key_service(server, tmp_path, "blue-bills", "--events", "job.succeeded", "--tenant", "blue").stdout
    )
    mine, others = succeeded(0.25, "blue"), succeeded(0.5, "green")
    asyncio.run(_publish(server, [others, mine]))
    service = OwnService(tmp_path, minted["url"], tmp_path / "blue-bills.creds", name="blue-bills")
    service.start()
    service.wait_for_bills(1)
    time.sleep(0.5)
    assert service.end(signal.SIGTERM) == 0
    assert [usd for _, usd in service.bills()] == [0.25]
    refused = key_service(server, tmp_path, "blue-bills", "--events", "job.succeeded", "--out", "all.creds", code=1)
    assert json.loads(refused.stderr)["error"]["code"] == "consumer_exists"
    assert not (tmp_path / "all.creds").exists()


def test_a_revoked_service_is_cut_off_and_goes_on_with_new_credentials(
    server: ConfiguredNats | SignedNats, tmp_path: Path
) -> None:
    make = ("refunds", "--events", "job.succeeded", "--tenant", "orange", "--ack-wait-s", "1")
    minted = json.loads(key_service(server, tmp_path, *make).stdout)
    service = OwnService(tmp_path, minted["url"], tmp_path / "refunds.creds", name="refunds")
    if isinstance(server, SignedNats):
        refused = key_service(server, tmp_path, "--revoke", "refunds", code=1)
        assert json.loads(refused.stderr)["error"]["code"] == "revocation_unsupported"
        return
    asyncio.run(_publish(server, [succeeded(0.5, "orange")]))
    service.start()
    service.wait_for_bills(1)
    key_service(server, tmp_path, "--revoke", "refunds")
    asyncio.run(_publish(server, [succeeded(0.75, "orange")]))
    time.sleep(1)
    service.end(signal.SIGKILL)
    assert len(service.bills()) == 1, "an open connection has lost its rights too"
    key_service(server, tmp_path, *make, "--out", "new.creds")
    service = OwnService(tmp_path, minted["url"], tmp_path / "new.creds", name="refunds")
    service.start()
    service.wait_for_bills(2)
    assert service.end(signal.SIGTERM) == 0
