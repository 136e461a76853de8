"""Whatever dies in mid-run, notifier or site: the video is completed, and nothing that was acknowledged is repeated."""

from __future__ import annotations

import asyncio
import random
import signal

import pytest

from contracts.streams import CALLBACKS
from kit.settings import NatsSettings, S3Settings, as_environment
from tests.harness.callbacks.convex_site import ConvexSite, convex_site
from tests.harness.callbacks.running_callbacks import (
    RESULTS,
    STAGES,
    VIDEO,
    VideoJob,
    accept,
    run_callbacks,
    workers_bucket,
)
from tests.harness.servers.embedded import EmbeddedNats, S3Server, free_port
from tests.harness.streams.notifier import NotifierProcess, publisher
from tests.harness.webhooks.delivery import environment

pytestmark = pytest.mark.anyio


def _notifier(nats: NatsSettings, s3: S3Settings) -> NotifierProcess:
    return NotifierProcess(nats, **environment(), **as_environment(None, s3))


async def _completed(job: VideoJob, timeout_s: float = 30.0) -> None:
    async with asyncio.timeout(timeout_s):
        while (await job.stored()).outcome != "completed":
            await asyncio.sleep(0.05)


def _check(site: ConvexSite, video_id: str) -> None:
    video = site.videos[video_id]
    assert video["status"] == "completed"
    assert site.storage[video["resultsStorageId"]][1] == RESULTS
    assert site.storage[video["processedVideoStorageId"]][1] == VIDEO


async def test_a_notifier_that_is_killed_resumes_where_the_site_had_acknowledged(
    nats_server: EmbeddedNats, s3_server: S3Server
) -> None:
    """Killed while it uploads the first file, then while it asks for the URL of the second, then after the end."""
    async with (
        publisher(nats_server.settings) as bus,
        workers_bucket(s3_server.settings) as bucket,
        convex_site() as site,
    ):
        with _notifier(nats_server.settings, s3_server.settings) as notifier:
            killed = asyncio.Event()

            def kill_at(path: str, count: int) -> None:
                killed.clear()

                def on_request(arrived: str) -> None:
                    if arrived == path and site.paths().count(path) == count:
                        assert notifier.process
                        notifier.process.send_signal(signal.SIGKILL)
                        killed.set()

                site.on_request = on_request

            job = await accept(bus, site, bucket)
            kill_at("/storage/upload", 1)
            await job.leave()
            await job.start()
            await job.complete_stage()
            await job.succeed()
            for path, count in (("/generateUploadUrl", 3), ("", 0)):
                async with asyncio.timeout(20):
                    await killed.wait()
                await asyncio.to_thread(notifier.stop, signal.SIGKILL)
                kill_at(path, count)
                notifier.start()
            await _completed(job)
            _check(site, "v1")
            paths = site.paths()
            assert (paths.count("/storage/upload"), paths.count("/generateUploadUrl")) == (3, 4)
            await asyncio.to_thread(notifier.stop, signal.SIGKILL)
            notifier.start()
            other = await accept(bus, site, bucket, "v2")  # done once the callbacks go on
            await other.start()
            await other.fail()
            await site.until(lambda: site.status("v2") == "failed")
            assert site.completed == site.paths().count("/updateResults") == 1
            stages = [entry for entry in site.logs if entry["message"].startswith("Stage court")]
            assert len(stages) == 1, "what was logged is recorded"


async def test_a_site_that_is_killed_and_started_again_gets_the_rest(
    nats_server: EmbeddedNats, s3_server: S3Server
) -> None:
    async with publisher(nats_server.settings) as bus, workers_bucket(s3_server.settings) as bucket:
        site = ConvexSite(free_port())
        with _notifier(nats_server.settings, s3_server.settings):
            async with site.serving():
                job = await accept(bus, site, bucket)
                await job.start()
                await site.until(lambda: site.logs)
            for stage in STAGES:
                await job.complete_stage(stage)
            await job.leave()
            await job.succeed()
            async with asyncio.timeout(20):
                while not (await job.stored()).attempts:
                    await asyncio.sleep(0.05)
            async with site.serving():
                await _completed(job)
                _check(site, "v1")
                assert site.completed == 1


@pytest.mark.soak
async def test_notifiers_that_are_killed_again_and_again_complete_every_video(
    nats_server: EmbeddedNats, s3_server: S3Server, seed: int, soak_runs: int
) -> None:
    rng = random.Random(seed)
    async with (
        publisher(nats_server.settings) as bus,
        workers_bucket(s3_server.settings) as bucket,
        convex_site() as site,
    ):
        with _notifier(nats_server.settings, s3_server.settings) as notifier:
            for run in range(max(1, soak_runs // 5)):
                jobs = [await accept(bus, site, bucket, f"v{run}-{number}") for number in range(5)]
                for job in jobs:
                    await job.leave()
                    await job.start()
                    await job.succeed()
                await asyncio.sleep(rng.random() * 1.5)
                await asyncio.to_thread(notifier.stop, signal.SIGKILL)
                notifier.start()
                for job in jobs:
                    await _completed(job)
                    _check(site, job.callback.video_id)
        sent: dict[str, list[object]] = {}
        for path, body in site.got:
            if path == "/updateResults":
                sent.setdefault(body["videoId"], []).append(body)
        for video_id, bodies in sent.items():
            assert len(bodies) <= 2, f"seed {seed}: one kill repeats one request at most"
            assert all(body == bodies[0] for body in bodies), f"seed {seed}: {video_id}"


async def test_callbacks_go_on_after_a_start_if_the_newest_record_was_erased(nats_server: EmbeddedNats) -> None:
    async with publisher(nats_server.settings) as bus, convex_site() as site:
        await accept(bus, site)
        await accept(bus, site, video_id="v2", tenant="erased")
        await bus.client.jetstream().purge_stream(CALLBACKS.name, subject="saccade.cbk.erased.>")
        async with run_callbacks(nats_server.settings, None) as running:
            assert running.engine.active
