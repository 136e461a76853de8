"""Reader of a projection's file: what it sees, what a long query does not hold up, and what it never leaves behind."""

from __future__ import annotations

import asyncio
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.projection_file import ProjectionFile
from services.gateway.aggregates.projection_reader import ProjectionReader

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[5]
SCHEMA = "CREATE TABLE things (id INTEGER PRIMARY KEY, body BLOB NOT NULL)"
#: Runs until it is interrupted.
ENDLESS = "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"


class Opened:
    """A file and a reader of it."""

    def __init__(self, folder: Path) -> None:
        self.file = ProjectionFile(folder / "things.sqlite3", SCHEMA, 1, shared=True)
        self.reader = ProjectionReader(self.file)

    def put(self, number: int, body: bytes) -> None:
        self.file.write("INSERT OR REPLACE INTO things VALUES (?, ?)", (number, body))

    async def read(self, query: str) -> list[tuple[Any, ...]]:
        return await self.reader.run(lambda: self.reader.rows(query))

    def close(self) -> None:
        self.reader.close()
        self.file.close()


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    found = Opened(tmp_path)
    yield found
    found.close()


async def test_a_reader_sees_what_was_committed(opened: Opened) -> None:
    opened.put(1, b"a")
    assert await opened.read("SELECT id FROM things") == []
    opened.file.commit()
    opened.put(2, b"b")
    assert await opened.read("SELECT id FROM things") == [(1,)]
    opened.file.commit()
    assert await opened.read("SELECT id FROM things") == [(1,), (2,)]


async def test_a_reader_cannot_write(opened: Opened) -> None:
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        await opened.read("DELETE FROM things")


async def test_a_request_that_is_given_up_ends_its_query(opened: Opened) -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(opened.read(ENDLESS), 0.2)
    assert await asyncio.wait_for(opened.read("SELECT 1"), 10) == [(1,)]


async def test_an_endless_query_does_not_hold_up_the_end(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    reading = asyncio.ensure_future(opened.read(ENDLESS))
    await asyncio.sleep(0.2)
    opened.close()
    with pytest.raises(sqlite3.OperationalError, match="interrupted"):
        await reading


async def test_damage_that_a_reader_finds_is_damage_of_the_file(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    for number in range(500):
        opened.put(number, b"x" * 500)
    opened.file.commit()
    ((root,),) = opened.file.rows("SELECT rootpage FROM sqlite_master WHERE name = 'things'")
    opened.close()
    path = tmp_path / "things.sqlite3"
    data = path.read_bytes()
    path.write_bytes(data[: (root - 1) * 4096] + b"\xff" * 4096 + data[root * 4096 :])
    opened = Opened(tmp_path)
    with pytest.raises(sqlite3.DatabaseError, match="malformed"):
        await opened.read("SELECT sum(length(body)) FROM things")
    assert "malformed" in opened.file.damage
    opened.close()
    assert not path.exists()


async def test_what_was_deleted_is_in_no_file_although_somebody_reads(opened: Opened, tmp_path: Path) -> None:
    for number in range(2000):
        opened.put(number, b"canary " + b"x" * (number % 900))
    opened.file.commit()
    opened.file.rows("PRAGMA busy_timeout = 100")  # SQLite itself would not wait for long to empty the log

    def read_for_long() -> None:
        opened.reader.rows("BEGIN")
        opened.reader.rows("SELECT count(*), sum(length(body)) FROM things")
        time.sleep(1.0)
        opened.reader.rows("COMMIT")

    reading = asyncio.ensure_future(opened.reader.run(read_for_long))
    await asyncio.sleep(0.2)
    opened.file.write("DELETE FROM things")
    opened.file.rewrite_at_commit()
    opened.file.commit()
    assert [path.name for path in tmp_path.iterdir() if b"canary" in path.read_bytes()] == []
    await reading


def test_a_file_that_another_process_has_open_is_refused(tmp_path: Path) -> None:
    opened = Opened(tmp_path)
    opened.put(1, b"a")
    opened.file.commit()
    code = (
        "import sys; from pathlib import Path; from kit.projection_file import ProjectionFile\n"
        "ProjectionFile(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), shared=True)"
    )
    for version in ("1", "2"):  # one of another version is not removed either
        command = [sys.executable, "-c", code, str(tmp_path / "things.sqlite3"), SCHEMA, version]
        found = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=300)
        assert "locked by another process" in found.stderr
    assert opened.file.rows("SELECT id FROM things") == [(1,)]
    opened.close()
    Opened(tmp_path).close()
