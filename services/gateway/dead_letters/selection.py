"""Choice of dead letters by filter, in the order of a list, and their groups by error. Pure."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from operator import attrgetter
from typing import Final

from services.gateway.dead_letters.index import DeadLetterIndex
from services.gateway.dead_letters.letter import Kind, Letter, LetterState

_GROUPS_SHOWN: Final = 50
#: Letters that are compared with a filter at a time: 5 ms.
_PIECE: Final = 2000


@dataclass(frozen=True)
class LetterFilter:
    """Letters that are asked for; None: any."""

    tenant: str | None = None
    kind: Kind | None = None
    service: str | None = None
    type: str | None = None
    subject: str | None = None
    #: Part of the error, in any case.
    error: str | None = None
    #: Id of a group of errors.
    group: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    #: None: whatever has become of them.
    state: LetterState | None = LetterState.OPEN

    def matches(self, letter: Letter) -> bool:
        """Return whether a letter is asked for; its state is looked at elsewhere."""
        return (
            self.tenant in (None, letter.tenant)
            and self.kind in (None, letter.kind)
            and self.service in (None, letter.service)
            and self.type in (None, letter.type)
            and self.subject in (None, letter.subject)
            and (self.error is None or self.error.lower() in letter.error.lower())
            and (self.group is None or self.group == letter.group_id)
            and (self.since is None or letter.time >= self.since)
            and (self.until is None or letter.time < self.until)
        )


@dataclass(frozen=True)
class Group:
    """Letters with the same error of the same service."""

    id: str
    kind: Kind
    service: str
    error: str
    count: int
    oldest: datetime
    newest: datetime
    example: str


async def select(index: DeadLetterIndex, wanted: LetterFilter) -> list[Letter]:
    """Return the letters that are asked for, newest first; other requests are answered between two pieces of them."""
    found, letters = [], list(index.all())
    for start in range(0, len(letters), _PIECE):
        found += [
            letter
            for letter in letters[start : start + _PIECE]
            if wanted.matches(letter) and wanted.state in (None, index.state(letter))
        ]
        await asyncio.sleep(0)
    return sorted(found, key=attrgetter("place"), reverse=True)


def groups(letters: Iterable[Letter]) -> list[Group]:
    """Return the groups of letters by error, the largest first."""
    by_group: dict[tuple[Kind, str, str], list[Letter]] = {}
    for letter in letters:
        by_group.setdefault((letter.kind, letter.service, letter.group), []).append(letter)
    found = [
        Group(
            id=members[0].group_id,
            kind=kind,
            service=service,
            error=error,
            count=len(members),
            oldest=min(members, key=attrgetter("place")).time,
            newest=max(members, key=attrgetter("place")).time,
            example=max(members, key=attrgetter("place")).id,
        )
        for (kind, service, error), members in by_group.items()
    ]
    return sorted(found, key=lambda group: (-group.count, group.id))[:_GROUPS_SHOWN]


def counts_by_kind(letters: Iterable[Letter]) -> dict[str, int]:
    """Return how many letters of each kind there are."""
    counted = Counter(letter.kind for letter in letters)
    return {kind.value: counted[kind] for kind in Kind}
