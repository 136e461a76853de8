"""Jobs of rules that the recorded dispatcher refused: their rule, or an upload of theirs, had been deleted before.

What it read for that may not be in the window; that it refused is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.job import JobFailed
from contracts.job import Job
from services.whatif.window import RecordedEvent

_CODES: Final = frozenset({ErrorCode.RULE_NOT_FOUND, ErrorCode.UPLOAD_ALREADY_ENDED})


class RefusedJobs:
    """The refusals of a window, by job."""

    def __init__(self, events: Iterable[RecordedEvent]) -> None:
        """Read them from the recorded events."""
        self._errors: Mapping[str, SaccadeError] = dict(_refusals(events))

    async def refusal(self, job: Job) -> SaccadeError | None:
        """Return why the recorded dispatcher refused a job; None if it did not."""
        return self._errors.get(job.id)


def _refusals(events: Iterable[RecordedEvent]) -> Iterable[tuple[str, SaccadeError]]:
    for event in events:
        if not event.by_dispatcher or event.envelope.type != JobFailed.type:
            continue
        data = JobFailed.model_validate(event.envelope.data)
        if not data.attempt and data.error.code in _CODES:
            yield event.envelope.subject, SaccadeError(data.error.code, data.error.message, hint=data.error.hint)
