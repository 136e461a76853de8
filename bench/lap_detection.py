"""Measures lap detection against the ground truth of generated sessions, on seeds that were not used for tuning.

    python bench/lap_detection.py [--repeats 24] [--singles 10] [--first 5000] [--folder DIR] [--workers 2]

Each video is a drive with out-lap, pits, a stop, traffic, changing light, 15 to 60 frames a second, or none of these;
the others pass no place twice in the same direction. A lap counts as found if its start and its end are within 0.2 s of
true crossings that follow each other. The line is chosen by the detection, so the truth is when the car passes that
place; a second row gives the time of the first true start line as ``start_line_s``. Thresholds were set on seeds from
100 to 204.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

from bench.needs import needs

needs("av", "cv2")

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.lap_detection.detection import detect_laps
from modal_workers.lap_detection.report.crossing_pictures import mean_level
from modal_workers.lap_detection.spec import LapDetectionParams, LapResult
from modal_workers.road_video.clip_description import extract_clip
from simulators.laps.frame_renderer import CircuitWorld
from simulators.laps.session_plans import REPEATS, SINGLES, session_plan
from simulators.laps.session_video import SessionTruth, render_session, session_truth

TOLERANCE_S = 0.2


def silent(_share: float) -> None:
    """Ignore progress."""


def measure(arguments: tuple[str, int, Path]) -> dict[str, Any]:
    """Render one session, detect its laps, compare them with the truth."""
    kind, seed, folder = arguments
    cv2.setNumThreads(1)
    path = folder / f"{kind}_{seed}.mp4"
    plan = session_plan(kind, seed)  # type: ignore[arg-type]
    if not path.exists():
        part = path.with_suffix(".part.mp4")
        render_session(part, CircuitWorld(plan.circuit, 5.0), plan.session, plan.camera)
        part.rename(path)
    truth = session_truth(plan.circuit, plan.session, plan.camera)
    cpu = time.process_time()
    facts, descriptors, _ = extract_clip(path, path.name, progress=silent, accept_static=True)
    row: dict[str, Any] = {
        "kind": kind,
        "seed": seed,
        "duration_s": truth.duration_s,
        "read_s": time.process_time() - cpu,
    }
    for given in (False, True):
        lines = truth.crossings_s() if kind in REPEATS else []
        if given and not lines:
            continue
        params = LapDetectionParams(min_lap_s=10, start_line_s=lines[0] if given else None)
        cpu = time.process_time()
        found = detect_laps(
            descriptors, params, mean_level=lambda: mean_level(path, path.name, facts.duration_s), progress=silent
        )
        name = "given" if given else "chosen"
        row[name] = score(found.laps, truth, None if given else found.reference_s) if kind in REPEATS else {}
        row[name] |= {"laps": len(found.laps), "reason": found.reason, "cpu_s": time.process_time() - cpu}
    return row


def score(laps: tuple[LapResult, ...], truth: SessionTruth, reference_s: float | None) -> dict[str, Any]:
    """Return hits, true laps, and errors of starts in seconds; the line is that of ``reference_s``, None: place 0."""
    place_m = 0.0
    if reference_s is not None:
        place_m = float(np.interp(reference_s, truth.drive.time_s, truth.drive.place_m)) % truth.circuit_length_m
    # A line that is chosen may be where the video begins or ends.
    crossings = truth.crossings_s(place_m, TOLERANCE_S)
    true = list(pairwise(crossings))
    hits = [
        lap
        for lap in laps
        if any(abs(lap.start_s - a) <= TOLERANCE_S and abs(lap.end_s - b) <= TOLERANCE_S for a, b in true)
    ]
    errors = [min(abs(lap.start_s - a) for a in crossings) for lap in laps] if crossings else []
    times = [min((abs(lap.lap_s - (b - a)), lap.error_s) for a, b in true) for lap in hits]
    return {
        "hits": len(hits),
        "true": len(true),
        "errors_s": errors,
        "inside": [error <= band for error, band in times],
        "confidence": [lap.confidence for lap in laps],
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the figures as a table in Markdown."""
    lines = [
        "| sessions with laps | laps found of true | wrong | F1 | start: median, worst error | lap time inside ± |",
        "|---|---|---|---|---|---|",
    ]
    for name, title in (("chosen", "line chosen by the detection"), ("given", "line given once")):
        scored = [row[name] for row in rows if row["kind"] in REPEATS and name in row]
        hits, true, said = (sum(found[key] for found in scored) for key in ("hits", "true", "laps"))
        errors = [error for found in scored for error in found["errors_s"]] or [np.nan]
        inside = [is_inside for found in scored for is_inside in found["inside"]] or [np.nan]
        f1 = 2 * hits / max(1, true + said)
        lines.append(
            f"| {title}, {len(scored)} videos | {hits} of {true} | {said - hits} | {f1:.3f} | "
            f"{np.median(errors):.3f} s, {np.max(errors):.3f} s | {np.mean(inside):.0%} |"
        )
    singles = [row for row in rows if row["kind"] in SINGLES]
    lines += ["", "| sessions without a repeat | videos | laps invented | reasons |", "|---|---|---|---|"]
    for kind in SINGLES:
        of_kind = [row["chosen"] for row in singles if row["kind"] == kind]
        reasons = sorted({str(found["reason"]) for found in of_kind})
        lines.append(f"| {kind} | {len(of_kind)} | {sum(found['laps'] for found in of_kind)} | {', '.join(reasons)} |")
    seconds = sum(row["duration_s"] for row in rows)
    reading, detecting = (sum(values) for values in ([r["read_s"] for r in rows], [r["chosen"]["cpu_s"] for r in rows]))
    lines += [
        "",
        f"CPU for a minute of video: reading {60 * reading / seconds:.2f} s, finding {60 * detecting / seconds:.2f} s.",
    ]
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--repeats", type=int, default=24)
    parser.add_argument("--singles", type=int, default=10)
    parser.add_argument("--first", type=int, default=5000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--workers", type=int, default=2)
    asked = parser.parse_args()
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="lap_detection_"))
    folder.mkdir(parents=True, exist_ok=True)
    jobs = [(REPEATS[n % len(REPEATS)], asked.first + n, folder) for n in range(asked.repeats)]
    jobs += [(SINGLES[n % len(SINGLES)], asked.first + 500 + n, folder) for n in range(asked.singles)]
    with ProcessPoolExecutor(asked.workers) as pool:
        rows = []
        for row in pool.map(measure, jobs):
            rows.append(row)
            sys.stderr.write(f"{row}\n")
            sys.stderr.flush()
    sys.stdout.write(table(rows) + "\n")


if __name__ == "__main__":
    main()
