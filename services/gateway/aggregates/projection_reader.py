"""Reads a projection's file in a thread of its own, by a read-only connection: long queries, beside the event loop.

It sees what was committed when its query began. The thread releases the interpreter's lock while SQLite looks for the
next row, and takes it again for the row, which lasts up to 5 ms beside a busy event loop. So a query that is worth the
thread looks at many rows and returns few.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from kit.projection_file import ProjectionFile

T = TypeVar("T")

_BUSY_S: Final = 2.0


class Rows(Protocol):
    """A projection that answers queries: its file in the event loop, or a reader of it in its thread."""

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query."""

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query; None when there is none."""


class ProjectionReader:
    """One connection and its thread; queries are executed one after the other."""

    def __init__(self, file: ProjectionFile) -> None:
        """Read ``file``, which is shared; nothing is opened before the first query."""
        self._file = file
        self._thread = ThreadPoolExecutor(1, "projection-reader")
        self._database: sqlite3.Connection | None = None

    async def run(self, query: Callable[[], T]) -> T:
        """Call ``query``, which asks ``rows`` and ``row`` of this reader, in the thread. Cancelled, it is interrupted.

        Raises:
            sqlite3.Error: as the query; damage is reported to the file.
        """
        running = asyncio.get_running_loop().run_in_executor(self._thread, self._run, query)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            self._interrupt()
            await asyncio.wait([running])  # the connection is free for the next query then
            running.exception()  # it is retrieved, or asyncio would log it
            raise
        except sqlite3.Error as error:
            self._file.note(error)
            raise

    def _run(self, query: Callable[[], T]) -> T:
        with self._file.rewriting:
            return query()

    def rows(self, query: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of a query, in the thread."""
        return self._opened().execute(query, values).fetchall()

    def row(self, query: str, values: Sequence[Any] = ()) -> tuple[Any, ...] | None:
        """Return the first row of a query, in the thread; None when there is none."""
        rows = self.rows(query, values)
        return rows[0] if rows else None

    def _opened(self) -> sqlite3.Connection:
        if self._database is None:
            path = self._file.path
            if path is None:
                raise sqlite3.OperationalError("the projection has no file that can be read")
            self._database = _open(path)
        return self._database

    def _interrupt(self) -> None:
        if self._database is not None:
            self._database.interrupt()

    def close(self) -> None:
        """Interrupt what is being read and close, before the file is closed."""
        self._interrupt()
        self._thread.submit(self._close).result()
        self._thread.shutdown()

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, isolation_level=None, timeout=_BUSY_S)
