"""Whatever is sent as photos through the whole system gets a clear answer; no worker breaks, no model is made of it."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from saccade_client import Client, ClientError, Event, Job

from contracts.errors import KINDS, ErrorCode
from kit.process_tree import marked_processes
from modal_workers.runtime.jobs.run_termination import EXIT_DONE, EXIT_INTERRUPTED
from tests.harness.servers.loopback_tls import NO_CERTIFICATES
from tests.system.embedded import SystemProcess, up, wait_until

if missing := [name for name in ("cv2", "pycolmap", "av", "PIL", "pi_heif") if importlib.util.find_spec(name) is None]:
    pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)

from tests.harness.vision import bad_photos
from tests.harness.vision.bad_photos import ROWS, Files, PhotoSamples, Row

#: Artifacts of a capture that was judged; what else there is was made of a model.
JUDGED = {"preflight.json", "images.zip", "report.html", "progress.json", "manifest.json"}
BY_NAME = {row.sent: row for row in ROWS}
#: One of so many rows is sent, and all of them in a soak.
SHARE = 3
SLOW = ("poses", "result", "capture")


@dataclass
class Outcome:
    """Outcome of one row: refused by the gateway, or a job with the jobs of its stages and all their events."""

    refused: ClientError | None = None
    at: str = ""
    job: Job | None = None
    parts: dict[str, Job] = field(default_factory=dict)
    events: list[Event] = field(default_factory=list)
    preflight: dict[str, Any] = field(default_factory=dict)

    @property
    def told(self) -> tuple[str, str, str]:
        """Return code, message and hint of the error, from the response or the event."""
        if self.refused is not None:
            return self.refused.code, self.refused.message, self.refused.hint
        assert self.job is not None
        assert self.job.error is not None, self.job.result
        return self.job.error.code, self.job.error.message, self.job.error.hint


class Sender:
    """Sends rows as a user does; a file that several rows have is uploaded once."""

    def __init__(self, client: Client, folder: Path) -> None:
        self._client, self._folder = client, folder
        self._sent: dict[tuple[str, str], str] = {}

    def send(self, row: Row, files: Files) -> Outcome:
        """Upload, submit, and follow the events to the end."""
        try:
            ids = {name: self._upload(name, data) for name, data in files.items()}
        except ClientError as refused:
            return Outcome(refused, "upload")
        photos = [upload for name, upload in ids.items() if not name.endswith(".zip")]
        archives = [upload for name, upload in ids.items() if name.endswith(".zip")]
        inputs = {name: given for name, given in (("photos", photos), ("archive", archives)) if given}
        try:
            job = self._client.submit("nerf", inputs, {"frames": 4, "elevations": 2, **row.params})
        except ClientError as refused:
            return Outcome(refused, "submit")
        found = Outcome(events=list(job.events()))
        found.job = job.wait(timeout_s=60)
        for part in self._parts(job.id):
            found.parts[part["id"].split("-")[-2]] = self._client.job(part["id"])
            found.events += self._client.events(part["id"])
        if found.job.state == "succeeded":
            folder = self._folder / job.id
            self._client.download(job.id, folder, names=["preflight.json"])
            found.preflight = json.loads((folder / "preflight.json").read_text())
        return found

    def _upload(self, name: str, data: bytes) -> str:
        key = (name, hashlib.sha256(data).hexdigest())
        if key not in self._sent:
            path = self._folder / key[1] / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(data)
            self._sent[key] = self._client.upload(path).id
        return self._sent[key]

    def _parts(self, job_id: str) -> list[dict[str, Any]]:
        found = httpx.get(
            f"{self._client.url}/v1/jobs", params={"pipeline": job_id}, timeout=30, verify=NO_CERTIFICATES
        )
        parts: list[dict[str, Any]] = found.json()["data"]
        return parts


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SystemProcess]:
    """Start one system; at its end nobody has stumbled and no worker is left."""
    with up(tmp_path_factory.mktemp("photos") / "data", DISPATCHER_WORKLOAD_CONCURRENCY="4") as started:
        started.ready()
        yield started
        runs = started.data / "dispatcher" / "runs"
        assert not any(marked_processes(folder) for folder in runs.glob("run_*"))
        assert started.stop() == 0
        for log in (started.data / "logs").glob("*.log"):
            assert "Traceback" not in log.read_text(), log.name


@pytest.fixture(scope="module")
def outcomes(
    system: SystemProcess, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> dict[str, Outcome]:
    """Send the rows of this run, a few at a time, those that take long first."""
    folder = tmp_path_factory.mktemp("sent")
    shelf = PhotoSamples(folder)
    # Those of the tests that run: a share of them all, or what was named.
    tests = [item for item in request.session.items if item.path == request.path]
    names = {item.callspec.params["name"] for item in tests if hasattr(item, "callspec")}
    rows = [row for row in ROWS if row.sent in names]
    files = {row.sent: row.files(shelf) for row in rows}
    order = sorted(rows, key=lambda row: SLOW.index(row.where) if row.where in SLOW else len(SLOW))
    with Client(str(system.said[-1]["url"])) as client, ThreadPoolExecutor(4) as pool:
        sender = Sender(client, folder)
        sending = {row.sent: pool.submit(sender.send, row, files[row.sent]) for row in order}
        return {name: one.result() for name, one in sending.items()}


@pytest.mark.share(every=SHARE)
@pytest.mark.parametrize("name", BY_NAME)
def test_what_is_sent_gets_a_clear_answer(outcomes: dict[str, Outcome], name: str) -> None:
    row, found = BY_NAME[name], outcomes[name]
    if row.where == "result":
        check_result(row, found)
    else:
        code, message, hint = found.told
        assert code == row.code, message
        # What docs/nerf.md says of the pre-flight's reasons is held too.
        said = (*row.says, *re.findall(r"`(\w+)`", row.happens))
        assert [word for word in said if word not in message] == [], message
        assert [word for word in row.fix if word not in hint] == [], hint
        assert KINDS[ErrorCode(code)].status < 500
    if row.where in ("upload", "submit"):
        assert found.refused is not None
        assert (found.at, found.refused.status) == (row.where, KINDS[ErrorCode(row.code)].status)
    elif row.where != "result":
        assert found.job is not None
        assert found.job.state == "failed"
        assert set(found.parts) == ({"capture"} if row.where == "capture" else {"capture", "poses"})
        assert [event.type for event in found.events].count("job.failed") == 2  # the stage, and the whole


@pytest.mark.share(every=SHARE)
@pytest.mark.parametrize("name", [row.sent for row in ROWS if row.where not in ("upload", "submit")])
def test_no_worker_breaks_and_no_model_is_left(system: SystemProcess, outcomes: dict[str, Outcome], name: str) -> None:
    row, found = BY_NAME[name], outcomes[name]
    assert found.job is not None
    # A worker that ended by a signal or broke is interrupted as lost, broken or out of memory, and tried again. Said by
    # the stage's worker, and of the whole.
    interrupted = [event.data["failure"] for event in found.events if event.type == "job.interrupted"]
    assert interrupted == ([] if row.where == "result" else ["user", "user"])
    assert {part.attempt for part in found.parts.values()} == {1}
    assert "job.retrying" not in {event.type for event in found.events}
    left = {path.name for path in (system.data / "bucket").glob(f"*/results/{found.job.id}/**/*") if path.is_file()}
    assert "preflight.json" in left
    assert left <= JUDGED
    named = {event.data["artifact"]["name"] for event in found.events if event.type == "job.artifact_ready"}
    assert named <= JUDGED


def test_every_worker_ended_in_order(system: SystemProcess, outcomes: dict[str, Outcome]) -> None:
    runs = list((system.data / "dispatcher" / "runs").glob("run_*"))
    assert len(runs) == sum(len(found.parts) for found in outcomes.values())
    for folder in runs:
        wait_until((folder / "ended.json").exists, f"the end of {folder.name} is noted", patience_s=30)
        ended = json.loads((folder / "ended.json").read_text())
        assert ended["failure"] is None, ended
        assert ended["exit_code"] in (EXIT_DONE, EXIT_INTERRUPTED), ended
        # The processes of pycolmap too: one that dies is started again, and its worker says so in its log only.
        assert " died: " not in (folder / "worker.log").read_text()


def check_result(row: Row, found: Outcome) -> None:
    """Good photos are judged as good whatever lies beside them, and what lies there is named."""
    assert found.job is not None
    assert found.job.state == "succeeded", found.job.error
    assert found.job.result is not None
    report = found.preflight
    assert {one["name"] for one in report["skipped"]} == set(row.skipped)
    assert report["photos"] == report["sent"] - len(row.skipped)
    assert max(report["pieces"]) == report["photos"], report["pieces"]
    reasons = {one["code"]: one for one in report["verdict"]["reasons"]}
    assert report["verdict"]["accept"] == ("usable" if row.code else "good"), reasons
    if row.code:
        assert [word for word in row.says if word not in reasons[row.code]["message"]] == []
        assert [word for word in row.fix if word not in reasons[row.code]["fix"]] == []


def test_the_table_in_the_documents_is_this_one() -> None:
    text = bad_photos.DOCS.read_text()
    assert text == bad_photos.written(text), "python -m tests.harness.vision.bad_photos"
