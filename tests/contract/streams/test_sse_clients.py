"""Real clients behind a proxy that breaks their streams: each gets every event of the stream, in order, once.

Where the proxy removes ``Last-Event-ID``, clients that only resume by this header get all events again; a client that
de-duplicates by id has each once. The server cannot tell such a client that it has all events either: the client closes
its stream itself when it gets the end of the job.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

import httpx
import pytest
from httpx_sse import aconnect_sse

from contracts.events.job import JOB_VERBS
from tests.contract.streams.test_sse_delivery import stage_completed, stored_cursors
from tests.harness.clients.chromium import chromium, find_browser, pages
from tests.harness.clients.node import MODULE, PACKAGES, find_node, in_node, installed_packages
from tests.harness.network.breaking_proxy import BreakingProxy, draw_faults
from tests.harness.servers.running_services import RunningServices
from tests.harness.streams.notifier import Publisher, progressed, publisher, succeeded

pytestmark = pytest.mark.anyio

FAULTS = 8
TYPES = [*(f"job.{verb}" for verb in JOB_VERBS), "job.progressed", "gap", "snapshot"]

#: Events that a client got: cursor and type of every durable event.
Received = list[tuple[str, str]]
#: Follows a job at the URLs of two proxies at once; behind the second, until it gets the end of the job.
Follow = Callable[[list[str], str], Awaitable[list[Received]]]


async def hammer(jobs: Publisher, job_id: str, proxies: list[BreakingProxy], following: asyncio.Future[object]) -> None:
    """Publish until every client's stream has been broken as often as planned, then end the job."""
    number = 0
    end = asyncio.get_running_loop().time() + 60
    while not all(proxy.exhausted for proxy in proxies):
        assert not following.done(), following.result()
        assert asyncio.get_running_loop().time() < end, "the client does not come back"
        await jobs.say(job_id, stage_completed(number, 300 if number % 3 else 6000))
        if number % 4 == 0:
            await jobs.say(job_id, progressed(number % 100 / 100))
        number += 1
        await asyncio.sleep(0.015)
    await jobs.say(job_id, succeeded())


async def check(services: RunningServices, seed: int, follow: Follow, *, ours: bool = False) -> None:
    """Run a client that follows a job behind two proxies, one of which removes ``Last-Event-ID``."""
    print(f"seed {seed}")
    dice = random.Random(seed)
    async with publisher(services.nats.settings) as jobs, contextlib.AsyncExitStack() as stack:
        job_id = await jobs.submit()
        await jobs.start(job_id)
        proxies = [
            await stack.enter_async_context(
                BreakingProxy(
                    services.port_of, draw_faults(dice, FAULTS), strips=strips, stall_s=0.5, seed=dice.randrange(2**32)
                )
            )
            for strips in ((), ("Last-Event-ID",))
        ]
        following = asyncio.ensure_future(follow([proxy.url for proxy in proxies], job_id))
        try:
            async with asyncio.timeout(60):
                await hammer(jobs, job_id, proxies, following)
                whole, stripped = await following
        finally:
            following.cancel()
        epoch = whole[0][0].partition(".")[0]
        wanted = await stored_cursors(jobs, epoch, f"saccade.evt.local.job.{job_id}.*")
        assert [cursor for cursor, _ in whole] == wanted
        received = [cursor for cursor, _ in stripped]
        assert (received if ours else list(dict.fromkeys(received))) == wanted
        for proxy in proxies:
            assert len(proxy.broken) == FAULTS
            assert {fault.kind for fault in proxy.broken} >= {"refuse", "cut", "close", "truncate", "stall"}
            assert len(proxy.asked) > FAULTS
        assert any(asked.last_event_id or "last_event_id=" in asked.target for asked in proxies[0].asked)


def of_two(client: str, *given: object, by_url: bool = False) -> Callable[[list[str], str], dict[str, list[object]]]:
    """Return the arguments for two proxies: our own clients take a server and a job, others a stream's URL."""

    def wanted(urls: list[str], job_id: str) -> dict[str, list[object]]:
        if not by_url:
            return {url: [client, url, job_id, *given] for url in urls}
        return {url: [client, f"{url}/v1/jobs/{job_id}/events", url == urls[1], *given] for url in urls}

    return wanted


NODE = {
    "npm eventsource": of_two("npm", TYPES, by_url=True),
    "saccade.js": of_two("ours", False),
    "saccade.js, multiplexed": of_two("ours", True),
}
PAGE = {
    "EventSource": of_two("native", TYPES, by_url=True),
    "fetch-event-source": of_two("microsoft", by_url=True),
    "saccade.js": of_two("ours", False),
    "saccade.js, multiplexed": of_two("ours", True),
}


@pytest.mark.parametrize("client", NODE)
async def test_in_node(services: RunningServices, seed: int, client: str) -> None:
    async def follow(urls: list[str], job_id: str) -> list[Received]:
        found = await in_node(NODE[client](urls, job_id))
        return [found[url] for url in urls]

    find_node()
    installed_packages()
    await check(services, seed, follow, ours=client.startswith("saccade"))


async def test_in_chromium(services: RunningServices, seed: int, tmp_path: Path) -> None:
    find_browser()
    origin = services.pages_origin
    folders = {
        "clients": MODULE.parent,
        "tests": PACKAGES,
        "packages": installed_packages() / "node_modules",
    }
    port = int(origin.rpartition(":")[2])
    async with pages(folders, port), chromium(tmp_path / "profile") as browser:

        async def run(client: str) -> None:
            tab = await browser.open(origin)

            async def follow(urls: list[str], job_id: str) -> list[Received]:
                wanted = json.dumps(PAGE[client](urls, job_id))
                found = await tab.evaluate(f"import('/tests/in_page.js').then(page => page.run({wanted}))")
                return [found[url] for url in urls]

            try:
                await check(services, seed, follow, ours=client.startswith("saccade"))
            except Exception as error:
                error.add_note(f"with {client}")
                raise

        async with asyncio.TaskGroup() as tasks:
            for client in PAGE:
                tasks.create_task(run(client))


async def follow_by_httpx_sse(url: str, job_id: str, *, until_end: bool) -> Received:
    """Follow as the README of httpx-sse says: connect again with the last id."""
    received: Received = []
    last_event_id = ""
    async with httpx.AsyncClient(timeout=httpx.Timeout(5.0, read=2.0), trust_env=False) as client:
        while True:
            headers = {"Last-Event-ID": last_event_id} if last_event_id else {}
            with contextlib.suppress(httpx.TransportError):
                async with aconnect_sse(client, "GET", f"{url}/v1/jobs/{job_id}/events", headers=headers) as events:
                    if events.response.status_code == 204:
                        return received
                    async for event in events.aiter_sse():
                        if not event.data:
                            continue
                        assert event.json()["type"] == event.event
                        last_event_id = event.id
                        if event.event != "job.progressed":
                            received.append((event.id, event.event))
                        if until_end and event.event == "job.succeeded":
                            return received
            await asyncio.sleep(0.05)


async def follow_by_curl(url: str, job_id: str, *, until_end: bool) -> Received:
    """Follow by hand: curl in a loop, with the id of the last whole block."""
    received: Received = []
    status = ""
    while status != "204" and not (until_end and received and received[-1][1] == "job.succeeded"):
        resume = ["-H", f"Last-Event-ID: {received[-1][0]}"] if received else []
        # Heartbeats are more frequent; a client without one for 2 s reconnects.
        patience = ["--connect-timeout", "5", "--speed-limit", "1", "--speed-time", "2"]
        command = ["curl", "-sSNi", "--noproxy", "*", *patience, *resume, f"{url}/v1/jobs/{job_id}/events"]
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
        )
        answer, _ = await process.communicate()
        head, _, body = answer.decode().partition("\r\n\r\n")
        status = head[9:12]
        for block in body.split("\n\n")[:-1]:
            fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
            if "id" in fields:
                assert json.loads(fields["data"])["type"] == fields["event"]
                received.append((fields["id"], fields["event"]))
        await asyncio.sleep(0.05)
    return received


class FollowOne(Protocol):
    """Follows a job at one proxy, until 204 or until it gets the end of the job."""

    def __call__(self, url: str, job_id: str, *, until_end: bool) -> Awaitable[Received]: ...


def each(follow: FollowOne) -> Follow:
    """Follow at both proxies at once."""

    async def follow_all(urls: list[str], job_id: str) -> list[Received]:
        return list(await asyncio.gather(*(follow(url, job_id, until_end=url == urls[1]) for url in urls)))

    return follow_all


async def test_httpx_sse(services: RunningServices, seed: int) -> None:
    await check(services, seed, each(follow_by_httpx_sse))


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
async def test_curl(services: RunningServices, seed: int) -> None:
    await check(services, seed, each(follow_by_curl))
