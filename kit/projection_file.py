"""The SQLite file of a view: what was folded from streams, and how far, always in one transaction.

It can be deleted at any time, and is thrown away by itself when it is damaged or of another version: all of it is in
the streams.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any


class ProjectionFile:
    """One open file. What was written counts with the next ``commit``, all of it or nothing."""

    def __init__(self, path: Path | None, schema: str, version: int) -> None:
        """Open it, or begin a new one by ``schema``; without a path, in memory.

        ``version`` is raised with every change of the tables or of what is kept in them.

        Raises:
            OSError, sqlite3.OperationalError: the folder cannot be written, or another process has the file open.
        """
        self._schema, self._version = schema, version
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._database = self._opened(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) or path is None:
                raise
            # Not a database, or a damaged one: everything in it can be folded again.
            _remove(path)
            self._database = self._opened(path)

    def _opened(self, path: Path | None) -> sqlite3.Connection:
        database = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=2)
        try:
            # What a power failure takes is folded again, so nothing has to wait for the disk.
            database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if path is not None and version not in (0, self._version):
                database.close()
                _remove(path)
                return self._opened(path)
            database.execute("BEGIN IMMEDIATE")
            if version == 0:
                for statement in self._schema.split(";"):
                    database.execute(statement)
                database.execute(f"PRAGMA user_version = {self._version}")
                database.execute("COMMIT")
                database.execute("BEGIN IMMEDIATE")
        except BaseException:
            database.close()
            raise
        return database

    def reopen_in_memory(self) -> None:
        """Leave a file that cannot be written, and begin anew in memory."""
        self._database.close()
        self._database = self._opened(None)

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Write inside the transaction that holds all since the last ``commit``; give how many rows it changed.

        SQLite ends it when the disk is full: each later statement would count by itself, and the position with it,
        while what was folded before is gone.

        Raises:
            sqlite3.OperationalError: the disk does not take it, or did not take what came before.
        """
        if not self._database.in_transaction:
            raise sqlite3.OperationalError("what was folded before could not be kept")
        try:
            return self._database.execute(statement, values).rowcount
        except sqlite3.OperationalError:
            self._database.rollback()
            raise

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Read."""
        return self._database.execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Read one row."""
        found: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
        return found

    def commit(self) -> None:
        """End the transaction and begin the next one.

        Raises:
            sqlite3.OperationalError: the disk does not take it; the file must be opened again.
        """
        self.write("COMMIT")
        self._database.execute("BEGIN IMMEDIATE")

    def close(self) -> None:
        """End the transaction and close.

        Raises:
            sqlite3.OperationalError: the disk does not take it; it is folded again.
        """
        try:
            self.write("COMMIT")
        finally:
            self._database.close()


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
