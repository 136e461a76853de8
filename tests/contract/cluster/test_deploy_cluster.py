"""deploy/nats_cluster.conf: three nodes start with it, and every user has the rights that it has on one server."""

from __future__ import annotations

import asyncio
import gc
import shutil
import ssl
import warnings
from collections.abc import Iterator

import nats
import pytest
from nats.errors import NoServersError

from contracts.ids import new_id
from contracts.streams import STREAMS
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore
from tests.harness.servers.cluster_stores import TENANT, queued
from tests.harness.servers.deploy_cluster import DeployCluster
from tests.harness.servers.embedded import HOST

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificate"),
]


@pytest.fixture
def left_sockets() -> Iterator[None]:
    """Close the sockets that nats-py 2.16 leaves open when a TLS connection fails."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DeployCluster]:
    with DeployCluster(tmp_path_factory.mktemp("cluster")) as running:
        yield running


@pytest.fixture(autouse=True)
def authority(cluster: DeployCluster, left_sockets: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trust the certificates, as SSL_CERT_FILE has the services do."""
    monkeypatch.setenv("SSL_CERT_FILE", str(cluster.certificate))


async def test_every_stream_has_three_replicas_and_an_upgrade_interrupts_nothing_for_long(
    cluster: DeployCluster,
) -> None:
    client = await connect(cluster.settings, "test")
    await declare(client, cluster.settings.replicas)
    for stream in STREAMS:
        info = await request(client, f"STREAM.INFO.{stream.name}", {})
        assert info["config"]["num_replicas"] == 3, stream.name
        assert len(info["cluster"]["replicas"]) == 2, stream.name
    store, job_id, sequences = EventStore(client), new_id("job"), []
    for node in cluster.nodes:  # as docs/operations.md says: one after the other, the next when all are current
        await asyncio.to_thread(node.stop)
        sequences.append(await store.publish(queued(job_id), deadline_s=60))
        await asyncio.to_thread(node.start)
        await asyncio.to_thread(cluster.wait_until_ready)
    found = [stored.sequence async for stored in store.history(0, f"saccade.evt.{TENANT}.job.{job_id}.*")]
    assert found == sequences
    await client.close()


async def test_users_have_the_rights_that_they_have_on_one_server(cluster: DeployCluster) -> None:
    services = await connect(cluster.settings, "services")
    await declare(services, 3)
    for name, password, stream in (("ops", "o", "OPS"), ("ops", "o", "DEADLETTERS"), ("replayer", "r", "REPLAYS")):
        refused: list[str] = []
        more = {"user": name, "password": password, "inbox_prefix": f"_INBOX_{'operator' if name == 'ops' else name}"}
        settings = type(cluster.settings).model_validate({"url": cluster.url} | more)
        client = await connect(settings, name, refused.append)
        assert [stored async for stored in EventStore(client, stream).history(0)] == []
        assert refused == []
        await client.publish("saccade.evt.acme.job.job_1.queued", b"{}")
        await client.flush(5)
        async with asyncio.timeout(10):
            while not refused:
                await asyncio.sleep(0.01)
        await client.close()
    await services.close()


async def test_nobody_connects_without_a_password_or_without_tls(cluster: DeployCluster) -> None:
    url = cluster.url.split(",")[0]
    once = {"allow_reconnect": False, "max_reconnect_attempts": 0}
    with pytest.raises((NoServersError, nats.errors.Error), match="Authorization"):
        await nats.connect(url, tls=ssl.create_default_context(), **once)
    node = cluster.nodes[0]
    reader, writer = await asyncio.open_connection(HOST, node.port)
    greeting = await reader.readline()
    assert b'"tls_required":true' in greeting
    writer.write(b'CONNECT {"user": "svc", "pass": "s", "verbose": true}\r\nPING\r\n')
    async with asyncio.timeout(10):
        assert b"PONG" not in await reader.read()
    writer.close()
