"""HTML pages among a job's artifacts: their links work through the API, and they cannot act as who reads them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qs, urljoin, urlsplit

import httpx
import pytest

from contracts.ids import new_id
from kit.auth.api_keys import AuthSettings
from kit.http.server import serve
from kit.settings import NatsSettings, S3Settings
from tests.harness.clients.session_page_browser import page_tab
from tests.harness.servers.embedded import HOST, EmbeddedNats, EmbeddedS3, free_port
from tests.harness.servers.gateway import RunningGateway, code_of, keys_file, picture, running_gateway

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]

_REPORT = b"""<!doctype html><title>report</title><a id=next href="pages/spin.html">spin</a>
<img id=picture src="contact_sheet.png"><script>document.title = `report ${origin}`;</script>"""
_SPIN = b'<!doctype html><title>spin</title><a href="../report.html">back</a>'
#: What a hostile worker could leave: tries to submit and to read with the rights of its reader.
_HOSTILE = b"""<!doctype html><title>asking</title><script>
const tries = [fetch("/v1/jobs"), fetch("/v1/uploads", {method: "POST", mode: "no-cors", body: "{}"}),
  fetch("/health", {mode: "no-cors"}), new Promise((yes, no) => { try { yes(localStorage.length); } catch { no(); } })];
Promise.allSettled(tries).then(all => document.title = "done " + all.map(one => one.status).join());
</script>"""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3) -> Iterator[Servers]:
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats:
        yield nats.settings, shared_s3.with_new_bucket().settings


async def _job_with_pages(running: RunningGateway, **more: bytes) -> str:
    job_id = str((await running.submitted(await running.uploaded()))["id"])
    run_id = await running.start_job(job_id)
    files = {"report.html": _REPORT, "pages/spin.html": _SPIN} | {f"{name}.html": body for name, body in more.items()}
    left = [await running.leave(job_id, run_id, name, body, "text/html") for name, body in files.items()]
    left.append(await running.leave(job_id, run_id, "contact_sheet.png", picture(), "image/png"))
    await running.finish_job(job_id, run_id, left)
    return job_id


@asynccontextmanager
async def _on_a_port(running: RunningGateway) -> AsyncIterator[str]:
    stop, port = asyncio.Event(), free_port()
    server = asyncio.ensure_future(serve(running.app, HOST, port, authenticated=running.authenticated, stop=stop))
    try:
        yield f"http://{HOST}:{port}"
    finally:
        stop.set()
        await server


async def test_a_reader_follows_the_links_of_a_report_in_a_browser(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running, _on_a_port(running) as origin:
        job_id = await _job_with_pages(running, hostile=_HOSTILE)
        artifacts = f"/v1/jobs/{job_id}/artifacts"
        async with page_tab(origin, f"{artifacts}/report.html") as page:
            await page.until("document.title", "report null")
            await page.until("document.getElementById('picture').naturalWidth", 32)
            await page.click("#next")
            await page.until("document.title", "spin")
            await page.click("a")
            await page.until("document.title", "report null")
            assert page.complaints() == []
            await page.tab.send("Page.navigate", url=f"{origin}{artifacts}/hostile.html")
            await page.until("document.title", "done rejected,rejected,rejected,rejected")


async def test_the_address_of_a_page_is_a_key_to_one_jobs_files(servers: Servers, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, "acme", "other")
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as running:
        http, running.tenant = running.http, "acme"
        http.headers["authorization"] = "Bearer acme.secret"
        headers = {"authorization": "Bearer acme.secret"}
        upload_id = await running.uploaded(headers=headers)
        job_id = str((await running.submitted(upload_id))["id"])
        await _leave_a_report(running, job_id)
        answer = await http.get(f"/v1/jobs/{job_id}/artifacts/report.html")
        assert answer.status_code == 307
        address = answer.headers["location"]
        del http.headers["authorization"]

        page = await http.get(address)
        assert (page.status_code, page.content) == (200, _REPORT)
        head = await http.head(address)
        assert (head.status_code, head.headers["content-length"], head.content) == (200, str(len(_REPORT)), b"")
        policy = page.headers["content-security-policy"].split("; ")
        sandbox = next(rule for rule in policy if rule.startswith("sandbox"))
        assert "allow-scripts" in sandbox
        assert "allow-same-origin" not in sandbox
        assert "form-action 'none'" in policy
        picture_answer = await http.get(urljoin(address, "contact_sheet.png"))
        assert picture_answer.status_code == 307
        async with httpx.AsyncClient(trust_env=False) as outside:
            assert (await outside.get(picture_answer.headers["location"])).content == picture()

        ticket = address.split("/")[5]
        refused = [address.replace(ticket, ticket[:-4] + "AAAA"), address.replace(job_id, new_id("job"))]
        assert [(await http.get(path)).status_code for path in refused] == [401, 401]
        assert (await http.get(f"/v1/jobs/{job_id}/artifacts/report.html")).status_code == 401
        assert (await http.get(f"/v1/jobs/{job_id}/events?ticket={ticket}")).status_code in (401, 404)
        foreign = {"authorization": "Bearer other.secret"}
        assert (await http.get(f"/v1/jobs/{job_id}/artifacts/report.html", headers=foreign)).status_code == 404


def _valid_s(presigned_url: str) -> int:
    return int(parse_qs(urlsplit(presigned_url).query)["X-Amz-Expires"][0])


_FILES = ("report.html", "contact_sheet.png", "pages/spin.html", "pages/a.png", "pages/spin/deep.html", "pages.png")


async def test_a_link_opens_a_file_or_a_folder_for_a_while(servers: Servers, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, "acme", "other", read_only=("acme",))
    both = [{**entry, "scopes": ["read", "write"]} for entry in json.loads(keys.read_text())]
    keys.write_text(json.dumps([*both, {**both[0], "id": "reader", "scopes": ["read"]}]))
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as running:
        http, running.tenant = running.http, "acme"
        http.headers["authorization"] = "Bearer acme.secret"
        job_id = str((await running.submitted(await running.uploaded()))["id"])
        run_id = await running.start_job(job_id)
        for name in ("report.html", "pages/spin.html", "pages/spin/deep.html"):
            await running.leave(job_id, run_id, name, _SPIN, "text/html")
        for name in ("contact_sheet.png", "pages/a.png", "pages.png"):
            await running.leave(job_id, run_id, name, picture(), "image/png")
        artifacts = f"/v1/jobs/{job_id}/artifacts"
        http.headers["authorization"] = "Bearer reader.secret"

        async def opened(name: str, **body: int) -> tuple[str, datetime]:
            answer = await http.post(f"{artifacts}/{name}/link", json=body or None)
            assert answer.status_code == 201, answer.text
            return answer.json()["url"], datetime.fromisoformat(answer.json()["expires_at"])

        one, ends = await opened("contact_sheet.png")
        assert timedelta(minutes=59) < ends - datetime.now(UTC) <= timedelta(hours=1)
        folder, ends = await opened("pages/spin.html", expires_in_s=60)
        assert ends - datetime.now(UTC) <= timedelta(minutes=1)
        whole, _ = await opened("report.html", expires_in_s=86_400)
        for seconds in (59, 86_401):
            refused = await http.post(f"{artifacts}/report.html/link", json={"expires_in_s": seconds})
            assert (refused.status_code, code_of(refused)) == (422, "invalid_parameter")
        unknown = await http.post(f"{artifacts}/nothing.png/link")
        assert unknown.status_code == 409, "the job may still write it"
        foreign = await http.post(f"{artifacts}/report.html/link", headers={"authorization": "Bearer other.secret"})
        assert foreign.status_code == 404
        del http.headers["authorization"]
        assert (await http.post(f"{artifacts}/report.html/link")).status_code == 401

        async def found(link: str, *names: str) -> list[int]:
            ticket = "/".join(link.split("/")[:6])
            return [(await http.get(f"{ticket}/{name}")).status_code for name in names]

        assert await found(one, *_FILES) == [401, 307, 401, 401, 401, 401]
        assert await found(folder, *_FILES) == [401, 401, 200, 307, 200, 401]
        assert await found(whole, *_FILES) == [200, 307, 200, 307, 200, 307]
        assert await found(folder, "pages/../report.html", "pages%2F..%2Freport.html") == [401, 409]
        async with httpx.AsyncClient(trust_env=False) as outside:
            location = (await http.get(one)).headers["location"]
            assert (await outside.get(location)).content == picture()
        assert 3500 < _valid_s(location) <= 3600
        until_s = (ends - datetime.now(UTC)).total_seconds()
        in_folder = (await http.get(f"{'/'.join(folder.split('/')[:6])}/pages/a.png")).headers["location"]
        assert until_s - 10 < _valid_s(in_folder) <= 60, "the bucket does not serve it for longer than the link"
        by_day = (await http.get(f"{'/'.join(whole.split('/')[:6])}/contact_sheet.png")).headers["location"]
        assert _valid_s(by_day) == 3600
        _write_without(keys, "reader")
        assert await found(whole, "report.html") == [401], "the key that made it was removed"


def _write_without(keys: Path, key_id: str) -> None:
    keys.write_text(json.dumps([entry for entry in json.loads(keys.read_text()) if entry["id"] != key_id]))


async def test_without_keys_a_link_does_not_end(servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*servers, tmp_path) as running:
        job_id = await _job_with_pages(running)
        answer = await running.http.post(f"/v1/jobs/{job_id}/artifacts/report.html/link")
        assert answer.json()["expires_at"] is None
        assert (await running.http.get(answer.json()["url"])).content == _REPORT


async def test_a_link_has_expired_after_its_time(servers: Servers, tmp_path: Path) -> None:
    keys = keys_file(tmp_path, "acme")
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=keys)) as running:
        running.tenant = "acme"
        running.http.headers["authorization"] = "Bearer acme.secret"
        job_id = await _job_with_pages(running)
        caller = running.app.state.authenticator.principal("acme")
        for age_s, status in ((59, 200), (61, 401)):
            made = datetime.now(UTC) - timedelta(seconds=age_s)
            minute = timedelta(minutes=1)
            pages = running.app.state.artifact_pages
            url, _ = pages.link(caller, job_id, "report.html", made, minute, is_page=True)
            assert (await running.http.get(url, headers={"authorization": ""})).status_code == status


async def _leave_a_report(running: RunningGateway, job_id: str) -> None:
    run_id = await running.start_job(job_id)
    await running.leave(job_id, run_id, "report.html", _REPORT, "text/html")
    await running.leave(job_id, run_id, "contact_sheet.png", picture(), "image/png")
