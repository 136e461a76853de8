"""Backups from the command line: of a bus and a bucket, verified, into a new data folder and onto an empty bus."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from cli.__main__ import saccade
from cli.backups.backup_folder import BackupFolder
from cli.embedded.servers import servers_of_folder
from cli.failure import Failure
from cli.history.access import open_client
from contracts.audit import ChainVerifier
from contracts.events.base import Cursor, Message
from contracts.streams import DELIVERIES, EVENTS, LEASES, OPS, PROGRESS, STREAMS, WEBHOOKS
from kit.bucket import open_bucket
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import request
from kit.bus.lineage import position_of_stream
from kit.bus.stream_copies import stream_state
from kit.settings import NatsSettings, S3Settings, as_environment
from tests.harness.history.stories import stored_stories, story
from tests.harness.servers.chosen_bus import chosen_bus
from tests.harness.servers.embedded import EmbeddedS3, NatsServer

OBJECTS = {"results/job_1/report.html": b"<p>", "uploads/upl_1/a film.mp4": b"\x00" * 70_000, "archive/x/1-2.zst": b"z"}


@dataclass
class Original:
    """A bus and a bucket with something of everything in them."""

    nats: NatsServer
    s3: S3Settings

    @property
    def environment(self) -> dict[str, str]:
        return as_environment(self.nats.settings, self.s3)


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory, shared_s3: EmbeddedS3) -> Iterator[Original]:
    with chosen_bus(tmp_path_factory.mktemp("nats")) as nats:
        found = Original(nats, shared_s3.with_new_bucket().settings)
        asyncio.run(_fill(found))
        yield found


async def _fill(original: Original) -> None:
    async with stored_stories(
        original.nats.settings, [story("acme", ends=ends) for ends in ("succeeded", "never")]
    ) as store:
        for stream, subject in (
            (WEBHOOKS.name, "saccade.whk.acme.whk_1"),
            (WEBHOOKS.name, "saccade.whk.acme.whk_1"),
            (DELIVERIES.name, "saccade.dlv.acme.webhook.whk_1.delivered"),
            (PROGRESS.name, "saccade.prog.acme.job.job_1.progressed"),
        ):
            await EventStore(store.client, stream).publish(Message(subject, f"{stream}-{subject}-{id(subject)}", b"{}"))
    async with open_bucket(original.s3) as bucket:
        await bucket.create()
        for key, body in OBJECTS.items():
            await bucket.put(key, body)


def run(environment: dict[str, str], *words: str | Path) -> Result:
    with pytest.MonkeyPatch.context() as patched:
        for name in ("NATS_URL", "S3_ENDPOINT_URL"):
            patched.delenv(name, raising=False)
        for name, value in environment.items():
            patched.setenv(name, value)
        return CliRunner().invoke(saccade, [*map(str, words)], catch_exceptions=True)


def shown(environment: dict[str, str], *words: str | Path) -> dict[str, Any]:
    done = run(environment, *words, "--json")
    assert done.exit_code == 0, done.output + repr(done.exception)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def failure(done: Result) -> str:
    assert isinstance(done.exception, Failure), done.output + repr(done.exception)
    return done.exception.code


@pytest.fixture(scope="module")
def backup(original: Original, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("backups") / "backup"
    made = shown(original.environment, "backup", folder)
    assert (made["object_count"], made["objects"]) == (len(OBJECTS), "copied")
    assert set(made["messages"]) == {stream.name for stream in STREAMS if stream.in_backup}
    return folder


async def _contents(settings: NatsSettings, stream: str) -> list[StoredEvent]:
    async with open_client(settings) as client:
        found, _ = await EventStore(client, stream).batch(0, size=5000, with_headers=True)
        return found


def rows(found: list[StoredEvent]) -> list[tuple[Any, ...]]:
    return [
        (event.sequence, event.subject, event.body, event.headers["Nats-Time-Stamp"], event.headers["Nats-Msg-Id"])
        for event in found
    ]


async def _objects(settings: S3Settings) -> dict[str, bytes]:
    async with open_bucket(settings) as bucket:
        return {key: await bucket.get(key) for key in await bucket.list_keys("")}


def test_a_backup_is_restored_into_a_new_folder_and_read_back(original: Original, backup: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    restored = shown({}, "restore", backup, "--data", data, "--verify")
    assert restored["read_back"]

    async def check() -> None:
        async with servers_of_folder(data, print) as servers:
            for stream in (EVENTS, WEBHOOKS, DELIVERIES):
                expected = rows(await _contents(original.nats.settings, stream.name))
                assert expected
                assert rows(await _contents(servers.nats, stream.name)) == expected
            assert servers.s3
            assert await _objects(servers.s3) == OBJECTS
            async with open_client(servers.nats) as client:
                verifier = ChainVerifier()
                async for stored in EventStore(client, OPS.name).history(0):
                    verifier.add(stored.sequence, stored.subject, stored.body)
                verbs = [json.loads(event.body)["type"] for event in await _contents(servers.nats, OPS.name)]
                assert (verifier.faults, verifier.open_intents) == ([], {})
                assert verbs == ["backup.requested", "backup.stored", "backup.restore_requested", "backup.restored"]
                assert (await stream_state(client, PROGRESS.name) or {})["messages"] == 0
                assert (await stream_state(client, LEASES.name) or {})["messages"] == 0

    asyncio.run(check())


@pytest.mark.parametrize("newest", [True, False])
def test_the_epoch_is_kept_only_by_the_newest_state(
    original: Original, backup: Path, tmp_path: Path, newest: bool
) -> None:
    data = tmp_path / "data"
    words = ["--newest"] if newest else []
    assert shown({}, "restore", backup, "--data", data, *words)["epoch_kept"] == newest

    async def check() -> None:
        async with open_client(original.nats.settings) as client:
            before = await position_of_stream(client, EVENTS.name)
        epoch, last = before.lineage.current.id, before.last
        async with servers_of_folder(data, print) as servers, open_client(servers.nats) as client:
            await EventStore(client).publish(Message("saccade.evt.acme.job.job_9.queued", "evt_new", b"{}"))
            lineage = (await position_of_stream(client, EVENTS.name)).lineage
            assert lineage.position_of(Cursor(epoch, last)) == last
            assert lineage.position_of(Cursor(epoch, last + 1)) == (last + 1 if newest else None)
            assert (lineage.current.id == epoch) == newest

    asyncio.run(check())


def test_an_event_that_is_sent_again_after_a_restore_is_stored_once(
    original: Original, backup: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shown({}, "restore", backup, "--data", data)

    async def check() -> None:
        async with servers_of_folder(data, print) as servers, open_client(servers.nats) as client:
            last = (await _contents(servers.nats, EVENTS.name))[-1]
            again = Message(last.subject, last.headers["Nats-Msg-Id"], last.body)
            assert await EventStore(client).publish(again) == last.sequence
            assert len(await _contents(servers.nats, EVENTS.name)) == last.sequence

    asyncio.run(check())


def test_a_backup_is_restored_onto_an_empty_bus_and_never_onto_another(
    original: Original, backup: Path, tmp_path: Path, shared_s3: EmbeddedS3
) -> None:
    with chosen_bus(tmp_path) as nats:
        target = as_environment(nats.settings, shared_s3.with_new_bucket().settings)
        restored = shown(target, "restore", backup, "--verify")
        assert restored["data"] is None
        expected = rows(asyncio.run(_contents(original.nats.settings, EVENTS.name)))
        assert rows(asyncio.run(_contents(nats.settings, EVENTS.name))) == expected
        assert failure(run(target, "restore", backup)) == "system_not_empty"
        assert rows(asyncio.run(_contents(nats.settings, EVENTS.name))) == expected
    assert failure(run(original.environment, "restore", backup)) == "system_not_empty"


def _damage(folder: Path, how: str) -> None:
    events = folder / "streams" / "EVENTS.s2"
    content = events.read_bytes()
    match how:
        case "cut off":
            events.write_bytes(content[:-100])
        case "changed":
            events.write_bytes(content[:200] + bytes([content[200] ^ 1]) + content[201:])
        case "missing object":
            (folder / "bucket" / "results" / "job_1" / "report.html").unlink()
        case "changed object":
            (folder / "bucket" / "results" / "job_1" / "report.html").write_bytes(b"<b>")
        case "shorter list":
            listed = folder / "objects.ndjson"
            listed.write_text("".join(listed.read_text().splitlines(keepends=True)[1:]))
        case "no manifest":
            (folder / "backup.json").unlink()


@pytest.mark.parametrize(
    "how", ["cut off", "changed", "missing object", "changed object", "shorter list", "no manifest"]
)
def test_a_damaged_backup_is_refused_before_anything_is_restored(backup: Path, tmp_path: Path, how: str) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    _damage(damaged, how)
    expected = "backup_unknown" if how == "no manifest" else "backup_damaged"
    assert failure(run({}, "restore", damaged, "--data", tmp_path / "data")) == expected
    assert failure(run({}, "restore", damaged, "--dry-run")) == expected
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_a_restore_that_fails_leaves_nothing(backup: Path, tmp_path: Path) -> None:
    """A backup whose hashes are right and whose stream is not, as of another nats-server."""
    damaged = tmp_path / "damaged"
    shutil.copytree(backup, damaged)
    events = damaged / "streams" / "EVENTS.s2"
    events.write_bytes(events.read_bytes()[:-20])
    manifest = json.loads((damaged / "backup.json").read_text())
    for stream in manifest["streams"]:
        if stream["name"] == "EVENTS":
            stream["file"] = BackupFolder(damaged).describe(events).model_dump()
    (damaged / "backup.json").write_text(json.dumps(manifest))
    done = run({}, "restore", damaged, "--data", tmp_path / "data")
    assert done.exit_code != 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["damaged"]


def test_a_restore_onto_a_bus_that_was_killed_is_begun_again(
    original: Original, backup: Path, tmp_path: Path, shared_s3: EmbeddedS3
) -> None:
    """A stream with the mark of a restore, and fewer messages than the backup: as a kill leaves it."""
    with chosen_bus(tmp_path) as nats:

        async def interrupted() -> None:
            async with open_client(nats.settings) as client:
                config = {
                    "name": EVENTS.name,
                    "subjects": list(EVENTS.subjects),
                    "metadata": {"saccade.restoring": "true"},
                }
                assert "error" not in await request(client, f"STREAM.CREATE.{EVENTS.name}", config)
                await client.jetstream().publish("saccade.evt.acme.job.job_1.queued", b"{}")

        asyncio.run(interrupted())
        target = as_environment(nats.settings, shared_s3.with_new_bucket().settings)
        assert shown(target, "restore", backup, "--verify")["read_back"]
        assert rows(asyncio.run(_contents(nats.settings, EVENTS.name))) == rows(
            asyncio.run(_contents(original.nats.settings, EVENTS.name))
        )
        assert failure(run(target, "restore", backup)) == "system_not_empty"


def test_a_backup_is_not_taken_for_the_newest_state_where_the_archive_knows_better(
    backup: Path, tmp_path: Path, shared_s3: EmbeddedS3
) -> None:
    with chosen_bus(tmp_path) as nats:
        s3 = shared_s3.with_new_bucket().settings

        async def archive() -> None:
            async with open_bucket(s3) as bucket:
                await bucket.create()
                await bucket.put("archive/abc/000000000000000001-000000000000009999.ndjson.zst", b"segment")

        asyncio.run(archive())
        target = as_environment(nats.settings, s3)
        assert failure(run(target, "restore", backup, "--newest")) == "backup_older"
        assert not shown(target, "restore", backup)["epoch_kept"]


def test_the_bucket_of_the_archive_is_in_the_backup(original: Original, tmp_path: Path, shared_s3: EmbeddedS3) -> None:
    source, target = shared_s3.with_new_bucket().settings, shared_s3.with_new_bucket().settings
    segment = "archive/abc/000000000000000001-000000000000009999.ndjson.zst"

    async def fill() -> None:
        async with open_bucket(original.s3) as bucket, open_bucket(source) as archive:
            await archive.create()
            await archive.put(segment, b"segment")
            await archive.put("something/else", b"of somebody else")
            assert any(key.startswith("archive/") for key in await bucket.list_keys(""))  # of an earlier setting

    asyncio.run(fill())
    folder = tmp_path / "backup"
    shown(original.environment | {"ARCHIVE_BUCKET": source.bucket}, "backup", folder)
    (tmp_path / "nats").mkdir()
    with chosen_bus(tmp_path / "nats") as nats:
        s3 = shared_s3.with_new_bucket().settings
        environment = as_environment(nats.settings, s3) | {"ARCHIVE_BUCKET": target.bucket}
        assert shown(environment, "restore", folder, "--verify")["read_back"]
    assert asyncio.run(_objects(target)) == {segment: b"segment"}
    data = {key: body for key, body in OBJECTS.items() if not key.startswith("archive/")}
    assert asyncio.run(_objects(s3)) == data


def test_objects_that_somebody_else_keeps_are_listed_and_checked(
    original: Original, tmp_path: Path, shared_s3: EmbeddedS3
) -> None:
    folder = tmp_path / "backup"
    made = shown(original.environment, "backup", folder, "--objects", "list")
    assert (made["objects"], made["object_count"]) == ("listed", len(OBJECTS))
    assert not (folder / "bucket").exists()
    (tmp_path / "nats").mkdir()
    with chosen_bus(tmp_path / "nats") as nats:
        empty = as_environment(nats.settings, shared_s3.with_new_bucket().settings)
        assert failure(run(empty, "restore", folder)) == "restore_differs"
        same = as_environment(nats.settings, original.s3)
        assert shown(same, "restore", folder)["object_count"] == len(OBJECTS)


def test_nothing_that_exists_is_written_over(original: Original, backup: Path, tmp_path: Path) -> None:
    assert failure(run(original.environment, "backup", backup)) == "file_exists"
    (tmp_path / "mine").write_text("mine")
    assert failure(run({}, "restore", backup, "--data", tmp_path)) == "folder_not_empty"
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
