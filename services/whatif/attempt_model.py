"""Model of attempts that were never recorded: medians of the recorded ones, by workload and device. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import Final

from contracts.workload import Workload
from services.whatif.recorded_attempts import End, RecordedAttempt, RecordedAttempts

#: Without any recorded attempt: a start of some seconds.
_STARTUP_S: Final = 5.0


@dataclass(frozen=True)
class ModelledAttempt:
    """Times of an attempt: from its launch until its worker begins, start-up that is billed, work."""

    wait_s: float
    startup_s: float
    work_s: float


class AttemptModel:
    """Medians of the attempts of a window that succeeded, and of the starts of all."""

    def __init__(
        self, attempts: RecordedAttempts, workload_of: Mapping[str, str], workloads: Mapping[str, Workload]
    ) -> None:
        """``workload_of`` names the workload of each job."""
        self._workloads = workloads
        self._waits: dict[tuple[str, str], list[float]] = {}
        self._startups: dict[tuple[str, str], list[float]] = {}
        self._work: dict[tuple[str, str], list[float]] = {}
        for attempt in attempts.by_run.values():
            name = workload_of.get(attempt.job_id, "")
            for key in ((name, attempt.device), (name, "")):
                self._read(key, attempt)

    def attempt(self, workload: str, device: str) -> ModelledAttempt:
        """Return the model of an attempt."""
        declared = self._workloads.get(workload)
        typical_s = declared.compute.typical_s if declared else 60.0
        return ModelledAttempt(
            wait_s=self._median(self._waits, workload, device, _STARTUP_S),
            startup_s=self._median(self._startups, workload, device, 0.0),
            work_s=self._median(self._work, workload, device, typical_s),
        )

    def _read(self, key: tuple[str, str], attempt: RecordedAttempt) -> None:
        if attempt.started_at is None:
            return
        self._waits.setdefault(key, []).append((attempt.started_at - attempt.starting_at).total_seconds())
        self._startups.setdefault(key, []).append(startup_s(attempt))
        if attempt.ended and attempt.ended.envelope.type == "job.succeeded" and attempt.end is not End.OPEN:
            self._work.setdefault(key, []).append((attempt.ended.at - attempt.started_at).total_seconds())

    @staticmethod
    def _median(known: Mapping[tuple[str, str], list[float]], workload: str, device: str, default: float) -> float:
        found = known.get((workload, device)) or known.get((workload, ""))
        return median(found) if found else default


def startup_s(attempt: RecordedAttempt) -> float:
    """Return the billed seconds before the worker began."""
    since = attempt.started.get("billed_since")
    if attempt.started_at is None or not isinstance(since, str):
        return 0.0
    return max(0.0, (attempt.started_at - datetime.fromisoformat(since)).total_seconds())
