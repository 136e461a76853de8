"""Cursors of paginated lists: opaque to clients, and valid for one kind of list only."""

from __future__ import annotations

import re
from typing import Any, Final

from fastapi import Query

from contracts.errors import ErrorCode, SaccadeError

#: Kinds of lists.
JOBS: Final = "jobs"
SESSIONS: Final = "sessions"


def encode_page_cursor(kind: str, sequence: int) -> str:
    """Return the cursor of the page that begins after ``sequence`` in a list of this kind."""
    return f"{kind}-{sequence}"


def page_cursor_pattern(kind: str) -> str:
    """Return the regular expression of the cursors of a list of this kind, for OpenAPI and validation."""
    return f"^{kind}-(0|[1-9][0-9]{{0,17}})$"


def page_cursor_query(kind: str) -> Any:
    """Return the query parameter of a list's cursor; another text is answered with CURSOR_INVALID."""
    return Query(
        description="`next_cursor` of the previous page.", json_schema_extra={"pattern": page_cursor_pattern(kind)}
    )


def decode_page_cursor(kind: str, cursor: str) -> int:
    """Return the sequence in a cursor of a list of this kind.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    if not re.fullmatch(page_cursor_pattern(kind), cursor):
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    return int(cursor.rpartition("-")[2])
