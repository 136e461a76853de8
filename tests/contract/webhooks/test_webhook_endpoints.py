"""Endpoint store on a real stream: records, concurrent changes, and records that cannot be decrypted."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from pydantic import SecretStr

from contracts.errors import SaccadeError
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import WEBHOOKS
from kit.bus.connection import connect, declare
from kit.bus.event_store import Conflict, EventStore
from kit.tasks import end
from services.notifier.webhooks.endpoints import endpoint_store as endpoints_module
from services.notifier.webhooks.endpoints.endpoint import Endpoint, EndpointSecret
from services.notifier.webhooks.endpoints.endpoint_store import EndpointStore
from services.notifier.webhooks.endpoints.secret_encryption import SecretEncryption
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio

KEY = "k" * 32
NOW = datetime(2026, 7, 1, 12, tzinfo=UTC)


def made(endpoint_id: str = "whk_1", tenant: str = "acme") -> Endpoint:
    return Endpoint(
        id=endpoint_id,
        tenant=tenant,
        url="https://hooks.example.com/path-secret",
        types=("job.*",),
        description="mine",
        secrets=(EndpointSecret(SecretStr("whsec_bmV3")), EndpointSecret(SecretStr("whsec_b2xk"), NOW)),
        signing="both",
        headers={"X-Key": "header-secret"},
        rate_per_s=2.5,
        ordered=True,
        enabled=True,
        disabled_reason=None,
        since_sequence=7,
        created_at=NOW,
        updated_at=NOW,
    )


@contextlib.asynccontextmanager
async def registry(nats: EmbeddedNats, key: str = KEY) -> AsyncIterator[EndpointStore]:
    client = await connect(nats.settings, "endpoints")
    await declare(client)
    endpoints = EndpointStore(EventStore(client, WEBHOOKS.name), SecretEncryption(key))
    following = asyncio.ensure_future(endpoints.run())
    try:
        async with asyncio.timeout(10):
            await endpoints.caught_up.wait()
        yield endpoints
    finally:
        await end(following)
        await client.close()


async def known(endpoints: EndpointStore, endpoint: Endpoint) -> None:
    async with asyncio.timeout(5):
        while endpoints.get(endpoint.tenant, endpoint.id) != endpoint:
            await asyncio.sleep(0.01)


async def test_another_store_reads_changes_live_and_after_a_start(nats_server: EmbeddedNats):
    async with registry(nats_server) as one, registry(nats_server) as other:
        changes: list[Endpoint] = []
        other.on_change(changes.append)
        sequence = await one.put(made(), 0)
        await known(other, made())
        changed = replace(made(), enabled=False, disabled_reason="gone", rate_per_s=None, types=())
        assert await one.put(changed, sequence) > sequence
        await known(other, changed)
        assert changes == [made(), changed], "each change once"
    async with registry(nats_server) as late:
        await known(late, changed)
        assert late.get("rival", "whk_1") is None
        assert late.of_tenant("rival") == []


async def test_the_tombstone_of_a_deleted_endpoint_expires(nats_server: EmbeddedNats, monkeypatch: pytest.MonkeyPatch):
    """Otherwise the tombstones of deleted endpoints would fill the stream, which has no age limit."""
    note = {"deleted": True, "enabled": False, "secrets": (), "headers": {}}
    async with registry(nats_server) as one, registry(nats_server) as other:
        stays, goes = made(), made("whk_2")
        await one.put(stays, 0)
        await one.put(replace(goes, **note), await one.put(goes, 0))
        await known(other, replace(goes, **note))
    async with registry(nats_server) as late:
        assert late.get("acme", "whk_2") == replace(goes, **note), "kept for as long as deliveries are"
        monkeypatch.setattr(endpoints_module, "_TOMBSTONE_S", 1)
        brief = made("whk_3")
        await late.put(replace(brief, **note), await late.put(brief, 0))
        async with asyncio.timeout(20):
            while await late.store.load("saccade.whk.acme.whk_3"):
                await asyncio.sleep(0.1)
    async with registry(nats_server) as latest:
        assert latest.get("acme", "whk_3") is None
        assert latest.get("acme", "whk_1") == stays


async def test_one_of_two_concurrent_changes_wins(nats_server: EmbeddedNats):
    async with registry(nats_server) as one, registry(nats_server) as other:
        sequence = await one.put(made(), 0)
        with pytest.raises(Conflict):
            await one.put(made(), 0)
        wanted = [replace(made(), description=str(number)) for number in range(6)]
        puts = [(one, other)[number % 2].put(endpoint, sequence) for number, endpoint in enumerate(wanted)]
        answers = await asyncio.gather(*puts, return_exceptions=True)
        won = [endpoint for endpoint, answer in zip(wanted, answers, strict=True) if isinstance(answer, int)]
        assert len(won) == 1
        assert sum(isinstance(answer, Conflict) for answer in answers) == 5
        await known(one, won[0])
        await known(other, won[0])


async def test_the_tombstone_of_a_deleted_endpoint_is_known(nats_server: EmbeddedNats):
    async with registry(nats_server) as one:
        sequence = await one.put(made(), 0)
        await one.put(replace(made(), deleted=True, secrets=(), headers={}), sequence)
    async with registry(nats_server) as late:
        found = late.get("acme", "whk_1")
        assert found is not None
        assert (found.deleted, found.secrets, found.headers) == (True, (), {})
        assert late.of_tenant("acme") == []
        assert late.all() == [found]


async def test_unreadable_records_are_logged_and_affect_no_others(
    nats_server: EmbeddedNats, caplog: pytest.LogCaptureFixture
):
    async with registry(nats_server, "another key of enough letters") as stranger:
        await stranger.put(made("whk_sealed_by_another_key"), 0)
        record = (await stranger.store.load("saccade.whk.acme.*"))[0]
        for subject, body in (
            ("saccade.whk.acme.whk_not_json", b"whsec_bmV3"),
            ("saccade.whk.acme.whk_without_fields", b'{"sealed": "whsec_bmV3"}'),
        ):
            await stranger.store.publish(Message(subject, new_id("evt"), body))
    async with registry(nats_server) as one:
        await one.put(made("whk_good"), 0)
        mine = (await one.store.load("saccade.whk.acme.whk_good"))[0]
        await one.store.publish(Message("saccade.whk.rival.whk_good", new_id("evt"), mine.body))
    caplog.clear()
    with caplog.at_level(logging.ERROR):
        async with registry(nats_server) as late:
            await known(late, made("whk_good"))
            assert [endpoint.id for endpoint in late.all()] == ["whk_good"]
            assert late.get("rival", "whk_good") is None, "a record moved to another tenant's subject opens nothing"
            assert await late.put(made("whk_new"), 0) > record.sequence
    logged = caplog.text
    assert all(name in logged for name in ("whk_sealed_by_another_key", "whk_not_json", "whk_without_fields"))
    assert "whsec_" not in logged
    assert "header-secret" not in logged


async def test_concurrent_requests_create_one_default_secret(nats_server: EmbeddedNats):
    async with registry(nats_server) as one, registry(nats_server) as other:
        found = await asyncio.gather(*(registry.default_secrets("acme") for registry in (one, other) * 4))
        secrets = {default.secrets[0].secret.get_secret_value() for default in found}
        assert len(secrets) == 1
        assert secrets.pop().startswith("whsec_")
        assert (await one.default_secrets("rival")).secrets != found[0].secrets
        rotated = (EndpointSecret(SecretStr("whsec_bmV3")), replace(found[0].secrets[0], expires_at=NOW))
        await one.put_default("acme", rotated, found[0].sequence)
        with pytest.raises(Conflict):
            await other.put_default("acme", rotated, found[0].sequence)
        async with asyncio.timeout(5):
            while (await other.default_secrets("acme")).secrets != rotated:
                await asyncio.sleep(0.01)


async def test_a_default_secret_encrypted_with_another_key_is_empty_until_rotated(nats_server: EmbeddedNats):
    async with registry(nats_server) as one, registry(nats_server, "another key of enough letters") as stranger:
        mine = await one.default_secrets("acme")
        unreadable = await stranger.default_secrets("acme")
        assert (unreadable.secrets, unreadable.sequence) == ((), mine.sequence)
        assert (await one.default_secrets("acme")) == mine, "it was not replaced unasked"
        await stranger.put_default("acme", (EndpointSecret(SecretStr("whsec_bmV3")),), unreadable.sequence)
        assert (await stranger.default_secrets("acme")).secrets[0].secret.get_secret_value() == "whsec_bmV3"


async def test_nothing_is_said_of_endpoints_before_they_are_read(nats_server: EmbeddedNats):
    async with registry(nats_server) as one:
        await one.put(made(), 0)
        late = EndpointStore(one.store, SecretEncryption(KEY))
        with pytest.raises(SaccadeError, match="not read yet"):
            await late.wait_until_read(0.05)
        following = asyncio.ensure_future(late.run())
        try:
            await late.wait_until_read()
            assert late.get("acme", "whk_1") == made()
        finally:
            await end(following)
