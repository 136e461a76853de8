"""The bucket keeps nothing by accident: late bytes, orphans and forgotten parts are found and removed."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import encode
from contracts.events.job import JobCancelled
from contracts.events.upload import UploadFailed
from contracts.ids import new_id
from contracts.limits import PART_BYTES
from contracts.upload import Upload
from kit.bucket import ObjectMissing
from kit.bucket_inventory import StoredObject, list_multiparts
from kit.s3_client import StorageRefused
from services.dispatcher.jobs.job_repository import NotLeading
from services.dispatcher.jobs.stored_uploads import StoredUploads
from services.dispatcher.jobs.unfinished_jobs import UnfinishedJobs
from services.dispatcher.lifecycle.upload_sweep import UploadSweep
from services.dispatcher.lifecycle.used_uploads import UsedUploads
from services.dispatcher.settings import RetentionSettings
from tests.harness.dispatch.dispatcher import Servers, shared_servers
from tests.harness.servers.gateway import RunningGateway, running_gateway, video

pytestmark = pytest.mark.anyio

LATER = timedelta(hours=200)


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with shared_servers(tmp_path_factory.mktemp("sweep")) as both:
        yield both


@pytest.fixture
async def running(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningGateway]:
    nats, s3 = servers
    async with running_gateway(nats.settings, s3.settings, tmp_path) as found:
        yield found


@dataclass
class Leader:
    """A dispatcher that leads, or no longer, at some time."""

    later: timedelta = timedelta()
    leads: bool = True

    def clock(self) -> datetime:
        return datetime.now(UTC) + self.later

    def require_leader(self) -> None:
        if not self.leads:
            raise NotLeading


async def folded(_: int, __: float) -> bool:
    return True


UNUSED = UsedUploads(UnfinishedJobs(), folded)


def sweep_of(running: RunningGateway, later: timedelta = timedelta(), *, leads: bool = True) -> UploadSweep:
    leader = Leader(later, leads)
    return UploadSweep(StoredUploads(running.store), running.bucket, RetentionSettings(), leader, UNUSED)


async def announced(running: RunningGateway, **more: object) -> dict[str, object]:
    wanted = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 10} | more
    found: dict[str, object] = (await running.http.post("/v1/uploads", json=wanted)).json()
    return found


async def put(created: dict[str, object], body: bytes) -> None:
    async with httpx.AsyncClient() as client:
        sent = await client.put(str(created["url"]), content=body, headers={"Content-Type": "video/mp4"})
    assert sent.is_success, sent.text


async def keys(running: RunningGateway) -> list[str]:
    return await running.bucket.list_keys(running.bucket.key("uploads"))


async def test_bytes_that_arrive_after_the_deletion_go(running: RunningGateway):
    before = await keys(running)
    created = await announced(running)
    assert (await running.http.delete(f"/v1/uploads/{created['id']}")).is_success
    await put(created, bytes(10))
    assert len(await keys(running)) == len(before) + 1
    sweep = sweep_of(running)
    await sweep.sweep()
    assert await keys(running) == before
    assert sweep.removed == 1
    await put(created, bytes(10))  # its URL is still valid
    await sweep.sweep()
    assert await keys(running) == before


async def test_bytes_of_a_deleted_upload_stay_until_the_job_has_ended_that_was_submitted_before(
    running: RunningGateway,
):
    upload_id = await running.uploaded()
    (key,) = (key for key in await keys(running) if upload_id in key)
    job = await running.submitted(upload_id)
    deleted = encode(UploadFailed(reason="deleted"), tenant="local", subject_id=upload_id, source="/gateway")
    deleted_at = await running.store.publish(deleted)
    jobs = UnfinishedJobs()
    folded_until = 0

    async def read_until(sequence: int, _: float) -> bool:
        return sequence <= folded_until

    used = UsedUploads(jobs, read_until)
    sweep = UploadSweep(StoredUploads(running.store), running.bucket, RetentionSettings(), Leader(), used)
    await sweep.sweep()
    assert key in await keys(running), "the job may be among the events that are not folded yet"
    jobs.put(await running.job(job["id"]))
    folded_until = deleted_at
    await sweep.sweep()
    assert key in await keys(running)
    await running.say(job["id"], JobCancelled(attempt=0))
    jobs.put(await running.job(job["id"]))
    jobs.unloaded["job_retried"] = "local"
    await sweep.sweep()
    assert key in await keys(running), "the inputs of a retried job that is not loaded are not known"
    jobs.unloaded.clear()
    await sweep.sweep()
    assert key not in await keys(running)


async def test_other_bytes_after_the_completion_go_and_the_checked_ones_stay(running: RunningGateway):
    clip = video()
    names = []
    for _ in range(3):
        created = await announced(running, size_bytes=len(clip))
        await put(created, clip)
        assert (await running.http.post(f"/v1/uploads/{created['id']}/complete")).is_success
        names.append(next(key for key in await keys(running) if str(created["id"]) in key))
    kept, replaced, longer = names
    await running.bucket.put(longer, bytes(40_000), "video/mp4")
    await sweep_of(running).sweep()
    assert await running.bucket.size(kept) == len(clip)
    with pytest.raises(ObjectMissing):
        await running.bucket.size(longer)

    await running.bucket.put(replaced, clip[:-1] + b"x", "video/mp4")
    folder, late = f"{running.bucket.key('uploads')}/", datetime.now(UTC) + timedelta(hours=1)
    sweep = sweep_of(running)
    said = [await sweep.why_remove(StoredObject(key, len(clip), late), folder) for key in (kept, replaced)]
    assert said == [None, "it was replaced after it was checked"]


class CountedUploads(StoredUploads):
    """Counts which uploads are read."""

    def __init__(self, running: RunningGateway) -> None:
        super().__init__(running.store)
        self.read: list[str] = []

    async def load(self, tenant: str, upload_id: str) -> Upload | None:
        self.read.append(upload_id)
        return await super().load(tenant, upload_id)


class UnreadableUploads(StoredUploads):
    """Cannot read the events of some uploads: a segment of the archive is damaged."""

    def __init__(self, running: RunningGateway, unreadable: set[str]) -> None:
        super().__init__(running.store)
        self.unreadable = unreadable

    async def load(self, tenant: str, upload_id: str) -> Upload | None:
        if upload_id in self.unreadable:
            raise SaccadeError(ErrorCode.SEGMENT_DAMAGED)
        return await super().load(tenant, upload_id)


async def test_an_upload_that_cannot_be_read_keeps_no_other_from_being_swept(running: RunningGateway):
    created = [await announced(running) for _ in range(3)]
    before = await keys(running)
    for one in created:
        assert (await running.http.delete(f"/v1/uploads/{one['id']}")).is_success
        await put(one, bytes(10))
    unreadable = str(min(one["id"] for one in created))
    uploads = UnreadableUploads(running, {unreadable})
    await UploadSweep(uploads, running.bucket, RetentionSettings(), Leader(), UNUSED).sweep()
    (left,) = {*await keys(running)} - {*before}
    assert unreadable in left
    await sweep_of(running).sweep()
    assert await keys(running) == before


@pytest.mark.parametrize("later", [timedelta(), timedelta(hours=48)], ids=["new", "long unchanged"])
async def test_files_that_the_bucket_refuses_to_delete_keep_no_others(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, later: timedelta
):
    created = [await announced(running) for _ in range(3)]
    before = await keys(running)
    for one in created:
        assert (await running.http.delete(f"/v1/uploads/{one['id']}")).is_success
        await put(one, bytes(10))
    call, locked = running.bucket.call, str(min(one["id"] for one in created))

    async def refuse(operation: str, **params: Any) -> Any:
        if operation == "delete_object" and locked in params["Key"]:
            raise StorageRefused(ErrorCode.STORAGE_UNAVAILABLE, "The bucket refused delete_object.")
        return await call(operation, **params)

    sweep = sweep_of(running, later)
    with monkeypatch.context() as patched:
        patched.setattr(running.bucket, "call", refuse)
        await sweep.sweep()
        (left,) = {*await keys(running)} - {*before}
        assert locked in left
        assert sweep.removed == 2
        assert f"{left} stays though its upload was deleted: storage_unavailable: The bucket refused" in caplog.text
    await sweep.sweep()
    assert await keys(running) == before


async def test_what_was_found_right_is_read_again_when_it_changes_and_once_a_day_and_nothing_is_kept_of_it(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch
):
    listed, changed_later = running.bucket.list_entries, dict[str, timedelta]()

    async def list_entries(prefix: str) -> AsyncIterator[dict[str, Any]]:
        async for entry in listed(prefix):
            yield entry | {"LastModified": entry["LastModified"] + changed_later.get(entry["Key"], timedelta())}

    clip, names = video(), dict[str, str]()
    for name in ("right", "changed", "open"):
        created = await announced(running, size_bytes=len(clip))
        await put(created, clip)
        if name != "open":
            assert (await running.http.post(f"/v1/uploads/{created['id']}/complete")).is_success
        names[name] = str(created["id"])
    uploads, leader = CountedUploads(running), Leader(timedelta(hours=48))
    sweep = UploadSweep(uploads, running.bucket, RetentionSettings(), leader, UNUSED)
    with monkeypatch.context() as patched:
        patched.setattr(running.bucket, "list_entries", list_entries)
        await sweep.sweep()
        assert set(names.values()) <= set(uploads.read)
        uploads.read.clear()
        await sweep.sweep()
        assert set(names.values()) & set(uploads.read) == {names["open"]}

        (key,) = (key for key in await keys(running) if names["changed"] in key)
        changed_later[key] = leader.later
        await running.bucket.put(key, clip[:-1] + b"x", "video/mp4")
        uploads.read.clear()
        await sweep.sweep()
        assert {names["right"], names["changed"]} & set(uploads.read) == {names["changed"]}
        assert key not in await keys(running)

        leader.later += timedelta(hours=25)
        uploads.read.clear()
        await sweep.sweep()
        assert {names["right"], names["open"]} <= set(uploads.read)
    kept = pickle.dumps({name: value for name, value in vars(sweep).items() if isinstance(value, dict | set)})
    assert names["open"].encode() in kept
    assert names["right"].encode() not in kept


async def test_a_file_that_was_sent_again_and_completed_since_the_listing_stays(running: RunningGateway):
    """The listing has the size of what was sent first; that of the upload is of what was sent and checked since."""
    clip = video()
    created = await announced(running, size_bytes=len(clip))
    await put(created, clip)
    assert (await running.http.post(f"/v1/uploads/{created['id']}/complete")).is_success
    (key,) = (key for key in await keys(running) if str(created["id"]) in key)
    folder = f"{running.bucket.key('uploads')}/"
    listed = StoredObject(key, len(clip) - 1, datetime.now(UTC))
    assert await sweep_of(running).why_remove(listed, folder) is None
    await running.bucket.delete(key)
    assert await sweep_of(running).why_remove(listed, folder) is None


def upload_id_at(moment: datetime) -> str:
    """Return an upload's id that was made at a time."""
    stamp_ms, made = int(moment.timestamp() * 1000), uuid.UUID(new_id("upl").partition("_")[2])
    return f"upl_{uuid.UUID(int=stamp_ms << 80 | made.int & (1 << 80) - 1)}"


async def test_bytes_of_no_upload_go_after_a_week_and_what_is_not_an_uploads_stays(running: RunningGateway):
    await announced(running)  # the stream has an event
    orphan = running.bucket.key("uploads", "local", upload_id_at(datetime.now(UTC) + timedelta(hours=1)), "a.mp4")
    other = running.bucket.key("uploads", "notes.txt")
    for key in (orphan, other):
        await running.bucket.put(key, b"x")
    await sweep_of(running, timedelta(hours=160)).sweep()
    assert orphan in await keys(running)
    await sweep_of(running, LATER).sweep()
    assert orphan not in await keys(running)
    assert other in await keys(running)
    await running.bucket.delete(other)


async def test_files_of_an_upload_whose_events_are_not_in_the_stream_any_more_stay(running: RunningGateway):
    """Its events are 90 days old, or in the archive, or the stream was created anew: it was one nevertheless."""
    await announced(running)
    first = (await StoredUploads(running.store).complete_since()) or datetime.now(UTC)
    old = running.bucket.key("uploads", "local", upload_id_at(first - timedelta(days=1)), "a.mp4")
    await running.bucket.put(old, b"x")
    await sweep_of(running, LATER).sweep()
    assert old in await keys(running)
    await running.bucket.delete(old)


async def test_parts_of_ended_uploads_and_forgotten_ones_go(running: RunningGateway):
    created = await announced(running, size_bytes=PART_BYTES + 1, multipart=True)
    open_one = await announced(running, size_bytes=PART_BYTES + 1, multipart=True)
    assert (await running.http.delete(f"/v1/uploads/{created['id']}")).is_success
    key = running.bucket.key("results", new_id("job"), "large.mp4")
    forgotten = await running.bucket.start_multipart(key, "video/mp4")
    late = running.bucket.key("uploads", "local", str(created["id"]), "a.mp4")
    late_id = await running.bucket.start_multipart(late, "video/mp4")

    async def ids() -> set[str]:
        return {multipart.id async for multipart in list_multiparts(running.bucket, running.bucket.key(""))}

    assert {forgotten, late_id, open_one["multipart_id"]} <= await ids()
    await sweep_of(running).sweep()
    assert late_id not in await ids()
    assert {forgotten, open_one["multipart_id"]} <= await ids()
    await sweep_of(running, LATER).sweep()
    assert not await ids()


async def test_parts_go_also_after_the_bucket_was_away(
    running: RunningGateway, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    key = running.bucket.key("results", new_id("job"), "large.mp4")
    forgotten = await running.bucket.start_multipart(key, "video/mp4")
    call = running.bucket.call

    async def fail(operation: str, **params: Any) -> Any:
        if operation == "list_multipart_uploads":
            raise SaccadeError(ErrorCode.STORAGE_UNAVAILABLE)
        return await call(operation, **params)

    sweep = sweep_of(running, LATER)
    with monkeypatch.context() as patched:
        patched.setattr(running.bucket, "call", fail)
        await sweep.sweep()
        await sweep.sweep()
    assert caplog.text.count("multipart uploads cannot be listed") == 1
    assert forgotten in {multipart.id async for multipart in list_multiparts(running.bucket, key)}
    await sweep.sweep()
    assert forgotten not in {multipart.id async for multipart in list_multiparts(running.bucket, key)}


async def test_a_dispatcher_that_leads_no_longer_removes_nothing(running: RunningGateway):
    created = await announced(running)
    assert (await running.http.delete(f"/v1/uploads/{created['id']}")).is_success
    await put(created, bytes(10))

    with pytest.raises(NotLeading):
        await sweep_of(running, leads=False).sweep()
    assert any(str(created["id"]) in key for key in await keys(running))
