"""Requests in turns: order, refusals, cancellations and errors of the application behind the middleware."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from starlette.requests import HTTPConnection

from contracts.quotas import QuotaLimits, QuotaName
from kit.auth.api_keys import Principal
from kit.auth.fair_requests import MAX_WAITING, FairRequests
from kit.auth.loop_time_shares import LoopTimeShares
from kit.auth.quotas import Quotas

pytestmark = pytest.mark.anyio
_BUSY_S = 0.3


class Application:
    """Keeps the loop, waits or fails, as the path says."""

    def __init__(self) -> None:
        self.began: list[str] = []
        self.cancelled: list[str] = []
        self.released = asyncio.Event()
        self.busy_s = _BUSY_S

    async def __call__(self, scope: Any, _: Any, send: Any) -> None:
        self.began.append(scope["path"])
        if scope["path"].startswith("/busy"):
            time.sleep(self.busy_s)
        if scope["path"] == "/waits":
            try:
                await self.released.wait()
            except asyncio.CancelledError:
                self.cancelled.append(scope["path"])
                raise
        if scope["path"] == "/fails":
            await asyncio.sleep(0)
            raise ValueError("from the application")
        await send({"type": "http.response.start", "status": 200, "headers": []})


class Door:
    """The middleware over an application, and its requests."""

    def __init__(self, **more: Any) -> None:
        self.application = Application()
        self.fair = FairRequests(self.application, _identify, **more)

    async def ask(self, tenant: str, path: str) -> int:
        statuses: list[int] = []

        async def send(message: Any) -> None:
            if "status" in message:
                statuses.append(message["status"])

        scope = {"type": "http", "path": path, "headers": [(b"tenant", tenant.encode())], "method": "GET"}
        await self.fair(scope, None, send)  # type: ignore[arg-type]
        return statuses[0]


def _identify(connection: HTTPConnection) -> Principal | None:
    tenant = connection.headers["tenant"]
    return Principal(tenant, tenant, frozenset()) if tenant else None


async def test_a_tenant_that_kept_the_loop_waits_for_the_others_and_keeps_its_order() -> None:
    door = Door()
    for _ in range(3):
        await door.ask("greedy", "/busy")
    assert await door.ask("greedy", "/alone") == 200, "nobody else was there"
    await door.ask("greedy", "/busy")
    await door.ask("acme", "/light")
    heavy = [asyncio.ensure_future(door.ask("greedy", f"/heavy{number}")) for number in range(3)]
    await asyncio.sleep(0)
    assert await door.ask("acme", "/light") == 200
    assert not any(request.done() for request in heavy)
    assert await asyncio.gather(*heavy) == [200] * 3
    assert door.application.began[-4:] == ["/light", "/heavy0", "/heavy1", "/heavy2"]


async def test_further_requests_are_refused_when_very_many_wait() -> None:
    door = Door()
    await door.ask("acme", "/light")
    for _ in range(2):
        await door.ask("greedy", "/busy")
    asked = [asyncio.ensure_future(door.ask("greedy", "/heavy")) for _ in range(MAX_WAITING + 5)]
    answers = await asyncio.gather(*asked)
    assert (answers.count(200), answers.count(429)) == (MAX_WAITING, 5)


async def test_what_may_not_even_wait_gets_the_answer_of_its_kind() -> None:
    async def later(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})

    door = Door(refusal=lambda scope: later if scope["path"] == "/stream" else None)
    await door.ask("acme", "/light")
    for _ in range(2):
        await door.ask("greedy", "/busy")
    asked = [asyncio.ensure_future(door.ask("greedy", "/heavy")) for _ in range(MAX_WAITING)]
    await asyncio.sleep(0)
    assert [await door.ask("greedy", path) for path in ("/stream", "/other")] == [204, 429]
    await asyncio.gather(*asked)


async def test_a_tenant_that_uses_much_begins_nothing_while_another_tenants_request_runs() -> None:
    door = Door()
    running = asyncio.ensure_future(door.ask("acme", "/waits"))
    await asyncio.sleep(0.01)
    assert await door.ask("greedy", "/light") == 200, "it has used nothing yet"
    door.application.busy_s = 0.15
    assert await door.ask("greedy", "/busy") == 200
    heavy = asyncio.ensure_future(door.ask("greedy", "/heavy"))
    await asyncio.sleep(0.05)
    assert "/heavy" not in door.application.began
    door.application.released.set()
    assert await running == 200
    assert await heavy == 200


async def test_another_tenants_request_that_does_not_end_keeps_nobody_out_for_good() -> None:
    door = Door()
    running = asyncio.ensure_future(door.ask("acme", "/waits"))
    door.application.busy_s = 0.1
    for _ in range(3):
        await door.ask("rival", "/light")  # somebody is there all the time
        async with asyncio.timeout(5):
            assert await door.ask("greedy", "/busy") == 200
    running.cancel()


async def test_neither_does_one_while_the_tenant_uses_its_share_otherwise() -> None:
    """Its events go to its streams all the time, so that its share is never full again."""
    shares = LoopTimeShares()
    door = Door(shares=shares)
    running = asyncio.ensure_future(door.ask("acme", "/waits"))

    async def use_all_the_time() -> None:
        while True:
            now_s = time.monotonic()
            shares.seen("acme", now_s)
            while not shares.is_busy("greedy", now_s):
                shares.use("greedy", 0.02, now_s)
            await asyncio.sleep(0.002)

    using = asyncio.ensure_future(use_all_the_time())
    await asyncio.sleep(0)
    async with asyncio.timeout(60):
        assert await door.ask("greedy", "/light") == 200
    for task in (using, running):
        task.cancel()


async def test_requests_that_arrive_together_begin_one_after_another_where_others_are_there() -> None:
    door = Door()
    alone = [asyncio.ensure_future(door.ask("greedy", f"/a{number}")) for number in range(5)]
    await asyncio.sleep(0)
    assert len(door.application.began) == 5, "nobody else was there"
    await asyncio.gather(*alone)
    await door.ask("acme", "/light")
    together = [asyncio.ensure_future(door.ask("greedy", f"/b{number}")) for number in range(5)]
    began = []
    while not all(request.done() for request in together):
        before = len(door.application.began)
        await asyncio.sleep(0)
        began.append(len(door.application.began) - before)
    assert max(began) == 1
    assert door.application.began[-5:] == [f"/b{number}" for number in range(5)]


async def test_a_request_that_is_given_up_is_cancelled_and_others_go_on() -> None:
    door = Door()
    given_up = asyncio.ensure_future(door.ask("acme", "/waits"))
    await asyncio.sleep(0.01)
    given_up.cancel()
    with pytest.raises(asyncio.CancelledError):
        await given_up
    assert door.application.cancelled == ["/waits"]
    await door.ask("rival", "/light")
    for _ in range(2):
        await door.ask("acme", "/busy")
    waiting = [asyncio.ensure_future(door.ask("acme", f"/heavy{number}")) for number in range(2)]
    await asyncio.sleep(0.01)
    waiting[0].cancel()
    assert await waiting[1] == 200


async def test_errors_of_the_application_come_through() -> None:
    with pytest.raises(ValueError, match="from the application"):
        await Door().ask("acme", "/fails")


async def test_a_request_without_a_known_caller_never_waits() -> None:
    door = Door()
    await door.ask("acme", "/light")
    for _ in range(3):
        assert await door.ask("", "/busy") == 200


async def test_a_tenant_may_have_so_many_requests_open_and_no_more() -> None:
    quotas = Quotas(QuotaLimits({"acme": {QuotaName.OPEN_REQUESTS: 3}}))
    door = Door(quotas=lambda _: quotas)
    waiting = [asyncio.ensure_future(door.ask("acme", "/waits")) for _ in range(3)]
    await asyncio.sleep(0)
    assert [await door.ask(tenant, "/light") for tenant in ("acme", "rival", "")] == [429, 200, 200]
    assert quotas.refused == {("acme", QuotaName.OPEN_REQUESTS): 1}
    cancelled = waiting.pop()
    cancelled.cancel()
    await asyncio.wait([cancelled])
    assert await door.ask("acme", "/light") == 200
    door.application.released.set()
    assert await asyncio.gather(*waiting) == [200, 200]
    with pytest.raises(ValueError, match="from the application"):
        await door.ask("acme", "/fails")
    assert [await door.ask("acme", "/light") for _ in range(4)] == [200] * 4


async def test_requests_that_wait_for_their_turn_are_open_too() -> None:
    quotas = Quotas(QuotaLimits({"greedy": {QuotaName.OPEN_REQUESTS: 5}}))
    door = Door(quotas=lambda _: quotas)
    await door.ask("acme", "/light")
    for _ in range(2):
        await door.ask("greedy", "/busy")
    answers = await asyncio.gather(*(door.ask("greedy", "/heavy") for _ in range(8)))
    assert (answers.count(200), answers.count(429)) == (5, 3)
