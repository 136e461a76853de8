"""Findings of a check: decisions that differ, and what cannot be known."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One decision of a dispatcher that is another one today, or that cannot be taken again."""

    kind: Literal["different", "unknown"]
    sequence: int
    at: datetime
    tenant: str
    subject: str
    #: What was recorded, and what today's dispatcher does instead; of an unknown one, why.
    recorded: str
    today: str
    #: Today it would have been earlier, when no dispatcher may have led in the record.
    late: bool = False
    #: It rests on what all jobs of the tenant, or all at all, did.
    of_others: bool = False

    @property
    def key(self) -> tuple[str, int, str, str]:
        """Return what identifies the finding in two checks of the same window."""
        return (self.kind, self.sequence, self.subject, self.today)
