"""Addresses of the badminton tracker's routes: the URL that the client was given, and origins of its pages."""

from __future__ import annotations

from typing import Any

import pytest

from kit.auth.api_keys import AuthSettings
from kit.auth.host_guard import HostGuard
from services.gateway.compat.badminton.addresses import base_url, is_badminton


class Recorder:
    """Application that keeps the scope and the status of the last answer."""

    def __init__(self) -> None:
        self.scope: dict[str, Any] | None = None
        self.sent: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG002
        self.scope = dict(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(self, message: Any) -> None:
        self.sent.append(message)


def request(path: str, *headers: tuple[str, str], kind: str = "http", scheme: str = "http") -> dict[str, Any]:
    raw = [(name.encode(), value.encode()) for name, value in (("host", "h.example:81"), *headers)]
    return {"type": kind, "method": "GET", "scheme": scheme, "path": path, "raw_path": path.encode(), "headers": raw}


@pytest.mark.parametrize(
    ("scope", "url"),
    [
        (request("/", kind="websocket", scheme="ws"), "http://h.example:81/badminton"),
        (request("/", scheme="wss"), "https://h.example:81/badminton"),
        (request("/", ("x-forwarded-proto", "https")), "https://h.example:81/badminton"),
        (request("/", ("origin", "https://page.example")), "https://h.example:81/badminton"),
        (request("/", ("origin", "http://page.example")), "http://h.example:81/badminton"),
    ],
)
def test_the_url_that_the_client_was_given(scope: dict[str, Any], url: str) -> None:
    assert base_url(scope) == url


def test_a_secure_page_may_talk_to_its_own_machine_without_tls() -> None:
    scope = request("/", ("origin", "https://page.example"))
    scope["headers"][0] = (b"host", b"127.0.0.1:8080")
    assert base_url(scope) == "http://127.0.0.1:8080/badminton"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("path", "origin", "allowed"),
    [
        ("/badminton/health", "http://localhost:5173", True),
        ("/badminton/health", "http://127.0.0.1:3000", True),
        ("/badminton/health", "https://page.example", False),
        ("/badminton/health", "http://localhost.page.example", False),
        ("/badminton/health", "null", False),
        ("/badmintonx", "http://localhost:5173", False),
        ("/v1/jobs", "http://localhost:5173", False),
    ],
)
async def test_in_embedded_mode_pages_of_this_machine_only(path: str, origin: str, allowed: bool) -> None:
    app = Recorder()
    guard = HostGuard(app, AuthSettings(), answers_cors=is_badminton)  # type: ignore[arg-type]
    scope = request(path, ("origin", origin))
    scope["headers"][0] = (b"host", b"127.0.0.1:8080")
    await guard(scope, app.receive, app.send)  # type: ignore[arg-type]
    assert (app.scope is not None) == allowed
    assert app.sent[0]["status"] == (200 if allowed else 403)
