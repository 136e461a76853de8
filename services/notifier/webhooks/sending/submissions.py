"""Submissions of jobs, which name their workload and files: messages about a job's events say them."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Final

from contracts.errors import UNREADABLE_EVENTS, SaccadeError
from contracts.events.base import DURABLE, Envelope, decode_at, subject_of
from contracts.events.job import JobSubmitted
from contracts.ids import time_of
from kit.bus.event_store import EventStore
from kit.history.history import History

log = logging.getLogger(__name__)

#: The clock of the process that made an id may be so much ahead of that of the bus.
_CLOCK_SLACK: Final = timedelta(hours=1)
#: What is submitted later than this after the time that its id holds (a job of uploads grouped for weeks) is not looked
#: for in the archive.
_SUBMITTED_WITHIN: Final = timedelta(days=8)


class Submissions:
    """Submissions in the stream of events, and in its archive."""

    def __init__(self, events: EventStore, history: History) -> None:
        """Read from ``events``, and what that has deleted from ``history``."""
        self._events, self._history = events, history

    async def of(self, event: Envelope) -> JobSubmitted | None:
        """Return the submission of an event's job; None if it is stored nowhere, or is of another version.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        if not event.type.startswith("job."):
            return None
        submitted = subject_of(DURABLE, event.tenant, "job", event.subject, "submitted")
        stored = await self._events.load(submitted)
        body = stored[0].body if stored else await self._archived(submitted, event.subject)
        try:
            data = decode_at(submitted, body).parsed() if body is not None else None
        except ValueError:  # of another version
            return None
        return data if isinstance(data, JobSubmitted) else None

    async def _archived(self, submitted: str, job_id: str) -> bytes | None:
        """Return a submission that the stream has deleted.

        Raises:
            SaccadeError: BUS_UNAVAILABLE, STORAGE_UNAVAILABLE.
        """
        history = self._history
        try:
            made_at, bounds = time_of(job_id), await history.bounds()
            if bounds.first >= bounds.first_in_stream:
                return None
            after = max(bounds.first - 1, await history.sequence_before(made_at - _CLOCK_SLACK))
            until = min(bounds.first_in_stream - 1, await history.sequence_before(made_at + _SUBMITTED_WITHIN))
            found = await history.first(after, until, (submitted,))
            return found.body if found else None
        except (ValueError, OverflowError):  # an id that holds no time
            return None
        except SaccadeError as error:
            if error.code not in UNREADABLE_EVENTS:
                raise
            log.warning("a message about %s does not say what was submitted: %s", job_id, error)
        return None
