"""Points of the history in queries: a cursor, a time, or a number of seconds before now."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Annotated, Final

from pydantic import Field

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import CURSOR_PATTERN, Cursor

#: A number of seconds, for OpenAPI and validation: up to 31 years.
SECONDS_PATTERN: Final = r"^[0-9]{1,9}s?$"
#: What ``parse_point`` reads.
PointText = Annotated[
    str,
    Field(
        max_length=100,
        json_schema_extra={
            "anyOf": [{"pattern": SECONDS_PATTERN}, {"pattern": CURSOR_PATTERN}, {"format": "date-time"}]
        },
    ),
]


def parse_point(name: str, text: str, now: datetime) -> Cursor | datetime:
    """Parse a cursor, an RFC 3339 time, or seconds before now; ``name`` is that of the query parameter.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    sent, text = text, text.strip()
    if re.fullmatch(SECONDS_PATTERN, text):
        return datetime.fromtimestamp(now.timestamp() - int(text.removesuffix("s")), UTC)
    try:
        return Cursor.parse(sent)
    except ValueError:
        pass
    try:
        # A plus sign that was not escaped in the query arrives as a space.
        moment = datetime.fromisoformat(re.sub(r" (\d\d:\d\d)$", r"+\1", text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        message = f"{name}: {text[:80]!r} is not a cursor, a time or a number of seconds."
        hint = f"Write {name}=2026-01-31T12:00:00Z, {name}=3600 for the last hour, or a cursor."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint) from error
