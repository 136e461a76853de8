"""The audit log over HTTP: who reads which records, filters, pages, and the state of the chain."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from contracts.audit import Act, Attribution
from contracts.errors import ErrorCode
from contracts.events.base import Message
from contracts.ids import new_id
from contracts.streams import OPS
from kit.auth.api_keys import AuthSettings
from kit.bus.audit_log import AuditLog
from kit.bus.event_store import EventStore, StoredEvent
from kit.settings import NatsSettings, S3Settings
from services.gateway.audit import audit_reader
from tests.harness.servers.gateway import RunningGateway, code_of, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


def operators_keys(folder: Path) -> AuthSettings:
    """Write keys of two tenants' operators, of one of all, and of a reader."""
    scopes = {"acme": ("acme", "operate"), "rival": ("rival", "operate"), "all": ("_system", "operate")}
    scopes["reader"] = ("acme", "read")
    entries = [
        {"id": name, "sha256": hashlib.sha256(b"secret").hexdigest(), "tenant": tenant, "scopes": [scope]}
        for name, (tenant, scope) in scopes.items()
    ]
    (folder / "keys.json").write_text(json.dumps(entries))
    return AuthSettings(api_keys_file=folder / "keys.json")


@pytest.fixture
async def running(empty_servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    async with running_gateway(*empty_servers, tmp_path, auth=operators_keys(tmp_path)) as found:
        yield found


async def read(running: RunningGateway, key: str, **params: Any) -> dict[str, Any]:
    headers = {"Authorization": f"Bearer {key}.secret"}
    answer = await running.http.get("/v1/audit", params=params, headers=headers)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def shown(page: dict[str, Any]) -> list[str]:
    return [f"{record['tenant']}/{record['type']}" for record in page["data"]]


async def act(log: AuditLog, tenant: str, noun: str, by: str = "ada") -> None:
    attribution = Attribution(by=by, why="a test", request_id=new_id("req"))
    intent = await log.intent(Act(tenant, noun, "x"), "stop_requested", attribution)
    await log.outcome(intent, "stopped", {"n": 1})


async def test_operators_read_what_they_reach_by_filter_and_page(running: RunningGateway) -> None:
    log = AuditLog(EventStore(running.store.client, OPS.name), "/test")
    for _ in range(130):  # more than the first window that is searched
        await act(log, "acme", "job")
    await act(log, "rival", "job", by="eve")
    await act(log, "_system", "lease")
    assert shown(await read(running, "all", limit=3)) == [
        "_system/lease.stopped",
        "_system/lease.stop_requested",
        "rival/job.stopped",
    ]
    assert shown(await read(running, "rival")) == ["rival/job.stopped", "rival/job.stop_requested"]
    assert shown(await read(running, "all", by="eve", verb="stopped")) == ["rival/job.stopped"]
    assert shown(await read(running, "all", noun="lease", id="x")) == shown(
        await read(running, "all", tenant="_system")
    )
    request_id = (await read(running, "all", limit=1))["data"][0]["request_id"]
    assert len((await read(running, "all", request_id=request_id))["data"]) == 2
    record = (await read(running, "all", limit=1))["data"][0]
    assert shown(await read(running, "all", since=record["time"])) == ["_system/lease.stopped"]
    assert "_system/lease.stopped" not in shown(await read(running, "all", until=record["time"]))

    sequences: list[int] = []
    page = await read(running, "acme", limit=50)
    while True:
        sequences += [found["sequence"] for found in page["data"]]
        if page["next_cursor"] is None:
            break
        page = await read(running, "acme", limit=50, cursor=page["next_cursor"])
    assert sequences == list(range(260, 0, -1))
    chain = page["chain"]
    assert (chain["records"], chain["complete"], chain["faults"], chain["open_intents"]) == (260, True, [], 0)
    assert chain["head"].startswith("260:")
    whole = (await read(running, "all", limit=1))["chain"]
    assert (whole["records"], whole["head"]) == (264, f"264:{record['hash']}")


async def test_a_tenant_learns_nothing_of_other_tenants_records_from_the_chain(running: RunningGateway) -> None:
    log = AuditLog(EventStore(running.store.client, OPS.name), "/test")
    await act(log, "acme", "job")
    before = (await read(running, "acme"))["chain"]
    await act(log, "rival", "job")
    attribution = Attribution(by="eve", why="a test", request_id=new_id("req"))
    open_intent = await log.intent(Act("rival", "job", "x"), "stop_requested", attribution)
    await log.outcome(open_intent, "stopped", {})
    outcomes = [one async for one in log.records() if one.data.phase == "outcome"]
    await log.intent(Act("rival", "job", "y"), "stop_requested", attribution)
    await log._append(
        await log._newest(),
        Act("rival", "job", "x"),
        "stopped",
        attribution=attribution,
        record_id=new_id("ops"),
        phase="outcome",
        intent=outcomes[-1].data.intent,
    )
    assert (await read(running, "acme"))["chain"] == before
    rival = (await read(running, "rival"))["chain"]
    assert (rival["records"], rival["faults_total"], rival["open_intents"]) == (6, 1, 1)
    whole = (await read(running, "all"))["chain"]
    assert (whole["records"], whole["faults_total"], whole["open_intents"]) == (8, 1, 1)


async def test_every_tenant_learns_that_the_chain_is_broken(running: RunningGateway) -> None:
    store = EventStore(running.store.client, OPS.name)
    await act(AuditLog(store, "/test"), "acme", "job")
    stored = [one async for one in store.history(0)]
    await store.publish(Message(stored[0].subject, new_id("evt"), stored[0].body))
    chain = (await read(running, "rival"))["chain"]
    assert (chain["records"], [fault["sequence"] for fault in chain["faults"]]) == (0, [3])


@pytest.mark.parametrize(
    ("key", "params", "code"),
    [
        ("reader", {}, ErrorCode.FORBIDDEN),
        ("acme", {"tenant": "rival"}, ErrorCode.FORBIDDEN),
        ("acme", {"tenant": "_system"}, ErrorCode.FORBIDDEN),
        ("all", {"tenant": "*"}, ErrorCode.INVALID_PARAMETER),
        ("all", {"noun": "*"}, ErrorCode.INVALID_PARAMETER),
        ("all", {"id": "a.b"}, ErrorCode.INVALID_PARAMETER),
        ("all", {"cursor": "jobs-1"}, ErrorCode.CURSOR_INVALID),
    ],
)
async def test_nothing_else_is_read(running: RunningGateway, key: str, params: dict[str, str], code: ErrorCode) -> None:
    answer = await running.http.get("/v1/audit", params=params, headers={"Authorization": f"Bearer {key}.secret"})
    assert code_of(answer) == code


async def test_a_record_that_follows_nothing_shows_in_the_chain(running: RunningGateway) -> None:
    log = AuditLog(EventStore(running.store.client, OPS.name), "/test")
    await act(log, "acme", "job")
    stored = [one async for one in EventStore(running.store.client, OPS.name).history(0)]
    assert (await read(running, "acme"))["chain"]["faults"] == []
    await EventStore(running.store.client, OPS.name).publish(Message(stored[0].subject, new_id("evt"), stored[0].body))
    chain = (await read(running, "acme"))["chain"]
    assert [fault["sequence"] for fault in chain["faults"]] == [3]
    assert (chain["faults_total"], chain["open_intents"]) == (1, 1)


class _Counting(EventStore):
    """The audit log, with the records that were read."""

    read = 0

    async def history(self, after: int, subjects: str = ">") -> AsyncIterator[StoredEvent]:
        async for stored in super().history(after, subjects):
            self.read += 1
            yield stored


async def test_what_is_older_than_since_is_not_read(running: RunningGateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_reader, "_CLOCKS", timedelta(0))
    store = _Counting(running.store.client, OPS.name)
    log = AuditLog(store, "/test")
    attribution = Attribution(by="ada", why="test", request_id="req_1")
    for _ in range(40):
        await log.intent(Act("acme", "job", new_id("job"), {}), "refold_requested", attribution)
    await asyncio.sleep(0.05)
    since = datetime.now(UTC)
    newest = await log.intent(Act("acme", "job", new_id("job"), {}), "refold_requested", attribution)
    store.read = 0
    wanted = audit_reader.AuditFilter(by="ada", since=since)
    found, following = await audit_reader.AuditReader(store).page(wanted, before=None, limit=10)
    assert ([record.id for record in found], following) == ([newest.id], None)
    assert store.read == 1
