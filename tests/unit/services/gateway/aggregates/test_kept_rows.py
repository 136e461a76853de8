"""Rows that wait in memory are found by every reader, and stored once for all of their changes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

from kit.projection_file import ProjectionFile
from services.gateway.aggregates.kept_rows import KeptRows

SCHEMA = "CREATE TABLE things (id TEXT PRIMARY KEY, size INTEGER NOT NULL, body BLOB NOT NULL) WITHOUT ROWID"


class Things:
    """A table of lists, whose encodings are counted."""

    def __init__(self, path: Path) -> None:
        self.file = ProjectionFile(path, SCHEMA, 1)
        self.encoded = 0
        self.rows = KeptRows(self.file, "things", TypeAdapter(list[int]), self._columns_of)

    def _columns_of(self, value: list[int]) -> tuple[Any, ...]:
        self.encoded += 1
        return (len(value),)

    def sizes(self) -> list[tuple[Any, ...]]:
        return self.file.rows("SELECT id, size FROM things ORDER BY id")


@pytest.fixture
def things(tmp_path: Path) -> Iterator[Things]:
    made = Things(tmp_path / "things.sqlite3")
    yield made
    made.file.close()


def test_many_changes_are_encoded_once_when_the_file_is_queried(things: Things):
    for number in range(8):
        things.rows.keep("a", list(range(number)))
        things.rows.keep("b", [number])
        assert things.rows.get("a") == list(range(number))
    assert things.encoded == 0
    assert things.sizes() == [("a", 7), ("b", 1)]
    assert things.sizes() == [("a", 7), ("b", 1)]
    assert things.encoded == 2


def test_a_commit_stores_what_waits(things: Things, tmp_path: Path):
    things.rows.keep("a", [1, 2])
    things.file.commit()
    things.file.close()
    again = Things(tmp_path / "things.sqlite3")
    assert again.rows.get("a") == [1, 2]
    things.file = again.file


def test_a_deletion_finds_what_waits(things: Things):
    things.rows.keep("a", [1])
    things.rows.keep("b", [1, 2])
    assert things.file.write("DELETE FROM things WHERE size = 2") == 1
    things.rows.clear()
    assert (things.rows.get("a"), things.rows.get("b")) == ([1], None)


def test_more_rows_than_are_kept_in_memory_are_all_found(things: Things):
    for number in range(5000):
        things.rows.keep(f"{number}", [number])
    assert 0 < things.encoded < 5000
    assert all(things.rows.get(f"{number}") == [number] for number in range(5000))
    assert len(things.sizes()) == 5000


def test_what_is_empty_is_found_too(things: Things):
    things.rows.keep("a", [])
    assert things.rows.get("a") == []
    things.sizes()
    things.rows.clear()
    assert things.rows.get("a") == []
    assert things.rows.get("b") is None
