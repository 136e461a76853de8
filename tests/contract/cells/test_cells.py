"""Two cells behind one address: each tenant reaches its own, and sees what it would see of one system alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import pytest

from contracts.events.base import decode
from contracts.ids import new_id
from contracts.partitions import slot_of
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from tests.harness.servers.cells import AskingTransport, Cell, nginx_before, two_cells
from tests.harness.servers.embedded import HOST, S3Server, free_port
from tests.harness.servers.gateway import code_of

pytestmark = pytest.mark.anyio

needs_nginx = pytest.mark.skipif(shutil.which("nginx") is None, reason="nginx is not installed; compose brings its own")
#: Two tenants of each half.
TENANTS = {"acme": "a", "tenant-4": "a", "rival": "b", "local": "b"}
JOB = {"workload": "scripted", "params": {"script": ["write page.html text/html hello"]}}
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}


def bearer(tenant: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {tenant}.secret"}


@asynccontextmanager
async def at_origin(cells: dict[str, Cell], kind: str) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client of the one address, which keeps no cookies: several tenants use it."""
    common: Any = {"timeout": 60, "trust_env": False, "cookies": CookieJar(DefaultCookiePolicy(allowed_domains=[]))}
    if kind == "nginx":
        async with nginx_before(cells) as url, httpx.AsyncClient(base_url=url, **common) as http:
            yield http
        return
    transport = AskingTransport(cells)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1", **common) as http:
        yield http


async def followed(http: httpx.AsyncClient, url: str, last: str) -> list[str]:
    """Return the types of the events of a stream up to one."""
    types: list[str] = []
    async with asyncio.timeout(60), http.stream("GET", url) as stream:
        assert stream.status_code == 200
        async for line in stream.aiter_lines():
            if line.startswith("data: ") and "type" in (event := json.loads(line.removeprefix("data: "))):
                types.append(event["type"])
                if types[-1] == last:
                    break
    return types


async def work(http: httpx.AsyncClient, tenant: str) -> str:
    """Submit a job as a tenant, follow it to its end as a browser does, and see that it is the tenant's only one."""
    submitted = await http.post("/v1/jobs", json=JOB, headers=bearer(tenant) | {"Idempotency-Key": "the same of all"})
    assert submitted.status_code == 202, submitted.text
    job_id = str(submitted.json()["id"])
    stream = f"/v1/jobs/{job_id}/events"
    ticket = (await http.post("/v1/tickets", json={"resource": stream}, headers=bearer(tenant))).json()
    types = await followed(http, ticket["url"], "job.succeeded")
    assert (types[0], types[-1]) == ("job.submitted", "job.succeeded")
    login = await http.post("/v1/browser-session", headers=bearer(tenant) | OWN_PAGE)
    cookie = {"Cookie": login.headers["set-cookie"].partition(";")[0]} | OWN_PAGE
    listed = (await http.get("/v1/jobs", headers=cookie)).json()["data"]
    assert [job["id"] for job in listed] == [job_id]
    assert (await http.get("/v1/browser-session", headers=cookie)).json()["tenant"] == tenant
    link = await http.post(f"/v1/jobs/{job_id}/artifacts/page.html/link", json={}, headers=bearer(tenant))
    assert link.status_code == 201, link.text
    assert (await http.get(link.json()["url"])).text == "hello"
    return job_id


async def tenants_with_events(cell: Cell) -> set[str]:
    client = await connect(cell.nats.settings, "test")
    try:
        return {decode(stored.body).tenant async for stored in EventStore(client).history(0)}
    finally:
        await client.close()


async def refused_elsewhere(cells: dict[str, Cell]) -> None:
    """Send every tenant's requests to each cell directly: only its own answers."""
    async with httpx.AsyncClient(trust_env=False) as http:
        for tenant, own in TENANTS.items():
            for name, cell in cells.items():
                for url in (f"{cell.services.url('gateway')}/v1/jobs", f"{cell.services.url('notifier')}/v1/webhooks"):
                    answer = await http.get(url, headers=bearer(tenant))
                    assert answer.status_code == (200 if name == own else 421), (tenant, url)
                    assert name == own or code_of(answer) == "wrong_partition"


@pytest.mark.parametrize("kind", ["asking", pytest.param("nginx", marks=needs_nginx)])
async def test_each_tenant_works_in_its_own_cell_through_one_address(
    s3_server: S3Server, tmp_path: Path, kind: str
) -> None:
    async with two_cells(s3_server.settings, tmp_path, *TENANTS) as cells, at_origin(cells, kind) as http:
        jobs = await asyncio.gather(*(work(http, tenant) for tenant in TENANTS))
        assert len(set(jobs)) == len(TENANTS)
        for name, cell in cells.items():
            assert await tenants_with_events(cell) == {tenant for tenant, own in TENANTS.items() if own == name}
        await refused_elsewhere(cells)
        wrong = await http.get("/v1/jobs", headers={"Authorization": "Bearer acme.wrong"})
        assert (wrong.status_code, code_of(wrong)) == (401, "unauthenticated")
        if kind == "nginx":
            await sockets_and_public_keys(http)
            await one_cell_down(http, cells)


async def sockets_and_public_keys(http: httpx.AsyncClient) -> None:
    """See that what has its credential in the path, or none, reaches the cell that has it."""
    for tenant in TENANTS:
        url = f"{http.base_url}/badminton/k/{tenant}.secret/api/1.31.7/sync"
        async with aiohttp.ClientSession() as session, session.ws_connect(url) as socket:
            await socket.send_json({"type": "Connect", "sessionId": "s", "connectionCount": 0, "clientTs": 1})
            added: dict[str, Any] = {"type": "ModifyQuerySet", "baseVersion": 0, "newVersion": 1, "modifications": []}
            await socket.send_json(added)
            async with asyncio.timeout(10):
                assert (await socket.receive_json())["type"] == "Transition"
        wanted = {"url": f"http://{HOST}:{free_port()}/hook"}
        endpoint = await http.post("/v1/webhooks", json=wanted, headers=bearer(tenant))
        assert endpoint.status_code == 201, endpoint.text
        for _ in range(4):
            assert (await http.get(f"/v1/webhooks/{endpoint.json()['id']}/keys")).status_code == 200
    assert (await http.get(f"/v1/webhooks/{new_id('whk')}/keys")).status_code == 404
    for path in ("/origin-slot", "/origin-slot/v1/jobs"):
        assert code_of(await http.get(path, headers=bearer("acme"))) == "not_found"


async def one_cell_down(http: httpx.AsyncClient, cells: dict[str, Cell]) -> None:
    """Stop a cell: its tenants are told to come back, and the others notice nothing."""
    await cells["a"].stop()
    for tenant, own in TENANTS.items():
        for _ in range(5):
            answer = await http.get("/v1/jobs", headers=bearer(tenant))
            assert answer.status_code == (503 if own == "a" else 200), tenant
            if own == "a":
                assert code_of(answer) == "service_unavailable"
                assert int(answer.headers["retry-after"]) > 0
    assert (await http.post("/v1/jobs", json=JOB, headers=bearer("acme"))).status_code == 503
    assert (await http.post("/v1/jobs", json=JOB, headers=bearer("rival"))).status_code == 202
    later = await http.get("/v1/events", headers=bearer("acme"))
    assert (later.status_code, later.headers["content-type"]) == (200, "text/event-stream")
    assert later.text == ":\nretry: 2000\n"
    for _ in range(4):
        assert (await http.get("/console")).status_code in (200, 307)
        assert (await http.get("/v1/jobs")).status_code == 401
    await cells["b"].stop()
    assert (await http.get("/v1/jobs", headers=bearer("rival"))).status_code == 503
    assert (await http.get("/v1/events", headers=bearer("rival"))).text == ":\nretry: 2000\n"


def test_the_tenants_of_this_suite_are_of_two_halves() -> None:
    assert {tenant: "a" if slot_of(tenant) < 32 else "b" for tenant in TENANTS} == TENANTS
