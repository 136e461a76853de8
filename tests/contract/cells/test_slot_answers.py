"""The route by which an origin finds the slot of a request: by every credential, at any gateway."""

from __future__ import annotations

import json
import os
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import nkeys
import pytest
from pydantic import SecretStr

from contracts.ids import new_id
from contracts.partitions import Partition, slot_of
from contracts.streams import OPS
from contracts.worker_rights import run_grant
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.bus_token import BusTokenIssuer
from kit.auth.tickets import Tickets
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import SessionSettings
from tests.harness.servers.cells import DEPLOY, PARTITIONS, origin_configuration
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.servers.held_tail import held_tails

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
TICKET_KEY = "one key of all cells"
#: The tenant of another cell than the one whose gateway is asked, and one of its own.
TENANTS = ("acme", "rival")
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
JOB = "/v1/jobs/job_01a20000-0000-7000-8000-000000000001"
RUN = "/v1/runs/run_01a20000-0000-7000-8000-000000000001"
STREAM = f"{JOB}/events"


@dataclass
class Asked:
    """A gateway of the upper half, and what signs for all cells."""

    gateway: RunningGateway
    tickets: Tickets
    authenticator: Authenticator

    async def slot(self, target: str, headers: dict[str, str] | None = None, method: str = "GET") -> int | None:
        """Ask for a request's slot; None where any cell answers it."""
        answer = await self.gateway.http.request(method, f"/origin-slot{target}", headers=headers)
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["cache-control"] == "no-store"
        slot = answer.headers.get("saccade-slot")
        return None if slot is None else int(slot)


def settings(folder: Path) -> AuthSettings:
    file = keys_file(folder, *TENANTS)
    entries = [*json.loads(file.read_text())]
    entries.append({"id": "all", "tenant": "_system", "scopes": ["operate"], "sha256": entries[0]["sha256"]})
    file.write_text(json.dumps(entries))
    return AuthSettings(api_keys_file=file, partition=Partition.parse("32-63/64"))


@pytest.fixture
async def asked(servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asked]:
    mapping = [{"system": "splat", "word": "sesame", "key": "acme"}, {"system": "nerf", "key": "rival"}]
    monkeypatch.setenv("GATEWAY_REPLACED_CREDENTIALS", json.dumps(mapping))
    auth, tickets = settings(tmp_path), Tickets(TICKET_KEY)
    sessions = SessionSettings(ticket_key=SecretStr(TICKET_KEY))
    async with running_gateway(*servers, tmp_path, auth=auth, session_settings=sessions) as running:
        yield Asked(running, tickets, Authenticator(auth, tickets.sessions, tickets.portal_links))


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize("tenant", TENANTS)
async def test_every_credential_leads_to_the_slot_of_its_tenant(asked: Asked, tenant: str) -> None:
    expected, now = slot_of(tenant), datetime.now(UTC)
    principal = asked.authenticator.principal(tenant)
    assert principal
    assert await asked.slot("/v1/jobs?limit=1", bearer(f"{tenant}.secret")) == expected
    assert await asked.slot("/v1/jobs", bearer(f"{tenant}.secret"), "POST") == expected
    cookie = {"Cookie": f"saccade={asked.tickets.sessions.issue(principal, now)[0]}"}
    assert await asked.slot("/v1/jobs", OWN_PAGE | cookie) == expected
    assert await asked.slot("/v1/rules", cookie | {"Origin": "http://127.0.0.1"}, "POST") == expected
    link = bearer(asked.tickets.portal_links.issue(principal, "write", now + timedelta(hours=1)))
    assert await asked.slot("/v1/webhooks", link, "POST") == expected
    ticket = asked.tickets.issue(principal, STREAM, now)[0]
    assert await asked.slot(f"{STREAM}?types=job.failed&ticket={ticket}") == expected
    assert await asked.slot(f"{JOB}/pages/{ticket}/a/report.html") == expected
    assert await asked.slot(f"/badminton/k/{tenant}.secret/api/1.31.7/sync") == expected
    run_id = new_id("run")
    # Of a key that no server knows: the slot is that of the tenant that the token names.
    seed = SecretStr(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT).decode())
    token = BusTokenIssuer(seed).issue(run_grant(tenant, new_id("job"), run_id), 60)
    for path in (f"/v1/runs/{run_id}", f"/v1/runs/{run_id}/events"):
        assert await asked.slot(path, bearer(token.jwt), "POST") == expected
    assert await asked.slot(f"/v1/dead-letters?tenant={tenant}", bearer("all.secret")) == expected


async def test_words_of_replaced_systems_lead_to_the_tenants_that_they_stand_for(asked: Asked) -> None:
    assert await asked.slot("/upload-frame", {"X-Magic-Word": "sesame"}, "POST") == slot_of("acme")
    assert await asked.slot("/compat/splat/k/sesame/upload-frame", method="POST") == slot_of("acme")
    assert await asked.slot("/api/nerf/jobs") == slot_of("rival")


@pytest.mark.parametrize(
    ("target", "headers"),
    [
        ("/console", {}),
        ("/v1/jobs", {}),
        ("/v1/jobs", {"Authorization": "Bearer acme.wrong"}),
        ("/v1/jobs", {"Authorization": "Bearer nobody.secret"}),
        ("/v1/jobs", {"Authorization": "Basic YTpi"}),
        ("/v1/jobs", {"Cookie": "saccade=acme.1.1"} | OWN_PAGE),
        (f"{STREAM}?ticket=e30.e30", {}),
        (f"{STREAM}?ticket=%ff%fe", {}),
        (f"{JOB}/pages/local/report.html", {}),
        (RUN, {"Authorization": "Bearer acme.secret"}),
        (RUN, {"Authorization": "Bearer a.e30.b"}),
        ("/v1/dead-letters", {"Authorization": "Bearer all.secret"}),
        ("/v1/dead-letters?tenant=..%2F", {"Authorization": "Bearer all.secret"}),
        ("/v1/dead-letters?tenant=acme", {}),
        ("", {}),
    ],
)
async def test_what_is_of_no_tenant_may_go_to_any_cell(asked: Asked, target: str, headers: dict[str, str]) -> None:
    """A wrong secret is answered as an unknown key is: the answer does not tell which keys exist."""
    assert await asked.slot(target or "/", headers) is None


async def test_a_question_counts_in_no_quota_and_is_recorded_nowhere(asked: Asked) -> None:
    for _ in range(300):
        assert await asked.slot("/v1/jobs", bearer("acme.secret"), "POST") == slot_of("acme")
    assert not asked.gateway.app.state.authenticator.quotas.refused
    assert [stored async for stored in asked.gateway.store.history(0)] == []
    assert [stored async for stored in EventStore(asked.gateway.store.client, OPS.name).history(0)] == []


async def test_a_gateway_answers_while_it_starts(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with held_tails(monkeypatch, 0) as hold:
        async with running_gateway(*servers, tmp_path, auth=settings(tmp_path), hold=hold.reached) as running:
            starting = await running.http.post("/v1/jobs", json={}, headers=bearer("rival.secret"))
            assert (starting.status_code, code_of(starting)) == (503, "starting")
            answer = await running.http.get("/origin-slot/v1/jobs", headers=bearer("acme.secret"))
            assert (answer.status_code, answer.headers["saccade-slot"]) == (204, str(slot_of("acme")))
            await hold.release(running.tail)


async def test_a_system_without_keys_has_no_slots(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running:
        answer: httpx.Response = await running.http.get("/origin-slot/v1/jobs", headers=bearer("acme.secret"))
        assert (answer.status_code, "saccade-slot" in answer.headers) == (204, False)


def test_the_example_has_a_cell_for_every_slot_and_the_origin_uses_it(tmp_path: Path) -> None:
    example = (DEPLOY / "origin_partitions.conf").read_text()
    table = re.search(r"map \$slot \$cell \{(.*?)\}", example, re.DOTALL)
    assert table
    cells = re.findall(r"\b(\d+) (\w+);", table[1])
    assert [int(slot) for slot, _ in cells] == list(range(64))
    for name, partition in PARTITIONS.items():
        assert {int(slot) for slot, cell in cells if cell == name} == Partition.parse(partition).slots
    written = origin_configuration(tmp_path, DEPLOY / "origin_partitions.conf")
    assert f"include {DEPLOY}/origin_partitions.conf; server {{" in written
    assert "include /etc/saccade/origin_slot.conf;" in written
    assert not re.search(r"set \$(gateway|notifier)", written)


def test_the_origin_asks_by_the_names_of_the_route() -> None:
    server = (DEPLOY / "origin_slot.conf").read_text()
    assert "proxy_pass http://gateways/origin-slot$request_uri;" in server
    assert "$upstream_http_saccade_slot" in server
    assert "proxy_next_upstream error timeout http_503 non_idempotent;" in server, "one that starts answers 503"
