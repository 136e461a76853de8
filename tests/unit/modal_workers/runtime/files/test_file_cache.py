"""File cache: missing, truncated, full, stale or hostile, it returns the right bytes or none."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from contracts.ids import new_id
from modal_workers.runtime.files.file_cache import CacheEntry, FileCache

KEY = "results/job_1/frames/batch_00.zip"
HOUR_S = 3600.0


def body_of(seed: int, size: int = 300_000) -> bytes:
    return random.Random(seed).randbytes(size)


def entry_of(body: bytes, key: str = KEY, etag: str = "v1") -> CacheEntry:
    return CacheEntry(key=key, etag=etag, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


class CacheFixture:
    """Folder of a cache, and a folder for other files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "volume"
        self.folder.mkdir()
        self.own = folder / "own"
        self.own.mkdir()
        self.home_id = new_id("job")
        self.cache = FileCache(self.folder, self.home_id)

    def put(self, body: bytes, key: str = KEY, etag: str = "v1") -> CacheEntry:
        (self.own / "given").write_bytes(body)
        note = entry_of(body, key, etag)
        assert self.cache.put(note, self.own / "given")
        return note

    def take(self, note: CacheEntry) -> bytes | None:
        path = self.own / "taken"
        taken = self.cache.take(note, path)
        assert path.exists() == taken, "a miss leaves no file"
        return path.read_bytes() if taken else None

    def entries(self) -> list[Path]:
        return sorted(path for path in self.folder.rglob("*") if not path.is_dir())


@pytest.fixture
def fixture(tmp_path: Path) -> CacheFixture:
    return CacheFixture(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 300_000, 3 * 2**20 + 7])
def test_another_run_gets_what_was_put(fixture: CacheFixture, size: int) -> None:
    body = body_of(size, size)
    note = fixture.put(body)
    fixture.cache = FileCache(fixture.folder, fixture.home_id)
    assert fixture.cache.find(KEY) == note
    assert fixture.take(note) == body


def test_an_unknown_key_is_a_miss(fixture: CacheFixture) -> None:
    assert fixture.cache.find(KEY) is None
    assert fixture.take(entry_of(b"x")) is None
    fixture.put(b"other", key="results/job_1/other")
    assert fixture.cache.find(KEY) is None
    assert FileCache(fixture.folder, new_id("job")).find("results/job_1/other") is None, "jobs do not share entries"


def test_a_newer_version_replaces_the_older_one(fixture: CacheFixture) -> None:
    old = fixture.put(body_of(1))
    new = fixture.put(body_of(2), etag="v2")
    assert fixture.cache.find(KEY) == new
    assert fixture.take(old) is None
    assert fixture.take(new) == body_of(2), "a miss of the old version does not remove the new one"
    assert len(fixture.entries()) == 1


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999999])
def test_a_truncated_entry_is_a_miss_and_is_removed(fixture: CacheFixture, share: float) -> None:
    note = fixture.put(body_of(3))
    (entry,) = fixture.entries()
    os.truncate(entry, int(share * entry.stat().st_size))
    assert fixture.take(note) is None
    assert fixture.put(body_of(3)) == note
    assert fixture.take(note) == body_of(3)


def test_bytes_that_do_not_match_their_description_are_a_miss(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(4))
    (entry,) = fixture.entries()
    for at, change in ((entry.stat().st_size - 1, b"?"), (entry.stat().st_size, b"more")):
        with entry.open("r+b") as file:
            file.seek(at)
            file.write(change)
        assert fixture.take(note) is None
        assert fixture.entries() == [], "a bad entry is removed"
        fixture.put(body_of(4))


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"not json\n", b"\xff\xfe\n", b'{"key": "' + b"x" * 100_000])
def test_an_invalid_header_is_a_miss(fixture: CacheFixture, line: bytes) -> None:
    note = fixture.put(body_of(5))
    (entry,) = fixture.entries()
    entry.write_bytes(line + body_of(5))
    assert fixture.cache.find(KEY) is None
    assert fixture.take(note) is None


def test_an_entry_under_another_key_is_a_miss(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(6), key="a")
    other = fixture.put(body_of(7), key="b")
    first, second = fixture.entries()
    first.replace(second)
    assert {fixture.take(note) is None, fixture.take(other) is None} == {True}
    assert {fixture.cache.find("a"), fixture.cache.find("b")} == {None}


def test_a_file_that_changed_since_its_upload_is_not_put(fixture: CacheFixture) -> None:
    (fixture.own / "given").write_bytes(body_of(8))
    note = entry_of(body_of(9))
    assert not fixture.cache.put(note, fixture.own / "given")
    assert not fixture.cache.put(note, fixture.own / "nothing")
    assert fixture.entries() == [], "no partial file is left"


def test_a_folder_that_is_not_mounted_is_not_created(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "nowhere", new_id("job"))
    (tmp_path / "given").write_bytes(b"x")
    assert not cache.put(entry_of(b"x"), tmp_path / "given")
    assert cache.find(KEY) is None
    assert cache.remove_stale(0.0) == 0
    cache.drop(KEY)
    assert not (tmp_path / "nowhere").exists()


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """Limit the size of files of this process: a write beyond is an ``OSError``, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_existing_entries_and_leaves_no_partial_file(fixture: CacheFixture) -> None:
    small = fixture.put(body_of(10, 1000), key="small")
    (fixture.own / "given").write_bytes(body_of(11, 2**20))
    with files_at_most(100_000):
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            (fixture.own / "too large").write_bytes(body_of(11, 2**20))
        assert not fixture.cache.put(entry_of(body_of(11, 2**20)), fixture.own / "given")
    assert len(fixture.entries()) == 1
    assert fixture.take(small) == body_of(10, 1000)


def test_a_full_local_disk_is_a_miss_and_keeps_the_entry(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(12, 2**20))
    with files_at_most(100_000):
        assert fixture.take(note) is None
    assert fixture.take(note) == body_of(12, 2**20)


def test_concurrent_readers_get_one_complete_version(fixture: CacheFixture) -> None:
    bodies = {f"v{number}": body_of(number, 400_000) for number in (20, 21)}
    notes = {etag: entry_of(body, etag=etag) for etag, body in bodies.items()}
    wrong: list[str] = []
    had: list[str] = []

    def write(etag: str) -> None:
        given = fixture.own / etag
        given.write_bytes(bodies[etag])
        for _ in range(40):
            put = FileCache(fixture.folder, fixture.home_id).put(notes[etag], given)
            wrong.extend([] if put else ["a put failed"])

    def read(number: int) -> None:
        target = fixture.own / f"read {number}"
        while any(writer.is_alive() for writer in writers):
            note = fixture.cache.find(KEY)
            if note is None or not fixture.cache.take(note, target):
                continue
            had.append(note.etag)
            if target.read_bytes() != bodies[note.etag]:
                wrong.append(note.etag)

    writers = [threading.Thread(target=write, args=(etag,)) for etag in bodies]
    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in (*writers, *readers):
        thread.start()
    for thread in (*writers, *readers):
        thread.join(timeout=60)
        assert not thread.is_alive()
    assert wrong == []
    assert had
    assert len(fixture.entries()) == 1, "no partial file is left"


# The keys lead no further than this test's own folder, so that a bug overwrites nothing else.
@pytest.mark.parametrize("key", ["../../own/beside", "{own}/beside", "a/../../b", "", ".", "x" * 5000, "a\x00b", "ü/ß"])
def test_no_key_leads_outside_the_jobs_folder(fixture: CacheFixture, key: str) -> None:
    (fixture.own / "beside").write_bytes(b"somebody else's")
    key = key.replace("{own}", str(fixture.own))
    note = fixture.put(b"bytes", key=key)
    assert fixture.take(note) == b"bytes"
    assert (fixture.own / "beside").read_bytes() == b"somebody else's"
    (entry,) = fixture.entries()
    assert entry.parent == fixture.folder / fixture.home_id
    fixture.cache.drop(key)
    assert fixture.entries() == []


@pytest.mark.parametrize(
    "home_id", ["", ".", "..", "../other", "job_1", "/", "stg_1", "job_01a1ff9d-3a22-7db6-87ae-98a61a830aba/.."]
)
def test_only_a_job_id_is_accepted(tmp_path: Path, home_id: str) -> None:
    with pytest.raises(ValueError, match="not the id of a job"):
        FileCache(tmp_path, home_id)


def test_a_link_pipe_or_folder_instead_of_an_entry_is_a_miss(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(13))
    (entry,) = fixture.entries()
    secret = fixture.own / "secret"
    entry.rename(secret)
    entry.symlink_to(secret)
    assert fixture.take(note) is None
    entry.unlink()
    os.mkfifo(entry)
    assert fixture.take(note) is None
    entry.unlink()
    entry.mkdir()
    assert fixture.take(note) is None
    assert not fixture.cache.put(note, fixture.own / "given"), "a folder stands in its way"


def test_a_job_folder_that_is_a_link_is_neither_read_nor_written(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(14))
    elsewhere = fixture.own / "elsewhere"
    (fixture.folder / fixture.home_id).rename(elsewhere)
    (fixture.folder / fixture.home_id).symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    assert fixture.take(note) is None
    assert not fixture.cache.put(note, fixture.own / "given")
    assert sorted(elsewhere.iterdir()) == before


def age(folder: Path, seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def test_only_stale_job_folders_are_removed(fixture: CacheFixture) -> None:
    own = fixture.put(b"own")
    old, young, wanted = (FileCache(fixture.folder, new_id("job")) for _ in range(3))
    for cache in (old, young, wanted):
        cache.put(entry_of(b"own"), fixture.own / "given")
    for name in ("weights", "job_of_the_replaced_system"):
        (fixture.folder / name).mkdir()
    (fixture.folder / new_id("job")).symlink_to(fixture.own)
    age(fixture.folder, 50 * HOUR_S)
    os.utime(young._home)  # as when another entry was renamed into it
    assert wanted.take(entry_of(b"own"), fixture.own / "taken")
    assert fixture.cache.remove_stale(48 * HOUR_S) == 1
    assert old.find(KEY) is None
    assert young.find(KEY) == wanted.find(KEY) == own
    assert fixture.take(own) == b"own", "the own job is running"
    assert (fixture.folder / "weights").is_dir()
    assert (fixture.folder / "job_of_the_replaced_system").is_dir()
    assert fixture.own.is_dir()


def test_an_entry_removed_between_find_and_take_is_a_miss(fixture: CacheFixture) -> None:
    note = fixture.put(body_of(15))
    seen = fixture.cache.find(KEY)
    assert seen == note
    FileCache(fixture.folder, new_id("job")).remove_stale(-HOUR_S)
    assert fixture.entries() == []
    assert fixture.take(seen) is None
    assert fixture.put(body_of(15)) == note, "its folder is created again"
