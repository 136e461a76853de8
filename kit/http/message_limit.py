"""Largest WebSocket message by path."""

from __future__ import annotations

import re
from typing import Final

from contracts.limits import MIB

#: A frame slightly above the limit of a session is refused by itself; a much larger one closes the connection.
MESSAGE_BYTES: Final = 4 * MIB
#: Clients of the replaced vision system may send as much as it took.
_VISION: Final = re.compile(r"(?:/compat/vision(?:/k/[^/]+)?)?/vision/stream/?")
_VISION_BYTES: Final = 16 * MIB


def message_limit(path: str) -> int:
    """Return the bytes that a message may have on a decoded path; a larger one closes the connection (1009)."""
    return _VISION_BYTES if _VISION.fullmatch(path) else MESSAGE_BYTES
