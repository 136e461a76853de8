"""A cache beside the bucket can be missing, torn, full, old or hostile: it gives the right bytes or none."""

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


def note_of(body: bytes, key: str = KEY, etag: str = "v1") -> CacheEntry:
    return CacheEntry(key=key, etag=etag, bytes=len(body), sha256=hashlib.sha256(body).hexdigest())


class Shelf:
    """A cache's folder, and files of one's own beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "volume"
        self.folder.mkdir()
        self.own = folder / "own"
        self.own.mkdir()
        self.home_id = new_id("job")
        self.cache = FileCache(self.folder, self.home_id)

    def put(self, body: bytes, key: str = KEY, etag: str = "v1") -> CacheEntry:
        (self.own / "given").write_bytes(body)
        note = note_of(body, key, etag)
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
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 300_000, 3 * 2**20 + 7])
def test_what_was_put_is_had_again_by_another_run(shelf: Shelf, size: int) -> None:
    body = body_of(size, size)
    note = shelf.put(body)
    shelf.cache = FileCache(shelf.folder, shelf.home_id)
    assert shelf.cache.find(KEY) == note
    assert shelf.take(note) == body


def test_what_nobody_put_is_a_miss(shelf: Shelf) -> None:
    assert shelf.cache.find(KEY) is None
    assert shelf.take(note_of(b"x")) is None
    shelf.put(b"other", key="results/job_1/other")
    assert shelf.cache.find(KEY) is None
    assert FileCache(shelf.folder, new_id("job")).find("results/job_1/other") is None, "another job's is nobody else's"


def test_a_newer_version_takes_the_older_one_s_place(shelf: Shelf) -> None:
    old = shelf.put(body_of(1))
    new = shelf.put(body_of(2), etag="v2")
    assert shelf.cache.find(KEY) == new
    assert shelf.take(old) is None
    assert shelf.take(new) == body_of(2), "who wanted the old one has not spoilt the new one"
    assert len(shelf.entries()) == 1


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.5, 0.999999])
def test_a_torn_entry_is_a_miss_and_goes(shelf: Shelf, share: float) -> None:
    note = shelf.put(body_of(3))
    (entry,) = shelf.entries()
    os.truncate(entry, int(share * entry.stat().st_size))
    assert shelf.take(note) is None
    assert shelf.put(body_of(3)) == note
    assert shelf.take(note) == body_of(3)


def test_other_bytes_than_were_noted_are_a_miss(shelf: Shelf) -> None:
    note = shelf.put(body_of(4))
    (entry,) = shelf.entries()
    for at, change in ((entry.stat().st_size - 1, b"?"), (entry.stat().st_size, b"more")):
        with entry.open("r+b") as file:
            file.seek(at)
            file.write(change)
        assert shelf.take(note) is None
        assert shelf.entries() == [], "it would be a miss for everybody"
        shelf.put(body_of(4))


@pytest.mark.parametrize("line", [b"", b"\n", b"{}\n", b"not json\n", b"\xff\xfe\n", b'{"key": "' + b"x" * 100_000])
def test_what_is_no_entry_is_a_miss(shelf: Shelf, line: bytes) -> None:
    note = shelf.put(body_of(5))
    (entry,) = shelf.entries()
    entry.write_bytes(line + body_of(5))
    assert shelf.cache.find(KEY) is None
    assert shelf.take(note) is None


def test_an_entry_in_another_s_place_is_a_miss(shelf: Shelf) -> None:
    note = shelf.put(body_of(6), key="a")
    other = shelf.put(body_of(7), key="b")
    first, second = shelf.entries()
    first.replace(second)
    assert {shelf.take(note) is None, shelf.take(other) is None} == {True}
    assert {shelf.cache.find("a"), shelf.cache.find("b")} == {None}


def test_what_changed_since_it_was_sent_is_not_put(shelf: Shelf) -> None:
    (shelf.own / "given").write_bytes(body_of(8))
    note = note_of(body_of(9))
    assert not shelf.cache.put(note, shelf.own / "given")
    assert not shelf.cache.put(note, shelf.own / "nothing")
    assert shelf.entries() == [], "nor is a half left"


def test_a_folder_that_is_not_mounted_is_not_made(tmp_path: Path) -> None:
    cache = FileCache(tmp_path / "nowhere", new_id("job"))
    (tmp_path / "given").write_bytes(b"x")
    assert not cache.put(note_of(b"x"), tmp_path / "given")
    assert cache.find(KEY) is None
    assert cache.remove_stale(0.0) == 0
    cache.drop(KEY)
    assert not (tmp_path / "nowhere").exists()


@contextmanager
def files_at_most(size_bytes: int) -> Iterator[None]:
    """Let no file of this process grow further: a write beyond is an ``OSError``, as on a disk that is full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_keeps_what_is_there_and_leaves_no_half(shelf: Shelf) -> None:
    small = shelf.put(body_of(10, 1000), key="small")
    (shelf.own / "given").write_bytes(body_of(11, 2**20))
    with files_at_most(100_000):
        with pytest.raises(OSError, match=os.strerror(errno.EFBIG)):
            (shelf.own / "too large").write_bytes(body_of(11, 2**20))
        assert not shelf.cache.put(note_of(body_of(11, 2**20)), shelf.own / "given")
    assert len(shelf.entries()) == 1
    assert shelf.take(small) == body_of(10, 1000)


def test_a_disk_of_one_s_own_that_is_full_is_a_miss_that_costs_the_cache_nothing(shelf: Shelf) -> None:
    note = shelf.put(body_of(12, 2**20))
    with files_at_most(100_000):
        assert shelf.take(note) is None
    assert shelf.take(note) == body_of(12, 2**20)


def test_two_who_write_and_two_who_read_at_once_have_one_version_or_the_other(shelf: Shelf) -> None:
    bodies = {f"v{number}": body_of(number, 400_000) for number in (20, 21)}
    notes = {etag: note_of(body, etag=etag) for etag, body in bodies.items()}
    wrong: list[str] = []
    had: list[str] = []

    def write(etag: str) -> None:
        given = shelf.own / etag
        given.write_bytes(bodies[etag])
        for _ in range(40):
            put = FileCache(shelf.folder, shelf.home_id).put(notes[etag], given)
            wrong.extend([] if put else ["a put failed"])

    def read(number: int) -> None:
        target = shelf.own / f"read {number}"
        while any(one.is_alive() for one in writers):
            note = shelf.cache.find(KEY)
            if note is None or not shelf.cache.take(note, target):
                continue
            had.append(note.etag)
            if target.read_bytes() != bodies[note.etag]:
                wrong.append(note.etag)

    writers = [threading.Thread(target=write, args=(etag,)) for etag in bodies]
    readers = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for one in (*writers, *readers):
        one.start()
    for one in (*writers, *readers):
        one.join(timeout=60)
        assert not one.is_alive()
    assert wrong == []
    assert had
    assert len(shelf.entries()) == 1, "no half is left"


# None leads further than this test's own folder: if names were believed, nothing else may be overwritten.
@pytest.mark.parametrize("key", ["../../own/beside", "{own}/beside", "a/../../b", "", ".", "x" * 5000, "a\x00b", "ü/ß"])
def test_no_key_leads_out_of_the_job_s_folder(shelf: Shelf, key: str) -> None:
    (shelf.own / "beside").write_bytes(b"somebody else's")
    key = key.replace("{own}", str(shelf.own))
    note = shelf.put(b"bytes", key=key)
    assert shelf.take(note) == b"bytes"
    assert (shelf.own / "beside").read_bytes() == b"somebody else's"
    (entry,) = shelf.entries()
    assert entry.parent == shelf.folder / shelf.home_id
    shelf.cache.drop(key)
    assert shelf.entries() == []


@pytest.mark.parametrize(
    "home_id", ["", ".", "..", "../other", "job_1", "/", "stg_1", "job_01a1ff9d-3a22-7db6-87ae-98a61a830aba/.."]
)
def test_a_home_is_the_id_of_a_job(tmp_path: Path, home_id: str) -> None:
    with pytest.raises(ValueError, match="not the id of a job"):
        FileCache(tmp_path, home_id)


def test_a_link_or_a_pipe_in_the_place_of_an_entry_is_a_miss(shelf: Shelf) -> None:
    note = shelf.put(body_of(13))
    (entry,) = shelf.entries()
    secret = shelf.own / "secret"
    entry.rename(secret)
    entry.symlink_to(secret)
    assert shelf.take(note) is None
    entry.unlink()
    os.mkfifo(entry)
    assert shelf.take(note) is None
    entry.unlink()
    entry.mkdir()
    assert shelf.take(note) is None
    assert not shelf.cache.put(note, shelf.own / "given"), "a folder stands in its way"


def test_a_job_s_folder_that_is_a_link_is_neither_read_nor_written(shelf: Shelf) -> None:
    note = shelf.put(body_of(14))
    elsewhere = shelf.own / "elsewhere"
    (shelf.folder / shelf.home_id).rename(elsewhere)
    (shelf.folder / shelf.home_id).symlink_to(elsewhere)
    before = sorted(elsewhere.iterdir())
    assert shelf.take(note) is None
    assert not shelf.cache.put(note, shelf.own / "given")
    assert sorted(elsewhere.iterdir()) == before


def age(folder: Path, seconds: float) -> None:
    for path in (*folder.rglob("*"), folder):
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def test_what_nobody_has_touched_for_long_goes_and_nothing_else(shelf: Shelf) -> None:
    own = shelf.put(b"own")
    old, young, wanted = (FileCache(shelf.folder, new_id("job")) for _ in range(3))
    for cache in (old, young, wanted):
        cache.put(note_of(b"own"), shelf.own / "given")
    for name in ("weights", "job_of_the_replaced_system"):
        (shelf.folder / name).mkdir()
    (shelf.folder / new_id("job")).symlink_to(shelf.own)
    age(shelf.folder, 50 * HOUR_S)
    os.utime(young._home)  # as when another entry was renamed into it
    assert wanted.take(note_of(b"own"), shelf.own / "taken")
    assert shelf.cache.remove_stale(48 * HOUR_S) == 1
    assert old.find(KEY) is None
    assert young.find(KEY) == wanted.find(KEY) == own
    assert shelf.take(own) == b"own", "one's own job is under way"
    assert (shelf.folder / "weights").is_dir()
    assert (shelf.folder / "job_of_the_replaced_system").is_dir()
    assert shelf.own.is_dir()


def test_what_vanishes_between_note_and_bytes_is_a_miss(shelf: Shelf) -> None:
    note = shelf.put(body_of(15))
    seen = shelf.cache.find(KEY)
    assert seen == note
    FileCache(shelf.folder, new_id("job")).remove_stale(-HOUR_S)
    assert shelf.entries() == []
    assert shelf.take(seen) is None
    assert shelf.put(body_of(15)) == note, "and its folder is made again"
