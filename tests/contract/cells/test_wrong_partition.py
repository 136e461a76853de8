"""Gateway and notifier of one cell: every route refuses a tenant of another cell, whatever credential stands for it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest
from pydantic import SecretStr, ValidationError

from contracts.ids import new_id
from contracts.partitions import Partition, slot_of
from contracts.worker_rights import run_grant
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.tickets import Tickets
from kit.settings import NatsSettings, S3Settings, invalid_settings
from services.gateway.settings import SessionSettings
from services.notifier.settings import WebhookSettings
from tests.harness.openapi.hostile import requests_of
from tests.harness.servers.embedded import OperatorNats
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.servers.served_gateway import served_gateway
from tests.harness.streams.notifier import Reader, notifier

pytestmark = pytest.mark.anyio

TICKET_KEY = "one key of all cells"
#: Tenants of the two halves.
HERE, ELSEWHERE = "rival", "acme"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
JOB_ID = new_id("job")
STREAM = f"/v1/jobs/{JOB_ID}/events"


@dataclass
class Cell:
    """A cell that serves the upper half."""

    gateway: RunningGateway
    gateway_url: str
    reader: Reader
    tickets: Tickets
    authenticator: Authenticator

    async def get(self, path: str, headers: dict[str, str], *, notifier: bool = False) -> tuple[int, str]:
        """Return status and code of an answer."""
        http = self.reader.http if notifier else self.gateway.http
        async with http.stream("GET", path, headers=headers) as answer:
            if answer.headers.get("content-type") != "application/problem+json":
                return answer.status_code, ""
            await answer.aread()
            return answer.status_code, code_of(answer)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.fixture
async def cell(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[Cell]:
    keys = keys_file(tmp_path, HERE, ELSEWHERE)
    system = {"id": "all", "tenant": "_system", "scopes": ["operate"], "sha256": hashlib.sha256(b"secret").hexdigest()}
    keys.write_text(json.dumps([*json.loads(keys.read_text()), system]))
    auth, tickets = AuthSettings(api_keys_file=keys, partition=Partition.parse("32-63/64")), Tickets(TICKET_KEY)
    sessions, webhooks = (
        SessionSettings(ticket_key=SecretStr(TICKET_KEY)),
        WebhookSettings(secret_key=SecretStr("k" * 32)),
    )
    async with (
        served_gateway(*servers, tmp_path, auth=auth, session_settings=sessions) as (running, url),
        notifier(servers[0], auth, webhooks, ticket_key=SecretStr(TICKET_KEY)) as reader,
    ):
        yield Cell(running, url, reader, tickets, Authenticator(auth, tickets.sessions, tickets.portal_links))


async def test_every_route_with_a_caller_refuses_a_tenant_of_another_cell(cell: Cell) -> None:
    count = 0
    documents: dict[str, tuple[httpx.AsyncClient, str]] = {
        "gateway": (cell.gateway.http, "/openapi.json"),
        "notifier": (cell.reader.http, "/v1/webhooks/openapi.json"),
    }
    for http, path in documents.values():
        document = (await http.get(path)).json()
        for request in requests_of(document, {}):
            operation = document["paths"][request.path][request.method.lower()]
            if "x-scopes" not in operation:
                continue
            headers = request.headers | bearer(f"{ELSEWHERE}.secret")
            async with http.stream(request.method, request.target, json=request.body, headers=headers) as answer:
                assert answer.status_code == 421, (request, answer.status_code)
                await answer.aread()
            if request.method != "HEAD":
                assert code_of(answer) == "wrong_partition", request
                assert "421" in operation["responses"], request
            count += 1
    assert count > 90
    assert [stored async for stored in cell.gateway.store.history(0)] == []


async def test_every_credential_of_a_tenant_of_another_cell_is_refused_and_of_an_own_one_is_not(cell: Cell) -> None:
    expected = {HERE: "", ELSEWHERE: "wrong_partition"}
    now = datetime.now(UTC)
    for tenant, code in expected.items():
        principal = cell.authenticator.principal(tenant)
        assert principal
        own_page = OWN_PAGE | {"Cookie": f"saccade={cell.tickets.sessions.issue(principal, now)[0]}"}
        assert (await cell.get("/v1/jobs", own_page))[1] == code
        assert (await cell.get("/v1/browser-session", own_page))[1] == code
        assert (await cell.get("/v1/webhooks", own_page, notifier=True))[1] == code
        link = bearer(cell.tickets.portal_links.issue(principal, "read", now + timedelta(hours=1)))
        assert (await cell.get("/v1/webhooks", link, notifier=True))[1] == code
        ticket = cell.tickets.issue(principal, STREAM, now)[0]
        assert (await cell.get(f"{STREAM}?ticket={ticket}", {}, notifier=True))[1] == (code or "job_not_found")
        base = f"/v1/jobs/{JOB_ID}/pages"
        page = cell.tickets.issue_for_pages(principal, f"{base}/", now + timedelta(hours=1))
        assert (await cell.get(f"{base}/{page}/report.html", {}))[1] == (code or "job_not_found")
        login = await cell.gateway.http.post("/v1/browser-session", headers=OWN_PAGE | bearer(f"{tenant}.secret"))
        assert login.status_code == (421 if code else 201)
    # What is no credential says nothing of cells.
    for tenant in expected:
        assert await cell.get("/v1/jobs", bearer(f"{tenant}.wrong")) == (401, "unauthenticated")
        assert await cell.get(f"{STREAM}?ticket=e30.e30", {}, notifier=True) == (401, "unauthenticated")


async def test_a_socket_of_a_tenant_of_another_cell_is_refused(cell: Cell) -> None:
    url = f"{cell.gateway_url}/v1/sessions/{new_id('ses')}/stream"
    for tenant, status in {HERE: 404, ELSEWHERE: 421}.items():
        async with aiohttp.ClientSession() as session:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await session.ws_connect(url, headers=bearer(f"{tenant}.secret"))
        assert refused.value.status == status


async def test_an_operator_of_all_tenants_is_told_which_of_them_are_elsewhere(cell: Cell) -> None:
    operator = bearer("all.secret")
    assert await cell.get("/v1/dead-letters", operator) == (200, "")
    assert await cell.get(f"/v1/dead-letters?tenant={HERE}", operator) == (200, "")
    assert await cell.get(f"/v1/dead-letters?tenant={ELSEWHERE}", operator) == (421, "wrong_partition")


async def test_a_run_of_a_tenant_of_another_cell_is_refused(tmp_path: Path, s3_server: Any) -> None:
    (tmp_path / "bus").mkdir()
    with OperatorNats(tmp_path / "bus") as bus:
        auth = AuthSettings(api_keys_file=keys_file(tmp_path, HERE), partition=Partition.parse("32-63/64"))
        worker_key = (bus.keys / "workers.key").read_text()
        async with running_gateway(bus.settings, s3_server.settings, tmp_path, auth=auth, worker_key=worker_key) as one:
            for tenant, status in {HERE: 200, ELSEWHERE: 421}.items():
                run_id = new_id("run")
                token = bus.tokens.issue(run_grant(tenant, JOB_ID, run_id), 60)
                answer = await one.http.get(f"/v1/runs/{run_id}", headers=bearer(token.jwt))
                assert answer.status_code == status, answer.text


def test_the_tenants_of_this_suite_are_of_two_halves() -> None:
    assert slot_of(ELSEWHERE) < 32 <= slot_of(HERE)


def test_a_partition_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SACCADE_PARTITION", "0-31/64")
    with pytest.raises(ValidationError) as refused:
        AuthSettings()
    assert "needs SACCADE_API_KEYS_FILE" in invalid_settings(refused.value)
    monkeypatch.setenv("SACCADE_API_KEYS_FILE", str(keys_file(tmp_path, HERE)))
    assert AuthSettings().partition == Partition.parse("0-31/64")
    monkeypatch.setenv("SACCADE_PARTITION", "")
    assert AuthSettings().partition.is_whole
    monkeypatch.setenv("SACCADE_PARTITION", "0-31")
    with pytest.raises(ValidationError) as refused:
        AuthSettings()
    assert invalid_settings(refused.value).startswith("SACCADE_PARTITION: a partition is a list of slots of 64")
