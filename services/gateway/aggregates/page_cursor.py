"""Cursors of paginated lists: opaque to clients, and valid for one kind of list only."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import Query

from contracts.errors import ErrorCode, SaccadeError

#: Kinds of lists.
AUDIT: Final = "audit"
JOBS: Final = "jobs"
RULES: Final = "rules"
SESSIONS: Final = "sessions"
_SEQUENCE: Final = "(0|[1-9][0-9]{0,17})"


def encode_page_cursor(kind: str, sequence: int) -> str:
    """Return the cursor of the page that begins after ``sequence`` in a list of this kind."""
    return f"{kind}-{sequence}"


def page_cursor_pattern(kind: str) -> str:
    """Return the regular expression of the cursors of a list of this kind, for OpenAPI and validation."""
    return f"^{kind}-{_SEQUENCE}$"


def past_cursor_pattern(kind: str) -> str:
    """Return the regular expression of the cursors of a list that can also be read as of a point of the history."""
    return f"^{kind}-{_SEQUENCE}(-{_SEQUENCE})?$"


def page_cursor_query(kind: str, *, past: bool = False) -> Any:
    """Return the query parameter of a list's cursor; another text is answered with CURSOR_INVALID.

    ``past``: the list can also be read as of a point of the history.
    """
    pattern = past_cursor_pattern(kind) if past else page_cursor_pattern(kind)
    return Query(description="`next_cursor` of the previous page.", json_schema_extra={"pattern": pattern})


def decode_page_cursor(kind: str, cursor: str) -> int:
    """Return the sequence in a cursor of a list of this kind.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    if not re.fullmatch(page_cursor_pattern(kind), cursor):
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    return int(cursor.rpartition("-")[2])


def encode_past_cursor(kind: str, sequence: int, at: int) -> str:
    """Return the cursor of the page that begins after ``sequence`` in a list as of the sequence ``at``."""
    return f"{kind}-{sequence}-{at}"


def decode_past_cursor(kind: str, cursor: str) -> tuple[int, int | None]:
    """Return the sequence in a cursor, and that of which the list is; None in a cursor of the present list.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    if not re.fullmatch(past_cursor_pattern(kind), cursor):
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    _, sequence, *at = cursor.split("-")
    return int(sequence), int(at[0]) if at else None


def is_past_cursor(kind: str, cursor: str | None) -> bool:
    """Return whether a cursor is one of a list as of a point of the history.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    return cursor is not None and decode_past_cursor(kind, cursor)[1] is not None
