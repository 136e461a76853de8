"""Times that a worker says, by a clock that may be wrong: beyond a tolerance the server's stamp counts. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

#: A worker's clock may differ from the server's by this and the time that an event takes; then the server's counts.
CLOCK_TOLERANCE: Final = timedelta(seconds=5)


def event_time(worker_at: datetime, stored_at: datetime | None) -> datetime:
    """Return when an event happened: as its worker says, or, if that clock is wrong, when the server stored it."""
    return stored_at if stored_at is not None and abs(stored_at - worker_at) > CLOCK_TOLERANCE else worker_at


def move_billed_since(
    billed_since: datetime, worker_at: datetime, at: datetime, starting_at: datetime | None
) -> datetime:
    """Return when the billed time of an attempt began: as the worker says, or moved by the error of its clock.

    ``at``: the ``event_time`` of the attempt's start, which the worker says was at ``worker_at``; ``starting_at``: when
    it was dispatched. A clock that was set right or wrong meanwhile begins nothing before that.
    """
    if at == worker_at:
        return billed_since
    return min(max(billed_since + (at - worker_at), starting_at or at), at)
