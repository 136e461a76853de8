"""Links to the page of webhooks: refused by default; limited to webhooks, access, time and key."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.tickets import Tickets
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import ConsoleSettings, SessionSettings
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, running_gateway
from tests.harness.streams.notifier import notifier

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
PATH, TICKET_KEY = "/v1/portal-links", "one key of gateway and notifier"
ACME, RIVAL = {"Authorization": "Bearer acme.secret"}, {"Authorization": "Bearer rival.secret"}
EMBEDDER = "https://app.example.com"


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    return keys_file(tmp_path, "acme", "rival", read_only=("rival",))


@pytest.fixture
async def running(servers: Servers, tmp_path: Path, keys: Path) -> AsyncIterator[RunningGateway]:
    auth, sessions = AuthSettings(api_keys_file=keys), SessionSettings(ticket_key=SecretStr(TICKET_KEY))
    async with running_gateway(*servers, tmp_path, auth=auth, session_settings=sessions) as found:
        yield found


@pytest.fixture
def embeddable(running: RunningGateway) -> RunningGateway:
    running.app.state.console_settings = ConsoleSettings(embed_origins=(EMBEDDER,))
    return running


async def link(running: RunningGateway, **wanted: object) -> dict[str, str]:
    """Create a link and return the header with its token."""
    answer = await running.http.post(PATH, json=wanted, headers=ACME)
    assert answer.status_code == 201, answer.text
    path, _, token = answer.json()["path"].partition("#portal=")
    assert path == "/console/webhooks?embed=1"
    return {"Authorization": f"Bearer {token}"}


async def ancestors(running: RunningGateway, path: str) -> str:
    """Return which pages may show a page in a frame."""
    policy = (await running.http.get(path)).headers["content-security-policy"]
    return next(part for part in policy.split("; ") if part.startswith("frame-ancestors"))


async def test_by_default_there_are_no_links_and_no_other_page_shows_the_console(running: RunningGateway) -> None:
    assert code_of(await running.http.post(PATH, json={}, headers=ACME)) == "embedding_not_configured"
    assert await ancestors(running, "/console/webhooks?embed=1") == "frame-ancestors 'self'"


async def test_only_the_webhooks_for_a_frame_may_be_shown_by_the_origins_of_the_setting(
    embeddable: RunningGateway,
) -> None:
    allowed = f"frame-ancestors 'self' {EMBEDDER}"
    assert await ancestors(embeddable, "/console/webhooks?embed=1") == allowed
    assert await ancestors(embeddable, "/console/webhooks/whk_1?embed=1") == allowed
    for path in ("/console/webhooks", "/console?embed=1", "/console/keys?embed=1", "/console/webhooks/a/b?embed=1"):
        assert await ancestors(embeddable, path) == "frame-ancestors 'self'"


async def test_a_link_opens_the_webhooks_as_far_as_it_and_its_key_allow(
    embeddable: RunningGateway, servers: Servers, keys: Path
) -> None:
    read, write = await link(embeddable), await link(embeddable, access="write")
    auth = AuthSettings(api_keys_file=keys)
    async with notifier(servers[0], auth=auth, ticket_key=SecretStr(TICKET_KEY)) as streams:
        for headers, made in ((read, 403), (write, 501), (ACME, 501)):
            assert (await streams.http.get("/v1/webhooks", headers=headers)).status_code in (200, 501)
            wanted = {"url": "https://example.com/hook"}
            assert (await streams.http.post("/v1/webhooks", json=wanted, headers=headers)).status_code == made
        for method, path in (("GET", "/v1/events"), ("POST", "/v1/tickets"), ("GET", "/v1/replays")):
            answer = await streams.http.request(method, path, headers=write, json={"resource": "/v1/events"})
            assert code_of(answer) in ("forbidden", "unauthenticated"), path
    who = (await embeddable.http.get("/v1/browser-session", headers=read)).json()
    assert (who["tenant"], who["scopes"]) == ("acme", ["read"])
    refused = (("GET", "/v1/jobs"), ("POST", "/v1/uploads"), ("POST", PATH), ("POST", "/v1/browser-session"))
    for method, path in refused:
        answer = await embeddable.http.request(method, path, headers=write, json={})
        assert code_of(answer) in ("forbidden", "unauthenticated"), path
    assert code_of(await embeddable.http.post(PATH, json={}, headers=RIVAL)) == "forbidden"


async def test_a_link_ends_with_its_time_its_key_and_a_change_of_any_character(
    embeddable: RunningGateway, keys: Path, tmp_path: Path
) -> None:
    async def refused(headers: dict[str, str]) -> bool:
        answer: httpx.Response = await embeddable.http.get("/v1/browser-session", headers=headers)
        return answer.status_code == 401

    headers = await link(embeddable, expires_in_s=60)
    assert not await refused(headers)
    for old, new in ((".read.", ".write."), ("portal.acme", "portal.rival")):
        assert await refused({"Authorization": headers["Authorization"].replace(old, new)})
    authenticator: Authenticator = embeddable.app.state.authenticator
    holder = authenticator.principal("acme")
    assert holder is not None
    past = datetime.now(UTC) - timedelta(seconds=1)
    assert await refused({"Authorization": f"Bearer {authenticator.portal_links.issue(holder, 'read', past)}"})
    other = Tickets("another key").portal_links.issue(holder, "read", datetime.now(UTC) + timedelta(hours=1))
    assert await refused({"Authorization": f"Bearer {other}"})
    for wanted in ({"expires_in_s": 59}, {"expires_in_s": 5 * 3600}, {"access": "operate"}):
        assert (await embeddable.http.post(PATH, json=wanted, headers=ACME)).status_code == 422
    keys.unlink()
    keys_file(tmp_path, "rival")
    assert await refused(headers)


@pytest.mark.parametrize("origin", ["*", "https://a.example.com; script-src *", "app.example.com", "https://a/b"])
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ValueError, match="GATEWAY_EMBED_ORIGINS"):
        ConsoleSettings(embed_origins=origin)
