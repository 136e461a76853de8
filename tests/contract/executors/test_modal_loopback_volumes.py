"""Volumes of the loopback behave like Modal's: snapshot at a container's start, commit at its end, removal by name."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import modal
import pytest
from grpclib import Status

from tests.modal_loopback import Loopback
from tests.modal_loopback.sampled import small_worker


@pytest.fixture
def loopback(tmp_path: Path) -> Iterator[Loopback]:
    """Deploy the small worker."""
    with small_worker(tmp_path) as loopback:
        yield loopback
        assert loopback.unimplemented == set()


def start(**launch: Any) -> modal.FunctionCall[Any]:
    return modal.Function.from_name("small-worker", "run").with_options(gpu="T4").spawn({"do": "shelve"} | launch)


def shelve(loopback: Loopback, **launch: Any) -> dict[str, str]:
    """Run a container to its end including the commit; return the files that it found."""
    found: dict[str, str] = start(**launch).get(timeout=30)
    wait_for_commits(loopback)
    return found


def wait_for_commits(loopback: Loopback) -> None:
    """Wait for the end of the containers: an answer arrives before the commit of its container."""
    end = time.monotonic() + 30
    while not all(record.ended for record in loopback.containers if record.calls):
        assert time.monotonic() < end
        time.sleep(0.02)


def weights() -> modal.Volume:
    return modal.Volume.from_name("weights")


def test_a_container_finds_the_files_that_the_previous_one_committed(loopback: Loopback) -> None:
    assert shelve(loopback, write={"a/one": "1", "a/two": "2"}) == {}
    assert shelve(loopback, write={"a/one": "changed"}, remove=["a/two"]) == {"a/one": "1", "a/two": "2"}
    assert shelve(loopback) == {"a/one": "changed"}
    assert (loopback.volume("weights") / "of/ours/a/one").read_text() == "changed"


def test_a_running_container_neither_sees_nor_reverts_the_commit_of_another(loopback: Loopback, tmp_path: Path) -> None:
    shelve(loopback, write={"old": "1"})
    gate = tmp_path / "gate"
    slow = start(write={"mine": "m"}, wait_for=str(gate))
    while not gate.with_suffix(".started").exists():
        time.sleep(0.02)
    assert start(write={"theirs": "t"}, remove=["old"]).get(timeout=30) == {"old": "1"}
    place = loopback.volume("weights") / "of/ours"
    while (place / "old").exists():
        time.sleep(0.02)
    gate.touch()
    assert slow.get(timeout=30) == {"old": "1"}
    wait_for_commits(loopback)
    assert shelve(loopback) == {"mine": "m", "theirs": "t"}


def test_a_container_that_is_killed_commits_nothing(loopback: Loopback, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    call = start(write={"half": "h"}, wait_for=str(gate))
    while not gate.with_suffix(".started").exists():
        time.sleep(0.02)
    loopback.kill(call.object_id)
    with pytest.raises(Exception, match="exit code"):
        call.get(timeout=30)
    assert shelve(loopback) == {}


def test_a_refused_commit_does_not_fail_the_call(loopback: Loopback) -> None:
    loopback.fail("VolumeCommit", Status.PERMISSION_DENIED)
    assert shelve(loopback, write={"a": "1"}) == {}
    assert loopback.sent("VolumeCommit"), "the runtime requested the commit"
    assert shelve(loopback) == {}, "no container sees the files"


def test_files_are_removed_by_name(loopback: Loopback) -> None:
    shelve(loopback, write={"job/one": "1", "job/two": "2", "other": "3"})
    weights().remove_file("of/ours/job", recursive=True)
    assert shelve(loopback) == {"other": "3"}
    with pytest.raises(FileNotFoundError):
        weights().remove_file("of/ours/job", recursive=True)
    with pytest.raises(modal.exception.InvalidError):
        weights().remove_file("of/ours")
    with pytest.raises(modal.exception.NotFoundError):
        modal.Volume.from_name("nobody-s").remove_file("a")
