"""``saccade doctor`` and NATS: a healthy server, and servers that are really set up wrongly."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest
from pydantic import SecretStr

from cli.doctor.bus import check_bus
from cli.doctor.report_line import ReportLine
from cli.doctor.system import System
from contracts.limits import GIB
from contracts.streams import CAPTIONS, EVENTS, STREAMS
from kit.bus.connection import connect, declare, request, stream_config
from kit.settings import NatsSettings
from tests.harness.servers.cluster import EmbeddedCluster
from tests.harness.servers.embedded import HOST, EmbeddedNats, binary, free_port, wait_for_port

pytestmark = pytest.mark.anyio
RIGHT, WRONG = "the-right-password", "a-wrong-password"


class LockedNats(EmbeddedNats):
    """Asks for a user and a password."""

    def _more_configuration(self) -> str:
        return f"authorization {{ user: saccade, password: {RIGHT} }}\n"


class SmallAccount(EmbeddedNats):
    """Its account may store one gigabyte."""

    def _more_configuration(self) -> str:
        user = f"users: [{{ user: saccade, password: {RIGHT} }}]"
        return f"accounts {{ SMALL {{ jetstream: {{ max_file: {GIB}, max_streams: 5 }}, {user} }} }}\n"


class NarrowNats(EmbeddedNats):
    """Refuses messages that Saccade sends."""

    def _more_configuration(self) -> str:
        return "max_payload: 64KB\n"


@contextmanager
def plain_nats() -> Iterator[NatsSettings]:
    """Run nats-server as it starts without a configuration: JetStream is off."""
    port = free_port()
    process = subprocess.Popen(
        [binary("nats-server"), "-a", HOST, "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for_port(port, process)
        yield NatsSettings(url=f"nats://{HOST}:{port}")
    finally:
        process.kill()
        process.wait(timeout=30)


async def look(settings: NatsSettings) -> list[ReportLine]:
    system = System("servers", "http://127.0.0.1:1", False, {}, Path(), running=True, nats=settings)
    return await check_bus(system)


def failures(found: Sequence[ReportLine]) -> list[str]:
    assert all(finding.fix for finding in found if finding.outcome != "ok"), found
    return [finding.check for finding in found if finding.outcome == "FAIL"]


async def test_a_server_with_all_streams_is_well_and_each_change_of_them_is_found(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as server:
        found = await look(server.settings)
        assert failures(found) == ["bus streams"], "nothing has created them yet"
        assert found[0].says.startswith("nats-server 2.15.")
        assert any("Start the services" in finding.fix for finding in found)

        client = await connect(server.settings, "test")
        try:
            await declare(client)
            assert {finding.outcome for finding in await look(server.settings)} == {"ok"}

            changed = stream_config(EVENTS, 1) | {"max_age": 3600 * 10**9, "max_bytes": GIB}
            await request(client, "STREAM.UPDATE.EVENTS", changed)
            await request(client, f"STREAM.DELETE.{CAPTIONS.name}", {})
            found = await look(server.settings)
        finally:
            await client.close()
    assert failures(found) == ["bus streams", "bus streams"]
    missing, differs = (finding for finding in found if finding.outcome == "FAIL")
    assert missing.says == f"missing: {CAPTIONS.name}"
    assert "EVENTS: max_age is 3600 s instead of 7776000 s; max_bytes is 1 GiB instead of 16 GiB" in differs.says
    assert len(STREAMS) > 2


async def test_a_wrong_password_is_told_from_a_server_that_is_away(tmp_path: Path) -> None:
    with LockedNats(tmp_path) as server:
        settings = server.settings.model_copy(update={"user": "saccade", "password": SecretStr(WRONG)})
        found = await look(settings)
        assert failures(found) == ["bus credentials"]
        assert "NATS_PASSWORD" in found[0].fix
        assert WRONG not in found[0].line
        right = settings.model_copy(update={"password": SecretStr(RIGHT)})
        assert "bus credentials" not in failures(await look(right))
    found = await look(right)
    assert failures(found) == ["bus"]
    assert "does not answer" in found[0].says


async def test_a_server_without_jetstream_is_found() -> None:
    with plain_nats() as settings:
        found = await look(settings)
    assert failures(found) == ["bus jetstream"]
    assert "jetstream {}" in found[-1].fix


async def test_an_account_that_is_too_small_is_found(tmp_path: Path) -> None:
    with SmallAccount(tmp_path) as server:
        settings = server.settings.model_copy(update={"user": "saccade", "password": SecretStr(RIGHT)})
        found = await look(settings)
    limits = [finding.says for finding in found if finding.check == "bus limits" and finding.outcome == "FAIL"]
    assert limits[0] == "the account may store 1 GiB, and the streams reserve 42.59 GiB"
    assert "5 streams" in limits[1]


async def test_a_limit_of_messages_and_an_address_without_a_server_are_found(tmp_path: Path) -> None:
    with NarrowNats(tmp_path) as server:
        dead = f"nats://{HOST}:{free_port()}"
        found = await look(NatsSettings(url=f"{server.url},{dead}"))
    assert failures(found) == ["bus limits", "bus streams"]
    assert next(finding for finding in found if finding.outcome == "warn").check == "bus addresses"
    assert dead.removeprefix("nats://") in next(one.says for one in found if one.check == "bus addresses")


async def test_what_does_not_run_yet_is_no_failure(tmp_path: Path) -> None:
    system = System("embedded", "http://127.0.0.1:1", False, {}, tmp_path, running=False)
    found = await check_bus(system)
    assert [finding.outcome for finding in found] == ["warn"]
    assert "saccade up" in found[0].fix


async def test_a_cluster_is_well_with_all_nodes_and_not_without_most_of_them(tmp_path: Path) -> None:
    with EmbeddedCluster(tmp_path) as cluster:
        client = await connect(cluster.settings, "test")
        await declare(client)
        await client.close()
        # New replicas are behind for a moment.
        found = await look(cluster.settings)
        while any(line.outcome != "ok" for line in found):
            assert failures(found) == []
            await asyncio.sleep(0.2)
            found = await look(cluster.settings)
        assert "3 nodes" in next(line.says for line in found if line.check == "bus cluster")
        for node in cluster.nodes[1:]:
            node.kill()
        # The node that is left believes for some seconds that it has a leader.
        while "bus cluster" not in failures(found := await look(cluster.settings)):
            await asyncio.sleep(0.5)
    assert "Start the other nodes" in next(line.fix for line in found if line.check == "bus cluster")
    assert next(line for line in found if line.check == "bus addresses").outcome == "warn"
