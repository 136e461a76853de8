"""Result of a check: one line, with the fix where something is wrong. Imports nothing that has to be installed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal

Outcome = Literal["ok", "warn", "FAIL"]
#: A shorter value would be replaced inside words of other meaning.
_SECRET_CHARACTERS: Final = 6


@dataclass(frozen=True)
class ReportLine:
    """One line of the report."""

    check: str
    outcome: Outcome
    says: str
    #: What to do, one sentence; empty where nothing is wrong.
    fix: str = ""

    @property
    def line(self) -> str:
        """The line as people read it."""
        says = " ".join(self.says.split()).rstrip(".")
        return f"{self.outcome:<4}  {self.check}: {says}" + (f". {' '.join(self.fix.split())}" if self.fix else "")

    def without(self, secrets: Iterable[str]) -> ReportLine:
        """Return the finding with every secret replaced, whatever message of another program it came in."""
        says, fix = self.says, self.fix
        for secret in sorted(
            {secret for secret in secrets if len(secret) >= _SECRET_CHARACTERS}, key=len, reverse=True
        ):
            says, fix = says.replace(secret, "(secret)"), fix.replace(secret, "(secret)")
        return replace(self, says=says, fix=fix)


def ok(check: str, says: str) -> ReportLine:
    """Return that something is as it should be."""
    return ReportLine(check, "ok", says)


def warn(check: str, says: str, fix: str) -> ReportLine:
    """Return that something works and could go wrong, or could not be looked at."""
    return ReportLine(check, "warn", says, fix)


def fail(check: str, says: str, fix: str) -> ReportLine:
    """Return that something does not work."""
    return ReportLine(check, "FAIL", says, fix)
