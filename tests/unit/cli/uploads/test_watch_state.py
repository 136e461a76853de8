"""The journal of a watched folder: read again as it was written, also after a line that was cut off."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.failure import Failure
from cli.uploads.folder_scan import FoundFile
from cli.uploads.watch_state import KnownFile, WatchState

SERVER = "http://127.0.0.1:8080"
LAP = FoundFile("day/lap.mp4", 9, 123_456_789)


def test_what_was_stored_is_known_after_a_restart_and_to_its_server_only(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state = WatchState(path, SERVER)
    first = state.id
    known = KnownFile(LAP, "ab", "upl_1", created_at="2026-01-31T12:00:00Z")
    state.keep_file(known)
    state.keep_file(KnownFile(FoundFile("b.mp4", 1, 1), "cd", refused="media_undecodable"))
    state.keep_cursor("e.7")
    state.keep_job("job_1", "succeeded", ["ef"])
    state.close()
    state = WatchState(path, SERVER)
    assert (state.id, state.cursor, state.first_upload_at) == (first, "e.7", "2026-01-31T12:00:00Z")
    assert state.known(LAP) == known
    assert state.known(FoundFile(LAP.path, LAP.size, 1)) is None, "another version"
    assert state.earlier("elsewhere.mp4", "ab") == known
    assert (state.is_own("upl_1"), state.is_own("upl_2")) == (True, False)
    assert (state.knows_job("job_1"), state.job_of_result("ef")) == (True, "job_1")
    state.close()
    other = WatchState(path, "https://other.example")
    assert (other.known(LAP), other.cursor) == (None, None)
    assert other.id != first
    other.close()


def test_a_line_that_was_cut_off_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "state"
    state = WatchState(path, SERVER)
    state.keep_file(KnownFile(LAP, "ab", "upl_1"))
    state.keep_file(KnownFile(FoundFile("b.mp4", 1, 1), "cd", "upl_2"))
    state.close()
    path.write_bytes(path.read_bytes()[:-20])
    state = WatchState(path, SERVER)
    assert (state.is_own("upl_1"), state.is_own("upl_2")) == (True, False)
    state.keep_file(KnownFile(FoundFile("b.mp4", 1, 1), "cd", "upl_3"))
    state.close()
    state = WatchState(path, SERVER)
    assert (state.is_own("upl_1"), state.is_own("upl_3")) == (True, True)
    state.close()


def test_only_one_process_watches_a_folder(tmp_path: Path) -> None:
    state = WatchState(tmp_path / "state", SERVER)
    with pytest.raises(Failure) as refused:
        WatchState(tmp_path / "state", SERVER)
    assert refused.value.code == "already_watched"
    state.close()
    WatchState(tmp_path / "state", SERVER).close()
