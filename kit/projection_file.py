"""SQLite file of a projection: rows derived from streams and the position in them, always in one transaction.

It can be deleted at any time, and is recreated when it is damaged or of another version: the streams hold all of it.
"""

from __future__ import annotations

import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, Any, Final

#: Pages in the log from which SQLite writes them into the file, its default.
_AUTOCHECKPOINT_PAGES: Final = 1000
#: Primary result codes: a page is not what it should be; the file is no database.
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: How long a process waits for another one that ends and has the file open still.
_LOCK_S: Final = 2.0


class ProjectionFile:
    """One open file. Writes take effect with the next ``commit``, all of them or none."""

    def __init__(self, path: Path | None, schema: str, version: int, *, shared: bool = False) -> None:
        """Open the file, or create it by ``schema``; without a path, in memory.

        ``version`` is increased with every change of the tables or of what is stored in them. A ``shared`` file can be
        read by further connections of this process.

        Raises:
            OSError, sqlite3.OperationalError: the folder cannot be written, or another process has the file open.
        """
        self._schema, self._version, self._path = schema, version, path
        #: What is wrong with the file, once something is found to be; it is removed at its end, and rebuilt.
        self.damage = ""
        self._rewrite = False
        self._holds: list[Callable[[], bool]] = []
        self._writers: list[Callable[[], None]] = []
        self._lock: IO[bytes] | None = None
        #: Held while the file and its log are written anew, and by what else reads the file while it does.
        self.rewriting = threading.Lock()
        #: Descriptor by which the file is copied. Not closed before the database is: a process that closes one
        #: loses the locks that SQLite has on the file.
        self._copied: int | None = None
        #: Times that the file was written anew.
        self.rewrites = 0
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path) if shared else None
        try:
            self._database = self._open_or_rebuild(path)
        except BaseException:
            self._unlock()
            raise

    @property
    def path(self) -> Path | None:
        """Where what was committed can be read; None in memory, or where no further connection may read it."""
        return self._path if self._lock is not None and not self.damage else None

    def _open_or_rebuild(self, path: Path | None) -> sqlite3.Connection:
        try:
            return self._open(path)
        except sqlite3.DatabaseError as error:
            if isinstance(error, sqlite3.OperationalError) or path is None:
                raise
            # Not a database, or a damaged one: all of it can be rebuilt.
            _remove(path)
            return self._open(path)

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _open(self, path: Path | None) -> sqlite3.Connection:
        database = sqlite3.connect(path or ":memory:", isolation_level=None, timeout=2)
        try:
            # Rows lost in a power failure are rebuilt, so no write has to wait for the disk.
            if self._lock is None:
                database.execute("PRAGMA locking_mode = EXCLUSIVE")
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("PRAGMA synchronous = OFF")
            version = database.execute("PRAGMA user_version").fetchone()[0]
            if path is not None and version not in (0, self._version):
                database.close()
                _remove(path)
                return self._open(path)
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

    def held(self) -> bool:
        """Return whether nothing may be committed now: a process that starts again must read it again."""
        return bool(self.damage) or any(is_held() for is_held in self._holds)

    def hold_while(self, is_held: Callable[[], bool]) -> None:
        """Commit nothing while ``is_held`` returns True; what is written meanwhile is readable here all the same."""
        self._holds.append(is_held)

    def reopen_in_memory(self) -> None:
        """Replace a file that cannot be written by an empty database in memory."""
        self._database.close()
        self._remove_damaged()
        self._unlock()
        self._database = self._open(None)

    def report_damage(self, problem: str) -> None:
        """Note that the file does not hold what was written: nothing more is committed, and the file is removed."""
        self.damage = self.damage or problem

    def note(self, error: sqlite3.Error) -> None:
        """Note an error of a query if it means damage, and not a full disk."""
        if getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE:
            self.report_damage(str(error))

    def _remove_damaged(self) -> None:
        if self.damage and self._path is not None:
            _remove(self._path)
        self.damage = ""

    def write_before_queries(self, write: Callable[[], None]) -> None:
        """Call ``write`` before each query, write and commit: it stores rows that waited in memory by ``write_own``."""
        self._writers.append(write)

    def write_own(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows, as ``write`` does, of a table in which no rows wait, or those that waited.

        Raises:
            sqlite3.OperationalError: as ``write``.
        """
        self._require_transaction()
        try:
            self._database.executemany(statement, rows)
        except sqlite3.OperationalError:
            self._roll_back()
            raise
        except sqlite3.Error as error:
            self.note(error)
            raise

    def own_row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query of a table in which no rows wait that it would find; None without one."""
        return self._first(query, values)

    def _first(self, query: str, values: Sequence[Any]) -> tuple[Any, ...] | None:
        try:
            found: tuple[Any, ...] | None = self._database.execute(query, values).fetchone()
        except sqlite3.Error as error:
            self.note(error)
            raise
        return found

    def _write_waiting(self) -> None:
        for write in self._writers:
            write()

    def _require_transaction(self) -> None:
        if not self._database.in_transaction:
            raise sqlite3.OperationalError("an earlier write of this transaction failed")

    def _roll_back(self) -> None:
        if self._database.in_transaction:
            self._database.rollback()

    def write(self, statement: str, values: Sequence[Any] = ()) -> int:
        """Write inside the transaction since the last ``commit`` and return the number of changed rows.

        SQLite rolls the transaction back when the disk is full: later statements would be committed by themselves,
        and the position with them, without the rows before it.

        Raises:
            sqlite3.OperationalError: the disk does not accept it, or did not accept an earlier write.
        """
        self._write_waiting()
        self._require_transaction()
        try:
            return self._database.execute(statement, values).rowcount
        except sqlite3.OperationalError:
            self._roll_back()
            raise
        except sqlite3.Error as error:
            self.note(error)
            raise

    def write_all(self, statement: str, rows: Iterable[Sequence[Any]]) -> None:
        """Write rows by one statement, as ``write`` does.

        Raises:
            sqlite3.OperationalError: as ``write``.
        """
        self._write_waiting()
        self.write_own(statement, rows)

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""
        self._write_waiting()
        try:
            return self._database.execute(query, values).fetchall()
        except sqlite3.Error as error:
            self.note(error)
            raise

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query; None when there is none."""
        self._write_waiting()
        return self._first(query, values)

    def commit(self) -> None:
        """Commit the transaction and begin the next one.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; the file must be opened again.
        """
        self._commit()
        self._database.execute("BEGIN IMMEDIATE")

    def rewrite_at_commit(self) -> None:
        """Write the file anew with the next commit.

        Nothing of deleted and replaced rows is left in it or in its log then. SQLite keeps their bytes in free parts of
        pages otherwise, also with ``secure_delete`` when it moves rows.
        """
        self._rewrite = True

    def _commit(self) -> None:
        self.write("COMMIT")
        if self._rewrite:
            with self.rewriting:  # the log is not emptied while somebody reads
                self._database.execute("VACUUM")
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._rewrite = False
            self.rewrites += 1

    def freeze(self) -> int | None:
        """Commit, and write no page of the file until ``thaw``; return its descriptor.

        None: there is no file, or somebody reads it now. What is committed meanwhile is in the log, except when
        rows are erased: then ``rewrites`` grows.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; the file must be opened again.
        """
        if self._path is None:
            return None
        self._commit()
        is_whole = False
        if self.rewriting.acquire(blocking=False):  # while somebody reads the log, the file cannot be all of it
            try:
                ((is_busy, *_),) = self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
                is_whole = not is_busy
            finally:
                self.rewriting.release()
        if is_whole:
            self._database.execute("PRAGMA wal_autocheckpoint = 0")
        self._database.execute("BEGIN IMMEDIATE")
        if is_whole and self._copied is None:
            self._copied = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        return self._copied if is_whole else None

    def thaw(self) -> None:
        """Allow changes of the file again; what was committed meanwhile is written into it by a later commit."""
        self._database.execute(f"PRAGMA wal_autocheckpoint = {_AUTOCHECKPOINT_PAGES}")

    def close(self) -> None:
        """Commit the transaction, unless it is held, and close.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; the rows are rebuilt at the next start.
        """
        try:
            if not self.held():
                self._commit()
        finally:
            self._database.close()
            if self._copied is not None:
                os.close(self._copied)
            self._remove_damaged()
            self._unlock()


def _locked(path: Path) -> IO[bytes]:
    """Return a file beside it that this process has locked: SQLite's own lock would keep out its other connections.

    Raises:
        OSError: the folder cannot be written.
        sqlite3.OperationalError: another process has it locked.
    """
    lock = path.with_name(path.name + "-lock").open("ab")
    end = time.monotonic() + _LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                lock.close()
                raise sqlite3.OperationalError(f"{path} is locked by another process") from None
            time.sleep(0.05)
        else:
            return lock


def _remove(path: Path) -> None:
    for suffix in ("", "-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
