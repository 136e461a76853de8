"""Every command block of README.md and docs/ is run, literally, in a fresh checkout with ``make up`` running.

A block that needs what is not here says so in a comment before it, ``<!-- not run: needs a robot -->``. Replaced are
only the port, and JOB_ID with the newest job. What the documents name beside commands: tests/rules/test_documents.py.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.harness.sessions.scripted_session_worker import jpeg
from tests.harness.vision.short_laps import render_short_laps
from tests.rules.test_documents import PAGES
from tests.system.documents import ROOT, Checkout, blocks_of, check_out, running_checkout

DOCUMENTS = [page for page in PAGES if blocks_of(page)]
RUN = [page for page in DOCUMENTS if any(not block.not_run for block in blocks_of(page))]


@pytest.fixture(scope="module")
def laps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Film two short laps, A.mp4 and B.mp4."""
    folder = tmp_path_factory.mktemp("laps")
    render_short_laps(folder, "A.mp4", "B.mp4")
    return folder


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory, laps: Path) -> Iterator[Checkout]:
    """Run one system for all documents, with the files that a reader has."""
    with running_checkout(tmp_path_factory.mktemp("saccade")) as running:
        for name in ("A.mp4", "B.mp4"):
            shutil.copy(laps / name, running.folder / name)
        (running.folder / "frame.jpg").write_bytes(jpeg())
        yield running


def test_a_checkout_counts_as_installed(tmp_path: Path) -> None:
    """Make would install again what is older than what it needs, here into the environment that runs the tests."""
    check_out(tmp_path)
    installed = [path for path in (tmp_path / ".venv").glob(".*") if path.is_file()]
    assert {path.name for path in installed} >= {".made", ".embedded", ".dev"}
    assert len({path.stat().st_mtime_ns for path in installed}) == 1
    for path in installed:
        subprocess.run(["make", "--question", f".venv/{path.name}"], cwd=tmp_path, check=True, timeout=60)


def test_what_make_test_is_given_does_not_reach_make_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("MAKEFLAGS", "k -- ARGS=-v"), ("MFLAGS", "-k"), ("MAKELEVEL", "1"), ("ARGS", "-v")):
        monkeypatch.setenv(name, value)
    for given, expected in (({}, "saccade up \n"), ({"ARGS": "--port 1"}, "saccade up --port 1\n")):
        shown = subprocess.run(
            ["make", "--dry-run", "up"],
            cwd=ROOT,
            env=Checkout(tmp_path, "").environment(**given),
            capture_output=True,
            text=True,
            check=True,
            timeout=300,
        ).stdout
        assert shown.endswith(expected)


@pytest.mark.parametrize("document", RUN)
def test_the_commands_of_a_document_do_what_they_say(checkout: Checkout, document: str) -> None:
    checkout.run(block for block in blocks_of(document) if not block.not_run)
    if document == "README.md":
        for report in (checkout.folder / "report.html", checkout.folder / "results/report.html"):
            assert report.read_bytes().lstrip().lower().startswith(b"<!doctype html>")


def test_what_is_not_run_says_why(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = [block for page in DOCUMENTS for block in blocks_of(page) if block.not_run]
    with capsys.disabled():
        for block in left_out:
            print(f"\nnot run: {block} {block.not_run}", end="")
    assert "README.md" in RUN
    assert all(len(block.not_run) > 10 for block in left_out)
