"""Files that are read through the gateway: clients of one tenant that read slowly leave room for all others."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import KIB, MIB
from contracts.quotas import QUOTAS, QuotaLimits, QuotaName
from kit.auth.api_keys import AuthSettings
from kit.auth.quotas import Quotas
from kit.bucket import ObjectMissing, open_bucket
from kit.settings import NatsSettings, S3Settings
from kit.tasks import end
from services.gateway.object_reads import WAIT_S, ObjectReads
from tests.harness.servers.gateway import RunningGateway, keys_file
from tests.harness.servers.served_gateway import served_gateway

pytestmark = pytest.mark.anyio
ACME, RIVAL = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
LIMIT = QUOTAS[QuotaName.OBJECT_READS].default
#: More than the sockets between bucket, gateway and client take.
PAGE = b"<!doctype html>".ljust(24 * MIB)


async def page_address(running: RunningGateway, tenant: str, body: bytes) -> str:
    """Leave a page as a worker does; return the address of it that needs no key."""
    headers = {"Authorization": f"Bearer {tenant}.secret"}
    running.http.headers.update(headers)
    running.tenant = tenant
    job_id = (await running.submitted(await running.uploaded(headers=headers)))["id"]
    page = await running.leave(job_id, await running.start_job(job_id), "report.html", body, "text/html")
    answer = await running.http.get(f"/v1/jobs/{job_id}/artifacts/{page.name}")
    del running.http.headers["authorization"]
    return str(answer.headers["location"])


@asynccontextmanager
async def slow_readers(origin: str, path: str, count: int) -> AsyncIterator[list[int]]:
    """Ask for a file ``count`` times, and read the answers slowly; yield their statuses, as they come."""
    at, found = urlsplit(origin), list[int]()
    loop = asyncio.get_running_loop()

    async def read() -> None:
        with socket.socket() as client:
            client.setblocking(False)
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
            await loop.sock_connect(client, (at.hostname, at.port))
            await loop.sock_sendall(client, f"GET {path} HTTP/1.1\r\nHost: {at.netloc}\r\n\r\n".encode())
            found.append(int((await loop.sock_recv(client, 12)).split()[1]))
            while await loop.sock_recv(client, 64 * KIB):  # a client that takes nothing for 30 s is cut off
                await asyncio.sleep(1)

    reading = [asyncio.ensure_future(read()) for _ in range(count)]
    try:
        yield found
    finally:
        await end(*reading)


async def statuses(found: list[int], count: int) -> list[int]:
    """Return so many statuses of slow readers, sorted."""
    async with asyncio.timeout(60):
        while len(found) < count:
            await asyncio.sleep(0.05)
    return sorted(found)


async def test_slow_readers_of_a_tenant_keep_no_reader_of_another_waiting(
    servers: tuple[NatsSettings, S3Settings], tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme", "rival")
    async with served_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as (running, origin):
        theirs = await page_address(running, "rival", b"<!doctype html>small")
        mine = await page_address(running, "acme", PAGE)
        async with httpx.AsyncClient(base_url=origin, timeout=60) as http, slow_readers(origin, mine, 60) as found:
            await statuses(found, LIMIT)
            async with asyncio.timeout(WAIT_S):  # nobody is ahead of it
                assert (await http.get(theirs)).status_code == 200
            refused = await http.get(mine)  # a ticket counts to the tenant whose file it is
            assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
            assert refused.headers["retry-after"]
            assert refused.json()["quota"] == {"name": "object_reads", "limit": LIMIT, "used": LIMIT, "until": None}
            assert await statuses(found, 60) == [200] * LIMIT + [429] * (60 - LIMIT)
            metrics = (await http.get("/metrics")).text
            assert 'saccade_quota_refused_total{quota="object_reads",tenant="acme"}' in metrics
            limits = [{"tenant": "acme", "quotas": {"object_reads": LIMIT + 1}}]
            keys.write_text(json.dumps([*json.loads(keys.read_text()), *limits]))
            assert (await http.get("/v1/jobs", headers=ACME)).status_code == 200  # the file is read again
            async with http.stream("GET", mine) as more:
                assert more.status_code == 200
        async with httpx.AsyncClient(base_url=origin, timeout=60) as http:
            assert len((await http.get(mine)).content) == len(PAGE)


async def test_clients_that_go_leave_their_places(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> None:
    """Some go before the first byte of the answer, some in the middle of it."""
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme"))
    async with served_gateway(*servers, tmp_path, auth=auth) as (running, origin):
        mine = await page_address(running, "acme", PAGE)
        for pause_s in (0.0, 0.01, 0.03, 0.1, 0.5):
            async with slow_readers(origin, mine, LIMIT):
                await asyncio.sleep(pause_s)
        async with asyncio.timeout(60):
            found: list[int] = []
            while found != [200] * LIMIT:  # on a busy machine it takes a moment until the gateway sees that they went
                async with slow_readers(origin, mine, LIMIT) as found:
                    await statuses(found, LIMIT)
                    found.sort()


@asynccontextmanager
async def reads_of(
    servers: tuple[NatsSettings, S3Settings], places: int, wait_s: float, **limits: int
) -> AsyncIterator[tuple[ObjectReads, str]]:
    quotas = Quotas(QuotaLimits({tenant: {QuotaName.OBJECT_READS: limit} for tenant, limit in limits.items()}))
    async with open_bucket(servers[1]) as bucket:
        key = bucket.key("uploads", "read")
        await bucket.put(key, b"x")
        yield ObjectReads(bucket, quotas, places=places, wait_s=wait_s), key


async def test_tenants_at_their_limits_leave_room_for_more_tenants(servers: tuple[NatsSettings, S3Settings]) -> None:
    async with reads_of(servers, 40, 0.01) as (reads, key), AsyncExitStack() as stack:
        opened, codes = [], set()
        for tenant in "abcdefgh":
            for count in range(LIMIT + 1):
                try:
                    await stack.enter_async_context(reads.opened(tenant, key))
                except SaccadeError as error:
                    codes.add(error.code)
                    opened.append(count)
                    break
        assert opened == [16, 12, 6, 3, 2, 1, 0, 0]
        assert codes == {ErrorCode.RATE_LIMITED, ErrorCode.STORAGE_UNAVAILABLE}


async def test_a_reader_waits_a_moment_for_room_in_its_tenants_order(servers: tuple[NatsSettings, S3Settings]) -> None:
    order: list[str] = []

    async def read(name: str) -> None:
        async with reads.opened("acme", key):
            order.append(name)

    async with reads_of(servers, 40, 20.0, acme=3) as (reads, key):
        async with AsyncExitStack() as stack, AsyncExitStack() as one:
            for place in (stack, stack, one):
                await place.enter_async_context(reads.opened("acme", key))
            waiting = {name: asyncio.ensure_future(read(name)) for name in ("first", "gone", "second")}
            await asyncio.sleep(0.1)
            with pytest.raises(SaccadeError) as refused:  # as many wait as may be open
                await read("more")
            assert refused.value.code is ErrorCode.RATE_LIMITED
            waiting.pop("gone").cancel()
            assert order == []
            await one.aclose()  # they take the one place in turn: with two, the bucket's answers would tell the order
            await asyncio.gather(*waiting.values())
            assert order == ["first", "second"]
        with pytest.raises(ObjectMissing):
            async with reads.opened("acme", f"{key}-missing"):
                raise AssertionError
        async with AsyncExitStack() as stack, asyncio.timeout(10):
            for _ in range(3):  # nothing of that keeps a place
                await stack.enter_async_context(reads.opened("acme", key))
