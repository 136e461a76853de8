"""A browser's session over the real gateway and notifier: log in by key, what the cookie opens, when it is ignored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from kit.auth.api_keys import Authenticator, AuthSettings, Principal
from kit.auth.browser_session import BrowserSessions
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import SessionSettings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.servers.session_sockets import closed, serving, until
from tests.harness.streams.notifier import notifier

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
PATH = "/v1/browser-session"
TICKET_KEY = "one key of gateway and notifier"
ACME = {"Authorization": "Bearer acme.secret"}
#: What a browser sends with a request of a page of this server.
OWN = {"Sec-Fetch-Site": "same-origin"}
LOOPBACK, PUBLIC = "127.0.0.1", "saccade.example.com"
TLS = {"Host": PUBLIC, "X-Forwarded-Proto": "https"}


def configured() -> SessionSettings:
    return SessionSettings(ticket_key=SecretStr(TICKET_KEY))


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return keys_file(tmp_path, "acme", "rival", read_only=("rival",))


@pytest.fixture
async def running(servers: Servers, tmp_path: Path, keys: Path) -> AsyncIterator[RunningGateway]:
    auth = AuthSettings(api_keys_file=keys)
    async with running_gateway(*servers, tmp_path, auth=auth, session_settings=configured()) as found:
        yield found


async def log_in(running: RunningGateway, key: str = "acme.secret", **headers: str) -> str:
    """Log in and return the cookie as browsers send it back."""
    sent = {"Authorization": f"Bearer {key}"} | headers
    answer = await running.http.post(PATH, headers=sent)
    assert answer.status_code == 201, answer.text
    running.http.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]


async def status(running: RunningGateway, cookie: str, method: str = "GET", **headers: str) -> int:
    sent = {"Cookie": cookie} | {name.replace("_", "-"): value for name, value in headers.items()}
    return (await running.http.request(method, "/v1/jobs?limit=1", headers=sent)).status_code


async def test_who_logs_in_gets_a_cookie_that_scripts_cannot_read(running: RunningGateway):
    answer = await running.http.post(PATH, headers=ACME | OWN)
    assert answer.status_code == 201, answer.text
    told = answer.json()
    assert (told["logged_in"], told["tenant"], told["key_id"]) == (True, "acme", "acme")
    assert (told["scopes"], told["keys_required"]) == (["read", "write"], True)
    left = datetime.fromisoformat(told["expires_at"]) - datetime.now(UTC)
    assert timedelta(hours=11, minutes=59) < left <= timedelta(hours=12)
    assert answer.headers["cache-control"] == "no-store"
    assert "secret" not in answer.text
    name_and_value, *attributes = answer.headers["set-cookie"].split("; ")
    assert name_and_value.startswith("saccade=acme.")
    assert sorted(text.lower() for text in attributes) == ["httponly", "max-age=43200", "path=/", "samesite=strict"]
    over_tls = await running.http.post(PATH, headers=ACME | OWN | TLS)
    name_and_value, *attributes = over_tls.headers["set-cookie"].split("; ")
    assert name_and_value.startswith("__Host-saccade=acme.")
    assert "secure" in [text.lower() for text in attributes]


async def test_who_is_logged_in_and_who_is_not(running: RunningGateway):
    nobody = (await running.http.get(PATH, headers=OWN)).json()
    assert (nobody["logged_in"], nobody["keys_required"], nobody["can_log_in"]) == (False, True, True)
    assert (nobody["tenant"], nobody["scopes"]) == (None, [])
    cookie = await log_in(running, "rival.secret")
    told = (await running.http.get(PATH, headers=OWN | {"Cookie": cookie})).json()
    assert (told["logged_in"], told["tenant"], told["scopes"]) == (True, "rival", ["read"])
    by_key = (await running.http.get(PATH, headers=ACME)).json()
    assert (by_key["tenant"], by_key["expires_at"]) == ("acme", None)
    wrong = await running.http.get(PATH, headers={"Authorization": "Bearer acme.wrong", "Cookie": cookie} | OWN)
    assert (wrong.status_code, code_of(wrong)) == (401, "unauthenticated")
    without_tls = (await running.http.get(PATH, headers={"Host": PUBLIC})).json()
    assert (without_tls["logged_in"], without_tls["can_log_in"]) == (False, False)


async def test_the_cookie_has_the_tenant_and_the_scopes_of_its_key(running: RunningGateway):
    cookie = await log_in(running)
    rule = {"name": "Matches", "workload": "badminton"}
    own = OWN | {"Cookie": cookie, "Origin": f"http://{LOOPBACK}"}
    assert (await running.http.post("/v1/rules", json=rule, headers=own)).status_code == 201
    assert len((await running.http.get("/v1/rules", headers=own)).json()["data"]) == 1
    own["Cookie"] = await log_in(running, "rival.secret")
    refused = await running.http.post("/v1/rules", json=rule, headers=own)
    assert (refused.status_code, code_of(refused)) == (403, "forbidden")
    assert (await running.http.get("/v1/rules", headers=own)).json()["data"] == []


ACCEPTED: list[tuple[str, dict[str, str]]] = [
    ("GET", {"Sec-Fetch-Site": "same-origin"}),
    ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": f"http://{LOOPBACK}"}),
    ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    ("HEAD", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    ("POST", {"Origin": f"http://{LOOPBACK}"}),
]
IGNORED: list[tuple[str, dict[str, str]]] = [
    ("GET", {}),
    ("POST", {}),
    ("GET", {"Sec-Fetch-Site": "same-site"}),
    ("GET", {"Sec-Fetch-Site": "cross-site"}),
    ("GET", {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}),
    ("GET", {"Sec-Fetch-Site": "SAME-ORIGIN"}),
    ("GET", {"Sec-Fetch-Site": ""}),
    ("POST", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "navigate"}),
    ("GET", {"Sec-Fetch-Site": "none", "Sec-Fetch-Mode": "cors"}),
    ("GET", {"Sec-Fetch-Site": "none"}),
    ("GET", {"Origin": "null"}),
    ("POST", {"Origin": "null"}),
    ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "null"}),
    ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "http://evil.example"}),
    ("POST", {"Origin": f"http://{LOOPBACK}:9000"}),
    ("POST", {"Origin": f"https://{LOOPBACK}"}),
    ("POST", {"Sec-Fetch-Site": "cross-site", "Origin": f"http://{LOOPBACK}"}),
    ("POST", {"Sec-Fetch-Site": "same-site", "Origin": f"http://{LOOPBACK}"}),
]


async def test_the_cookie_counts_in_requests_of_own_pages_only(running: RunningGateway):
    cookie = await log_in(running)
    for method, headers in ACCEPTED:
        assert await status(running, cookie, method, **headers) in (200, 422), (method, headers)
    for method, headers in IGNORED:
        assert await status(running, cookie, method, **headers) == 401, (method, headers)


async def test_a_key_in_a_header_wins_over_the_cookie(running: RunningGateway):
    cookie = await log_in(running)
    rival = {"Authorization": "Bearer rival.secret", "Cookie": cookie} | OWN
    assert (await running.http.get(PATH, headers=rival)).json()["tenant"] == "rival"
    assert await status(running, cookie, Authorization="Bearer acme.wrong", Sec_Fetch_Site="same-origin") == 401


async def test_over_tls_only_the_cookie_that_needs_tls_counts(running: RunningGateway):
    plain, secure = await log_in(running), await log_in(running, **TLS)
    value = plain.partition("=")[2]
    assert secure.startswith("__Host-saccade=")
    own = {"Sec_Fetch_Site": "same-origin"}
    tls = own | {"Host": PUBLIC, "X_Forwarded_Proto": "https"}
    assert await status(running, secure, **tls) == 200
    assert await status(running, secure, **tls, Origin=f"https://{PUBLIC}") == 200
    assert await status(running, secure, **tls, Origin=f"http://{PUBLIC}") == 401
    assert await status(running, plain, **tls) == 401
    assert await status(running, secure, **own) == 401
    for cookie in (secure, plain, f"__Host-saccade={value}; saccade={value}"):
        assert await status(running, cookie, **own, Host=PUBLIC) == 401, "in clear over a network"


async def test_without_tls_nobody_logs_in_from_another_machine(running: RunningGateway):
    for headers in ({"Host": PUBLIC}, {"Host": "192.168.1.7:8080"}, {"Host": PUBLIC, "X-Forwarded-Proto": "http"}):
        answer = await running.http.post(PATH, headers=ACME | OWN | headers)
        assert (answer.status_code, code_of(answer)) == (403, "tls_required")
        assert "set-cookie" not in answer.headers
        assert "https" in answer.json()["hint"]
    for host in ("localhost:8080", "[::1]:8080", "127.0.0.1"):
        assert (await running.http.post(PATH, headers=ACME | OWN | {"Host": host})).status_code == 201


async def test_other_pages_log_nobody_in_and_nobody_out(running: RunningGateway):
    cookie = await log_in(running)
    foreign: list[dict[str, str]] = [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:9000"},
    ]
    for headers in foreign:
        for answer in (
            await running.http.post(PATH, headers=ACME | headers),
            await running.http.delete(PATH, headers={"Cookie": cookie} | headers),
        ):
            assert (answer.status_code, code_of(answer)) == (403, "origin_not_allowed"), headers
            assert "set-cookie" not in answer.headers


async def test_only_a_valid_key_logs_in(running: RunningGateway):
    for authorization in ("", "Bearer", "Bearer acme.wrong", "Bearer nobody.secret", "Basic acme.secret"):
        answer = await running.http.post(PATH, headers={"Authorization": authorization} | OWN)
        assert (answer.status_code, code_of(answer)) == (401, "unauthenticated")
        assert "set-cookie" not in answer.headers
    cookie = await log_in(running)
    prolonged = await running.http.post(PATH, headers={"Cookie": cookie} | OWN)
    assert prolonged.status_code == 401, "a session does not prolong itself"


async def test_logging_out_deletes_the_cookie(running: RunningGateway):
    for headers, name in ((OWN, "saccade"), (OWN | TLS, "__Host-saccade"), ({}, "saccade")):
        answer = await running.http.delete(PATH, headers=headers)
        assert answer.status_code == 204
        text = answer.headers["set-cookie"].lower()
        assert text.startswith(f'{name.lower()}=""; httponly; max-age=0; path=/'), text


async def test_forged_expired_and_foreign_values_are_none(running: RunningGateway):
    authenticator: Authenticator = running.app.state.authenticator
    acme, rival = authenticator.principal("acme"), authenticator.principal("rival")
    assert acme
    assert rival
    now = datetime.now(UTC)
    value, expires_at = BrowserSessions(TICKET_KEY).issue(acme, now)
    key_id, expires, signature = value.split(".")
    old, _ = BrowserSessions(TICKET_KEY).issue(acme, now - timedelta(hours=12, seconds=1))
    others = BrowserSessions("another key").issue(acme, now)[0]
    other_tenant = BrowserSessions(TICKET_KEY).issue(_with_tenant(acme, "rival"), now)[0]
    assert (int(expires), key_id) == (int(expires_at.timestamp()), "acme")
    wrong = [
        old, others, other_tenant, f"rival.{expires}.{signature}", f"acme.{int(expires) + 60}.{signature}",
        f"acme.{expires}.{signature[:-1]}{'1' if signature[-1] == '0' else '0'}", f"acme.{expires}.", f"acme.{expires}",
        "", ".", "..", "acme", f"nobody.{expires}.{signature}", f"acme.{'9' * 500}.{signature}", value + "x",
        f"{value}\x00", value.upper(), f'"{value}"', "\xff.1.2", "x" * 20_000,
    ]  # fmt: skip
    assert await status(running, f"saccade={value}", Sec_Fetch_Site="same-origin") == 200
    for text in wrong:
        headers = [(b"cookie", b"saccade=" + text.encode("latin-1")), (b"sec-fetch-site", b"same-origin")]
        answer = await running.http.get("/v1/jobs", headers=headers)
        assert answer.status_code == 401, text
    ticket = running.app.state.session_streams.tickets.issue(acme, "/v1/events", now)[0]
    assert await status(running, f"saccade={ticket}", Sec_Fetch_Site="same-origin") == 401


def _with_tenant(principal: Principal, tenant: str) -> Principal:
    return Principal(tenant, principal.scopes, principal.key_id, key_version=principal.key_version)


async def test_a_cookie_that_a_page_at_another_port_adds_changes_nobody(running: RunningGateway):
    """Such a page can set a cookie of the same name for a longer path, which browsers send first."""
    acme, rival = await log_in(running), await log_in(running, "rival.secret")
    own = {"Sec_Fetch_Site": "same-origin"}
    assert await status(running, f"saccade=planted; {acme}", **own) == 200
    assert await status(running, f"{acme}; {acme}", **own) == 200
    assert await status(running, f"{rival}; {acme}", **own) == 401, "nobody acts for the tenant of another's key"


async def test_it_ends_with_the_key_and_with_its_secret(servers: Servers, tmp_path: Path, keys: Path):
    auth = AuthSettings(api_keys_file=keys)
    async with running_gateway(*servers, tmp_path, auth=auth, session_settings=configured()) as running:
        cookie = await log_in(running)
        assert await status(running, cookie, **OWN) == 200
        entry = {"id": "acme", "tenant": "acme", "sha256": hashlib.sha256(b"another secret").hexdigest()}
        keys.write_text(json.dumps([entry]))
        assert await status(running, cookie, **OWN) == 401, "the secret was changed"
        again = await log_in(running, "acme.another secret")
        assert await status(running, again, **OWN) == 200
        keys_file(tmp_path, "rival")
        assert await status(running, again, **OWN) == 401, "the key was removed"


async def test_without_keys_everybody_is_logged_in(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as running:
        for answer in (await running.http.get(PATH), await running.http.post(PATH)):
            told = answer.json()
            assert (told["logged_in"], told["keys_required"], told["tenant"]) == (True, False, "local")
            assert (told["scopes"], told["expires_at"]) == (["read", "write", "operate"], None)
            assert told["key_id"] is None
            assert "set-cookie" not in answer.headers


async def test_without_the_shared_key_nobody_logs_in(servers: Servers, tmp_path: Path, keys: Path):
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as running:
        answer = await running.http.post(PATH, headers=ACME | OWN)
        assert (answer.status_code, code_of(answer)) == (501, "browser_sessions_not_configured")
        assert (await running.http.get(PATH, headers=OWN)).json()["can_log_in"] is False
        unsigned = BrowserSessions(None).issue(Principal("acme", frozenset(), "acme"), datetime.now(UTC))[0]
        assert await status(running, f"saccade={unsigned}", **OWN) == 401


async def test_it_opens_the_notifiers_routes_too(servers: Servers, running: RunningGateway, keys: Path):
    cookie = await log_in(running)
    auth = AuthSettings(api_keys_file=keys)
    async with notifier(servers[0], auth, ticket_key=SecretStr(TICKET_KEY)) as reader:
        await _check_notifier(reader.http, cookie, OWN, 200)
        await _check_notifier(reader.http, cookie, {"Sec-Fetch-Site": "same-site"}, 401)
        ticket = await reader.http.post(
            "/v1/tickets", json={"resource": "/v1/events"}, headers=OWN | {"Cookie": cookie, "Origin": reader.url}
        )
        assert ticket.status_code == 201
    async with notifier(servers[0], auth, ticket_key=SecretStr("another key of this notifier")) as reader:
        await _check_notifier(reader.http, cookie, OWN, 401)


async def _check_notifier(http: httpx.AsyncClient, cookie: str, headers: dict[str, str], wanted: int) -> None:
    paths: Iterable[str] = ("/v1/events", "/v1/replays")
    sent: dict[str, Any] = headers | {"Cookie": cookie}
    for path in paths:
        async with http.stream("GET", path, headers=sent) as response:
            assert response.status_code == wanted, path


async def test_open_streams_end_with_the_key_and_with_the_session(
    servers: Servers, running: RunningGateway, tmp_path: Path, keys: Path
):
    own = OWN | {"Cookie": await log_in(running)}
    acme = Authenticator(AuthSettings(api_keys_file=keys)).principal("acme")
    assert acme
    nearly = datetime.now(UTC) - timedelta(hours=12) + timedelta(seconds=4)
    ends_soon = f"saccade={BrowserSessions(TICKET_KEY).issue(acme, nearly)[0]}"
    options: dict[str, Any] = {"ticket_key": SecretStr(TICKET_KEY), "heartbeat_s": 0.4}
    async with notifier(servers[0], AuthSettings(api_keys_file=keys), **options) as reader:
        async with (
            reader.open("/v1/events", headers=own) as by_cookie,
            reader.open("/v1/events", headers=ACME) as by_key,
            reader.open("/v1/events", headers=OWN | {"Cookie": ends_soon}) as expiring,
            reader.open("/v1/events", headers={"Authorization": "Bearer rival.secret"}) as other,
        ):
            assert {stream.status for stream in (by_cookie, by_key, expiring, other)} == {200}
            assert await expiring.rest() == []
            assert "saccade_sse_streams 3.0" in (await reader.http.get("/metrics")).text
            keys_file(tmp_path, "rival", read_only=("rival",))
            assert await by_cookie.rest() + await by_key.rest() == []
            metrics = (await reader.http.get("/metrics")).text
            assert "saccade_sse_streams 1.0" in metrics
            assert 'saccade_sse_closed_total{reason="revoked"} 3.0' in metrics
        async with reader.open("/v1/events", headers=own) as again:
            assert again.status == 401


async def test_a_web_socket_of_an_own_page_is_opened_by_the_cookie(servers: Servers, tmp_path: Path, keys: Path):
    auth = AuthSettings(api_keys_file=keys)
    async with serving(servers, tmp_path, auth, session_settings=configured()) as served:
        http = served.running.http
        opened = await http.post("/v1/sessions", json={"workload": "live_splat"}, headers=ACME)
        session_id, cookie = opened.json()["id"], await log_in(served.running)
        sent = {"Cookie": cookie, "Origin": served.url}
        foreign = ("null", "http://127.0.0.1:9000", "http://localhost:" + served.url.rpartition(":")[2], "")
        for origin in foreign:
            assert await served.refusal(session_id, headers=sent | {"Origin": origin}) == 401, origin
        assert await served.refusal(session_id, headers={"Cookie": cookie}) == 401
        assert await served.refusal(session_id, headers=sent | {"Sec-Fetch-Site": "same-site"}) == 401
        async with served.stream(session_id, headers=sent) as socket:
            await until(socket, "session.opened")
            keys_file(tmp_path, "rival")
            assert await closed(socket) == 1008
        assert await served.refusal(session_id, headers=sent) == 401
