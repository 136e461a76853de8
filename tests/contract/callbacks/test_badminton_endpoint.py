"""The GPU endpoint of the replaced badminton system: a Convex site sends a video and is called back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.callback import Callback, callback_subject
from contracts.errors import ErrorBody, ErrorCode
from contracts.events import decode
from contracts.events.job import JobCancelled, JobFailed
from contracts.streams import CALLBACKS
from kit.auth.api_keys import AuthSettings
from kit.bus.event_store import EventStore
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import UrlInputSettings
from tests.harness.callbacks.convex_site import ConvexSite, convex_site
from tests.harness.callbacks.running_callbacks import RESULTS, SUMMARY, VIDEO, run_callbacks
from tests.harness.network.file_servers import FileServer, answer, file_server, sending
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3
from tests.harness.servers.gateway import RunningGateway, keys_file, running_gateway, video

pytestmark = pytest.mark.anyio

PATH = "/badminton-endpoint"
LOOPBACK = UrlInputSettings(inputs="public", allowed_networks="127.0.0.1")  # type: ignore[arg-type]
CORNERS = {"top_left": [1, 2], "top_right": [60, 2], "bottom_right": [60, 40], "bottom_left": [1, 40]}
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats, EmbeddedS3(tmp_path_factory.mktemp("s3")) as s3:
        yield nats.settings, s3.settings


class Deployment:
    """A gateway, a site with a video, and who plays dispatcher and worker."""

    def __init__(self, gateway: RunningGateway, site: ConvexSite, files: FileServer, video_id: str) -> None:
        self.gateway, self.site, self.files, self.video_id = gateway, site, files, video_id
        self.tenant = "local"

    def body(self, **changes: Any) -> dict[str, Any]:
        found = {
            "videoId": self.video_id,
            "videoUrl": self.files.url("/video?token=a"),
            "callbackUrl": self.site.callback_url,
            "manualCourtKeypoints": None,
            "analysisMode": "full",
        } | changes
        return {name: value for name, value in found.items() if value is not ...}

    async def post(self, path: str = PATH, **changes: Any) -> httpx.Response:
        return await self.gateway.http.post(path, json=self.body(**changes))

    async def accepted(self, path: str = PATH, **changes: Any) -> Callback:
        """Send a request that is accepted and return its run."""
        answered = await self.post(path, **changes)
        assert (answered.status_code, answered.json()) == (200, {"status": "accepted", "videoId": self.video_id})
        return await self.record()

    async def record(self) -> Callback:
        store = EventStore(self.gateway.store.client, CALLBACKS.name)
        return Callback.model_validate_json((await store.load(callback_subject(self.tenant, self.video_id)))[-1].body)

    async def submitted(self, job_id: str) -> Any:
        """Wait until a job is submitted."""
        async with asyncio.timeout(20):
            while not (job := self.gateway.view.job(job_id)):
                await asyncio.sleep(0.02)
        return job.submitted

    async def jobs(self) -> list[str]:
        """List the jobs of this video, oldest first."""
        found = [decode(stored.body) async for stored in self.gateway.store.history(0, "saccade.evt.*.job.*.submitted")]
        return [one.subject for one in found if one.data["metadata"].get("videoId") == self.video_id]

    async def succeed(self, job_id: str) -> None:
        await self.submitted(job_id)
        run_id = await self.gateway.start_job(job_id)
        bucket = self.gateway.bucket
        summary = json.dumps(SUMMARY).encode()
        files = {"compat/results.json": RESULTS, "compat/summary.json": summary, "processed.mp4": VIDEO}
        for name, body in files.items():
            await bucket.put(bucket.key("results", job_id, name), body)
        await self.gateway.finish_job(job_id, run_id, [])

    async def fail(self, job_id: str) -> None:
        await self.submitted(job_id)
        await self.gateway.start_job(job_id)
        error = ErrorBody(code=ErrorCode.CLIP_TOO_SHORT, message="Too short.", hint="")
        await self.gateway.say(job_id, JobFailed(attempt=1, failure="user", error=error))

    async def until_status(self, status: str) -> None:
        await self.site.until(lambda: self.site.status(self.video_id) == status)


@asynccontextmanager
async def deployed(
    servers: Servers, folder: Path, video_id: str, *, callbacks: bool = True, clip: bytes | None = None, **site: Any
) -> AsyncIterator[Deployment]:
    nats, s3 = servers
    async with AsyncExitStack() as stack:
        gateway = await stack.enter_async_context(running_gateway(nats, s3, folder, url_inputs=LOOPBACK))
        body = answer(video() if clip is None else clip, "Content-Type: video/mp4")
        files = await stack.enter_async_context(file_server(sending(body)))
        found = await stack.enter_async_context(convex_site(**site))
        if callbacks:
            await stack.enter_async_context(run_callbacks(nats, s3))
        yield Deployment(gateway, found, files, video_id)


@pytest.mark.parametrize(("path", "dialect"), [(PATH, "site"), (f"{PATH}/process", "plan"), (f"{PATH}/", "site")])
async def test_a_video_is_fetched_analysed_and_its_results_delivered(
    path: str, dialect: str, servers: Servers, tmp_path: Path
) -> None:
    async with deployed(servers, tmp_path, f"all{len(path)}", dialect=dialect) as here:
        run = await here.accepted(path, manualCourtKeypoints=CORNERS, analysisMode="rally_only")
        job = await here.submitted(run.job_id)
        assert job.params["court_keypoints"] == {name: [float(x), float(y)] for name, (x, y) in CORNERS.items()}
        assert (job.params["mode"], job.params["video_id"], job.workload) == (
            "rally_only",
            here.video_id,
            "badminton",
        )
        assert job.metadata["callbackUrl"] == here.site.url
        assert [given.upload_id for given in job.inputs["video"]] == list(run.upload_ids)
        await here.succeed(run.job_id)
        await here.until_status("completed")
        stored = [body for _, body in here.site.storage.values()]
        assert stored == ([RESULTS, VIDEO] if dialect == "site" else [VIDEO])
        if dialect == "site":
            assert any(entry["message"].startswith("Video received") for entry in here.site.logs)


async def test_the_same_video_is_one_run_however_often_it_is_requested(servers: Servers, tmp_path: Path) -> None:
    async with deployed(servers, tmp_path, "reloaded") as here:
        answers = await asyncio.gather(*(here.post() for _ in range(5)))
        assert {answered.status_code for answered in answers} == {200}
        run = await here.record()
        await here.submitted(run.job_id)
        assert (await here.accepted(videoUrl=here.files.url("/video?token=another"))).job_id == run.job_id
        await here.succeed(run.job_id)
        await here.until_status("completed")
        here.site.videos[here.video_id]["status"] = "processing"  # as the site does before it sends a request
        assert (await here.accepted()).job_id == run.job_id
        await here.until_status("completed")
        assert await here.jobs() == [run.job_id]
        assert here.files.connections == 1
        assert len(here.site.storage) == 2, "what was stored is not stored again"


async def test_a_video_that_failed_or_is_requested_otherwise_is_run_again(servers: Servers, tmp_path: Path) -> None:
    async with deployed(servers, tmp_path, "again") as here:
        first = await here.accepted()
        await here.fail(first.job_id)
        await here.until_status("failed")
        second = await here.accepted()
        assert second.generation == 2
        assert second.job_id != first.job_id
        await here.submitted(second.job_id)
        third = await here.accepted(manualCourtKeypoints=CORNERS)
        assert third.job_id not in (first.job_id, second.job_id)
        job = here.gateway.view.job(second.job_id)
        assert job
        assert job.cancel_requested, "the run that was replaced is stopped"
        await here.gateway.say(second.job_id, JobCancelled(attempt=1))
        await here.succeed(third.job_id)
        await here.until_status("completed")
        assert len(await here.jobs()) == 3


async def test_a_video_that_cannot_be_fetched_is_said_to_have_failed_and_can_be_sent_again(
    servers: Servers, tmp_path: Path
) -> None:
    async with deployed(servers, tmp_path, "html", clip=b"<html>expired</html>") as here:
        run = await here.accepted()
        await here.until_status("failed")
        assert here.site.videos["html"]["error"]
        assert await here.jobs() == []
        again = await here.accepted()
        assert (again.generation, again.job_id == run.job_id) == (2, False)


async def test_a_gateway_that_died_before_it_answered_has_started_one_run(servers: Servers, tmp_path: Path) -> None:
    """It dies between accepting the job and writing the record: the record is missing, and the client asks again."""
    async with deployed(servers, tmp_path, "died", callbacks=False) as here:
        run = await here.accepted()
        await here.submitted(run.job_id)
        store = EventStore(here.gateway.store.client, CALLBACKS.name)
        stored = (await store.load(run.subject))[-1]
        await here.gateway.store.client.jetstream().delete_msg(CALLBACKS.name, stored.sequence)
        assert (await here.accepted()).job_id == run.job_id
        assert await here.jobs() == [run.job_id]


WRONG: list[tuple[dict[str, Any], str]] = [
    ({"videoId": ...}, "videoId"),
    ({"videoUrl": None}, "videoUrl"),
    ({"callbackUrl": ...}, "CONVEX_SITE_URL"),
    ({"callbackUrl": "http://10.0.0.1"}, "not an address that callbacks may go to"),
    ({"callbackUrl": "http://127.0.0.1:8080/" + "a" * 3000}, "characters"),
    ({"videoUrl": "http://10.0.0.1/a.mp4"}, "10.0.0.1"),
    ({"videoUrl": "not a URL"}, "URL"),
    ({"analysisMode": "fast"}, "analysisMode"),
    ({"manualCourtKeypoints": {"top_left": [1, 2]}}, "corner"),
    ({"manualCourtKeypoints": CORNERS | {"doubles_left": [1, 2]}}, "doubles_left"),
    ({"manualCourtKeypoints": CORNERS | {"top_left": [1e400, 2]}}, ""),
    ({"manualCourtKeypoints": CORNERS | {"top_left": [10**400, 2]}}, ""),
]


async def test_a_wrong_request_is_refused_with_a_short_text(servers: Servers, tmp_path: Path) -> None:
    async with deployed(servers, tmp_path, "wrong", callbacks=False) as here:
        bodies = [(json.dumps(here.body(**changes)).encode(), says) for changes, says in WRONG]
        deep = b"[" * 20_000 + b"]" * 20_000
        nested = b'{"videoId": "a", "videoUrl": "b", "manualCourtKeypoints": {"a": %s}}' % deep
        bodies += [(raw, "") for raw in (b"", b"{", b"[]", b'"x"', deep, nested, b"\xff", b'{"videoId": "\\ud800"}')]
        for body, says in bodies:
            answered = await here.gateway.http.post(PATH, content=body)
            assert 400 <= answered.status_code < 500, (body[:200], answered.text)
            assert set(answered.json()) == {"error", "code"}
            assert says in answered.json()["error"], body[:200]
            assert len(answered.text) < 1500
        large = await here.gateway.http.post(PATH, content=b" " * 300_000)
        assert large.status_code == 413
        store = EventStore(here.gateway.store.client, CALLBACKS.name)
        assert not await store.load(callback_subject("local", here.video_id))


async def test_the_default_site_is_a_setting_and_the_key_a_part_of_the_address(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with AsyncExitStack() as stack:
        site = await stack.enter_async_context(convex_site())
        files = await stack.enter_async_context(file_server(sending(answer(video(), "Content-Type: video/mp4"))))
        monkeypatch.setenv("CONVEX_SITE_URL", site.url)
        monkeypatch.setenv("NOTIFIER_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.1")
        monkeypatch.setenv("NOTIFIER_WEBHOOK_HTTPS_ONLY", "false")
        auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "reader", read_only=("reader",)))
        gateway = await stack.enter_async_context(running_gateway(*servers, tmp_path, auth=auth, url_inputs=LOOPBACK))
        here = Deployment(gateway, site, files, "keyed")
        here.tenant = "acme"
        for key, status in (("", 401), ("/k/acme.wrong", 401), ("/k/acme", 401), ("/k/reader.secret", 403)):
            assert (await here.post(f"{PATH}{key}/process")).status_code == status
        run = await here.accepted(f"{PATH}/k/acme.secret", callbackUrl=...)
        assert (run.tenant, run.site_url) == ("acme", site.url)
        assert (await here.accepted(f"{PATH}/k/acme.secret/process", callbackUrl=...)).job_id == run.job_id
        metrics = (await gateway.http.get("/metrics")).text
        assert "acme" not in metrics


async def test_one_tenant_cannot_fill_the_stream_of_all(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTIFIER_WEBHOOK_ALLOWED_NETWORKS", "127.0.0.1")
    monkeypatch.setenv("NOTIFIER_WEBHOOK_HTTPS_ONLY", "false")
    path = keys_file(tmp_path, "many", "few")
    limits = {"tenant": "many", "quotas": {"callback_videos": 2}}
    path.write_text(json.dumps([*json.loads(path.read_text()), limits]))
    async with AsyncExitStack() as stack:
        files = await stack.enter_async_context(file_server(sending(answer(video(), "Content-Type: video/mp4"))))
        site = await stack.enter_async_context(convex_site())
        auth = AuthSettings(api_keys_file=path)
        gateway = await stack.enter_async_context(running_gateway(*servers, tmp_path, auth=auth, url_inputs=LOOPBACK))
        here = Deployment(gateway, site, files, "first")
        many, few = f"{PATH}/k/many.secret", f"{PATH}/k/few.secret"
        for video_id in ("first", "second"):
            assert (await here.post(many, videoId=video_id)).status_code == 200
        refused = await here.post(many, videoId="third")
        assert (refused.status_code, refused.json()["code"]) == (409, "quota_exceeded")
        assert "2 videos of the badminton endpoint" in refused.json()["error"]
        assert await EventStore(gateway.store.client, CALLBACKS.name).load(callback_subject("many", "third")) == []
        assert (await here.post(few, videoId="third")).status_code == 200, "another tenant has room"
        assert (await here.post(many, videoId="first")).status_code == 200, "a known video is no other one"
        assert (await here.post(many, videoId="first", analysisMode="rally_only")).status_code == 200, (
            "nor its next run"
        )
