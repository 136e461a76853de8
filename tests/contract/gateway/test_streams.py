"""The streams over HTTP: fill, limits and ages as the bus has them, for operators of all tenants only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from contracts.streams import EVENTS, STREAMS
from kit.auth.api_keys import AuthSettings
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import code_of, running_gateway

pytestmark = pytest.mark.anyio


async def test_streams_are_told_as_the_bus_has_them_to_operators_of_all_tenants(
    servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    entries = [
        {"id": name, "sha256": hashlib.sha256(b"secret").hexdigest(), "tenant": tenant, "scopes": ["operate"]}
        for name, tenant in (("all", "_system"), ("one", "acme"))
    ]
    (tmp_path / "keys.json").write_text(json.dumps(entries))
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=tmp_path / "keys.json")) as running:
        own = await running.http.get("/v1/streams", headers={"Authorization": "Bearer one.secret"})
        assert (own.status_code, code_of(own)) == (403, "forbidden")
        answer = await running.http.get("/v1/streams", headers={"Authorization": "Bearer all.secret"})
        assert answer.status_code == 200, answer.text
        found = answer.json()
        rows = {row["name"]: row for row in found["data"]}
        assert list(rows) == [stream.name for stream in STREAMS]
        events = rows[EVENTS.name]
        assert (events["max_age_s"], events["when_full"]) == (EVENTS.max_age_s, "refuses")
        assert (events["deletes_in_s"] is None) == (events["messages"] == 0)
        if events["messages"]:
            assert 0 < events["deletes_in_s"] <= EVENTS.max_age_s
            assert events["last_sequence"] - events["first_sequence"] + 1 >= events["messages"]
        assert (found["view_behind"], found["archived_until"]) == (0, 0)
