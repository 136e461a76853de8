"""The cursor of a list: where its next page begins, unreadable on purpose and of one list only."""

from __future__ import annotations

import base64
import binascii

from contracts.errors import ErrorCode, SaccadeError


def encode_page_cursor(of: str, sequence: int) -> str:
    """Write the cursor of what comes after ``sequence`` in the list ``of``."""
    return base64.urlsafe_b64encode(f"{of}:{sequence}".encode()).decode().rstrip("=")


def decode_page_cursor(of: str, cursor: str) -> int:
    """Read a cursor of the list ``of``.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        raise SaccadeError(ErrorCode.CURSOR_INVALID) from None
    number = text.removeprefix(f"{of}:")
    sequence = int(number) if number.isdigit() and len(number) <= 18 else 0
    if encode_page_cursor(of, sequence) != cursor:
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    return sequence
