"""Plan of a replay: the window frozen to sequences, counted without reading it, and its first and last events."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import Cursor
from contracts.replay import (
    MAX_FILTERS,
    PLAN_S,
    PlannedEvent,
    ReplayInto,
    ReplayPace,
    ReplayPlan,
    ReplaySelection,
    ReplayWindow,
)
from kit.history.history import Bounds, History, HistoryEvent
from services.notifier.replays.pace import estimated_seconds
from services.notifier.replays.target import TargetCheck, TargetKinds, WantedReplay
from services.notifier.streams.sse import parse_since

#: Events at each end that a plan shows.
_SHOWN: Final = 5
#: The first events are looked for in so many of the window, then in so many times as many, and so on; and the last.
_LOOKED_AT: Final = 32
_WIDENED: Final = 4
_ENDS: Final = ("job.succeeded", "job.failed", "job.cancelled")


@dataclass(frozen=True)
class ReplayRequest:
    """Request of a user."""

    into: ReplayInto
    selection: ReplaySelection
    pace: ReplayPace
    #: A cursor, an RFC 3339 time or seconds before now; without ``until``: up to now.
    since: str
    until: str | None = None


class ReplayPlanner:
    """Plans replays; has no effect."""

    def __init__(
        self,
        history: History,
        kinds: TargetKinds,
        position_of: Callable[[Cursor], int | None],
        now: Callable[[], datetime],
    ) -> None:
        """``position_of`` returns the sequence that a cursor stands for today; None: it stands for none."""
        self._history = history
        self._kinds = kinds
        self._position_of = position_of
        self._now = now

    async def plan(self, replay_id: str, tenant: str, wanted: ReplayRequest) -> ReplayPlan:
        """Return the plan of a replay that a tenant asks for.

        Raises:
            SaccadeError: INVALID_PARAMETER; what the target says; BUS_UNAVAILABLE.
        """
        filters = wanted.selection.filters()
        if not filters:
            raise _invalid("No event can match: the types are not those of the subjects.", "types")
        if len(filters) > MAX_FILTERS:
            raise _invalid(f"The selection has {len(filters)} combinations, at most {MAX_FILTERS}.", "subjects")
        now = self._now()
        bounds = await self._history.bounds()
        window, warnings = await self._window(wanted, bounds, now)
        checked = WantedReplay(replay_id, tenant, wanted.into, wanted.selection, window, wanted.pace)
        check = await self.check(checked)
        by_type, first, last = await asyncio.gather(
            self._history.count(window.after, window.until, filters),
            self._first(window, filters),
            self._last(window, filters),
        )
        count = sum(by_type.values())
        takes = await self._takes(check, checked, by_type)
        pace = limited(wanted.pace, check)
        span_s = (last[-1].time - first[0].time).total_seconds() if first and last else 0.0
        seconds = estimated_seconds(pace, count, span_s)
        if not math.isfinite(seconds):  # JSON has no such number: nobody could read the record of the plan
            raise _invalid("At this rate the replay never ends.", "rate_per_s")
        return ReplayPlan(
            into=wanted.into,
            selection=wanted.selection,
            window=window,
            pace=pace,
            count=count,
            by_type=by_type,
            takes=takes,
            first=tuple(_shown(event, window.epoch) for event in first),
            last=tuple(_shown(event, window.epoch) for event in last),
            seconds=round(seconds, 3),
            warnings=(*warnings, *_unfinished(by_type), *check.warnings),
            expires_at=now + timedelta(seconds=PLAN_S),
        )

    def check_branch(self, window: ReplayWindow) -> None:
        """Check that the stream still holds the events that a window was planned for.

        Raises:
            SaccadeError: HISTORY_EXPIRED: it was restored to an older point since, and has other events there.
        """
        if self._position_of(Cursor(window.epoch, window.until)) is None:
            message = "The stream was restored to an older point since this replay was planned: its events are gone."
            raise SaccadeError(ErrorCode.HISTORY_EXPIRED, message, hint="Plan the replay anew.")

    async def check(self, wanted: WantedReplay) -> TargetCheck:
        """Return the target's answer to a plan.

        Raises:
            SaccadeError: such a replay is not possible.
        """
        if wanted.into.kind in ("sse", "file"):
            return TargetCheck(wanted.selection)
        return await self._kinds.of(wanted.into).check(wanted)

    async def count(self, plan: ReplayPlan, until: int) -> int:
        """Return how many of a plan's events there are up to a sequence.

        Raises:
            SaccadeError: BUS_UNAVAILABLE.
        """
        if until <= plan.window.after:
            return 0
        return sum((await self._history.count(plan.window.after, until, plan.selection.filters())).values())

    async def _window(
        self, wanted: ReplayRequest, bounds: Bounds, now: datetime
    ) -> tuple[ReplayWindow, tuple[str, ...]]:
        after, since_time = await self._position(wanted.since, "since", now)
        until, until_time = (
            (bounds.last, now) if wanted.until is None else await self._position(wanted.until, "until", now)
        )
        until = min(until, bounds.last)
        if since_time is not None and until_time is not None and since_time > until_time:
            raise _invalid("since is later than until.", "until")
        warnings: list[str] = []
        if after < bounds.first - 1:
            after = bounds.first - 1
            if since_time is None or after > 0:
                warnings.append(f"History begins with event {bounds.first}: older ones are not stored any more.")
        if after + 1 < bounds.first_in_stream and after < until:
            warnings.append("The window begins before what the stream holds: that part is read from the archive.")
        after = min(after, until) if since_time is not None or wanted.until is not None else after
        if after > until:
            raise _invalid("since is later than until.", "until")
        window = ReplayWindow(
            epoch=bounds.epoch, after=after, until=until, since_time=since_time, until_time=until_time or now
        )
        return window, tuple(warnings)

    async def _position(self, text: str, name: str, now: datetime) -> tuple[int, datetime | None]:
        """Return the sequence up to which a moment reaches, and its time, if it is given as one."""
        try:
            moment = parse_since(text, now)
        except SaccadeError as error:
            raise _invalid(error.message.replace("since:", f"{name}:", 1), name) from None
        if isinstance(moment, Cursor):
            position = self._position_of(moment)
            if position is None:
                raise _invalid(f"{name}: the cursor {str(moment)[:80]} is not of this stream.", name)
            return position, None
        return await self._history.sequence_before(moment), moment

    async def _takes(self, check: TargetCheck, wanted: WantedReplay, by_type: dict[str, int]) -> int:
        """Return how many of the counted events the target takes."""
        filters = check.takes.filters() if check.takes else ()
        if not check.takes or not filters:
            return 0
        if check.takes.model_copy(update={"types": wanted.selection.types}) == wanted.selection:
            return sum(number for name, number in by_type.items() if check.takes.has_type(name))
        return sum((await self._history.count(wanted.window.after, wanted.window.until, filters)).values())

    async def _first(self, window: ReplayWindow, filters: tuple[str, ...]) -> list[HistoryEvent]:
        """Return the first events, of ever larger parts at the begin of the window."""
        found: list[HistoryEvent] = []
        after, width = window.after, _LOOKED_AT
        while after < window.until and len(found) < _SHOWN:
            end = min(window.until, after + width)
            async for event in self._history.read(after, end, filters):
                found.append(event)
                if len(found) == _SHOWN:
                    break
            after, width = end, width * _WIDENED
        return found

    async def _last(self, window: ReplayWindow, filters: tuple[str, ...]) -> list[HistoryEvent]:
        """Return the last events, of ever larger parts at the end of the window."""
        found: list[HistoryEvent] = []
        until, width = window.until, _LOOKED_AT
        while until > window.after and len(found) < _SHOWN:
            start = max(window.after, until - width)
            newest: deque[HistoryEvent] = deque(maxlen=_SHOWN - len(found))
            async for event in self._history.read(start, until, filters):
                newest.append(event)
            found = [*newest, *found]
            until, width = start, width * _WIDENED
        return found


def limited(pace: ReplayPace, check: TargetCheck) -> ReplayPace:
    """Return the pace at no more than the target's own rate."""
    rates = [rate for rate in (pace.rate_per_s, check.rate_per_s) if rate is not None]
    return pace.model_copy(update={"rate_per_s": min(rates, default=None)})


def _shown(event: HistoryEvent, epoch: str) -> PlannedEvent:
    return PlannedEvent(
        cursor=f"{epoch}.{event.sequence}",
        id=event.id,
        type=event.type,
        subject=event.subject_id,
        tenant=event.tenant,
        time=event.time,
    )


def _unfinished(by_type: dict[str, int]) -> tuple[str, ...]:
    ended = sum(by_type.get(name, 0) for name in _ENDS)
    if not ended or (begun := by_type.get("job.submitted", 0)) <= ended:
        return ()
    return (f"{begun - ended} more jobs begin in the window than end in it: the replay leaves them unfinished.",)


def _invalid(message: str, name: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, message, errors=[{"detail": message, "pointer": f"#/{name}"}])
