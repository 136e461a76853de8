"""``saccade watch`` against the real services: each file uploaded once, over kills; results without a loop."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from saccade_client import AsyncClient, UploadView

from cli.settings import child_environment
from cli.uploads.folder_scan import RESULTS_MARK
from kit.bus.connection import connect
from kit.bus.event_store import EventStore
from tests.harness.dispatch.finished_job import succeed
from tests.harness.network.breaking_proxy import BreakingProxy
from tests.harness.servers.gateway import picture, video
from tests.harness.servers.running_services import RunningServices, running_services

pytestmark = pytest.mark.anyio
WAIT_S = 60.0
RESULT = video(frames=9)


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServices]:
    with running_services(tmp_path_factory.mktemp("services")) as running:
        yield running


@pytest.fixture
async def front(services: RunningServices) -> AsyncIterator[BreakingProxy]:
    async with BreakingProxy(services.port_of) as proxy:
        yield proxy


@pytest.fixture
async def client(front: BreakingProxy) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(front.url) as found:
        yield found


class Watching:
    """A running command, and the JSON lines that it has printed."""

    def __init__(self, process: subprocess.Popen[bytes], printed: Path) -> None:
        self.process, self._printed = process, printed

    def lines(self) -> list[dict[str, Any]]:
        """Return the whole lines so far."""
        return [json.loads(line) for line in self._printed.read_bytes().split(b"\n")[:-1]]

    def uploads(self) -> dict[str, str]:
        """Return the ids of the uploads by path; a path that was uploaded twice fails."""
        found = [(line["file"], line["upload_id"]) for line in self.lines() if line.get("state") == "uploaded"]
        assert len(dict(found)) == len(found), found
        return dict(found)

    async def until(self, condition: Callable[[], Any]) -> Any:
        """Wait until a condition holds, and return what it gave."""
        async with asyncio.timeout(WAIT_S):
            while not (found := condition()):
                assert self.process.poll() is None, "the command has ended"
                await asyncio.sleep(0.05)
        return found


@contextmanager
def watching(front: BreakingProxy, folder: Path, scratch: Path, *words: str) -> Iterator[Watching]:
    """Run the command; its lines of earlier runs are kept."""
    printed = scratch / "printed"
    command = [
        sys.executable,
        "-m",
        "cli",
        "watch",
        str(folder),
        "--url",
        front.url,
        "--json",
        "--settle",
        "0.3",
        *words,
    ]
    environment = child_environment() | {"SACCADE_UPLOADS_DIR": str(scratch / "uploads")}
    with printed.open("ab") as output, (scratch / "errors").open("ab") as errors:
        process = subprocess.Popen(command, stdout=output, stderr=errors, env=environment)
        try:
            yield Watching(process, printed)
        finally:
            process.kill()
            process.wait(10)


async def stored(client: AsyncClient, watched: Watching) -> dict[str, UploadView]:
    """Return the uploads by their paths, as the server has them."""
    found = {}
    for path, upload_id in watched.uploads().items():
        found[path] = UploadView.model_validate(await client._api.call("GET", f"/v1/uploads/{upload_id}"))
    return found


async def all_uploads(services: RunningServices) -> list[str]:
    """Return the file names of every upload of the server, by their events."""
    client = await connect(services.nats.settings, "test")
    try:
        events = [
            json.loads(each.body) async for each in EventStore(client).history(0, "saccade.evt.*.upload.*.created")
        ]
    finally:
        await client.close()
    return [event["data"]["filename"] for event in events]


async def test_files_are_uploaded_with_the_metadata_of_their_paths(
    services: RunningServices, front: BreakingProxy, client: AsyncClient, tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    (folder / "anna").mkdir(parents=True)
    (folder / "anna" / "lap_7.mp4").write_bytes(video(5))
    (folder / "anna" / "notes.txt").write_text("not for the server")
    (folder / "broken.mp4").write_bytes(b"no video at all" * 99)
    (folder / os.fsdecode(b"lap_\xff.mp4")).write_bytes(video(4))
    words = ("-r", "--path", "{driver}/lap_{lap}.mp4", "-m", "file={stem}")
    with watching(front, folder, tmp_path, *words) as watched:
        await watched.until(watched.uploads)
        (folder / "anna" / "lap_8.mp4").write_bytes(video(6))
        await watched.until(lambda: len(watched.uploads()) == 2)
        found = await stored(client, watched)
    assert {path: upload.metadata for path, upload in found.items()} == {
        "anna/lap_7.mp4": {"driver": "anna", "lap": "7", "file": "lap_7"},
        "anna/lap_8.mp4": {"driver": "anna", "lap": "8", "file": "lap_8"},
    }
    ignored = [line["file"] for line in watched.lines() if line.get("state") == "ignored"]
    assert sorted(ignored) == ["broken.mp4", r"lap_\udcff.mp4"], "its path does not fit, its name is not UTF-8"


async def test_a_refused_file_is_not_tried_again_until_it_changes(
    front: BreakingProxy, tmp_path: Path, services: RunningServices
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "refused.mp4").write_bytes(b"no video at all" * 99)
    for _ in range(2):
        with watching(front, folder, tmp_path, "--once") as watched:
            assert await asyncio.to_thread(watched.process.wait, WAIT_S) == 0
    refused = [line for line in watched.lines() if line.get("state") == "refused"]
    assert [(line["file"], line["code"]) for line in refused] == [("refused.mp4", "media_undecodable")]
    (folder / "refused.mp4").write_bytes(video(7))
    (folder / "refused.mp4").rename(folder / "moved.mp4")
    with watching(front, folder, tmp_path, "--once") as watched:
        assert await asyncio.to_thread(watched.process.wait, WAIT_S) == 0
    assert list(watched.uploads()) == ["moved.mp4"]
    (folder / "moved.mp4").rename(folder / "again.mp4")
    with watching(front, folder, tmp_path, "--once") as watched:
        assert await asyncio.to_thread(watched.process.wait, WAIT_S) == 0
    assert list(watched.uploads()) == ["moved.mp4"], "the same file under another name"


async def test_a_killed_watch_uploads_each_file_once(
    services: RunningServices, front: BreakingProxy, client: AsyncClient, tmp_path: Path, seed: int
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    names = [f"kill_{number}.mp4" for number in range(12)]
    runs = 0
    for name in names:
        (folder / name).write_bytes(video(frames=4 + names.index(name)))
    while True:
        with watching(front, folder, tmp_path) as watched:
            runs += 1
            goal = min(len(names), runs * 3)
            await watched.until(lambda goal=goal: len(watched.uploads()) >= goal)
            # In the middle of the next upload.
            await asyncio.sleep(0.004 * ((seed + runs * 7) % 10))
            watched.process.send_signal(signal.SIGKILL)
            watched.process.wait(10)
            done = len(watched.uploads()) == len(names)
        if done:
            break
    assert runs >= 3
    on_server = [name for name in await all_uploads(services) if name.startswith("kill_")]
    assert sorted(on_server) == sorted(names), "none twice, none missing"
    uploads = await stored(client, watched)
    assert {upload.state for upload in uploads.values()} == {"completed"}


async def test_results_are_downloaded_once_and_never_uploaded(
    services: RunningServices, front: BreakingProxy, client: AsyncClient, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "in" / "out"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(video(8))
    words = ("--results", str(out), "-r")
    with watching(front, folder, tmp_path, *words) as watched:
        await watched.until(watched.uploads)
        upload_id = watched.uploads()["film.mp4"]
        foreign = await client.upload(_file(tmp_path / "foreign.mp4", video(9)))
        other = await client.submit("badminton", {"video": foreign})
        await succeed(services, other.id, RESULT)
        job = await client.submit("badminton", {"video": upload_id})
    # It ends while nobody watches.
    await succeed(services, job.id, RESULT)
    with watching(front, folder, tmp_path, *words) as watched:
        results = await watched.until(lambda: [line for line in watched.lines() if "job" in line])
        assert [(line["job"], line["state"]) for line in results] == [(job.id, "succeeded")]
        (subfolder,) = (path for path in out.iterdir() if path.is_dir())
        assert subfolder.name.startswith("film_")
        assert (subfolder / "film.mp4").read_bytes() == RESULT
        assert (out / RESULTS_MARK).exists()
        # A result that the user copies into the folder says which job it is of.
        shutil.copy(subfolder / "film.mp4", folder / "chosen.mp4")
        await watched.until(lambda: len(watched.uploads()) == 2)
        assert (await stored(client, watched))["chosen.mp4"].from_job == job.id
        await asyncio.sleep(1.5)
    assert {line["file"] for line in watched.lines() if "file" in line} == {"film.mp4", "chosen.mp4"}
    assert len([line for line in watched.lines() if "job" in line]) == 1


async def test_results_that_cannot_be_had_are_reported_once_and_hold_up_no_others(
    services: RunningServices, front: BreakingProxy, client: AsyncClient, tmp_path: Path
) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "film.mp4").write_bytes(video(18))
    words = ("--results", str(out))
    with watching(front, folder, tmp_path, *words) as watched:
        await watched.until(watched.uploads)
        upload_id = watched.uploads()["film.mp4"]
        jobs = [(await client.submit("badminton", {"video": upload_id})).id for _ in range(2)]
        await succeed(services, jobs[0], RESULT, damaged=True)
        await succeed(services, jobs[1], RESULT)
        await watched.until(lambda: len([line for line in watched.lines() if "job" in line]) == 2)
    with watching(front, folder, tmp_path, *words) as watched:
        await asyncio.sleep(1.5)
    found = [(line["job"], line["folder"] is None, line["error"]) for line in watched.lines() if "job" in line]
    assert [(job_id, missing) for job_id, missing, _ in found] == [(jobs[0], True), (jobs[1], False)]
    assert found[0][2]["code"] == "download_failed"


async def test_a_folder_with_a_workload_has_a_rule_of_its_own(
    front: BreakingProxy, client: AsyncClient, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "p.png").write_bytes(picture())
    words = ("--workload", "nerf", "--once")
    for more in (("--quiet", "60"), ("--quiet", "60"), ("--quiet", "30")):
        with watching(front, folder, tmp_path, *words, *more) as watched:
            assert await asyncio.to_thread(watched.process.wait, WAIT_S) == 0, (tmp_path / "errors").read_text()
    (rule,) = [rule async for rule in client.rules.all()]
    assert (rule.name, rule.workload, (rule.group or {})["quiet_s"]) == ("saccade watch photos", "nerf", 30)
    (upload,) = (await stored(client, watched)).values()
    assert upload.metadata == rule.match["metadata"]
    trial = await client.rules.check_change(rule.id)
    assert (trial.matched, [job.outcome for job in trial.jobs]) == (1, ["waiting"])
    await client.rules.delete(rule.id)


async def test_options_that_would_loop_or_contradict_are_refused(front: BreakingProxy, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for words in (
        ("--results", str(tmp_path)),
        ("--results", str(tmp_path / "in")),
        ("--needs", "2"),
        ("--rule", "a", "--workload", "badminton"),
        ("-m", "lap={lap}"),
    ):
        with watching(front, tmp_path / "in", tmp_path, *words) as watched:
            assert await asyncio.to_thread(watched.process.wait, WAIT_S) == 2, words


def _file(path: Path, body: bytes) -> Path:
    path.write_bytes(body)
    return path
