"""Bytes that each tenant has in one stream, by where they are in it. Pure."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Final

from contracts.limits import KIB

#: Size of a tenant's first part; each further one may be so much larger. A part is deleted whole: who has little loses
#: little of it.
_FIRST_PART_BYTES: Final = 64 * KIB


@dataclass(slots=True)
class _Part:
    """Messages of one tenant that follow each other; others' may lie between them."""

    first: int
    last: int
    size_bytes: int


@dataclass
class Tally:
    """Counts of a stream up to a sequence; a tenant's messages are counted in parts, so that millions take little."""

    #: Largest size from which on a part is closed.
    part_bytes: int
    last: int = 0
    _parts: dict[str, deque[_Part]] = field(default_factory=dict)

    def add(self, sequence: int, tenant: str, size_bytes: int) -> None:
        """Count the next message."""
        self.last = sequence
        parts = self._parts.setdefault(tenant, deque())
        if parts and parts[-1].size_bytes < min(self.part_bytes, len(parts) * _FIRST_PART_BYTES):
            parts[-1].last = sequence
            parts[-1].size_bytes += size_bytes
        else:
            parts.append(_Part(sequence, sequence, size_bytes))

    def used(self) -> dict[str, int]:
        """Return the bytes of each tenant."""
        return {tenant: sum(part.size_bytes for part in parts) for tenant, parts in self._parts.items()}

    def oldest(self, tenant: str, size_bytes: int) -> tuple[int, int, int]:
        """Return the first and last sequence of a tenant's oldest parts of at least so many bytes, and their size."""
        parts, size, last = self._parts[tenant], 0, 0
        for part in parts:
            size, last = size + part.size_bytes, part.last
            if size >= size_bytes:
                break
        return parts[0].first, last, size

    def forget(self, first: int, tenant: str | None = None) -> None:
        """Forget the parts before a sequence, of one tenant or of all: they are deleted."""
        for name in [tenant] if tenant is not None else list(self._parts):
            parts = self._parts[name]
            while parts and parts[0].last < first:
                parts.popleft()
            if not parts:
                del self._parts[name]
