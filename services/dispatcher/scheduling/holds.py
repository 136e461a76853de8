"""Orders of operators that jobs wait for: a drained dispatcher, paused workloads. Folded from the audit log. Pure.

They hold over restarts: an order ends only by a command.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.audit import SYSTEM, Act, AuditRecord, audit_subject
from contracts.commands import DISPATCHER, Hold

#: Noun and id of the records of a drain.
_DRAIN: Final = ("dispatcher", DISPATCHER)
#: Records that are the state: the newest outcome of each.
DRAIN_RECORDS: Final = audit_subject(SYSTEM, *_DRAIN, "*")
WORKLOAD_RECORDS: Final = audit_subject(SYSTEM, "workload", "*", "*")


def drain_act() -> Act:
    """Return the act of draining the dispatcher, or of ending that."""
    return Act(SYSTEM, *_DRAIN)


def workload_act(workload: str) -> Act:
    """Return the act of pausing a workload, or of ending that."""
    return Act(SYSTEM, "workload", workload)


@dataclass(frozen=True)
class Holds:
    """Orders that hold now."""

    drained: Hold | None = None
    paused: Mapping[str, Hold] = field(default_factory=dict)

    def applies_to(self, workload: str) -> bool:
        """Return whether jobs of a workload are not launched."""
        return self.drained is not None or workload in self.paused

    def report(self) -> dict[str, Any]:
        """Return what users are told, as it stands in the lease."""
        return {
            "drained": self.drained.model_dump(mode="json") if self.drained else None,
            "paused": {name: hold.model_dump(mode="json") for name, hold in self.paused.items()},
        }


def fold_holds(records: Iterable[AuditRecord]) -> Holds:
    """Return what is held back after these records, in the order of the log."""
    drained: Hold | None = None
    paused: dict[str, Hold] = {}
    for record in records:
        hold = Hold(since=record.time, by=record.data.by, why=record.data.why)
        match (record.noun, record.verb):
            case ("dispatcher", "drained"):
                drained = hold
            case ("dispatcher", "resumed"):
                drained = None
            case ("workload", "paused"):
                paused[record.subject_id] = hold
            case ("workload", "resumed"):
                paused.pop(record.subject_id, None)
    return Holds(drained, paused)
