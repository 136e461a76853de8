"""Idempotency-Keys in a stream that is nearly full: who has used few still uses one."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.ids import new_id
from contracts.streams import IDEMPOTENCY
from kit.auth.quotas import Quotas
from kit.bus import stream_room
from kit.bus.connection import connect, declare, request
from kit.bus.event_store import EventStore
from kit.bus.idempotency import Idempotency, RecentKeys, idempotency_key
from tests.harness.servers.embedded import EmbeddedNats

pytestmark = pytest.mark.anyio


async def test_a_tenant_that_uses_many_keys_leaves_room_for_those_of_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_room, "KEPT_S", 0.0)
    with EmbeddedNats(tmp_path) as server:
        client = await connect(server.settings, "test")
        try:
            await declare(client)
            config = (await client.jetstream().stream_info(IDEMPOTENCY.name)).config.as_dict() | {"max_bytes": 200_000}
            assert "error" not in await request(client, f"STREAM.UPDATE.{IDEMPOTENCY.name}", config)
            quotas = Quotas()
            records = Idempotency(EventStore(client, IDEMPOTENCY.name), quotas)

            async def claim(tenant: str) -> None:
                key = idempotency_key(tenant, "POST /v1/jobs", new_id("evt"), {})
                await records.claim(key, new_id("job"))

            async def claim_many() -> None:
                for _ in range(1000):
                    await claim("busy")

            with pytest.raises(SaccadeError) as refused:
                await claim_many()
            assert refused.value.code is ErrorCode.RATE_LIMITED
            assert refused.value.extra["quota"]["name"] == "idempotency_keys"
            assert refused.value.extra["retry_after_s"] == 60
            state = (await client.jetstream().stream_info(IDEMPOTENCY.name)).state
            assert 400 <= state.bytes / state.messages <= 600, "as the number of keys is worked out"
            for tenant in "abcde":
                for _ in range(5):
                    await claim(tenant)
        finally:
            await client.close()


def test_keys_count_for_a_day() -> None:
    now_s = 0.0
    recent = RecentKeys(lambda: now_s)
    recent.add("acme")
    now_s = 23 * 3600.0
    recent.add("acme")
    recent.add("rival")
    assert (recent.count("acme"), recent.tenants) == (2, 2)
    now_s = 26 * 3600.0
    assert (recent.count("acme"), recent.tenants) == (1, 2)
    now_s = 50 * 3600.0
    assert (recent.count("acme"), recent.count("rival"), recent.tenants) == (0, 0, 0)
