"""File cache of a worker: used while the bucket holds the same version, else the bucket."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from grpclib import Status

from contracts.assignment import Assignment
from contracts.events.job import PartOf
from contracts.ids import new_id
from contracts.job import State
from contracts.limits import KIB
from kit.bucket import Bucket, ObjectMissing, Transfer
from modal_workers.runtime.files import cached_bucket
from modal_workers.runtime.files.cached_bucket import MIN_CACHED_BYTES, CachedBucket
from modal_workers.runtime.files.file_cache import CacheEntry, FileCache
from tests.harness.runtime.executor_environment import EXECUTORS, ExecutorHarness, ExecutorServers, open_harness, serve
from tests.workers.scripted.spec import WORKLOAD

pytestmark = pytest.mark.anyio

BODY = bytes(range(256)) * 1024
#: What the cache holds instead, where it shows that the cache was asked: the bucket never had it.
MARKED = BODY[::-1]


def sha256(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ExecutorServers]:
    with serve(tmp_path_factory, ["tests.workers.scripted.app"]) as servers:
        yield servers


@pytest.fixture(params=EXECUTORS)
async def harness(
    request: pytest.FixtureRequest, tmp_path: Path, servers: ExecutorServers
) -> AsyncIterator[ExecutorHarness]:
    async with open_harness(request.param, tmp_path / "data", servers) as harness:
        yield harness


@pytest.fixture
async def bucket(tmp_path: Path, servers: ExecutorServers) -> AsyncIterator[Bucket]:
    async with open_harness("local", tmp_path / "bucket", servers) as harness:
        yield harness.driver.bucket


async def mark(cache: FileCache, bucket: Bucket, key: str, folder: Path) -> None:
    """Make the cache hold other bytes than the bucket, with the bucket's description."""
    etag, size = await bucket.version(key)
    (folder / "marked").write_bytes(MARKED[:size])
    note = CacheEntry(key=key, etag=etag, bytes=size, sha256=sha256(MARKED[:size]))
    assert cache.put(note, folder / "marked")


# ---- stages of a pipeline, on every executor


async def stage(harness: ExecutorHarness, pipeline_id: str, *script: str) -> dict[str, str]:
    """Run a job of a pipeline's stage to its end; return its notes."""
    executor = harness.executor()
    assignment = await harness.driver.submit(*script)
    part = PartOf(job_id=pipeline_id, stage="first", shard=0, shards=1)
    assignment = Assignment.model_validate(assignment.model_dump() | {"part_of": part})
    call_id = await executor.launch(assignment, WORKLOAD.compute)
    await harness.ended(executor, call_id)
    job = await harness.driver.until(assignment.job_id, State.SUCCEEDED)
    assert job.result is not None
    notes: dict[str, str] = job.result["notes"]
    return notes


async def test_a_later_stage_has_it_from_the_cache_until_the_bucket_has_another_version(
    harness: ExecutorHarness, tmp_path: Path
) -> None:
    home_id, bucket = new_id("job"), harness.driver.bucket
    await stage(harness, home_id, f"save frames/one.bin {len(BODY)}", f"save small.bin {MIN_CACHED_BYTES - 256}")
    await harness.until_cached(home_id, 1)
    key = bucket.key("results", home_id, "frames/one.bin")
    cache = FileCache(harness.cache, home_id)
    await mark(cache, bucket, key, tmp_path)
    notes = await stage(harness, home_id, "artifact frames/one.bin", "artifact small.bin")
    assert notes["artifact frames/one.bin"] == sha256(MARKED), "it was not fetched again"
    assert notes["artifact small.bin"] == sha256(BODY[: MIN_CACHED_BYTES - 256])

    changed = BODY[256:] + b"?" * 256  # as long as before
    await bucket.put(key, changed)
    assert (await stage(harness, home_id, "artifact frames/one.bin"))["artifact frames/one.bin"] == sha256(changed)
    end = time.monotonic() + 30
    while (note := cache.find(key)) is None or note.sha256 != sha256(changed):
        assert time.monotonic() < end, "what was fetched is not in the cache"
        await asyncio.sleep(0.05)
    await bucket.delete(key)
    assert (await stage(harness, home_id, "artifact frames/one.bin"))["artifact frames/one.bin"] == "none"


async def test_a_cache_in_ruins_fails_no_stage(harness: ExecutorHarness) -> None:
    home_id = new_id("job")
    await stage(harness, home_id, f"save one.bin {len(BODY)}")
    await harness.until_cached(home_id, 1)
    for entry in (harness.cache / home_id).iterdir():
        os.truncate(entry, entry.stat().st_size - 1)
    assert (await stage(harness, home_id, "artifact one.bin"))["artifact one.bin"] == sha256(BODY)
    other_id = new_id("job")
    (harness.cache / other_id).write_bytes(b"no folder")
    notes = await stage(harness, other_id, f"save one.bin {len(BODY)}", "artifact one.bin")
    assert notes["artifact one.bin"] == sha256(BODY)


async def test_a_worker_that_begins_removes_what_nobody_has_touched_for_two_days(harness: ExecutorHarness) -> None:
    old, young = new_id("job"), new_id("job")
    for job_id, days in ((old, 2.1), (young, 1.9)):
        (harness.cache / job_id).mkdir()
        for path in (harness.cache / job_id / "0a", harness.cache / job_id):
            if path.name == "0a":
                path.write_bytes(b"left")
            os.utime(path, (time.time() - days * 86_400,) * 2)
    await stage(harness, new_id("job"), "sleep 0.5")
    end = time.monotonic() + 30
    while (harness.cache / old / "0a").exists():
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    assert (harness.cache / young / "0a").exists()


async def test_a_volume_that_cannot_be_committed_fails_no_stage(tmp_path: Path, servers: ExecutorServers) -> None:
    async with open_harness("modal", tmp_path / "data", servers) as harness:
        home_id = new_id("job")
        servers.loopback.fail("VolumeCommit", Status.PERMISSION_DENIED)
        await stage(harness, home_id, f"save one.bin {len(BODY)}")
        while not all(record.ended for record in servers.loopback.containers):
            await asyncio.sleep(0.05)
        servers.loopback.heal()
        assert not (harness.cache / home_id).exists()
        assert (await stage(harness, home_id, "artifact one.bin"))["artifact one.bin"] == sha256(BODY)


# ---- what is worth keeping


class Watched:
    """Bucket with a cache, as one run uses it."""

    def __init__(self, bucket: Bucket, folder: Path) -> None:
        self.bucket = bucket
        self.home_id = new_id("job")
        self.folder = folder
        (folder / "volume").mkdir()
        self.cache = FileCache(folder / "volume", self.home_id)
        self.files = self.run()

    def run(self, cache: FileCache | None = None) -> CachedBucket:
        return CachedBucket(self.bucket, cache or self.cache)

    def key(self, name: str) -> str:
        return self.bucket.key("scratch", self.home_id, "checkpoints", name)

    async def send(self, body: bytes, name: str = "state.npz") -> Transfer:
        (self.folder / "sent").write_bytes(body)
        return await self.files.send(self.folder / "sent", self.key(name), "application/octet-stream", name)

    async def fetch(self, name: str = "state.npz", files: CachedBucket | None = None) -> bytes:
        await (files or self.files).fetch(self.key(name), self.folder / "fetched")
        return (self.folder / "fetched").read_bytes()


@pytest.fixture
def watched(bucket: Bucket, tmp_path: Path) -> Watched:
    return Watched(bucket, tmp_path)


async def test_a_file_is_kept_from_64_kib_on(watched: Watched) -> None:
    await watched.send(b"x" * (MIN_CACHED_BYTES - 1), "small")
    await watched.send(b"x" * MIN_CACHED_BYTES, "large")
    assert watched.cache.find(watched.key("small")) is None
    assert watched.cache.find(watched.key("large")) is not None
    assert MIN_CACHED_BYTES == 64 * KIB


async def test_what_is_fetched_is_kept_for_the_next(watched: Watched, tmp_path: Path) -> None:
    await watched.bucket.put(watched.key("state.npz"), BODY)
    assert await watched.fetch() == BODY
    await mark(watched.cache, watched.bucket, watched.key("state.npz"), tmp_path)
    assert await watched.fetch(files=watched.run()) == MARKED


async def test_a_checkpoint_of_each_minute_is_kept_once_and_then_no_more(watched: Watched) -> None:
    await watched.send(BODY)
    assert watched.cache.find(watched.key("state.npz")) is not None
    for body in (MARKED, BODY, MARKED):
        await watched.send(body)
        assert watched.cache.find(watched.key("state.npz")) is None, "a stale version takes no room"
    assert await watched.fetch(files=watched.run()) == MARKED
    note = watched.cache.find(watched.key("state.npz"))
    assert note is not None, "the run that goes on from it has it"
    assert note.sha256 == sha256(MARKED)


async def test_two_runs_that_want_the_same_at_once_both_have_it(watched: Watched) -> None:
    await watched.bucket.put(watched.key("scene.npz"), BODY)

    async def one(number: int) -> bytes:
        target = watched.folder / f"shard {number}"
        await watched.run().fetch(watched.key("scene.npz"), target)
        return target.read_bytes()

    assert await asyncio.gather(*(one(number) for number in range(8))) == [BODY] * 8
    note = watched.cache.find(watched.key("scene.npz"))
    assert note is not None
    assert (note.bytes, note.sha256) == (len(BODY), sha256(BODY))
    assert len(list((watched.folder / "volume" / watched.home_id).iterdir())) == 1


async def test_what_the_bucket_has_not_is_missing_whatever_the_cache_has(watched: Watched) -> None:
    await watched.send(BODY)
    await watched.bucket.delete(watched.key("state.npz"))
    with pytest.raises(ObjectMissing):
        await watched.fetch(files=watched.run())


class Hanging(FileCache):
    """File cache on a network folder that does not respond."""

    asked = 0

    def find(self, key: str) -> CacheEntry | None:
        self.asked += 1
        time.sleep(1.0)
        return super().find(key)

    def put(self, note: CacheEntry, path: Path) -> bool:
        self.asked += 1
        time.sleep(1.0)
        return super().put(note, path)


async def test_a_cache_that_hangs_is_asked_once(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cached_bucket, "_CACHE_TIMEOUT_S", 0.1)
    await watched.bucket.put(watched.key("state.npz"), BODY)
    hanging = Hanging(watched.folder / "volume", watched.home_id)
    files = watched.run(hanging)
    for _ in range(5):
        assert await watched.fetch(files=files) == BODY
    assert hanging.asked == 1
