"""Replays: the events of a frozen window, sent again to one target at a pace. Selection, plan, and the fold. Pure.

A replay is a resource of the tenant that asked for it. Its state is folded from its records in the audit log: a verb is
``<noun>.<past_tense>`` there, as in ``replay.started``. How far it is, is no record: the target knows.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from contracts.audit import AuditRecord
from contracts.errors import ErrorBody
from contracts.ids import NOUNS_BY_PREFIX, TENANT_PATTERN, id_pattern, is_job_id
from contracts.sandbox import SANDBOX_PATTERN

#: Noun of the records of replays in the audit log.
NOUN: Final = "replay"
#: Lifetime of a plan that is not started.
PLAN_S: Final = 3600.0
#: Replays of a tenant that may run, or be paused, at the same time.
RUNNING_PER_TENANT: Final = 2
#: Plans of a tenant that wait to be started: each is two records in the audit log, which keeps them for good.
PLANNED_PER_TENANT: Final = 20
#: Events beyond which a replay needs the scope ``operate`` and a reason.
LARGE_EVENTS: Final = 10_000
#: NATS subjects that one selection may consist of.
MAX_FILTERS: Final = 100
#: A replay pauses itself when more than this share of its newest events failed.
PAUSE_WINDOW: Final = 50
PAUSE_SHARE: Final = 0.2
#: Tenant of a selection of all tenants.
EVERY_TENANT: Final = "*"

Speed = Literal["1x", "4x", "max"]
#: Factor between the time of the events and the time of the replay; 0: as fast as the target takes them.
SPEED_FACTORS: Final[dict[Speed, float]] = {"1x": 1.0, "4x": 4.0, "max": 0.0}

EventType = Annotated[str, StringConstraints(pattern=r"^[a-z]+\.([a-z_]+|\*)$")]
SUBJECT_ID_PATTERN: Final = r"^[a-z0-9][A-Za-z0-9_-]{0,127}$"
SubjectId = Annotated[str, StringConstraints(pattern=SUBJECT_ID_PATTERN)]
TenantName = Annotated[str, StringConstraints(pattern=rf"{TENANT_PATTERN}|^\*$")]
#: Kinds of targets.
TargetKindName = Literal["sse", "file", "webhook", "sandbox"]
INTO_PATTERN: Final = rf"^(sse|file|webhook:{id_pattern('whk')[1:-1]}|sandbox:{SANDBOX_PATTERN[1:-1]})$"


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class ReplaySelection(_Model):
    """Selected events of a window: those of some tenants, types and subjects; no types or subjects means all.

    Unlike ``GET /v1/events``, it includes the events of pipelines' stages.
    """

    tenants: tuple[TenantName, ...] = Field(min_length=1)
    #: ``job.failed`` or ``job.*``.
    types: tuple[EventType, ...] = ()
    #: Ids of jobs, sessions, uploads, rules, groups and webhook endpoints.
    subjects: tuple[SubjectId, ...] = ()

    def filters(self) -> tuple[str, ...]:
        """Return the NATS subjects of exactly the selected events, none of which overlap; empty: nothing can match."""
        tenants = (EVERY_TENANT,) if EVERY_TENANT in self.tenants else tuple(dict.fromkeys(self.tenants))
        types = _distinct_types(self.types)
        ids: tuple[str, ...] = tuple(dict.fromkeys(self.subjects)) or ("*",)
        found = [
            f"saccade.evt.{tenant}.{noun if noun != '*' else _noun_of(subject_id)}.{subject_id}.{verb}"
            for tenant in tenants
            for subject_id in ids
            for noun, verb in types
            if subject_id == "*" or "*" in (noun, _noun_of(subject_id)) or noun == _noun_of(subject_id)
        ]
        return tuple(dict.fromkeys(found))

    def matches(self, subject: str) -> bool:
        """Return whether an event with this NATS subject is selected."""
        parts = subject.split(".")
        if len(parts) != 6 or parts[:2] != ["saccade", "evt"]:
            return False
        _, _, tenant, noun, subject_id, verb = parts
        return (
            (EVERY_TENANT in self.tenants or tenant in self.tenants)
            and (not self.subjects or subject_id in self.subjects)
            and self.has_type(f"{noun}.{verb}")
        )

    def has_type(self, name: str) -> bool:
        """Return whether events of a type are selected."""
        return not self.types or name in self.types or f"{name.partition('.')[0]}.*" in self.types

    def narrowed(self, types: tuple[str, ...]) -> ReplaySelection | None:
        """Return the part of the selection that has some of these types or patterns; None if there is no such part."""
        if not types or not self.types:
            return self.model_copy(update={"types": types or self.types})
        kept = [mine for mine in self.types if mine in types or f"{mine.partition('.')[0]}.*" in types]
        kept += [other for other in types if f"{other.partition('.')[0]}.*" in self.types]
        return self.model_copy(update={"types": tuple(dict.fromkeys(kept))}) if kept else None


def _distinct_types(types: tuple[str, ...]) -> list[tuple[str, str]]:
    """Return noun and verb of each type that no other pattern includes; ``*`` for all."""
    pairs = [(noun, verb) for noun, _, verb in (name.partition(".") for name in dict.fromkeys(types))]
    whole = {noun for noun, verb in pairs if verb == "*"}
    return [pair for pair in pairs if pair[1] == "*" or pair[0] not in whole] or [("*", "*")]


def _noun_of(subject_id: str) -> str:
    return "job" if is_job_id(subject_id) else NOUNS_BY_PREFIX.get(subject_id.partition("_")[0], "*")


class ReplayWindow(_Model):
    """Events after one position up to another, both fixed when the replay was planned."""

    #: Incarnation of the stream, as in cursors.
    epoch: str
    #: Sequence before the first event, and of the last one.
    after: int
    until: int
    #: Times that the positions stand for: of the request, or of the events at them. None: the stream's begin.
    since_time: AwareDatetime | None
    until_time: AwareDatetime


class ReplayInto(_Model):
    """Target of a replay: ``sse``, ``file``, ``webhook:whk_…`` or ``sandbox:NAME``."""

    kind: TargetKindName
    #: Id of the endpoint, or name of the sandbox.
    name: str = ""
    #: Of a webhook: deliveries have ids of their own, so that receivers that know the event work on it again.
    as_new: bool = False

    @classmethod
    def parse(cls, text: str, *, as_new: bool = False) -> Self:
        """Read the text form.

        Raises:
            ValueError: it names no target.
        """
        if not re.fullmatch(INTO_PATTERN, text):
            raise ValueError(f"not a target: {text[:80]!r}")
        kind, _, name = text.partition(":")
        return cls.model_validate({"kind": kind, "name": name, "as_new": as_new})

    def __str__(self) -> str:
        """Return the text form."""
        return f"{self.kind}:{self.name}" if self.name else self.kind


class ReplayPace(_Model):
    """Speed of a replay."""

    speed: Speed = "1x"
    #: Longest wait between two events, in seconds of the replay; None: as long as their times say.
    max_gap_s: float | None = Field(default=None, ge=0, le=86_400)
    #: Most events per second; None: no limit.
    rate_per_s: float | None = Field(default=None, gt=0, le=100_000)


class PlannedEvent(_Model):
    """An event of the window, for the plan: enough to recognise it."""

    cursor: str
    id: str
    type: str
    subject: str
    tenant: str
    time: AwareDatetime


class ReplayPlan(_Model):
    """Events that a replay would send, counted when it was planned."""

    into: ReplayInto
    selection: ReplaySelection
    window: ReplayWindow
    pace: ReplayPace
    count: int
    by_type: dict[str, int]
    #: How many of them the target takes at most; the others are skipped.
    takes: int
    #: The first and the last five events.
    first: tuple[PlannedEvent, ...]
    last: tuple[PlannedEvent, ...]
    #: Seconds that it takes at least without a pause; with ``max_gap_s`` an upper bound.
    seconds: float
    warnings: tuple[str, ...] = ()
    expires_at: AwareDatetime

    @property
    def needs_operate(self) -> bool:
        """Whether only an operator may start it."""
        tenants = self.selection.tenants
        return self.count > LARGE_EVENTS or len(tenants) > 1 or EVERY_TENANT in tenants or self.into.kind == "sandbox"


class ReplayState(StrEnum):
    """State of a replay."""

    PLANNED = "planned"
    RUNNING = "running"
    PAUSED = "paused"
    COMPLETED = "completed"
    CANCELLED = "cancelled"
    FAILED = "failed"
    #: A plan that was not started in time.
    EXPIRED = "expired"

    @property
    def ended(self) -> bool:
        """Whether it can change no more."""
        return self in {ReplayState.COMPLETED, ReplayState.CANCELLED, ReplayState.FAILED, ReplayState.EXPIRED}


class ReplayCounts(_Model):
    """Outcomes of the events that a replay has passed to its target."""

    #: Taken by the target.
    sent: int = 0
    #: Not for this target.
    skipped: int = 0
    #: Not taken; a replay tries each event once.
    failed: int = 0

    @property
    def done(self) -> int:
        """All of them."""
        return self.sent + self.skipped + self.failed


@dataclass(frozen=True)
class Replay:
    """One replay, folded from its records."""

    id: str
    #: The tenant that asked for it and may read it; the events may be another's.
    tenant: str
    plan: ReplayPlan
    state: ReplayState
    #: Who planned it, and why.
    by: str
    by_verified: bool
    why: str
    request_id: str
    planned_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    #: Why it is paused, if it paused itself or an operator gave a reason.
    paused_why: str = ""
    #: Counts when it was last paused, as far as they were known then.
    paused_counts: ReplayCounts | None = None
    #: Counts at the end.
    counts: ReplayCounts | None = None
    error: ErrorBody | None = None
    #: Sequence of the newest folded record.
    sequence: int = 0
    #: Requests to start that have no outcome yet, by the id of their record: sequence and time.
    starting: dict[str, tuple[int, datetime]] = field(default_factory=dict, compare=False)

    def state_at(self, now: datetime) -> ReplayState:
        """Return the state: a plan that was not started in time has expired."""
        if self.state is ReplayState.PLANNED and now >= self.plan.expires_at:
            return ReplayState.EXPIRED
        return self.state

    def occupies(self, now: datetime) -> bool:
        """Return whether it counts among those that run."""
        return self.state_at(now) in {ReplayState.RUNNING, ReplayState.PAUSED}


def fold(replay: Replay | None, record: AuditRecord) -> Replay | None:
    """Apply one record of a replay; None before it is planned. What has ended does not change."""
    if record.noun != NOUN:
        return replay
    if replay is None:
        return _planned(record) if record.verb == "planned" and record.data.phase == "outcome" else None
    replay = replace(replay, sequence=record.sequence, starting=_starting(replay, record))
    if replay.state.ended or record.data.phase != "outcome":
        return replay
    details = record.data.details
    match record.verb, replay.state:
        case "started", ReplayState.PLANNED:
            return replace(replay, state=ReplayState.RUNNING, started_at=record.time)
        case "paused", ReplayState.RUNNING:
            counts = _counts(details) or replay.paused_counts
            return replace(replay, state=ReplayState.PAUSED, paused_why=record.data.why, paused_counts=counts)
        case "resumed", ReplayState.PAUSED:
            return replace(replay, state=ReplayState.RUNNING, paused_why="")
        case (("completed" | "failed"), (ReplayState.RUNNING | ReplayState.PAUSED)):
            return _ended(replay, ReplayState(record.verb), record.time, details)
        case "cancelled", _:
            return _ended(replay, ReplayState.CANCELLED, record.time, details)
        case _:
            return replay


def _planned(record: AuditRecord) -> Replay | None:
    try:
        plan = ReplayPlan.model_validate(record.data.details["plan"])
    except (KeyError, ValueError):
        return None
    data = record.data
    return Replay(
        id=record.subject_id,
        tenant=record.tenant,
        plan=plan,
        state=ReplayState.PLANNED,
        by=data.by,
        by_verified=data.by_verified,
        why=data.why,
        request_id=data.request_id,
        planned_at=record.time,
        sequence=record.sequence,
    )


def _starting(replay: Replay, record: AuditRecord) -> dict[str, tuple[int, datetime]]:
    if record.verb == "start_requested":
        return {**replay.starting, record.id: (record.sequence, record.time)}
    if record.data.intent in replay.starting:
        return {intent: at for intent, at in replay.starting.items() if intent != record.data.intent}
    return replay.starting


def _ended(replay: Replay, state: ReplayState, at: datetime, details: dict[str, Any]) -> Replay:
    error = details.get("error")
    return replace(
        replay,
        state=state,
        ended_at=at,
        paused_why="",
        counts=_counts(details),
        error=ErrorBody.model_validate(error) if error else None,
    )


def _counts(details: dict[str, Any]) -> ReplayCounts | None:
    counts = details.get("counts")
    return ReplayCounts.model_validate(counts) if counts else None


def too_many_running(replays: list[Replay], tenant: str, before: int, now: datetime, intent_s: float) -> bool:
    """Return whether a tenant's request to start, whose record has the sequence ``before``, comes after too many.

    Requests that were recorded earlier and are still being carried out count too, so that of several at once the first
    ones are carried out; one that is older than ``intent_s`` seconds has been given up.
    """
    busy = 0
    for replay in replays:
        if replay.tenant != tenant:
            continue
        young = now - timedelta(seconds=intent_s)
        busy += replay.occupies(now) or any(at < before and time > young for at, time in replay.starting.values())
    return busy >= RUNNING_PER_TENANT
