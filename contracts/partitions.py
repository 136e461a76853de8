"""Partitions: which tenants a cell serves, by a hash over a fixed number of slots (docs/scale.md, ADR 0052). Pure.

A cell is a whole system with its own bus: nothing reaches over two tenants, so none asks another. Slots move between
cells, tenants do not move between slots.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Final, Self

from contracts.errors import ErrorCode, SaccadeError

#: Never another number: it would move every tenant to another slot, and their events lie in a cell's streams.
SLOTS: Final = 64
_RANGE: Final = re.compile(r"([0-9]{1,2})(?:-([0-9]{1,2}))?")


def slot_of(tenant: str) -> int:
    """Return the slot of a tenant: the same in every process and version."""
    return hashlib.sha256(tenant.encode()).digest()[-1] % SLOTS


@dataclass(frozen=True)
class Partition:
    """Slots that a cell serves; all of them by default."""

    slots: frozenset[int] = frozenset(range(SLOTS))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read ``0-31/64`` or ``0-15,40/64``; an empty text stands for all.

        Raises:
            ValueError: it is no list of slots.
        """
        if not text.strip():
            return cls()
        listed, _, count = text.partition("/")
        ranges = [_RANGE.fullmatch(part.strip()) for part in listed.split(",")]
        pairs = [(int(found[1]), int(found[2] or found[1])) for found in ranges if found]
        if count.strip() != str(SLOTS) or len(pairs) != len(ranges) or not all(a <= b < SLOTS for a, b in pairs):
            raise ValueError(f"a partition is a list of slots of {SLOTS}, such as 0-31/{SLOTS} or 0-15,40/{SLOTS}")
        return cls(frozenset(slot for first, last in pairs for slot in range(first, last + 1)))

    @property
    def is_whole(self) -> bool:
        """Return whether every tenant is served."""
        return len(self.slots) == SLOTS

    def serves(self, tenant: str) -> bool:
        """Return whether a tenant is one of this partition."""
        return slot_of(tenant) in self.slots

    def require(self, tenant: str) -> None:
        """Check that a tenant is one of this partition.

        Raises:
            SaccadeError: WRONG_PARTITION.
        """
        if not self.serves(tenant):
            message = f"The tenant {tenant!r} is in slot {slot_of(tenant)}, which this server does not serve."
            raise SaccadeError(ErrorCode.WRONG_PARTITION, message)
