"""Plans of replays that no service has made, and as old as a test needs them."""

from __future__ import annotations

from datetime import datetime

from contracts.replay import ReplayInto, ReplayPace, ReplayPlan, ReplaySelection, ReplayWindow


def plan_into(into: ReplayInto, tenant: str, at: datetime) -> ReplayPlan:
    return ReplayPlan(
        into=into,
        selection=ReplaySelection(tenants=(tenant,)),
        window=ReplayWindow(epoch="e", after=0, until=9, since_time=None, until_time=at),
        pace=ReplayPace(),
        count=9,
        by_type={"job.failed": 9},
        takes=9,
        first=(),
        last=(),
        seconds=0,
        expires_at=at,
    )
