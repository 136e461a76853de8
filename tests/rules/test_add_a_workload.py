"""The code blocks of docs/add-a-workload.md: a worker that passes the rules, its own test and a run on real servers."""

from __future__ import annotations

import asyncio
import csv
import hashlib
import importlib
import io
import os
import re
import subprocess
import sys
import time
import zipfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from contracts.events.job import JobSubmitted
from contracts.ids import new_id
from contracts.job import State
from contracts.workload import Workload
from kit.settings import NatsSettings, S3Settings, inherited_environment
from services.dispatcher.executors.executor import CallState
from services.dispatcher.executors.local_executor import LocalExecutor
from tests.harness.runtime.job_driver import WAIT_S, open_job_driver
from tests.harness.servers.embedded import EmbeddedNats, EmbeddedS3
from tests.rules.test_docs import CREATED
from tests.rules.tree import ROOT
from tests.rules.worker_shape import FILES, check_app, check_declaration, functions_of

PAGE = ROOT / "docs/add-a-workload.md"
#: A code block with the name of its file before it.
BLOCK = re.compile(CREATED.pattern + r"\w+\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FOLDER = "modal_workers/photo_index"
TEST = "tests/unit/modal_workers/photo_index/test_job.py"
#: Package of the temporary worker, outside ``modal_workers``.
PACKAGE = "added_workers.photo_index"
PHOTOS = {"b.jpg": b"first", "sub/a.png": b"the second", "copy.jpg": b"first", "notes.txt": b"no photo"}


def blocks() -> dict[str, str]:
    """Return the page's files, by path."""
    return dict(BLOCK.findall(PAGE.read_text()))


@pytest.fixture
def added(tmp_path: Path) -> Path:
    """Write the page's files into a package of its own; return the folder to import it from."""
    for path, text in blocks().items():
        target = tmp_path / ("test_added.py" if path == TEST else PACKAGE.replace(".", "/") + path.removeprefix(FOLDER))
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text.replace("modal_workers.photo_index", PACKAGE))
    (tmp_path / "added_workers/__init__.py").touch()
    return tmp_path


def environment_of(added: Path) -> dict[str, str]:
    """Return the environment of a process that finds the added worker."""
    path = f"{added}{os.pathsep}{ROOT}"
    return inherited_environment() | {"WORKER_CATALOG": "added_workers", "PYTHONPATH": path}


def run(command: Sequence[str | Path], environment: Mapping[str, str], folder: Path, stdin: str = "") -> str:
    """Run a command and return its output."""
    done = subprocess.run(
        command, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


class ExecutorOfAddedWorkers(LocalExecutor):
    """Local executor whose workers find the added package, as if it were installed."""

    def __init__(self, added: Path, nats: NatsSettings, s3: S3Settings) -> None:
        environment = environment_of(added)
        super().__init__(added / "data", nats, s3, slots=1, environment=environment)
        self._environment |= {"PYTHONPATH": environment["PYTHONPATH"]}


def declaration_of(added: Path, monkeypatch: pytest.MonkeyPatch) -> Workload:
    """Import the added worker's declaration in this process."""
    monkeypatch.syspath_prepend(added)
    for name in [name for name in sys.modules if name.partition(".")[0] == "added_workers"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module(f"{PACKAGE}.spec").WORKLOAD


def test_the_page_holds_every_file_of_a_worker_and_its_test() -> None:
    fixed = {f"{FOLDER}/{name}" for name in ("__init__.py", "job.py", *FILES)}
    assert set(blocks()) == fixed | {TEST}


def test_the_page_s_worker_has_the_shape_of_all_workers(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = added / PACKAGE.replace(".", "/")
    workload = declaration_of(added, monkeypatch)
    check_declaration("photo_index", workload)
    check_app(PACKAGE, (folder / "app.py").read_text())
    module, _, function = workload.job.partition(":")
    assert module == f"{PACKAGE}.job"
    assert function in functions_of((folder / "job.py").read_text())


def test_the_catalog_finds_the_page_s_worker(added: Path) -> None:
    program = "from modal_workers import catalog; print(catalog.worker_package('photo_index'), *catalog.workloads())"
    package, *names = run([sys.executable, "-c", program], environment_of(added), added).split()
    assert package == PACKAGE
    assert {"photo_index", "lap_compare"} <= set(names)


@pytest.mark.parametrize("path", sorted(path for path in blocks() if path.endswith(".py")))
def test_the_page_s_code_is_formatted_and_linted_as_ours(path: str) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    # The folder does not exist, so ruff cannot see that its imports are ours.
    ours = 'lint.isort.known-first-party=["contracts", "modal_workers", "tests"]'
    run([ruff, "check", "--config", ours, "--stdin-filename", path, "-"], inherited_environment(), ROOT, blocks()[path])
    run([ruff, "format", "--check", "--stdin-filename", path, "-"], inherited_environment(), ROOT, blocks()[path])


def test_the_page_s_own_test_passes(added: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", added, "test_added.py"]
    assert "2 passed" in run(command, environment_of(added), added)


@pytest.mark.anyio
async def test_the_page_s_worker_runs_and_its_artifact_is_there(added: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload = declaration_of(added, monkeypatch)
    for name in ("nats", "s3"):
        (added / name).mkdir()
    with EmbeddedNats(added / "nats") as nats, EmbeddedS3(added / "s3") as s3:
        async with open_job_driver(nats.settings, s3.settings) as driver:
            job_id = new_id("job")
            submitted = JobSubmitted(
                workload=workload.name,
                workload_version=workload.version,
                inputs={"photos": [await driver.upload("photos.zip", zip_of(PHOTOS))]},
                params={"order": "size"},
                deadline=datetime.now(UTC) + timedelta(hours=1),
            )
            await driver.say(job_id, submitted)
            executor = ExecutorOfAddedWorkers(added, nats.settings, s3.settings)
            try:
                call_id = await executor.launch(await driver.start(job_id), workload.compute)
                end_s = time.monotonic() + WAIT_S
                while (await executor.poll(call_id)).state is CallState.RUNNING:
                    assert time.monotonic() < end_s, "the worker did not end"
                    await asyncio.sleep(0.05)
            finally:
                await executor.close()
            job = await driver.job(job_id)
            assert job.state is State.SUCCEEDED, (await driver.types(job_id), job.error)
            assert job.result == {"photos": 3, "total_bytes": 20, "duplicates": 1}
            artifact = await driver.bucket.get(driver.bucket.key("results", job_id, "photos.csv"))
    rows = list(csv.DictReader(io.StringIO(artifact.decode())))
    assert rows[0] == {"name": "sub/a.png", "size": "10", "sha256": hashlib.sha256(b"the second").hexdigest()}
    assert [row["name"] for row in rows] == ["sub/a.png", "b.jpg", "copy.jpg"]


def zip_of(files: Mapping[str, bytes]) -> bytes:
    """Return a ZIP of files."""
    body = io.BytesIO()
    with zipfile.ZipFile(body, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return body.getvalue()
