"""Cursors of paginated lists: opaque, and valid for one kind of list only."""

from __future__ import annotations

import base64
import binascii

from contracts.errors import ErrorCode, SaccadeError


def encode_page_cursor(kind: str, sequence: int) -> str:
    """Return the cursor of the page that begins after ``sequence`` in a list of this kind."""
    return base64.urlsafe_b64encode(f"{kind}:{sequence}".encode()).decode().rstrip("=")


def decode_page_cursor(kind: str, cursor: str) -> int:
    """Return the sequence in a cursor of a list of this kind.

    Raises:
        SaccadeError: CURSOR_INVALID.
    """
    try:
        text = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode("ascii")
    except (binascii.Error, ValueError):
        raise SaccadeError(ErrorCode.CURSOR_INVALID) from None
    number = text.removeprefix(f"{kind}:")
    sequence = int(number) if number.isdigit() and len(number) <= 18 else 0
    if encode_page_cursor(kind, sequence) != cursor:
        raise SaccadeError(ErrorCode.CURSOR_INVALID)
    return sequence
