"""Places for connections of this process: each has a session, and a buffer of frames. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_PLACES: Final = 64
#: Places that are left to tenants with few connections, so that one tenant cannot take all of them.
_RESERVED: Final = 16
_FEW: Final = 8


class ConnectionPlaces:
    """The places, by tenant."""

    def __init__(self) -> None:
        """Start with free places."""
        self._taken: Counter[str] = Counter()

    @contextmanager
    def place(self, tenant: str) -> Iterator[bool]:
        """Take a place for a connection; False if the tenant gets none."""
        limit = _PLACES if self._taken[tenant] < _FEW else _PLACES - _RESERVED
        if self._taken.total() >= limit:
            yield False
            return
        self._taken[tenant] += 1
        try:
            yield True
        finally:
            self._taken[tenant] -= 1
            if not self._taken[tenant]:
                del self._taken[tenant]
