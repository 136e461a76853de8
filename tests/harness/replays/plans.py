"""Plans of replays that no service has made, and as old as a test needs them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from contracts.ids import new_id
from contracts.replay import (
    Replay,
    ReplayCounts,
    ReplayInto,
    ReplayPace,
    ReplayPlan,
    ReplaySelection,
    ReplayState,
    ReplayWindow,
)


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


def started_replay(into: ReplayInto, tenant: str, days_ago: float, counts: ReplayCounts | None) -> Replay:
    """Return a replay that was started some time ago, and had these counts when it was paused."""
    at = datetime.now(UTC) - timedelta(days=days_ago)
    return Replay(
        id=new_id("rpl"),
        tenant=tenant,
        plan=plan_into(into, tenant, at),
        state=ReplayState.RUNNING,
        by="ada",
        by_verified=True,
        why="test",
        request_id=new_id("req"),
        planned_at=at,
        started_at=at,
        paused_counts=counts,
    )
