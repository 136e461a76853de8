"""Measures the memory of the whole badminton job on a long video: peak after each stage, with motion and classical.

    python bench/badminton_long.py [--minutes 90] [--seconds 30] [--width 1920] [--rate 30] [--height 720]

A match of ``--seconds`` is rendered and its packets repeated to ``--minutes``: real data to decode at the cost of a
short rendering; each repetition begins with a jump of the players. The job runs in its own process, so that the peak
is the job's alone; it must stay under 2 GB.
"""

from __future__ import annotations

import argparse
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av", "matplotlib", "psutil")

import psutil

from bench.lap_long import frames_of, peak_bytes, repeat
from modal_workers.badminton import job
from modal_workers.badminton.spec import BadmintonParams
from simulators.badminton.match_options import MatchOptions
from simulators.badminton.match_video import render_match
from tests.harness.vision.stage_context import FolderContext

MAX_BYTES: Final = 2_000_000_000
#: Minutes of footage at which the memory of each stage is noted, beside the end.
MARKS_MIN: Final = (10.0, 30.0, 60.0)


@dataclass
class TimedContext(FolderContext):
    """A context that prints the time and the peak memory of each stage, and tells no progress."""

    frames: int = 0
    footage_s: float = 0.0
    current: str = ""
    marks_min: list[float] = field(default_factory=list)
    #: Memory now and peak of each stage, in MB, when it reached a mark.
    reached: dict[str, dict[float, tuple[float, float]]] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a stage."""
        self.current, self.reached[name] = name, {}
        wall_s, processor_s = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            took_s, spent_s = time.perf_counter() - wall_s, time.process_time() - processor_s
            rate = self.frames / max(spent_s, 1e-9)
            row = name, f"{took_s:.1f}", f"{spent_s:.1f}", f"{rate:.0f}", f"{peak_bytes() / 1e6:.0f}"
            print(f"| {' | '.join(row)} |", flush=True)

    def progress(self, fraction: float, message: str = "", **_frames: int | None) -> None:  # noqa: ARG002
        """Keep only the memory at the marks: a list of all that is told would be memory of the bench."""
        rows, footage_min = self.reached[self.current], fraction * self.footage_s / 60
        for mark in self.marks_min:
            if mark not in rows and footage_min >= 0.999 * mark:
                rows[mark] = psutil.Process().memory_info().rss / 1e6, peak_bytes() / 1e6
                print(
                    f"{self.current} at {mark:g} min: {rows[mark][0]:.0f} MB, peak {rows[mark][1]:.0f} MB", flush=True
                )

    def table(self) -> str:
        """Return the memory at the marks, a row for each stage that goes through the video."""
        head = (
            f"| stage | {' | '.join(f'{mark:g} min' for mark in self.marks_min)} |\n|---|{'---|' * len(self.marks_min)}"
        )
        lines = [
            f"| {name} | {' | '.join(f'{now:.0f} ({peak:.0f})' for now, peak in rows.values())} |"
            for name, rows in self.reached.items()
            if len(rows) == len(self.marks_min)
        ]
        return "\n".join([head, *lines])


def work(video: Path, home: Path, height_px: int) -> None:
    """Run the job and print its measurements."""
    frames, footage_s = frames_of(video)
    print(f"{frames} frames, {footage_s / 60:.1f} minutes; the imports alone take {peak_bytes() / 1e6:.0f} MB\n")
    print("| stage | wall s | CPU s | frames for a second of CPU | peak MB so far |\n|---|---|---|---|---|", flush=True)
    minutes = footage_s / 60
    marks_min = [mark for mark in MARKS_MIN if mark < 0.99 * minutes] + [round(minutes, 1)]
    context = TimedContext(home, {"video": [video]}, frames=frames, footage_s=footage_s, marks_min=marks_min)
    result = job.run(BadmintonParams(pose="motion", video_height_px=height_px), context)
    print(f"\nMemory in MB, now (peak), when a stage was so far into the video:\n\n{context.table()}")
    print(f"\n{result.model_dump_json()[:600]}")
    for path in sorted(context.saved.rglob("*.*")):
        print(f"{path.name} {path.stat().st_size / 1e6:.1f} MB")
    light = peak_bytes() < MAX_BYTES
    print(f"memory {'holds' if light else 'DOES NOT HOLD'}: {peak_bytes() / 1e6:.0f} MB", flush=True)
    sys.exit(not light)


def main() -> int:
    """Render, repeat, and run the job in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=90.0)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the match that is repeated")
    parser.add_argument("--width", type=int, default=1920)
    parser.add_argument("--rate", type=float, default=30.0)
    parser.add_argument("--height", type=int, default=720, help="height of the processed video")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        home = Path(scratch)
        options = MatchOptions(
            seed=40,
            duration_s=wanted.seconds,
            width_px=wanted.width,
            height_px=wanted.width * 9 // 16,
            rate_hz=wanted.rate,
            quick_service=True,
        )
        render_match(home / "short.mp4", options)
        repeat(
            home / "short.mp4", home / "match.mp4", wanted.seconds, max(1, round(60 * wanted.minutes / wanted.seconds))
        )
        # Spawned, not forked, so that the memory is the job's own.
        process = multiprocessing.get_context("spawn").Process(
            target=work, args=(home / "match.mp4", home, wanted.height)
        )
        process.start()
        process.join()
    return process.exitcode or 0


if __name__ == "__main__":
    sys.exit(main())
