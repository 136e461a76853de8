"""Schemas of replays in requests and answers."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Self

from pydantic import BaseModel, Field, model_validator

from contracts.errors import ErrorBody
from contracts.events.base import Cursor
from contracts.replay import (
    INTO_PATTERN,
    EventType,
    Replay,
    ReplayCounts,
    ReplayInto,
    ReplayPace,
    ReplaySelection,
    ReplayState,
    Speed,
    SubjectId,
    TenantName,
)
from kit.http.point_in_time import PointText
from kit.http.request_body import RequestBody
from services.notifier.replays.planner import ReplayRequest
from services.notifier.replays.progress import ReplayProgress
from services.notifier.streams.sse import MAX_TYPES

_MAX_SUBJECTS = 50
_MAX_TENANTS = 20
_WHY_CHARS = 500

ReplayWhy = Annotated[str, Field(max_length=_WHY_CHARS, description="Reason, for the audit log.")]
Count = Annotated[int, Field(ge=0, description="The plan's count; another one is answered with 409.")]


class NewReplay(RequestBody):
    """Request to plan a replay."""

    into: str = Field(
        json_schema_extra={"pattern": INTO_PATTERN},
        max_length=100,
        description="`sse`, `file`, `webhook:whk_…` or `sandbox:NAME`.",
    )
    since: PointText = Field(
        description="A cursor, an RFC 3339 time or seconds before now. A cursor's event is not sent."
    )
    until: PointText | None = Field(
        default=None, description="As `since`; by default now. A cursor's event is sent, a time's are not."
    )
    types: list[EventType] = Field(default=[], max_length=MAX_TYPES, description="`job.failed` or `job.*`; all.")
    subjects: list[SubjectId] = Field(default=[], max_length=_MAX_SUBJECTS, description="Ids; all.")
    tenants: list[TenantName] = Field(
        default=[], max_length=_MAX_TENANTS, description="For operators: whose events; by default yours. `*` is all."
    )
    speed: Speed = Field(default="1x", description="Relative to the times of the events.")
    max_gap_s: float | None = Field(default=None, ge=0, le=86_400, description="Longest wait between two events.")
    rate_per_s: float | None = Field(default=None, gt=0, le=100_000, description="Most events per second.")
    as_new: bool = Field(default=False, description="Of a webhook: with ids of their own, to be worked on again.")
    why: ReplayWhy = ""
    start: bool = Field(default=False, description="Start it at once; needs `expected_count`.")
    expected_count: Count | None = None

    @model_validator(mode="after")
    def _startable(self) -> Self:
        if self.start and self.expected_count is None:
            raise ValueError("start needs expected_count: plan first, and start with the count of the plan")
        if self.as_new and not self.into.startswith("webhook:"):
            raise ValueError("as_new is for webhooks")
        return self

    def request(self, tenants: tuple[str, ...]) -> ReplayRequest:
        """Return it for the planner.

        Raises:
            ValueError: ``into`` names no target.
        """
        return ReplayRequest(
            into=ReplayInto.parse(self.into, as_new=self.as_new),
            selection=ReplaySelection(tenants=tenants, types=tuple(self.types), subjects=tuple(self.subjects)),
            pace=ReplayPace(speed=self.speed, max_gap_s=self.max_gap_s, rate_per_s=self.rate_per_s),
            since=self.since,
            until=self.until,
        )


class ReplayStart(RequestBody):
    """Request to start a planned replay."""

    expected_count: Count
    why: ReplayWhy = ""


class ReplayChange(RequestBody):
    """Request to pause, resume or cancel a replay."""

    why: ReplayWhy = ""


class ReplayWindowObject(BaseModel):
    """Part of the stream that is replayed; it does not grow."""

    after: str = Field(description="Cursor before the first event.")
    until: str = Field(description="Cursor of the last event.")
    since_time: datetime | None
    until_time: datetime


class PlannedEventObject(BaseModel):
    """An event of the window."""

    cursor: str
    id: str
    type: str
    subject: str
    tenant: str
    time: datetime


class ReplayPlanObject(BaseModel):
    """Events that the replay sends, counted when it was planned."""

    count: int = Field(description="Number of events, exact.")
    by_type: dict[str, int]
    takes: int = Field(description="How many of them the target takes at most; it skips the others.")
    first: list[PlannedEventObject] = Field(description="The first five.")
    last: list[PlannedEventObject] = Field(description="The last five.")
    seconds: float = Field(description="Duration at this speed; with `max_gap_s` an upper bound.")
    warnings: list[str]


class ReplayProgressObject(ReplayCounts):
    """Progress of the replay. An event is tried once; `sse` and `file` count what the furthest reader got."""

    cursor: str
    remaining: int


class ReplayObject(BaseModel):
    """A replay."""

    id: str
    tenant: str
    state: ReplayState
    into: str
    as_new: bool
    tenants: list[str]
    types: list[str]
    subjects: list[str]
    window: ReplayWindowObject
    speed: Speed
    max_gap_s: float | None
    rate_per_s: float | None
    plan: ReplayPlanObject
    progress: ReplayProgressObject | None = Field(description="None while it is unknown.")
    by: str
    why: str
    paused_why: str | None
    error: ErrorBody | None
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    expires_at: datetime | None = Field(description="When the plan ends, if it is not started.")
    links: dict[str, str]


class ReplayPage(BaseModel):
    """Replays, the newest first."""

    data: list[ReplayObject]
    next_cursor: str | None


def replay_object(replay: Replay, progress: ReplayProgress | None, now: datetime) -> ReplayObject:
    """Return a replay as it is shown."""
    plan, window = replay.plan, replay.plan.window
    state = replay.state_at(now)
    path = f"/v1/replays/{replay.id}"
    links = {"self": path, "events": f"{path}/events"}
    if plan.into.kind in ("sse", "file"):
        links["stream"] = f"{path}/stream"
    return ReplayObject(
        id=replay.id,
        tenant=replay.tenant,
        state=state,
        into=str(plan.into),
        as_new=plan.into.as_new,
        tenants=list(plan.selection.tenants),
        types=list(plan.selection.types),
        subjects=list(plan.selection.subjects),
        window=ReplayWindowObject(
            after=str(Cursor(window.epoch, window.after)),
            until=str(Cursor(window.epoch, window.until)),
            since_time=window.since_time,
            until_time=window.until_time,
        ),
        speed=plan.pace.speed,
        max_gap_s=plan.pace.max_gap_s,
        rate_per_s=plan.pace.rate_per_s,
        plan=ReplayPlanObject.model_validate(plan.model_dump()),
        progress=_progress(replay, state, progress),
        by=replay.by,
        why=replay.why,
        paused_why=replay.paused_why or None,
        error=replay.error,
        planned_at=replay.planned_at,
        started_at=replay.started_at,
        ended_at=replay.ended_at,
        expires_at=plan.expires_at if state is ReplayState.PLANNED else None,
        links=links,
    )


def _progress(replay: Replay, state: ReplayState, newest: ReplayProgress | None) -> ReplayProgressObject | None:
    window = replay.plan.window
    counts, sequence = (newest.counts, newest.sequence) if newest else (None, window.after)
    if replay.counts is not None and (counts is None or replay.counts.done >= counts.done):
        counts = replay.counts
        sequence = window.until if state is ReplayState.COMPLETED else sequence
    if counts is None:
        if state not in (ReplayState.PLANNED, ReplayState.EXPIRED):
            return None
        counts = ReplayCounts()
    fields: dict[str, Any] = counts.model_dump()
    return ReplayProgressObject(
        **fields, cursor=str(Cursor(window.epoch, sequence)), remaining=max(0, replay.plan.count - counts.done)
    )
