"""A request without a key is refused before its body is read: a slow body holds nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from kit.auth.api_keys import Authenticator, AuthSettings, Principal, ScopeName
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.session_sockets import Served, serving

pytestmark = pytest.mark.anyio

KEY = "Authorization: Bearer acme.secret\r\n"
#: Far below the time in which a body must have come (kit/http/protocol.py).
AT_ONCE_S = 5.0


@pytest.fixture
async def served(servers: tuple[NatsSettings, S3Settings], tmp_path: Path) -> AsyncIterator[Served]:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme"))
    async with serving(servers, tmp_path, auth) as found:
        yield found


async def status_of_slow_body(
    served: Served, method: str, path: str, headers: str, *, wait_s: float = AT_ONCE_S
) -> int | None:
    """Send one byte of a body, and return the status of the answer; None while the server waits for the rest."""
    address = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        json = "Host: 127.0.0.1\r\nContent-Type: application/json\r\n"
        writer.write(f"{method} {path} HTTP/1.1\r\n{json}{headers}\r\n".encode())
        body = b"1\r\n{\r\n" if "chunked" in headers else b"{"
        writer.write(body)
        async with asyncio.timeout(wait_s):
            return int((await reader.readline()).split()[1])
    except TimeoutError:
        return None
    finally:
        writer.close()


@pytest.mark.parametrize(
    "framing",
    ["Content-Length: 1000\r\n", "Content-Length: 100000000\r\n", "Transfer-Encoding: chunked\r\n"],
)
async def test_a_slow_body_without_a_key_is_answered_at_once(served: Served, framing: str) -> None:
    for method, path in (("POST", "/v1/jobs"), ("PUT", "/v1/budgets"), ("POST", "/v1/sessions/ses_x/joints")):
        assert await status_of_slow_body(served, method, path, framing) == 401, path
    wrong = f"Authorization: Bearer acme.wrong\r\n{framing}"
    assert await status_of_slow_body(served, "POST", "/v1/jobs", wrong) == 401
    metrics = (await served.running.http.get("/metrics")).text
    refused = [line for line in metrics.splitlines() if 'status="401"' in line]
    assert any('route="/v1/jobs"' in line for line in refused), refused
    assert not any('route="(none)"' in line for line in refused), refused


async def test_the_body_is_read_of_who_has_a_key(served: Served) -> None:
    framing = "Content-Length: 1000\r\n"
    assert await status_of_slow_body(served, "POST", "/v1/jobs", KEY + framing, wait_s=1) is None
    whole = await served.running.http.post("/v1/jobs", json={})
    assert (whole.status_code, whole.json()["code"]) == (401, "unauthenticated")
    known = await served.running.http.post("/v1/jobs", json={}, headers={"Authorization": "Bearer acme.secret"})
    assert known.status_code == 422


async def test_the_caller_of_a_request_is_found_once(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    authenticator: Authenticator = served.running.app.state.authenticator
    authenticate, asked = authenticator.authenticate, list[str]()

    def counted(headers: Mapping[str, str], *scopes: ScopeName) -> Principal:
        asked.append(headers["authorization"])
        return authenticate(headers, *scopes)

    monkeypatch.setattr(authenticator, "authenticate", counted)
    for body in ({}, {"workload": "lap_compare", "inputs": {}}):
        answer = await served.running.http.post("/v1/jobs", json=body, headers={"Authorization": "Bearer acme.secret"})
        assert answer.status_code == 422
    assert (await served.running.http.get("/v1/jobs", headers={"Authorization": "Bearer acme.secret"})).is_success
    assert asked == ["Bearer acme.secret"] * 3


async def test_a_key_that_is_removed_while_the_body_comes_is_refused(served: Served, tmp_path: Path) -> None:
    address = urlsplit(served.url)
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = (
        f"POST /v1/jobs HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n{KEY}Content-Length: 2\r\n\r\n"
    )
    writer.write(f"{head}{{".encode())
    await asyncio.sleep(0.3)  # it has passed the middlewares, and its body is being read
    keys_file(tmp_path, "rival")
    writer.write(b"}")
    async with asyncio.timeout(AT_ONCE_S):
        assert int((await reader.readline()).split()[1]) == 401
    writer.close()
