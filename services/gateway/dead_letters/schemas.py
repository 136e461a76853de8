"""JSON bodies of the routes of dead letters."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, Field, StringConstraints

from contracts.audit import SYSTEM
from contracts.ids import TENANT_PATTERN
from kit.http.request_body import RequestBody
from services.gateway.dead_letters.letter import Action, Kind, LetterState
from services.gateway.dead_letters.plan import PlanAction
from services.gateway.dead_letters.plan_order import PlanOrder
from services.gateway.jobs.schemas import Moment

Why = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500), Field(examples=["the bug is fixed"])
]
TenantName = Annotated[str, StringConstraints(pattern=rf"{TENANT_PATTERN}|^{SYSTEM}$")]


class LetterChoice(RequestBody):
    """Choice of open dead letters; a field that is left out matches any."""

    tenant: TenantName | None = None
    kind: Kind | None = Field(default=None, strict=False)
    service: str | None = Field(default=None, max_length=200)
    type: str | None = Field(default=None, max_length=200)
    subject: str | None = Field(default=None, max_length=200)
    error: str | None = Field(default=None, max_length=500, description="Part of the error, in any case.")
    group: str | None = Field(default=None, max_length=64, description="Id of a group of errors.")
    since: Moment | None = Field(default=None, strict=False)
    until: Moment | None = Field(default=None, strict=False)


class BulkAct(PlanOrder, LetterChoice):
    """Order to act on all open letters that match."""

    action: PlanAction
    why: Why


class SingleAct(RequestBody):
    """Order to act on one letter."""

    why: Why


class LetterObject(BaseModel):
    """A dead letter."""

    id: str
    kind: Kind
    state: LetterState
    tenant: str
    service: str = Field(description="Consumer of an event, or the service that gave up.")
    type: str = Field(description="Type of the event.")
    subject: str = Field(description="Id of the job, upload, … that it is about.")
    time: datetime
    error: str
    group: str = Field(description="Id of its group of errors.")
    attempt: int = Field(description="How often it was tried, in all.")
    redrive: Action | None = Field(description="What a re-drive does; null: no command can do it.")
    details: dict[str, Any]


class GroupObject(BaseModel):
    """Letters with the same error of the same service, ids and numbers aside."""

    id: str
    kind: Kind
    service: str
    error: str
    count: int
    oldest: datetime
    newest: datetime
    example: str = Field(description="Id of the newest of them.")


class LetterPage(BaseModel):
    """Dead letters, newest first; counts and groups are of all that match, not of this page."""

    data: list[LetterObject]
    next_cursor: str | None
    count: int
    by_kind: dict[str, int]
    groups: list[GroupObject] = Field(description="The largest first, at most 50.")


class ActRecord(BaseModel):
    """Record of something that was done about a letter."""

    record: int = Field(description="Sequence in the audit log.")
    time: datetime
    verb: str
    by: str
    by_verified: bool
    why: str
    request_id: str
    details: dict[str, Any]


class FullLetterObject(LetterObject):
    """A dead letter with its event and what was done about it."""

    verified: bool | None = Field(description="Whether a re-drive went well; null: not known yet, or there was none.")
    event: Any = Field(description="The event, or the record of the attempt; null: it is not stored any more.")
    made_by: str | None = Field(description="Service that made the event.")
    version: str | None = Field(description="Version of the event's schema.")
    acts: list[ActRecord]


class ActDone(BaseModel):
    """Result of an act on one letter."""

    id: str
    record: int = Field(description="Sequence of the outcome in the audit log.")


class LetterTrial(BaseModel):
    """Letters that an act on all that match would be on."""

    action: PlanAction
    count: int = Field(description="Send it as `expected_count`.")
    by_kind: dict[str, int]
    groups: list[GroupObject]
    left_out: int = Field(description="Letters that match and that no command can handle again.")


class PlanObject(BaseModel):
    """An act on many letters."""

    id: str
    tenant: str
    action: str = Field(description="`redrive` or `discard`.")
    count: int
    state: str = Field(description="`running`, `ended`, or `abandoned`: it was not wholly stored, nothing was changed.")
    done: int
    failed: int
    skipped: int = Field(description="Letters that somebody else settled meanwhile, or that have a newer fault.")
    failures: list[dict[str, str]] = Field(description="The first of those that failed again.")
    by: str
    why: str
    request_id: str
    began_at: datetime
