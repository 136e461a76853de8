"""Callbacks against a site with strict validators: what it is told, in both dialects, and how its faults are met."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import pairwise

import pytest

from contracts.callback import Callback
from contracts.events.job import JobCancelled
from contracts.streams import CALLBACKS
from kit.bucket import Bucket
from kit.bus.event_store import EventStore
from kit.network.address_guard import AddressGuard
from kit.tasks import end
from services.notifier.callbacks.origin_slots import OriginSlots, UploadSlots
from services.notifier.callbacks.site import Site
from services.notifier.callbacks.site_requests import status_request
from services.notifier.webhooks.sending.sender import Sender, StreamedBody
from tests.harness.callbacks.convex_site import ConvexSite, convex_site
from tests.harness.callbacks.running_callbacks import (
    PLAYERS,
    RESULTS,
    STAGES,
    SUMMARY,
    VIDEO,
    RunningCallbacks,
    VideoJob,
    accept,
    new_callback,
    run_callbacks,
    workers_bucket,
)
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedNats, S3Server
from tests.harness.streams.notifier import Publisher, publisher

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as server:
        yield server


@pytest.fixture
async def bus(nats: EmbeddedNats) -> AsyncIterator[Publisher]:
    async with publisher(nats.settings) as found:
        yield found


@pytest.fixture
async def bucket(s3_server: S3Server) -> AsyncIterator[Bucket]:
    async with workers_bucket(s3_server.settings) as found:
        yield found


@pytest.fixture
async def running(nats: EmbeddedNats, bus: Publisher, s3_server: S3Server) -> AsyncIterator[RunningCallbacks]:
    async with run_callbacks(nats.settings, s3_server.settings) as found:
        yield found


async def _ended(job: VideoJob, outcome: str, timeout_s: float = 15.0) -> None:
    async with asyncio.timeout(timeout_s):
        while (await job.stored()).outcome != outcome:
            await asyncio.sleep(0.02)


async def test_a_site_hears_of_stages_and_progress_and_gets_results_and_video(
    running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    async with convex_site() as site:
        job = await accept(bus, site, bucket)
        await job.start()
        await site.until(lambda: site.logs)
        for step in range(1, 30):
            await job.progress(step / 100, 10 * step, 1843)
            await asyncio.sleep(0.02)
        await site.until(lambda: site.videos.get("v1", {}).get("currentFrame") == 290)
        assert {name: site.videos["v1"][name] for name in ("status", "progress", "totalFrames")} == {
            "status": "processing",
            "progress": 29,
            "totalFrames": 1843,
        }
        for stage in STAGES:
            await job.complete_stage(stage)
        await job.leave()
        await job.succeed()
        await _ended(job, "completed")
        video = site.videos["v1"]
        assert (video["status"], video["progress"], site.completed) == ("completed", 100, 1)
        assert site.storage[video["resultsStorageId"]] == ("application/json", RESULTS)
        assert site.storage[video["processedVideoStorageId"]] == ("video/mp4", VIDEO)
        assert video["figures"] == {
            "duration": 61.5,
            "fps": 29.97,
            "total_frames": 1843,
            "processed_frames": 1843,
            "player_count": 2,
            "has_court_detection": True,
            "has_rally_detection": True,
            "rally_count": 7,
        }
        messages = [entry["message"] for entry in site.logs]
        assert [message for message in messages if message.startswith("Stage ")] == [
            f"Stage {stage} completed in 1.5 s" for stage in STAGES
        ]
        assert messages[-2].startswith("Analysis finished")
        assert (messages[-1], site.logs[-1]["level"]) == ("The video has 15 frames per second.", "warning")
        assert {entry["category"] for entry in site.logs} == {"modal", "court", "detection", "processing"}
        times = [at for path, at in site.times if path == "/updateStatus"]
        assert 1 <= len(times) <= 3, "progress is conflated"
        assert all(later - earlier >= 1.9 for earlier, later in pairwise(times))


@pytest.mark.parametrize("prefix", ["/updateResults", ""])
async def test_the_dialect_of_the_plan_has_its_own_paths_and_bodies(
    prefix: str, running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    async with convex_site(dialect="plan", plan_prefix=prefix) as site:
        job = await accept(bus, site, bucket, f"plan{len(prefix)}")
        video_id = job.callback.video_id
        await job.start()
        await _is_followed(running, job)
        await job.progress(0.5, 10, 20)
        await site.until(lambda: site.status(video_id))
        assert site.statuses()[-1] == {"videoId": video_id, "status": "processing", "progress": 50}
        await job.leave()
        await job.succeed()
        await _ended(job, "completed")
        video = site.videos[video_id]
        assert site.storage[video["processedVideoStorageId"]] == ("video/mp4", VIDEO)
        assert len(site.storage) == 1, "the results are in the request"
        names = ("duration", "fps", "totalFrames", "processedFrames", "videoWidth", "videoHeight", "courtDetection")
        assert video["figures"] == {name: SUMMARY[name] for name in names} | {"players": PLAYERS}
        assert not site.logs


async def _is_followed(running: RunningCallbacks, job: VideoJob) -> None:
    """Wait until progress of the job counts."""
    async with asyncio.timeout(10):
        while True:
            follower = running.engine._followers.get(job.callback.subject)
            if follower and follower._facts and follower._facts.running:
                return
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("how", ["job", "upload", "cancel"])
async def test_a_run_without_results_is_always_said_to_have_failed(
    how: str, running: RunningCallbacks, bus: Publisher
) -> None:
    async with convex_site() as site:
        job = await accept(bus, site, video_id=how)
        site.fail("/updateStatus", "500", "html", "no_success")
        if how == "upload":
            await job.fail_upload()
        else:
            await job.start()
            await (job.fail() if how == "job" else job.say(JobCancelled(attempt=1)))
        for attempt, wait_s in enumerate((7, 400, 2200), 1):
            await site.until(lambda attempt=attempt: len(site.statuses()) == attempt)
            await _attempts(job, attempt)
            running.pass_(seconds=wait_s)
        await _ended(job, "failed")
        assert site.status(how) == "failed"
        texts = {
            "job": "The video has 3 frames. Send a longer one.",
            "upload": "It is no video. Send a video.",
            "cancel": "The analysis was cancelled.",
        }
        assert site.videos[how]["error"] == texts[how]
        assert site.logs[-1]["level"] == "error"


async def _attempts(job: VideoJob, attempts: int) -> None:
    async with asyncio.timeout(10):
        while (await job.stored()).attempts != attempts:
            await asyncio.sleep(0.01)


async def test_a_callback_whose_record_is_gone_ends(running: RunningCallbacks, bus: Publisher) -> None:
    """It has expired, or an operator has purged it: what was sent cannot be recorded any more."""
    async with convex_site(dialect="plan") as site:
        job = await accept(bus, site, video_id="purged")
        await job.start()
        await _is_followed(running, job)
        await bus.client.jetstream().purge_stream(CALLBACKS.name, subject=job.callback.subject)
        await accept(bus, site, video_id="kept")  # the stream does not end with what is missing
        await job.fail()
        async with asyncio.timeout(5):
            while running.engine.store.find(job.callback.subject):
                await asyncio.sleep(0.02)
        assert len(site.statuses()) == 1


async def test_each_answer_is_checked_and_each_request_repeated_on_schedule(
    running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    async with convex_site() as site:
        job = await accept(bus, site, bucket, "faults")
        site.fail("/generateUploadUrl", "500", "html", "bare_url")
        site.fail("/storage/upload", "cut", "no_success")
        site.fail("/updateResults", "500", "no_success", "lost")
        await job.leave()
        await job.start()
        await job.succeed()
        attempts = 0
        async with asyncio.timeout(30):
            while (record := await job.stored()).outcome is None:
                if record.attempts != attempts and (attempts := record.attempts):
                    assert record.last_error
                    assert "secret" not in record.last_error
                    running.pass_(hours=11)
                await asyncio.sleep(0.02)
        assert record.outcome == "completed"
        assert site.status("faults") == "completed"
        assert site.completed == 2, "the first answer was lost, so the same request was repeated"
        sent = [body for path, body in site.got if path == "/updateResults"]
        assert sent[-1] == sent[-2]
        assert [site.storage[sent[-1][name]][1] for name in ("resultsStorageId", "processedVideoStorageId")] == [
            RESULTS,
            VIDEO,
        ]


async def test_results_that_no_attempt_delivers_end_as_failed(
    running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    async with convex_site() as site:
        job = await accept(bus, site, bucket, "refusing")
        site.fail("/updateResults", *["500"] * 8)
        await job.leave()
        await job.start()
        await job.succeed()
        for attempt in range(1, 8):
            await _attempts(job, attempt)
            running.pass_(hours=13)
        await _ended(job, "failed")
        assert site.videos["refusing"]["error"].startswith(
            "The results could not be delivered: /updateResults answered"
        )


async def test_a_job_without_what_its_video_needs_ends_as_failed_and_one_without_a_video_completes(
    running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    files = {"compat/results.json": RESULTS, "compat/summary.json": json.dumps(SUMMARY).encode()}
    async with convex_site() as site:
        jobs = {name: await accept(bus, site, bucket, name) for name in ("no_results", "no_summary", "no_video")}
        await jobs["no_summary"].leave(**files | {"compat/summary.json": b'{"fps": 30}'})
        await jobs["no_video"].leave(**files)
        for job in jobs.values():
            await job.start()
            await job.succeed()
        await _ended(jobs["no_results"], "failed")
        await _ended(jobs["no_summary"], "failed")
        await _ended(jobs["no_video"], "completed")
        assert "no artifact compat/results.json" in site.videos["no_results"]["error"]
        assert "no number 'duration'" in site.videos["no_summary"]["error"]
        assert "processedVideoStorageId" not in site.videos["no_video"]


async def test_an_upload_that_is_deleted_after_its_job_does_not_make_the_video_fail(
    nats: EmbeddedNats, bus: Publisher, s3_server: S3Server, bucket: Bucket
) -> None:
    """The notifier that delivers the results is started after all that."""
    async with convex_site() as site:
        job = await accept(bus, site, bucket, "deleted")
        await job.leave()
        await job.start()
        await job.succeed()
        await job.fail_upload("deleted")
        async with run_callbacks(nats.settings, s3_server.settings):
            await site.until(lambda: site.status("deleted"))
            await _ended(job, "completed")
        assert {entry["level"] for entry in site.logs} == {"info", "success", "warning"}


async def test_a_request_that_is_repeated_in_mid_delivery_stores_nothing_twice_and_is_answered_by_the_results(
    running: RunningCallbacks, bus: Publisher, bucket: Bucket
) -> None:
    """The page is loaded again while a file is uploaded, then while the results are sent: it waits for them again."""
    async with convex_site() as site:
        job = await accept(bus, site, bucket, "reloaded")
        tasks = []

        async def repeat() -> None:
            store = EventStore(bus.client, CALLBACKS.name)
            found = (await store.load(job.callback.subject))[-1]
            record = Callback.model_validate_json(found.body)
            await store.publish(record.model_copy(update={"requests": record.requests + 1}).message())

        def on_request(path: str) -> None:
            if path in ("/storage/upload", "/updateResults") and site.paths().count(path) == 1:
                tasks.append(asyncio.ensure_future(repeat()))

        site.on_request = on_request
        site.fail("/storage/upload", "slow")
        site.fail("/updateResults", "slow")
        await job.leave()
        await job.start()
        await job.succeed()
        await _ended(job, "completed")
        await asyncio.gather(*tasks)
        assert (await job.stored()).requests == 3
        assert [body for _, body in site.storage.values()] == [RESULTS, VIDEO]
        first, second = [body for path, body in site.got if path == "/updateResults"]
        assert first == second


async def test_a_site_that_hangs_delays_no_other(running: RunningCallbacks, bus: Publisher, bucket: Bucket) -> None:
    async with convex_site() as dead, convex_site() as well:
        dead.fail("/updateStatus", *["stall"] * 100)
        dead.fail("/addLog", *["stall"] * 100)
        dead.fail("/generateUploadUrl", *["stall"] * 100)
        hanging = [await accept(bus, dead, bucket, f"hangs{number}") for number in range(30)]
        for job in hanging:
            await job.start()
            await job.fail()
        job = await accept(bus, well, bucket, "well")
        await job.leave()
        loop = asyncio.get_running_loop()
        began = loop.time()
        await job.start()
        await job.succeed()
        await _ended(job, "completed")
        assert loop.time() - began < 5
        assert len(dead.got) <= 4, "one site has four requests at most"


async def test_uploads_to_slow_sites_delay_neither_other_requests_nor_the_uploads_of_another_tenant() -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"video"

    async with (
        AsyncExitStack() as stack,
        Sender(AddressGuard.allowing(["127.0.0.0/8"]), https_only=False) as sender,
    ):
        sites = [await stack.enter_async_context(convex_site()) for _ in range(3)]
        body, slots = StreamedBody(5, chunks), OriginSlots(healthy=2)
        requests = Site(sender, slots, lambda _: None, UploadSlots(per_tenant=2, uploads=3))
        slow = [new_callback(site, tenant="slow") for site in sites]
        for site in sites:
            site.fail("/storage/upload", "stall")
        uploads = [asyncio.ensure_future(requests.upload(callback, body, "video/mp4")) for callback in slow]
        try:
            await sites[0].until(lambda: sum(site.paths().count("/storage/upload") for site in sites) == 2)
            well = await stack.enter_async_context(convex_site())
            other = new_callback(well, tenant="other")
            async with asyncio.timeout(5):
                await requests.send(other, status_request(other, "processing"))
                assert await requests.upload(other, body, "video/mp4")
        finally:
            await end(*uploads)


async def test_an_address_of_this_network_is_not_called(nats: EmbeddedNats, bus: Publisher) -> None:
    """The gateway refuses it, and so does every connection: a name may resolve to it later."""
    async with run_callbacks(nats.settings, None) as running:
        site = ConvexSite(1)
        job = await accept(bus, site, video_id="private")
        record = job.callback.model_copy(update={"site_url": "http://10.0.0.1"})
        await EventStore(bus.client, CALLBACKS.name).publish(record.message())
        await job.start()
        await job.fail()
        await _attempts(job, 1)
        assert (await job.stored()).last_error == "/updateStatus failed: address_refused"
        assert running.engine.active
