"""Test servers of both kinds: reachable at once, data and address survive a kill, nothing remains afterwards."""

from __future__ import annotations

import socket
from urllib.parse import urlsplit

import pytest

from contracts.events import encode
from contracts.events.job import JobQueued
from contracts.ids import new_id
from kit.bucket import open_bucket
from kit.bus.connection import connect, declare
from kit.bus.event_store import EventStore
from tests.harness.servers.containers import ContainerNats
from tests.harness.servers.embedded import EmbeddedNats, NatsServer, S3Server


def _accepts(url: str) -> bool:
    where = urlsplit(url)
    with socket.socket() as probe:
        return probe.connect_ex((where.hostname or "", where.port or 0)) == 0


@pytest.mark.anyio
async def test_nats_keeps_data_and_address_after_a_kill(any_nats_server: NatsServer) -> None:
    client = await connect(any_nats_server.settings, "test")
    try:
        await declare(client)
        store = EventStore(client)
        job_id = new_id("job")
        message = encode(JobQueued(position=1), tenant="acme", subject_id=job_id, source="/test")
        sequence = await store.publish(message)
        any_nats_server.kill()
        assert not _answers_as_nats(any_nats_server.settings.url)
        any_nats_server.start()
        found = await store.load(f"saccade.evt.acme.job.{job_id}.*")
        assert [(stored.sequence, stored.body) for stored in found] == [(sequence, message.body)]
    finally:
        await client.close()


def _answers_as_nats(url: str) -> bool:
    where = urlsplit(url)
    try:
        with socket.create_connection((where.hostname, where.port), timeout=1) as connection:
            return connection.recv(5) == b"INFO "
    except OSError:
        return False


@pytest.mark.anyio
async def test_s3_has_the_bucket_at_once(any_s3_server: S3Server) -> None:
    async with open_bucket(any_s3_server.settings) as bucket:
        await bucket.check()
        assert await bucket.list_keys("") == []


@pytest.mark.parametrize("maker", [EmbeddedNats, pytest.param(ContainerNats, marks=pytest.mark.engine)])
def test_a_server_is_gone_after_its_test(maker: type[EmbeddedNats], tmp_path) -> None:
    with maker(tmp_path) as server:
        url = server.settings.url
        assert _accepts(url)
    assert not _accepts(url)
