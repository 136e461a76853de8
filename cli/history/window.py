"""Window of a stream by times, cursors and ids: the sequences that it stands for, fixed when the command begins."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from cli.failure import USAGE, Failure
from contracts.events.base import CURSOR_PATTERN, Cursor
from contracts.ids import time_of
from kit.bus.lineage import StreamPosition
from kit.history.event_lines import HistoryEvent
from kit.history.history import History

_DURATION: Final = re.compile(r"^(\d+)(s|m|h|d)?$")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
#: Clocks of the machine that made an id, and of the server that stored its first event, differ by less.
_CLOCKS: Final = timedelta(minutes=10)
_HINT: Final = "Write 90s, 15m, 2h or 7d, a time such as 2026-11-23T07:00:00Z, or a cursor of an event."


@dataclass(frozen=True)
class Window:
    """Events after a sequence, up to another one."""

    after: int
    until: int


async def window_of(
    history: History, position: StreamPosition, since: str | None, until: str | None, story: str | None
) -> Window:
    """Return the window between two points; without the first, from the story's beginning or from the first event.

    Raises:
        Failure: a point is none, or the window is empty.
        SaccadeError: BUS_UNAVAILABLE.
    """
    bounds = await history.bounds()
    after, end = bounds.first - 1, bounds.last
    if since:
        after = max(after, await _sequence(history, position, since, "--since", end))
    elif story:
        after = max(after, await history.sequence_before(time_of(story) - _CLOCKS))
    if until:
        end = min(end, await _sequence(history, position, until, "--until", end))
    if end <= after:
        raise Failure(
            "There are no events in this window.",
            code="window_empty",
            hint="Without --since and --until, all events that are stored are in it.",
        )
    return Window(after, end)


async def _sequence(history: History, position: StreamPosition, text: str, option: str, end: int) -> int:
    """Return the last sequence at a point."""
    if re.fullmatch(CURSOR_PATTERN, text) and not _DURATION.match(text):
        found = position.lineage.position_of(Cursor.parse(text))
        if found is None or found > end:
            raise Failure(
                f"{option} {text}: the stream has no such position.",
                code="cursor_unknown",
                hint="The stream was restored to an older point after it, or it is a cursor of another installation.",
                exit_code=USAGE,
            )
        return found
    return await history.sequence_before(_moment(text, option))


def _moment(text: str, option: str) -> datetime:
    if match := _DURATION.match(text):
        return datetime.now(UTC) - timedelta(seconds=int(match[1]) * _SECONDS[match[2] or "s"])
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise Failure(f"{option} {text} is not a time.", code="usage", hint=_HINT, exit_code=USAGE) from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def story_of(subject_id: str) -> str:
    """Return the part of an id that a job shares with its session and with the jobs of its stages."""
    return subject_id.partition("_")[2][:36]


@dataclass(frozen=True)
class EventSelection:
    """Events that are wanted: of some types, of one story."""

    types: tuple[str, ...] = ()
    story: str | None = None

    @property
    def subjects(self) -> tuple[str, ...]:
        """Filters of subjects that match at least these events."""
        return tuple(f"saccade.evt.*.{noun}.*.{verb}" for noun, _, verb in self._parts()) or (">",)

    def has(self, event: HistoryEvent) -> bool:
        """Return whether an event that matches the filters is wanted."""
        return self.story is None or story_of(event.subject_id) == self.story

    def described(self) -> tuple[str, ...]:
        """Return the filters for the manifest, with the story's id in the place of the ids."""
        if self.story is None:
            return self.subjects
        types = self._parts() or [("*", "", "*")]
        return tuple(f"saccade.evt.*.{noun}.*{self.story}*.{verb}" for noun, _, verb in types)

    def _parts(self) -> Sequence[tuple[str, str, str]]:
        return [name.partition(".") for name in self.types]
