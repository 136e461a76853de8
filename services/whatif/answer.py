"""Answer of a what-if: would today's dispatcher have decided the same?"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

from contracts.events.job import PIPELINE
from contracts.workload import Workload
from services.whatif.decision_check import DecisionCheck
from services.whatif.finding import Finding
from services.whatif.replay_settings import ReplaySettings
from services.whatif.simulation import Money, simulate
from services.whatif.virtual_time import VirtualLoop
from services.whatif.window import RecordedWindow

#: Findings that are told one by one.
_TOLD: Final = 50


@dataclass(frozen=True)
class Answer:
    """Answer, with what it rests on."""

    answer: Literal["same", "different", "unknown"]
    #: Decisions that were taken again, by type of their event; and events that were not, because nothing compares them.
    compared: Mapping[str, int]
    not_compared: Mapping[str, int]
    different: int
    unknown: int
    findings: Sequence[Finding]
    #: Cost of the window's attempts as recorded, USD.
    recorded_usd: float
    #: What the same jobs would have cost; None without other settings.
    money: Money | None
    jobs: int
    events: int
    begin: str
    end: str

    def to_json(self) -> dict[str, Any]:
        """Return the answer for programs."""
        told = asdict(self)
        told["findings"] = [asdict(each) | {"at": each.at.isoformat()} for each in self.findings]
        return told


def ask(
    loop: VirtualLoop,
    window: RecordedWindow,
    workloads: Mapping[str, Workload],
    settings: ReplaySettings,
    changes: Mapping[str, Any],
) -> Answer:
    """Replay a window with today's code; with ``changes``, also with these settings."""
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        return runner.run(_answer(loop, window, workloads, settings, changes))


async def _answer(
    loop: VirtualLoop,
    window: RecordedWindow,
    workloads: Mapping[str, Workload],
    settings: ReplaySettings,
    changes: Mapping[str, Any],
) -> Answer:
    check = DecisionCheck(loop, window, workloads, settings)
    findings = await check.run()
    money = None
    if changes:
        before = {each.key for each in findings}
        changed = settings.changed(changes)
        check = DecisionCheck(loop, window, workloads, changed)
        # What is punctual with the settings of the window and not with these is their doing.
        findings = [_surely(each) if each.key not in before else each for each in await check.run()]
        money = await simulate(loop, window, workloads, changed)
    counts = Counter(each.kind for each in findings)
    jobs = {event.envelope.subject for event in window.events if event.of_job}
    unknown = counts["unknown"] + len(window.undecodable)
    return Answer(
        answer="different" if counts["different"] else "unknown" if unknown else "same",
        compared=dict(sorted(check.compared.items())),
        not_compared=dict(sorted(check.not_compared.items())),
        different=counts["different"],
        unknown=unknown,
        findings=sorted(findings, key=lambda each: (each.kind, each.sequence))[:_TOLD],
        recorded_usd=recorded_usd(window),
        money=money,
        jobs=len(jobs),
        events=len(window.events),
        begin=window.begin.isoformat(),
        end=window.end.isoformat(),
    )


def _surely(finding: Finding) -> Finding:
    if not finding.late:
        return finding
    return Finding(**{**asdict(finding), "kind": "different"})


def recorded_usd(window: RecordedWindow) -> float:
    """Return what the attempts that ended in a window cost; a pipeline costs what the jobs of its stages do."""
    costs: dict[str, float] = {}
    for event in window.events:
        cost = event.envelope.data.get("cost") if event.envelope.type in ("job.succeeded", "job.interrupted") else None
        if isinstance(cost, dict) and cost.get("device") != PIPELINE:
            costs[event.envelope.data["run_id"]] = cost["usd"]
    return round(sum(costs.values()), 6)
