"""The badminton job on rendered matches, in this process: what it tells, and a way to end it at any point."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from contracts.manifest import Artifact
from modal_workers.badminton.job import run
from modal_workers.badminton.spec import BadmintonParams, BadmintonResult
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import render_match
from tests.harness.vision.stage_context import FolderContext

#: A rally of two players, filmed by a camera that stands still: small, so that the whole job takes some seconds.
SMALL: Final = MatchOptions(seed=1, duration_s=8.0, width_px=640, height_px=360, rate_hz=25.0, quick_service=True)


@dataclass(frozen=True)
class Told:
    """One report of progress."""

    stage: str
    fraction: float
    message: str
    frame: int | None
    frame_count: int | None


@dataclass
class JobContext(FolderContext):
    """Context of a whole job.

    ``at`` is called with a name wherever a process can be killed or stopped: ``<stage> <fraction>`` with two decimals
    when progress is told, ``<stage> check``, ``keep <name>`` and ``kept <name>`` around a checkpoint, ``save <name>``.
    """

    at: Callable[[str], None] = lambda _point: None
    progress_told: list[Told] = field(default_factory=list)
    stages: list[str] = field(default_factory=list)
    media_types: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        self.stages.append(name)
        yield

    def progress(
        self, fraction: float, message: str = "", *, frame: int | None = None, frame_count: int | None = None
    ) -> None:
        self.at(f"{self.stages[-1]} {fraction:.2f}")
        self.progress_told.append(Told(self.stages[-1], fraction, message, frame, frame_count))

    def check(self) -> None:
        self.at(f"{self.stages[-1]} check")

    def keep(self, path: Path, name: str) -> None:
        self.at(f"keep {name}")
        super().keep(path, name)
        self.at(f"kept {name}")

    def save(self, path: Path, name: str, media_type: str, **said: Any) -> Artifact:
        self.at(f"save {name}")
        self.media_types[name] = media_type
        return super().save(path, name, media_type, **said)


@dataclass(frozen=True)
class JobRun:
    """A job that succeeded."""

    context: JobContext
    result: BadmintonResult
    results: dict[str, Any]


def film(folder: Path, **changes: Any) -> tuple[Path, MatchTruth]:
    """Render ``SMALL`` with other options."""
    folder.mkdir(parents=True, exist_ok=True)
    video = folder / "match.mp4"
    return video, render_match(video, replace(SMALL, **changes))


def run_job(video: Path, home: Path, at: Callable[[str], None] | None = None, **params: Any) -> JobRun:
    """Run the job on a video; ``home`` keeps artifacts and checkpoints for the next run."""
    home.mkdir(parents=True, exist_ok=True)
    context = JobContext(home, inputs={"video": [video]}, at=at or (lambda _point: None))
    result = run(BadmintonParams(**params), context)
    return JobRun(context, result, json.loads((context.saved / "results.json").read_text()))
