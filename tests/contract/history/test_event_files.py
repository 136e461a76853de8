"""Files of events from the command line: exported, verified, imported with the same cursors, redacted."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import CliRunner, Result

from cli.__main__ import saccade
from cli.embedded.servers import servers_of_folder
from cli.failure import Failure
from cli.history.access import open_client
from contracts.events.base import Cursor, decode_at
from contracts.job import Job, fold_stored
from contracts.streams import EVENTS
from kit.bus.event_store import EventStore, StoredEvent
from kit.bus.jetstream_api import stream_info
from kit.bus.lineage import open_epoch, position_of_stream
from kit.history.segments import SegmentFile
from kit.settings import NatsSettings, as_environment
from tests.harness.history.archive_stage import archive_stage
from tests.harness.history.stories import SECRET, store_stories, stored_stories, story
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3

ENDS = ("succeeded", "failed", "never")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedNats]:
    """Run a bus with 18 stories of two tenants."""
    with EmbeddedNats(tmp_path_factory.mktemp("nats")) as nats:
        stories = [story(tenant, ends=ends) for tenant in ("acme", "globex") for ends in ENDS for _ in range(3)]
        store_stories(nats.settings, stories)
        yield nats


@pytest.fixture(autouse=True)
def environment(original: EmbeddedNats, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATS_URL", original.url)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(saccade, ["events", *map(str, words)], catch_exceptions=True)


def shown(*words: str | Path) -> dict[str, Any]:
    done = run(*words, "--json")
    assert done.exit_code == 0, done.output + repr(done.exception)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def failure(done: Result) -> tuple[str, str]:
    assert isinstance(done.exception, Failure), done.output
    return done.exception.code, done.exception.message


async def _stored(settings: NatsSettings) -> tuple[list[StoredEvent], str, dict[str, Any]]:
    async with open_client(settings) as client:
        found, _ = await EventStore(client).batch(0, size=5000, with_headers=True)
        position = await position_of_stream(client, EVENTS.name)
        return found, str(position.lineage.current.id), await stream_info(client, EVENTS.name)


async def _imported(data: Path) -> tuple[list[StoredEvent], str, dict[str, Any]]:
    async with servers_of_folder(data, print) as servers:
        return await _stored(servers.nats)


def rows(found: list[StoredEvent]) -> list[tuple[int, str, bytes, str, str, str | None]]:
    """Return everything that a reader sees of each event."""
    return [
        (
            event.sequence,
            event.subject,
            event.body,
            event.headers["Nats-Time-Stamp"],
            event.headers["Nats-Msg-Id"],
            event.headers.get("Content-Type"),
        )
        for event in found
    ]


def test_a_window_is_imported_with_its_sequences_times_ids_and_cursors(original: EmbeddedNats, tmp_path: Path) -> None:
    file, data = tmp_path / "events.ndjson.zst", tmp_path / "data"
    exported = shown("export", file)
    before, epoch, _ = asyncio.run(_stored(original.settings))
    assert (exported["events"], exported["epoch"]) == (len(before), epoch)
    assert shown("verify", file)["sha256"] == exported["sha256"]
    imported = shown("import", file, "--data", data)
    assert (imported["tenant"], imported["events"]) in {("acme", len(before)), ("globex", len(before))}
    after, same_epoch, info = asyncio.run(_imported(data))
    assert rows(after) == rows(before)
    assert same_epoch == epoch
    assert info["config"]["sealed"]
    assert info["config"]["max_age"] == 0


def test_a_part_of_the_stream_by_cursors_types_and_job(original: EmbeddedNats, tmp_path: Path) -> None:
    before, epoch, _ = asyncio.run(_stored(original.settings))
    after, until = before[9].sequence, before[40].sequence
    shown("export", tmp_path / "a", "--since", f"{epoch}.{after}", "--until", f"{epoch}.{until}")
    part = SegmentFile((tmp_path / "a").read_bytes())
    assert (part.manifest.first, part.manifest.last) == (after + 1, until)
    assert [event.sequence for event in part.events()] == list(range(after + 1, until + 1))
    shown("export", tmp_path / "b", "--type", "job.failed", "--type", "upload.*")
    assert {event.type for event in SegmentFile((tmp_path / "b").read_bytes()).events()} == {
        "job.failed",
        "upload.created",
        "upload.completed",
    }
    job = decode_at(before[2].subject, before[2].body).subject
    found = shown("export", tmp_path / "c", "--job", job)
    of_job = [event.sequence for event in SegmentFile((tmp_path / "c").read_bytes()).events()]
    assert of_job == [event.sequence for event in before if f".{job}." in event.subject]
    assert found["export"]["subjects"] == [f"saccade.evt.*.*.*{job[4:]}*.*"]
    moment = before[20].headers["Nats-Time-Stamp"]
    shown("export", tmp_path / "d", "--since", re.sub(r"(\.\d{6})\d*Z", r"\1Z", moment))
    assert next(SegmentFile((tmp_path / "d").read_bytes()).events()).sequence in (
        before[20].sequence,
        before[19].sequence,
    )


def states(found: list[StoredEvent]) -> dict[str, Job]:
    """Return every job, folded."""
    jobs: dict[str, Job] = {}
    for event in found:
        if ".job." in event.subject:
            job_id = event.subject.split(".")[4]
            job = fold_stored(jobs.get(job_id), event.subject, event.body, event.sequence)
            assert job
            jobs[job_id] = job
    return jobs


def test_a_redacted_window_folds_to_the_same_states_and_tells_nothing(original: EmbeddedNats, tmp_path: Path) -> None:
    file, data = tmp_path / "redacted", tmp_path / "data"
    exported = shown("export", file, "--redact")
    assert exported["export"]["redacted"]
    content = file.read_bytes()
    opened = b"".join(_frames(content))
    for secret in (SECRET, "acme", "globex", "ab" * 32):
        assert secret.encode() not in content + opened
    assert shown("import", file, "--data", data)["redacted"]
    after, _, _ = asyncio.run(_imported(data))
    before, _, _ = asyncio.run(_stored(original.settings))
    whole, redacted = states(before), states(after)
    assert len(whole) == 18
    assert {job_id: _comparable(job) for job_id, job in redacted.items()} == {
        job_id: _comparable(job) for job_id, job in whole.items()
    }
    assert len({job.tenant for job in redacted.values()}) == 2


def _comparable(job: Job) -> tuple[Any, ...]:
    return (
        *(job.id, job.state, job.sequence, job.first_sequence, job.created_at, job.updated_at, job.attempt, job.rung),
        *(job.run_id, job.executor, job.device, job.started_at, job.finished_at, job.costs, job.actual_usd),
        *(job.failure, job.error and job.error.code, job.not_before, job.deadline, job.submitted.workload),
        *(job.submitted.inputs["reference"][0].upload_id, job.submitted.inputs["reference"][0].size_bytes),
    )


def _frames(content: bytes) -> Iterator[bytes]:
    while content:
        reader = zstandard.ZstdDecompressor().decompressobj()
        if content[:4] == b"\x5e\x2a\x4d\x18":  # a skippable frame: the table of the frames' sizes
            return
        yield reader.decompress(content)
        content = reader.unused_data


def test_a_damaged_file_is_named_and_leaves_no_folder(tmp_path: Path) -> None:
    file = tmp_path / "events"
    shown("export", file)
    whole = file.read_bytes()
    for damaged in (whole[:-1], whole[: len(whole) // 2], b"", whole[:900] + bytes([whole[900] ^ 1]) + whole[901:]):
        broken = tmp_path / "broken"
        broken.write_bytes(damaged)
        code, message = failure(run("verify", broken))
        assert code == "file_damaged", message
        assert failure(run("import", broken, "--data", tmp_path / "data"))[0] == "file_damaged"
        assert not (tmp_path / "data").exists()


def test_nothing_that_exists_is_written_over(tmp_path: Path) -> None:
    file, folder = tmp_path / "events", tmp_path / "folder"
    shown("export", file)
    assert failure(run("export", file))[0] == "file_exists"
    folder.mkdir()
    (folder / "mine").write_text("mine")
    assert failure(run("import", file, "--data", folder))[0] == "folder_not_empty"
    assert (folder / "mine").read_text() == "mine"
    assert failure(run("import", file, "--data", tmp_path / "data", "--tenant", "nobody"))[0] == "usage"
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["--since", "2099-01-01T00:00:00Z"], "window_empty"),
        (["--since", "yesterday"], "usage"),
        (["--since", "abc.1"], "cursor_unknown"),
        (["--type", "job.exploded"], "unknown_type"),
        (["--type", "budget.set"], "window_empty"),
        (["--job", "lap"], "usage"),
    ],
)
def test_what_cannot_be_exported_is_refused(words: list[str], code: str, tmp_path: Path) -> None:
    done = run("export", tmp_path / "events", *words)
    assert failure(done)[0] == code
    assert list(tmp_path.iterdir()) == []


def test_an_import_takes_no_events(original: EmbeddedNats, tmp_path: Path) -> None:
    shown("export", tmp_path / "events")
    shown("import", tmp_path / "events", "--data", tmp_path / "data")

    async def publish() -> None:
        async with servers_of_folder(tmp_path / "data", print) as servers:
            with pytest.raises(Exception, match="sealed"):
                async with stored_stories(servers.nats, [story("acme")]):
                    pass

    asyncio.run(publish())


def test_a_cursor_of_an_older_epoch_means_the_same_event(tmp_path: Path) -> None:
    with EmbeddedNats(tmp_path) as nats:
        store_stories(nats.settings, [story("acme")])
        _, old, _ = asyncio.run(_stored(nats.settings))

        async def fork() -> None:
            async with open_client(nats.settings) as client:
                await open_epoch(client, EVENTS.name, 5)

        asyncio.run(fork())
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("NATS_URL", nats.url)
            shown("export", tmp_path / "events", "--since", f"{old}.3")
            assert failure(run("export", tmp_path / "more", "--since", f"{old}.7"))[0] == "cursor_unknown"
        shown("import", tmp_path / "events", "--data", tmp_path / "data")

    async def position() -> tuple[int | None, int | None]:
        async with servers_of_folder(tmp_path / "data", print) as servers, open_client(servers.nats) as client:
            lineage = (await position_of_stream(client, EVENTS.name)).lineage
            return lineage.position_of(Cursor(old, 4)), lineage.position_of(Cursor(old, 7))

    assert asyncio.run(position()) == (4, None)


def test_events_that_only_the_archive_has_are_exported(tmp_path: Path, shared_s3: EmbeddedS3) -> None:
    s3 = shared_s3.with_new_bucket()
    with EmbeddedNats(tmp_path) as nats:

        async def archive() -> list[int]:
            async with archive_stage(nats, s3) as stage:
                await stage.publish(500)
                await stage.archive_all()
                await stage.purge_archived()
                return [event.sequence for event in stage.events]

        expected = asyncio.run(archive())
        with pytest.MonkeyPatch.context() as patched:
            for name, value in as_environment(nats.settings, s3.settings).items():
                patched.setenv(name, value)
            exported = shown("export", tmp_path / "events")
    found = SegmentFile((tmp_path / "events").read_bytes())
    assert [event.sequence for event in found.events()] == expected
    assert exported["first"] == 1
