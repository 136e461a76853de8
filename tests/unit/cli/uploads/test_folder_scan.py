"""Which files of a folder are uploaded: complete ones that do not change, and no results."""

from __future__ import annotations

import os
from pathlib import Path

from cli.uploads.folder_scan import RESULTS_MARK, FolderScan


def scan(folder: Path, **options: object) -> FolderScan:
    given = {"recursive": False, "patterns": (), "excluded": (), "settle_s": 2.0} | options
    return FolderScan(folder, **given)  # type: ignore[arg-type]


def names(found: FolderScan, now_s: float) -> list[str]:
    return [file.path for file in found.ready(now_s)]


def write(path: Path, text: str = "x", mtime_s: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    os.utime(path, (mtime_s, mtime_s))


def test_a_file_is_ready_when_it_was_unchanged_for_a_while(tmp_path: Path) -> None:
    found = scan(tmp_path)
    write(tmp_path / "a.mp4", "x")
    assert names(found, 0.0) == []
    assert names(found, 1.9) == []
    write(tmp_path / "a.mp4", "xy")
    assert names(found, 2.5) == [], "it grew"
    assert (names(found, 4.4), found.file_count) == ([], 1)
    assert names(found, 4.5) == ["a.mp4"]
    write(tmp_path / "a.mp4", "xy", mtime_s=9)
    assert names(found, 5.0) == [], "it was written again"
    assert names(found, 7.0) == ["a.mp4"]


def test_hidden_partial_empty_and_other_files_are_left(tmp_path: Path) -> None:
    for name in (".a.mp4", "a.mp4.part", "b.MP4.crdownload", "~$c.mp4", "d.mp4~", "e.tmp", "notes.txt", "f.mp4.aria2"):
        write(tmp_path / name)
    write(tmp_path / "empty.mp4", "")
    write(tmp_path / "folder.mp4" / "inside.mp4")
    os.mkfifo(tmp_path / "pipe.mp4")
    (tmp_path / "lost.mp4").symlink_to(tmp_path / "nowhere.mp4")
    for number, name in enumerate(("z.MP4", "b.heic", "c.zip", "a.jpeg", "m.mkv")):
        write(tmp_path / name, mtime_s=number)
    found = scan(tmp_path, settle_s=0)
    assert names(found, 0.0) == ["z.MP4", "b.heic", "c.zip", "a.jpeg", "m.mkv"], "the oldest first"
    assert names(scan(tmp_path, settle_s=0, patterns=("*.TXT", "z.*")), 0.0) == ["notes.txt", "z.MP4"]


def test_results_are_never_found(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4")
    write(tmp_path / "day" / "b.mp4", mtime_s=1)
    write(tmp_path / "out" / "job" / "c.mp4", mtime_s=2)
    write(tmp_path / "older" / "job" / "d.mp4", mtime_s=3)
    write(tmp_path / "older" / RESULTS_MARK)
    (tmp_path / "day" / "round").symlink_to(tmp_path)
    found = scan(tmp_path, settle_s=0, recursive=True, excluded=[tmp_path / "day" / ".." / "out"])
    assert names(found, 0.0) == ["a.mp4", "day/b.mp4"]
    assert names(scan(tmp_path, settle_s=0), 0.0) == ["a.mp4"]
