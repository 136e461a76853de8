"""A gateway on a new machine goes on from a snapshot of the view; one that is doubtful is passed over."""

from __future__ import annotations

import asyncio
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from contracts.events import encode
from contracts.events.erasure import ErasureCompleted
from contracts.events.job import JobCancelled
from contracts.ids import new_id
from kit.bucket import Bucket, open_bucket
from kit.bus.connection import declare, request
from kit.settings import NatsSettings, S3Settings
from kit.snapshot_store import SnapshotStore
from services.gateway.__main__ import _OpenView
from services.gateway.aggregates.view import FILE_NAME, GatewayView
from services.gateway.settings import GatewaySettings
from services.gateway.snapshots.snapshot_file import ViewSnapshotHeader, pack, unpack
from services.gateway.snapshots.snapshot_record import SnapshotRecord
from services.gateway.snapshots.view_snapshots import SERVICE, fetch_view
from tests.harness.servers.embedded import HOST, NatsServer, S3Server, free_port
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.servers.gateway_process import environment
from tests.harness.servers.stream_backups import back_up, restore

pytestmark = pytest.mark.anyio
EVERY = 10
Servers = tuple[NatsSettings, S3Settings]
#: Stores a snapshot, and stops after its first part.
_SENDS_ONE_PART = """
import asyncio, sys
from pathlib import Path
from kit.bucket import Bucket, open_bucket
from kit.settings import S3Settings
from kit.snapshot_store import SnapshotStore

async def main():
    send_part = Bucket._send_part
    async def one_part(bucket, *args):
        await send_part(bucket, *args)
        print("sent", flush=True)
        await asyncio.sleep(600)
    Bucket._send_part = one_part
    async with open_bucket(S3Settings()) as bucket:
        async def opened():
            return bucket
        await SnapshotStore(opened, "gateway").send(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))

asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _every(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GATEWAY_SNAPSHOT_EVENTS", str(EVERY))


@pytest.fixture
def servers(nats_server: NatsServer, s3_server: S3Server) -> Servers:
    return nats_server.settings, s3_server.settings


@asynccontextmanager
async def writing(servers: Servers, folder: Path) -> AsyncIterator[tuple[RunningGateway, SnapshotStore]]:
    """Run a gateway that writes snapshots when it is asked to look."""
    async with running_gateway(*servers, folder) as running:
        yield running, store_of(running.bucket)


def store_of(bucket: Bucket) -> SnapshotStore:
    async def opened() -> Bucket:
        return bucket

    return SnapshotStore(opened, SERVICE)


async def cancelled(running: RunningGateway, count: int) -> None:
    """Store events, each of an own job that does not exist."""
    for _ in range(count):
        await running.say(new_id("job"), JobCancelled(attempt=0))


async def started_view(
    running: RunningGateway, store: SnapshotStore, folder: Path, record: SnapshotRecord | None = None
) -> GatewayView:
    """Return the view with which a gateway starts that has this folder."""
    opened = _OpenView(GatewaySettings(data_dir=folder))
    await opened.fetch(store, running.store.client, record)
    assert sorted(path.name for path in folder.iterdir() if "snapshot" in path.name) == []
    return opened.view


async def test_a_new_machine_folds_only_what_came_after_the_snapshot(servers: Servers, tmp_path: Path) -> None:
    async with writing(servers, tmp_path / "old") as (running, store):
        snapshots = running.loop.snapshots
        jobs = [(await running.submitted(await running.uploaded()))["id"] for _ in range(2)]
        await snapshots.look(store)
        (stored,) = await store.all()
        assert (stored.epoch, stored.sequence) == (running.tail.epoch, running.tail.last)
        await running.say(jobs[0], JobCancelled(attempt=0))
        await snapshots.look(store)
        assert snapshots.record.results["stored"] == 1, "too little came after it"
        view = await started_view(running, store, tmp_path / "new" / "view")
        assert (view.epoch, view.sequence) == (stored.epoch, stored.sequence)
        view.close()
        async with running_gateway(*servers, tmp_path / "new") as new:
            assert new.tail.history == (stored.sequence, running.tail.last)
            assert new.tail.last - new.tail.history[0] == 1
            assert new.view.rows() == running.view.rows()
            assert (await new.http.get("/v1/jobs")).json() == (await running.http.get("/v1/jobs")).json()
        # The last two are kept.
        for _ in range(3):
            await cancelled(running, EVERY)
            await snapshots.look(store)
        assert snapshots.record.results["stored"] == 4
        await snapshots.look(store)
        sequences = [stored.sequence for stored in await store.all()]
        assert sequences == [running.tail.last, running.tail.last - EVERY]


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 1]) + data[len(data) // 2 + 1 :]


def signed(content: bytes) -> bytes:
    return content + hashlib.sha256(content).hexdigest().encode()


def of_another_version(data: bytes) -> bytes:
    head, _, rest = data[:-64].partition(b"\n")
    header = ViewSnapshotHeader.model_validate_json(head)
    newer = header.model_copy(update={"view_version": header.view_version + 1})
    return signed(newer.model_dump_json().encode() + b"\n" + rest)


def of_another_event(data: bytes) -> bytes:
    head, _, rest = data[:-64].partition(b"\n")
    header = ViewSnapshotHeader.model_validate_json(head)
    other = header.model_copy(update={"sequence": header.sequence - 1})
    return signed(other.model_dump_json().encode() + b"\n" + rest)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (flipped, ("it is damaged", "damaged")),
        (lambda data: data[:-500], ("it is damaged", "damaged")),
        (lambda _: b"", ("it is damaged", "damaged")),
        (of_another_version, ("another version wrote it", "version")),
        (of_another_event, ("not the one that its key names", "damaged")),
        (lambda data: signed(data[:-64].partition(b"\n")[0] + b"\nno zstd"), ("another version wrote it", "version")),
        (lambda data: signed(data[:-200]), ("another version wrote it", "version")),
    ],
)
async def test_what_is_not_whole_or_not_of_this_version_is_passed_over(
    servers: Servers,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    change: Callable[[bytes], bytes],
    expected: tuple[str, str],
) -> None:
    (told, reason), record = expected, SnapshotRecord()
    caplog.set_level("INFO")
    async with writing(servers, tmp_path / "old") as (running, store):
        await cancelled(running, 1)
        await running.loop.snapshots.look(store)
        (older,) = await store.all()
        await cancelled(running, EVERY)
        await running.loop.snapshots.look(store)
        newest = (await store.all())[0]
        data = await running.bucket.get(newest.key)
        await running.bucket.put(newest.key, change(data), "application/zstd")
        view = await started_view(running, store, tmp_path / "new")
        assert view.sequence == older.sequence
        view.close()
        await store.delete(older)
        view = await started_view(running, store, tmp_path / "other", record)
        assert view.sequence == 0
        view.close()
    assert sum(told in message for message in caplog.messages) == 2
    assert (record.refused, record.results["used"]) == ({reason: 1}, 0)


async def test_a_snapshot_of_a_stream_that_was_created_anew_or_set_back_is_refused_and_deleted(
    servers: Servers, tmp_path: Path
) -> None:
    async with writing(servers, tmp_path / "old") as (running, store):
        await cancelled(running, 3)
        backup = await back_up(running.store.client, "EVENTS")
        await cancelled(running, 3)
        await running.loop.snapshots.look(store)
        (stored,) = await store.all()
        data = await running.bucket.get(stored.key)
    async with running_gateway(*servers, tmp_path / "idle") as running:
        client = running.store.client
        for set_back in (True, False):
            if set_back:
                await restore(client, backup)
            else:
                await request(client, "STREAM.DELETE.EVENTS", {})
                await declare(client)
            record = SnapshotRecord()
            view = await started_view(running, store_of(running.bucket), tmp_path / f"new-{set_back}", record)
            assert (view.sequence, record.refused) == (0, {"lineage": 1})
            view.close()
    async with writing(servers, tmp_path / "next") as (running, store):
        assert await running.bucket.get(stored.key) == data
        await cancelled(running, 1)
        await running.loop.snapshots.look(store)
        (now,) = await store.all()
        assert (now.epoch, now.sequence) == (running.tail.epoch, running.tail.last)
        assert now.epoch != stored.epoch


async def test_nothing_from_before_an_erasure_is_used_or_kept(servers: Servers, tmp_path: Path) -> None:
    async with writing(servers, tmp_path / "old") as (running, store):
        await running.submitted(await running.uploaded(filename="canary-of-ann.mp4"))
        await running.loop.snapshots.look(store)
        (before,) = await store.all()
        now = datetime.now(UTC)
        hashed = hashlib.sha256(b"local").hexdigest()
        data = ErasureCompleted(scope="tenant", tenant_sha256=hashed, until_sequence=running.tail.last, until_time=now)
        message = encode(data, tenant="_system", subject_id=new_id("era"), source="/test")
        sequence = await running.store.publish(message)
        assert await running.tail.wait_for(sequence, 5)
        record = SnapshotRecord()
        view = await started_view(running, store, tmp_path / "new", record)
        assert (view.sequence, record.refused) == (0, {"erased": 1})
        view.close()
        await running.loop.snapshots.look(store)
        (after,) = await store.all()
        assert after.sequence == sequence > before.sequence
        view = await started_view(running, store, tmp_path / "later")
        assert view.sequence == sequence
        view.close()
        assert b"canary-of-ann" not in (tmp_path / "later" / FILE_NAME).read_bytes()


async def test_a_process_that_is_killed_while_it_sends_one_leaves_the_one_before_it(
    servers: Servers, tmp_path: Path
) -> None:
    async with writing(servers, tmp_path / "old") as (running, store):
        await cancelled(running, 3)
        await running.loop.snapshots.look(store)
        (older,) = await store.all()
        large = tmp_path / "large"
        large.write_bytes(os.urandom(20 * 1024 * 1024))
        env = environment(servers, tmp_path, 1, B2_PREFIX="")
        command = [sys.executable, "-c", _SENDS_ONE_PART, older.epoch, str(older.sequence + 1), str(large)]
        sender = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
        try:
            assert sender.stdout
            assert await asyncio.wait_for(sender.stdout.readline(), 60) == b"sent\n"
        finally:
            sender.kill()
            await asyncio.wait_for(sender.wait(), 60)
        assert await store.all() == [older]
        # What a writer left on the disk that was killed before that does no harm.
        (tmp_path / "new").mkdir()
        for name in ("snapshot.fetched", "snapshot.view"):
            (tmp_path / "new" / name).write_bytes(b"half")
        view = await started_view(running, store, tmp_path / "new")
        assert view.sequence == older.sequence
        view.close()


async def test_what_is_folded_meanwhile_is_not_in_it_and_the_view_stays_locked(
    servers: Servers, tmp_path: Path
) -> None:
    async with writing(servers, tmp_path / "old") as (running, _):
        upload_id = await running.uploaded()
        await running.submitted(upload_id)
        position, rows = running.view.sequence, running.view.rows()
        descriptor = running.view.freeze()
        assert descriptor is not None
        header = ViewSnapshotHeader(
            epoch=running.view.epoch, sequence=position, size_bytes=os.fstat(descriptor).st_size
        )
        for _ in range(30):
            await running.submitted(upload_id)
            running.view.commit()
        packed, target = tmp_path / "packed", tmp_path / "then" / FILE_NAME
        target.parent.mkdir()
        assert pack(header, descriptor, packed, threading.Event()) == packed.stat().st_size
        running.view.file.thaw()
        assert unpack(packed, target, 1 << 30) == header
        view = GatewayView(target.parent)
        assert (view.sequence, view.rows()) == (position, rows)
        view.close()
        await running.submitted(upload_id)
        running.view.commit()
        opens = f"from pathlib import Path; from services.gateway.aggregates.view import GatewayView; GatewayView(Path({str(tmp_path / 'old' / 'view')!r}))"  # noqa: E501
        other = subprocess.run([sys.executable, "-c", opens], capture_output=True, text=True, check=False, timeout=60)
        assert "is locked by another process" in other.stderr
    view = GatewayView(tmp_path / "old" / "view")
    assert view.job_counter is not None
    assert len(view.rows()["jobs"]) == 32
    view.close()


async def test_a_bucket_that_does_not_answer_does_not_prevent_a_start(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.snapshots.view_snapshots._START_TIMEOUT_S", 0.2)

    unreachable = servers[1].model_copy(update={"endpoint_url": f"http://{HOST}:{free_port()}"})
    async with running_gateway(*servers, tmp_path / "old") as running, open_bucket(unreachable) as bucket:
        assert not await fetch_view(store_of(bucket), running.store.client, tmp_path / "new")
        view = await started_view(running, store_of(bucket), tmp_path / "new")
        assert view.sequence == 0
        view.close()


async def test_metrics_tell_what_was_stored_and_that_nothing_could_be(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.gateway.snapshots.view_snapshots._LOOK_S", 0.1)
    async with writing(servers, tmp_path / "old") as (running, store):
        await cancelled(running, 1)
        async with asyncio.timeout(30):
            while not await store.all():
                await asyncio.sleep(0.05)
            while 'snapshots_total{result="stored"} 1.0' not in (text := (await running.http.get("/metrics")).text):
                await asyncio.sleep(0.05)
        (stored,) = await store.all()
        assert f"saccade_gateway_snapshot_sequence {float(stored.sequence)}" in text
        assert f"saccade_gateway_snapshot_bytes {float(stored.size_bytes)}" in text
        assert 'saccade_gateway_snapshot_seconds{operation="store"}' in text
        assert 'saccade_gateway_snapshots_total{result="failed"} 0.0' in text
    unreachable = servers[1].model_copy(update={"endpoint_url": f"http://{HOST}:{free_port()}"})
    async with open_bucket(unreachable) as bucket, running_gateway(*servers, tmp_path / "other") as running:
        running.loop.snapshots._store = store_of(bucket)
        async with asyncio.timeout(60):
            while 'snapshots_total{result="failed"} 0.0' in (await running.http.get("/metrics")).text:
                await asyncio.sleep(0.05)
