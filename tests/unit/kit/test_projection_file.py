"""Projection file: what was deleted or replaced is in none of its files any more."""

from __future__ import annotations

from pathlib import Path

from kit.projection_file import ProjectionFile

SCHEMA = "CREATE TABLE things (id INTEGER PRIMARY KEY, owner TEXT NOT NULL, body BLOB NOT NULL)"


def holds(folder: Path, wanted: bytes) -> bool:
    return any(wanted in path.read_bytes() for path in folder.iterdir())


def test_rows_that_were_deleted_or_replaced_leave_nothing_behind(tmp_path: Path) -> None:
    file = ProjectionFile(tmp_path / "things.sqlite3", SCHEMA, 1)
    for number in range(3000):
        body = f"canary of {'ann' if number % 3 else 'bob'} {'x' * (number % 900)}".encode()
        file.write("INSERT INTO things VALUES (?, ?, ?)", (number, "ann" if number % 3 else "bob", body))
    file.rewrite_at_commit()
    file.commit()
    assert holds(tmp_path, b"canary of ann")
    file.write("UPDATE things SET body = ? WHERE owner = ? AND id % 2 = 0", (b"replaced", "ann"))
    file.write("DELETE FROM things WHERE owner = ? AND id % 2 = 1", ("ann",))
    file.rewrite_at_commit()
    file.commit()
    assert not holds(tmp_path, b"canary of ann")
    assert holds(tmp_path, b"canary of bob")
    assert file.row("SELECT count(*) FROM things WHERE owner = 'ann'") == (1000,)
    file.close()
