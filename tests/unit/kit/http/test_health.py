"""The routes of a service that has no others."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from kit.http.health import Health, health_app
from kit.http.readiness import Readiness

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
async def test_each_route_is_read_only(path: str) -> None:
    app = health_app(Health("test"), Readiness("test"), metrics=lambda: (b"up 1\n", "text/plain"))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as http:
        assert (await http.get(path)).status_code == (await http.head(path)).status_code == 200
        for method in ("POST", "DELETE", "OPTIONS"):
            answer = await http.request(method, path)
            assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
            assert answer.json()["code"] == "method_not_allowed"
        assert (await http.post("/elsewhere")).status_code == 404


async def test_many_requests_ask_the_dependencies_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Nobody needs a key for it: each request would be one to NATS and one to the bucket."""
    asked = 0

    async def dependency() -> str:
        nonlocal asked
        asked += 1
        await asyncio.sleep(0.01)
        return str(asked)

    health = Health("test", bucket=dependency)
    reports = await asyncio.gather(*(health.report() for _ in range(100)))
    assert {report.checks["bucket"].detail for report in reports} == {"1"}
    # A caller that goes away takes no answer from the others.
    monkeypatch.setattr("kit.http.health._KEPT_S", 0.0)
    gone, stays = (asyncio.create_task(health.report()) for _ in range(2))
    await asyncio.sleep(0)
    gone.cancel()
    assert int((await stays).checks["bucket"].detail or 0) > 1
    assert asked <= 3


async def test_metrics_that_there_are_none_of_have_no_methods() -> None:
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(health_app(Health("test"), Readiness("test"))), base_url="http://127.0.0.1"
    ) as http:
        assert (await http.post("/metrics")).status_code == 404
