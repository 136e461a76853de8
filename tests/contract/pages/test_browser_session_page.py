"""A browser's session in Chromium: log in by key, what the cookie opens, and pages that must not use it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urljoin

import pytest
from pydantic import SecretStr

from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import SessionSettings
from tests.harness.clients.chromium import Browser, Tab, chromium, find_browser, pages
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port
from tests.harness.servers.gateway import RunningGateway, keys_file, picture, running_gateway

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
ACME = {"Authorization": "Bearer acme.secret"}
#: A public page of the server, on which scripts of the test stand for those of the console.
OWN_PAGE = "/asyncapi.json"
LOG_IN = "fetch('/v1/browser-session', {method: 'POST', headers: {Authorization: 'Bearer acme.secret'}})"
#: What a hostile worker could leave in its report: each way to use the session of who reads it.
HOSTILE = """<!doctype html><title>asking</title><iframe id=frame src="/v1/jobs"></iframe><script>
const told = {origin: origin, cookie: ""};
try { told.cookie = document.cookie; } catch (error) { told.cookie = error.name; }
try { told.parent = window.parent.document.title; } catch (error) { told.parent = error.name; }
const asked = (path, options) => fetch(path, options).then(r => `${r.type} ${r.status}`, () => "refused");
const socket = new Promise(done => {
  try {
    const tried = new WebSocket(`ws://${location.host}/v1/sessions/SESSION/stream`);
    tried.onopen = () => done("open");
    tried.onerror = () => done("refused");
  } catch { done("refused"); }
});
const frame = new Promise(done => { document.getElementById("frame").onload = event => {
  try { done(event.target.contentDocument ? "readable" : "opaque"); } catch { done("opaque"); }
}; });
Promise.all([asked("/v1/jobs", {credentials: "include"}), asked("/v1/jobs", {credentials: "include", mode: "no-cors"}),
  asked("/v1/browser-session", {method: "DELETE", mode: "no-cors"}), socket, frame,
]).then(all => { told.tries = all; window.told = told; document.title = "done"; });
</script>"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3) -> Iterator[Servers]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


@asynccontextmanager
async def served(servers: Servers, folder: Path) -> AsyncIterator[tuple[RunningGateway, str, list[tuple[str, bool]]]]:
    """Serve a gateway that needs keys, with the path of each request and whether it had a cookie."""
    find_browser()
    auth = AuthSettings(api_keys_file=keys_file(folder, "acme"))
    settings = SessionSettings(ticket_key=SecretStr("a key of this test"))
    stop, port, seen = asyncio.Event(), free_port(), list[tuple[str, bool]]()
    async with running_gateway(*servers, folder, auth=auth, session_settings=settings) as running:
        running.tenant = "acme"

        async def recording(scope, receive, send) -> None:  # type: ignore[no-untyped-def]
            if scope["type"] in ("http", "websocket"):
                seen.append((scope["path"], any(name == b"cookie" for name, _ in scope["headers"])))
            await running.app(scope, receive, send)

        server = asyncio.ensure_future(serve(recording, HOST, port, authenticated=True, stop=stop))
        try:
            yield running, f"http://{HOST}:{port}", seen
        finally:
            stop.set()
            await server


async def logged_in(browser: Browser, origin: str) -> Tab:
    tab = await browser.open(f"{origin}{OWN_PAGE}")
    assert await tab.evaluate("fetch('/v1/jobs').then(r => r.status)") == 401
    assert await tab.evaluate(f"{LOG_IN}.then(r => r.status)") == 201
    assert await tab.evaluate("fetch('/v1/jobs').then(r => r.status)") == 200
    return tab


async def job_with_files(running: RunningGateway, **files: str) -> str:
    running.http.headers.update(ACME)
    job_id = str((await running.submitted(await running.uploaded()))["id"])
    run_id = await running.start_job(job_id)
    for name, body in files.items():
        await running.leave(job_id, run_id, f"{name}.html", body.encode(), "text/html")
    await running.leave(job_id, run_id, "picture.png", picture(), "image/png")
    return job_id


def socket_to(origin: str, session_id: str) -> str:
    address = f"{origin.replace('http', 'ws')}/v1/sessions/{session_id}/stream"
    return (
        f"new Promise(done => {{ const s = new WebSocket('{address}');"
        " s.onmessage = e => { done(JSON.parse(e.data).type); s.close(); }; s.onerror = () => done('refused'); })"
    )


async def test_a_page_logs_in_and_its_browser_opens_what_it_shows(servers: Servers, tmp_path: Path) -> None:
    async with served(servers, tmp_path) as (running, origin, _), chromium(tmp_path / "profile") as browser:
        job_id = await job_with_files(running)
        opened = await running.http.post("/v1/sessions", json={"workload": "live_splat"})
        tab = await logged_in(browser, origin)
        assert await tab.evaluate("document.cookie") == "", "scripts do not read it"
        told = await tab.evaluate("fetch('/v1/browser-session').then(r => r.json())")
        assert (told["logged_in"], told["tenant"]) == (True, "acme")
        shown = "new Promise(done => { const i = new Image(); i.onload = () => done(i.naturalWidth); i.onerror = () => "
        shown += f"done(0); i.src = '/v1/jobs/{job_id}/artifacts/picture.png'; }})"
        assert await tab.evaluate(shown) == 32
        assert await tab.evaluate(socket_to(origin, opened.json()["id"])) == "session.opened"
        by_address = await browser.open(f"{origin}/v1/jobs")
        assert "next_cursor" in await by_address.evaluate("document.body.innerText")
        submit = "fetch('/v1/rules', {method: 'POST', headers: {'Content-Type': 'application/json'},"
        submit += " body: JSON.stringify({name: 'a', workload: 'badminton'})}).then(r => r.status)"
        assert await tab.evaluate(submit) == 201
        assert await tab.evaluate("fetch('/v1/browser-session', {method: 'DELETE'}).then(r => r.status)") == 204
        assert await tab.evaluate("fetch('/v1/jobs').then(r => r.status)") == 401


async def test_pages_at_other_ports_and_of_other_sites_cannot_use_it(servers: Servers, tmp_path: Path) -> None:
    async with served(servers, tmp_path) as (running, origin, seen), chromium(tmp_path / "profile") as browser:
        running.http.headers.update(ACME)
        opened = await running.http.post("/v1/sessions", json={"workload": "live_splat"})
        rules = len((await running.http.get("/v1/rules")).json()["data"])
        own = await logged_in(browser, origin)
        await running.bucket.put("page.html", b"<!doctype html><title>bucket</title>", "text/html")
        in_bucket = await running.bucket.presign_get("page.html", content_type="text/html")
        async with pages({}) as other_port:
            for page in (in_bucket, other_port, other_port.replace(HOST, "localhost")):
                tab = await browser.open(page)
                seen.clear()
                get = (
                    f"fetch('{origin}/v1/jobs', {{credentials: 'include', mode: 'MODE'}}).then(r => r.status, () => -1)"
                )
                assert await tab.evaluate(get.replace("MODE", "cors")) == -1
                assert await tab.evaluate(get.replace("MODE", "no-cors")) == 0
                post = f"fetch('{origin}/v1/rules', {{method: 'POST', credentials: 'include', mode: 'no-cors', body:"
                post += ' \'{"name": "evil", "workload": "badminton"}\'}).then(r => r.status)'
                assert await tab.evaluate(post) == 0
                out = f"fetch('{origin}/v1/browser-session', {{method: 'DELETE', credentials: 'include'}})"
                assert await tab.evaluate(f"{out}.then(() => 'sent', () => 'refused')") == "refused"
                assert await tab.evaluate(socket_to(origin, opened.json()["id"])) == "refused"
                had_cookie = {path for path, cookie in seen if cookie}
                if page is not in_bucket and "localhost" not in page:
                    assert "/v1/rules" in had_cookie, "the browser sent it: only the server's rule ignored it"
                planted = "document.cookie = 'saccade=planted; path=/v1'; document.cookie = 'saccade=x; path=/'; 1"
                await tab.evaluate(planted)
        assert len((await running.http.get("/v1/rules")).json()["data"]) == rules
        assert await own.evaluate("fetch('/v1/jobs').then(r => r.status)") == 200, "nobody was logged out"


async def test_a_hostile_report_has_no_origin_and_no_session(servers: Servers, tmp_path: Path) -> None:
    async with served(servers, tmp_path) as (running, origin, seen), chromium(tmp_path / "profile") as browser:
        running.http.headers.update(ACME)
        session_id = (await running.http.post("/v1/sessions", json={"workload": "live_splat"})).json()["id"]
        job_id = await job_with_files(running, report=HOSTILE.replace("SESSION", session_id))
        tab = await logged_in(browser, origin)
        address = f"/v1/jobs/{job_id}/artifacts/report.html"
        link = await tab.evaluate(f"fetch('{address}/link', {{method: 'POST'}}).then(r => r.json())")
        for opened in (address, link["url"]):
            seen.clear()
            report = await browser.open(urljoin(origin, opened))
            async with asyncio.timeout(30):
                while await report.evaluate("document.title") != "done":
                    await asyncio.sleep(0.05)
            told = await report.evaluate("told")
            assert (told["origin"], told["cookie"]) == ("null", "SecurityError")
            assert told["tries"][:4] == ["refused"] * 4, "its policy lets it connect to nothing"
            assert told["tries"][4] == "opaque"
            assert [path for path, cookie in seen if cookie and path == "/v1/jobs"] == []
        framed = (
            "new Promise(done => { const f = document.createElement('iframe'); f.src = URL; f.onload = () =>"
            " done(f.contentDocument === null); document.body.append(f); })"
        ).replace("URL", f"'{address}'")
        assert await tab.evaluate(framed) is True, "a frame of the own page is as foreign as any other"
        assert await tab.evaluate("fetch('/v1/jobs').then(r => r.status)") == 200, "nobody was logged out"
