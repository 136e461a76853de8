"""Rows of one table of the view that change with most events: the newest are kept in memory, and written together.

A job changes eight times within a second or less while a stream is read from its beginning. Each change would encode
and store all of it; so a changed row waits until somebody queries the file, or the next commit.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

from pydantic import TypeAdapter

from kit.projection_file import ProjectionFile

T = TypeVar("T")

#: Values that are kept in memory.
_CACHE_SIZE: Final = 2000
#: Changed rows that wait at most.
_MAX_WAITING: Final = 2000


def decode_row(file: ProjectionFile, adapter: TypeAdapter[T], body: bytes) -> T:
    """Return the value of a row.

    Raises:
        ValueError: the row is damaged, and so the file has to be rebuilt.
    """
    try:
        return adapter.validate_json(body)
    except ValueError as error:
        file.report_damage(f"a row cannot be read: {error}")
        raise


class KeptRows(Generic[T]):
    """The rows of one table by their key, its first column; the column ``body`` has the value as JSON."""

    def __init__(
        self, file: ProjectionFile, table: str, adapter: TypeAdapter[T], columns_of: Callable[[T], tuple[Any, ...]]
    ) -> None:
        """``columns_of`` returns the columns between key and body; ``file`` writes what waits before a query."""
        self._file, self._adapter, self._columns_of = file, adapter, columns_of
        ((columns,),) = file.rows("SELECT count(*) FROM pragma_table_info(?)", (table,))
        ((key,),) = file.rows("SELECT name FROM pragma_table_info(?) WHERE cid = 0", (table,))
        self._find = f"SELECT body FROM {table} WHERE {key} = ?"  # noqa: S608 - names of the schema
        self._insert = f"INSERT OR REPLACE INTO {table} VALUES ({', '.join('?' * columns)})"  # noqa: S608
        self._cached: OrderedDict[str, T] = OrderedDict()
        self._waiting: dict[str, T] = {}
        file.write_before_queries(self._write)

    def get(self, key: str) -> T | None:
        """Return the value of a key; readers do not change it."""
        found = self._cached.get(key)
        if found is None and (found := self.read(key)) is not None:
            self._cache(key, found)
        return found

    def read(self, key: str) -> T | None:
        """Return the value of a key, for a list: one that is not in memory is not kept there."""
        found = self._cached.get(key)
        if found is None:
            found = self._waiting.get(key)
        if found is None and (row := self._file.own_row(self._find, (key,))) is not None:
            found = self.decode(row[0])
        return found

    def decode(self, body: bytes) -> T:
        """Return the value of a row.

        Raises:
            ValueError: as ``decode_row``.
        """
        return decode_row(self._file, self._adapter, body)

    def keep(self, key: str, value: T) -> None:
        """Insert or replace the value of a key."""
        self._waiting[key] = value
        self._cache(key, value)
        if len(self._waiting) > _MAX_WAITING:
            self._write()

    def clear(self) -> None:
        """Forget what is kept in memory, because rows were deleted; what waits is written."""
        self._write()
        self._cached.clear()

    def _cache(self, key: str, value: T) -> None:
        self._cached[key] = value
        self._cached.move_to_end(key)
        if len(self._cached) > _CACHE_SIZE:
            self._cached.popitem(last=False)

    def _write(self) -> None:
        """Write the rows that wait.

        Raises:
            sqlite3.OperationalError: the disk does not accept it; nothing of the transaction is ever committed then.
        """
        if not self._waiting:
            return
        waiting, self._waiting = self._waiting, {}
        encode, columns_of = self._adapter.dump_json, self._columns_of
        rows = ((key, *columns_of(value), encode(value)) for key, value in waiting.items())
        self._file.write_own(self._insert, rows)
