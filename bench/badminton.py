"""The whole badminton job on generated matches beside their truth, in four cameras, singles and doubles.

    python bench/badminton.py [--matches 20] [--seconds 30] [--first-seed 100] [--pose motion] [--bystanders]
    python bench/badminton.py --pose ultralytics --weights FOLDER --image-px 640

Prints a row for each match, the figures over all of them, and how often a confidence was right.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av", "matplotlib")

import numpy as np

from contracts.errors import SaccadeError
from modal_workers.badminton import job
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.spec import BadmintonParams
from simulators.badminton.comparison import LIMIT_TOLERANCE_S, MatchComparison, compare_with_truth
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_video import render_match
from tests.harness.vision.stage_context import FolderContext


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--matches", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--first-seed", type=int, default=100)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--pose", default="motion")
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--image-px", type=int, default=960)
    parser.add_argument("--bystanders", action="store_true")
    parser.add_argument("--cuts", action="store_true")
    parser.add_argument("--change-of-ends", action="store_true")
    parser.add_argument("--kept", type=Path, help="folder for the videos and results")
    wanted = parser.parse_args()
    found: list[MatchComparison] = []
    print("seed camera         players corner px  position m (p95)  distance %  top speed %  zones  switches  "
          "shuttle P/R    hits F1  hitter  rallies  limits within 0.3 s  s")  # fmt: skip
    for number in range(wanted.matches):
        options = MatchOptions(
            seed=wanted.first_seed + number,
            duration_s=wanted.seconds,
            camera=CAMERA_NAMES[number % len(CAMERA_NAMES)],
            doubles=number // len(CAMERA_NAMES) % 2 == 1,
            bystanders=wanted.bystanders,
            cuts=wanted.cuts,
            change_of_ends_after=1 if wanted.change_of_ends else None,
            width_px=wanted.width,
            height_px=wanted.width * 9 // 16,
        )
        with tempfile.TemporaryDirectory() as folder:
            home = wanted.kept / str(options.seed) if wanted.kept else Path(folder)
            shutil.rmtree(home / "kept", ignore_errors=True)  # an earlier run's checkpoints
            home.mkdir(parents=True, exist_ok=True)
            row = run(options, home, wanted)
        if row is not None:
            found.append(row)
    summary(found)


def run(options: MatchOptions, home: Path, wanted: argparse.Namespace) -> MatchComparison | None:
    """Render, analyse and compare one match; print its row."""
    video = home / "match.mp4"
    truth = render_match(video, options)
    params = BadmintonParams(pose=wanted.pose)
    started_s = time.process_time()
    if wanted.weights:
        settings = BadmintonSettings(weights_folder=wanted.weights, yolo_image_px=wanted.image_px)
        job.BadmintonSettings = lambda: settings  # type: ignore[misc, assignment]
    try:
        job.run(params, FolderContext(home, {"video": [video]}))
    except SaccadeError as error:
        print(f"{options.seed:4d} {options.camera:14s} {error.code}: {error.message}", flush=True)
        return None
    spent_s = time.process_time() - started_s
    results = json.loads((home / "saved" / "results.json").read_text())
    row = compare_with_truth(results, truth)
    errors = np.concatenate([player.position_error_m for player in row.players]) if row.players else np.zeros(0)
    limits = np.abs(row.limit_errors_s)
    distances = [100 * (player.distance_m / player.true_distance_m - 1) for player in row.players]
    speeds = [100 * (player.top_speed_m_s / player.true_top_speed_m_s - 1) for player in row.players]
    print(
        f"{options.seed:4d} {options.camera:14s} {len(row.players)} of {len(truth.positions_m)}  "
        f"{_middle(row.corner_error_px):7.1f}    {_middle(errors):5.2f} ({_high(errors):.2f})     "
        f"{_list(distances)}  {_list(speeds)}  "
        f"{np.mean([player.zone_agreement for player in row.players]):5.2f} "
        f"{sum(player.switch_count for player in row.players):4d}     "
        f"{row.shuttle_precision:.2f}/{row.shuttle_recall:.2f}   {row.hit_f1:.2f}   {row.hitter_share:.2f}   "
        f"{row.rally_count} of {row.true_rally_count}   "
        f"{np.mean(limits <= LIMIT_TOLERANCE_S) if len(limits) else float('nan'):.2f}  {spent_s:.0f}",
        flush=True,
    )
    return row


def summary(found: Sequence[MatchComparison]) -> None:
    """Print the figures over all matches."""
    if not found:
        return
    players = [player for row in found for player in row.players]
    errors = np.concatenate([player.position_error_m for player in players])
    corners = np.concatenate([row.corner_error_px.ravel() for row in found])
    limits = np.concatenate([np.abs(row.limit_errors_s) for row in found])
    ends = limits.reshape(-1, 2)
    distances = np.array([abs(player.distance_m / player.true_distance_m - 1) for player in players])
    speeds = np.array([abs(player.top_speed_m_s / player.true_top_speed_m_s - 1) for player in players])
    named = sum(row.winners_named for row in found)
    print(
        f"\n{len(found)} matches: corners {_middle(corners):.1f} px median, {_high(corners):.1f} p95; "
        f"positions {_middle(errors):.2f} m median, {_high(errors):.2f} m p95, "
        f"known {np.mean([player.known_share for player in players]):.3f}; "
        f"matches without a switch {np.mean([not any(p.switch_count for p in row.players) for row in found]):.2f}; "
        f"distance off by {100 * np.nanmedian(distances):.1f} % median, "
        f"{100 * np.nanpercentile(distances, 95):.1f} p95; "
        f"top speed {100 * np.nanmedian(speeds):.1f} %, {100 * np.nanpercentile(speeds, 95):.1f}; "
        f"zones {np.nanmean([player.zone_agreement for player in players]):.3f}\n"
        f"shuttle precision {np.nanmean([row.shuttle_precision for row in found]):.2f}, "
        f"recall {np.nanmean([row.shuttle_recall for row in found]):.2f}; "
        f"hits F1 {np.mean([row.hit_f1 for row in found]):.2f}, "
        f"right hitter {_mean([row.hitter_share for row in found]):.2f}; "
        f"rallies {sum(row.rally_count for row in found)} for {sum(row.true_rally_count for row in found)}, "
        f"starts within 0.3 s {np.mean(ends[:, 0] <= LIMIT_TOLERANCE_S):.2f}, "
        f"ends {np.mean(ends[:, 1] <= LIMIT_TOLERANCE_S):.2f}; "
        f"winners named {named}, right {sum(row.winners_right for row in found)}"
    )


def _middle(values: Any) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.median(known)) if known.size else float("nan")


def _high(values: Any) -> float:
    known = np.asarray(values)[np.isfinite(values)]
    return float(np.percentile(known, 95)) if known.size else float("nan")


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")


def _list(values: Sequence[float]) -> str:
    return "/".join(f"{value:+.0f}" for value in values)


if __name__ == "__main__":
    main()
