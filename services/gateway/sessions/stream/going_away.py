"""Expected end of a session, so that its clients can be told in advance. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from contracts.session import Session
from services.gateway.sessions.latest_progress import SessionStatus

#: Clients are told this long before.
NOTICE_S: Final = 60.0


@dataclass(frozen=True)
class GoingAway:
    """Reason and time of the end of a session, or of this gateway."""

    reason: Literal["length", "cost_cap", "shutdown"]
    after_s: float


def expected_end(session: Session, status: SessionStatus, now: datetime) -> GoingAway:
    """Return the expected end of a session: its maximum length, or its cost limit if that is reached earlier.

    The cost limit is known once the worker has reported a cost; then the cost is taken to grow as it did so far.
    """
    opened = session.opened
    at = session.created_at + timedelta(seconds=opened.max_length_s)
    end = GoingAway("length", max(0.0, (at - now).total_seconds()))
    cost_usd = status.progress.cost_usd if status.progress else 0.0
    if opened.max_cost_usd is not None and cost_usd > 0 and session.ready_at is not None:
        running_s = max(1.0, (now - session.ready_at).total_seconds())
        left_s = max(0.0, (opened.max_cost_usd - cost_usd) * running_s / cost_usd)
        if left_s < end.after_s:
            return GoingAway("cost_cap", left_s)
    return end
