"""Plans: one act on many dead letters, or on many jobs, frozen in the audit log before the first of them. Pure.

The ids of the letters or jobs are the plan: they are stored as the intents of its parts, each with an outcome of its
own. A plan is carried out only when every part is stored; a process that takes over goes on with the parts that have
no outcome.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, Protocol

from contracts.audit import Act, AuditRecord
from contracts.errors import ErrorCode

#: Noun of the records of plans.
NOUN: Final = "dead_letter_plan"
#: Noun of the records of plans for jobs.
JOB_PLAN: Final = "job_plan"
#: Items of one part: a record has at most 64 KiB.
PART_ITEMS: Final = 500
#: Items of one plan: who has more narrows the filter, and begins another plan afterwards.
MAX_ITEMS: Final = 10_000

PlanAction = Literal["redrive", "discard"]
ItemResult = Literal["done", "skipped"]
#: Verb of the outcome of each act that went well.
DONE: Final = {"redrive": "redriven", "discard": "discarded", "cancel": "cancelled", "retry": "retried"}
#: Errors that say nothing about an item: it is tried again.
TRANSIENT: Final = frozenset(
    {
        ErrorCode.SERVICE_UNAVAILABLE,
        ErrorCode.BUS_UNAVAILABLE,
        ErrorCode.EVENTS_FULL,
        ErrorCode.TIMED_OUT,
        ErrorCode.RATE_LIMITED,
    }
)


class LeftOut(Exception):  # noqa: N818 - an expected result, not a fault
    """An item of a plan is not any more what the plan was made for."""

    def __init__(self, item_id: str, code: str, message: str) -> None:
        super().__init__(message)
        self.reason = {"id": item_id, "code": code, "message": message[:200]}


@dataclass(frozen=True)
class PlannedLetter:
    """A letter of a plan: its id, and the fault that the plan was made for."""

    id: str
    fault: int


def parts(
    plan_id: str, tenant: str, action: PlanAction, letters: Sequence[PlannedLetter], about: dict[str, Any]
) -> list[Act]:
    """Return the acts whose intents are the plan; ``about`` says how the letters were chosen."""
    items = [[letter.id, letter.fault] for letter in letters]
    return plan_acts(NOUN, plan_id, tenant, about | {"action": action}, name="letters", items=items)


def plan_acts(
    noun: str, plan_id: str, tenant: str, about: dict[str, Any], *, name: str, items: Sequence[list[Any]]
) -> list[Act]:
    """Return the acts whose intents are a plan for items, which their details have under ``name``."""
    chunks = [items[at : at + PART_ITEMS] for at in range(0, len(items), PART_ITEMS)]
    counts = {"parts": len(chunks), "count": len(items)}
    return [
        Act(tenant, noun, plan_id, about | counts | {"part": number, name: list(chunk)})
        for number, chunk in enumerate(chunks, start=1)
    ]


@dataclass
class Plan:
    """A plan as its records tell it."""

    id: str
    noun: str
    tenant: str
    action: str
    count: int
    parts: int
    began_at: datetime
    by: str
    why: str
    request_id: str
    intents: dict[int, AuditRecord] = field(default_factory=dict)
    outcomes: dict[int, AuditRecord] = field(default_factory=dict)

    @property
    def frozen(self) -> bool:
        """Whether all of it is stored; otherwise nothing of it was carried out."""
        return len(self.intents) == self.parts

    @property
    def ended(self) -> bool:
        """Whether every part that is stored has an outcome."""
        return self.outcomes.keys() >= self.intents.keys()

    @property
    def open_parts(self) -> list[AuditRecord]:
        """Intents of the parts that are not carried out yet."""
        return [intent for number, intent in sorted(self.intents.items()) if number not in self.outcomes]

    def total(self, name: str) -> int:
        """Return the sum of a figure of all outcomes: ``done``, ``failed`` or ``skipped``."""
        return sum(int(outcome.data.details.get(name, 0)) for outcome in self.outcomes.values())

    @property
    def failures(self) -> list[dict[str, str]]:
        """Items that could not be changed, as far as the outcomes name them."""
        return [failure for outcome in self.outcomes.values() for failure in outcome.data.details.get("failures", [])]

    @property
    def skips(self) -> list[dict[str, str]]:
        """Items that were left out and why, as far as the outcomes name them."""
        return [skip for outcome in self.outcomes.values() for skip in outcome.data.details.get("skips", [])]


class PlanItems(Protocol):
    """Items of the plans of one noun, each with an id, and the act on one of them."""

    def items_of(self, intent: AuditRecord) -> Sequence[Any]:
        """Return the items of a part."""

    async def act(self, plan: Plan, intent: AuditRecord, item: Any) -> ItemResult:
        """Act on one item, unless this plan has done so before.

        Raises:
            LeftOut: it is not any more what the plan was made for, for a reason that the plan names.
            SaccadeError: it is refused.
        """


def letters_of(intent: AuditRecord) -> list[PlannedLetter]:
    """Return the letters of a part."""
    return [PlannedLetter(str(letter_id), int(fault)) for letter_id, fault in intent.data.details["letters"]]


@dataclass
class Plans:
    """All plans."""

    _plans: dict[str, Plan] = field(default_factory=dict)
    #: Part of each intent, by its id.
    _part_of: dict[str, int] = field(default_factory=dict)

    def on_record(self, record: AuditRecord) -> None:
        """Apply the intent of a part, or its outcome."""
        details = record.data.details
        if record.data.phase == "outcome":
            plan, number = self._plans.get(record.subject_id), self._part_of.get(record.data.intent or "")
            if plan is not None and number is not None:
                plan.outcomes[number] = record
            return
        plan = self._plans.setdefault(
            record.subject_id,
            Plan(
                id=record.subject_id,
                noun=record.noun,
                tenant=record.tenant,
                action=details["action"],
                count=int(details["count"]),
                parts=int(details["parts"]),
                began_at=record.time,
                by=record.data.by,
                why=record.data.why,
                request_id=record.data.request_id,
            ),
        )
        plan.intents[int(details["part"])] = record
        self._part_of[record.id] = int(details["part"])

    def get(self, plan_id: str) -> Plan | None:
        """Return a plan."""
        return self._plans.get(plan_id)

    def of_tenant(self, tenant: str) -> Iterator[Plan]:
        """Yield the plans of a tenant, in the order in which they began."""
        yield from (plan for plan in self._plans.values() if plan.tenant == tenant)

    def open(self) -> Iterator[Plan]:
        """Yield the plans that are not ended, in the order in which they began."""
        yield from (plan for plan in self._plans.values() if not plan.ended)
