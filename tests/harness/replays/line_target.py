"""A target of replays that is a file of lines: its last line is its checkpoint. It can be told to fail or to wait."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from contracts.replay import Replay, ReplayCounts, ReplayState
from kit.history.history import HistoryEvent
from services.notifier.replays.target import Checkpoint, SendOutcome, TargetCheck, WantedReplay


@dataclass
class LineTarget:
    """File of one replay, one line for each event."""

    path: Path
    outcome_of: Callable[[HistoryEvent], SendOutcome]
    open_gate: asyncio.Event
    closed: list[tuple[ReplayState, ReplayCounts]] = field(default_factory=list)

    @property
    def lines(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()] if self.path.exists() else []

    async def resume_after(self) -> Checkpoint | None:
        lines = self.lines
        if not lines:
            return None
        outcomes = [line["outcome"] for line in lines]
        sequence = lines[-1]["sequence"]
        assert isinstance(sequence, int)
        return Checkpoint(sequence, skipped=outcomes.count("skipped"), failed=outcomes.count("failed"))

    async def send(self, event: HistoryEvent) -> SendOutcome:
        await self.open_gate.wait()
        outcome = self.outcome_of(event)
        with self.path.open("a") as file:
            file.write(json.dumps({"sequence": event.sequence, "outcome": str(outcome)}) + "\n")
        return outcome

    async def close(self, outcome: ReplayState, counts: ReplayCounts) -> None:
        self.closed.append((outcome, counts))


class LineKind:
    """Kind of these targets; the files stay when a process dies."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.outcome_of: Callable[[HistoryEvent], SendOutcome] = lambda _: SendOutcome.SENT
        self.open_gate = asyncio.Event()
        self.open_gate.set()
        self.opened: list[LineTarget] = []

    def _outcome(self, event: HistoryEvent) -> SendOutcome:
        return self.outcome_of(event)

    async def check(self, wanted: WantedReplay) -> TargetCheck:
        return TargetCheck(wanted.selection)

    async def open(self, replay: Replay) -> LineTarget:
        target = LineTarget(self.folder / replay.id, self._outcome, self.open_gate)
        self.opened.append(target)
        return target
