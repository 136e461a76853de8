"""The goals of the badminton workload on generated matches beside their truth: one table for each camera and over all.

    python bench/badminton_goals.py [--seeds 970-972] [--seconds 60] [--kept FOLDER] [--errors]
    python bench/badminton_goals.py --pose motion --shuttle classical --seconds 30 --kept FOLDER
    python bench/badminton_goals.py --court truth --shuttle none --bystanders    (players only; nothing is rendered)

``learned`` detections have the quality of a trained network and are made from the truth (tests/harness/vision): of the
video only a few seconds are rendered, for the court. The other ones are made by the worker from the whole video.
Everything after them is the worker's stages. Videos stay in the folder given by ``--kept`` and are rendered once.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av")

import numpy as np

from contracts.errors import SaccadeError
from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.checkpoints import CourtStage, TrackStage
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.court_stage import find_courts
from modal_workers.badminton.detection.backends import DetectionBackends
from modal_workers.badminton.detection.detection_stage import detect
from modal_workers.badminton.frame_times import FrameTimes
from modal_workers.badminton.match import CameraSegmentResult
from modal_workers.badminton.match_building import build_match
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.report.results_file import write_results
from modal_workers.badminton.settings import BadmintonSettings
from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.spec import BadmintonParams
from modal_workers.footage.video_reader import VideoFacts
from simulators.badminton.comparison import LIMIT_TOLERANCE_S, MatchComparison, PlayerComparison, compare_with_truth
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth, render_match
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.shuttle_logs import candidate_log
from tests.harness.vision.simulated_detections import court_segments, detections
from tests.harness.vision.stage_context import FolderContext

#: The play's camera stands still: this much of a video shows the court as well as all of it.
COURT_S: Final = 4.0
CONFIDENCES: Final = (0.0, 0.2, 0.4, 0.6, 0.7, 0.8, 1.0)


@dataclass(frozen=True, eq=False)
class MatchBesideTruth:
    """One match beside its truth, and the confidence of each found rally with whether both of its limits are right."""

    options: MatchOptions
    compared: MatchComparison
    rallies: tuple[tuple[float, bool], ...]


class TruthBackends(DetectionBackends):
    """Names for detections that are made from the truth."""

    @property
    def pose_name(self) -> str:
        """What made the players' skeletons."""
        return "learned, from the truth"

    @property
    def has_skeletons(self) -> bool:
        """A pose network finds skeletons."""
        return True


def analysed(options: MatchOptions, wanted: argparse.Namespace, home: Path) -> tuple[dict[str, Any], MatchTruth]:
    """Return what the worker's stages report of a match, as ``results.json`` has it, and the truth."""
    learned = wanted.pose == "learned" and wanted.shuttle != "classical"
    truth = match_truth(options)
    court = _true_court(truth) if wanted.court == "truth" else None
    video = home / f"{options.seed}-{options.camera}-{COURT_S if learned else options.duration_s:.0f}s.mp4"
    if court is None and not video.with_suffix(".json").exists():  # the truth is written when the video is complete
        render_match(video, replace(options, duration_s=COURT_S) if learned else options)
    if court is None:
        court = find_courts(video, video.name, None, progress=lambda *_: None)
        if learned:
            court = _lasting(next(each.court for each in court.segments if each.court is not None), truth)
    params, settings = BadmintonParams(pose="motion"), BadmintonSettings()
    kind = TruthBackends if wanted.pose == "learned" else DetectionBackends
    backends = kind(params, settings)
    persons = candidates = None
    with tempfile.TemporaryDirectory() as scratch:
        if not learned:
            context = FolderContext(Path(scratch), {"video": [video]})
            found = detect(video, video.name, court, DetectionBackends(params, settings), context)
            persons, candidates = found.persons, found.candidates
        if wanted.pose == "learned":
            random = np.random.default_rng(options.seed)
            persons, _ = detections(random, truth, shirts(random, len(truth.positions_m), similarity=0.3))
        if wanted.shuttle == "learned":
            candidates = candidate_log(truth)
        assert persons is not None
        size, times_s = court.picture_size_px, court.times.time_s
        players, warnings = track_players(
            persons,
            times_s,
            court.courts,
            picture_size_px=size,
            players="auto",
            has_skeletons=backends.has_skeletons,
        )
        shuttle = None
        if wanted.shuttle != "none":
            assert candidates is not None
            shuttle = link_shuttle(candidates, times_s, size, court.courts, persons)
        match = build_match("full", court, TrackStage(players, shuttle, warnings), backends)
        path = Path(scratch) / "results.json"
        write_results(match, analyse(match), path)
        return json.loads(path.read_text()), truth


def _true_court(truth: MatchTruth) -> CourtStage:
    return _lasting(court_segments(truth)[0][2], truth)


def _lasting(view: CourtView, truth: MatchTruth) -> CourtStage:
    """Return the court that was found in the first seconds as that of the whole match."""
    count, end_s = len(truth.time_s), float(truth.time_s[-1])
    size, rate_hz = (truth.options.width_px, truth.options.height_px), truth.options.rate_hz
    facts = VideoFacts("match.mp4", *size, 0, count, end_s, rate_hz, variable_rate=False)
    segment = CameraSegmentResult(0, count - 1, 0.0, end_s, "play", view, "")
    return CourtStage(facts, FrameTimes(truth.time_s, np.arange(count)), (segment,), {}, ())


def measure(options: MatchOptions, wanted: argparse.Namespace, home: Path) -> MatchBesideTruth | None:
    """Measure one match."""
    try:
        results, truth = analysed(options, wanted, home)
    except SaccadeError as error:
        print(f"{options.seed} {options.camera}: {error.code}: {error.message}", flush=True)
        return None
    compared = compare_with_truth(results, truth)
    complete = [rally for rally in truth.rallies if rally.complete]
    rallies: list[tuple[float, bool]] = []
    for found in results["rallies"]:
        near = [each for each in truth.rallies if found["start_s"] < each.end_s and found["end_s"] > each.start_s]
        if near and not near[0].complete:
            continue  # the video ends before the rally does
        right = len(near) == 1 and _both(found["start_s"] - near[0].start_s, found["end_s"] - near[0].end_s)
        rallies.append((found["confidence"], right))
    if wanted.errors:
        for true, (start, end) in zip(complete, compared.limit_errors_s.reshape(-1, 2), strict=True):
            if not _both(start, end):
                print(
                    f"  {options.seed} {options.camera}: rally {true.start_s:.2f} to {true.end_s:.2f} s"
                    f" ({true.reason}): start {start:+.2f} s, end {end:+.2f} s",
                    flush=True,
                )
    return MatchBesideTruth(options, compared, tuple(rallies))


def _both(start_s: float, end_s: float) -> bool:
    return abs(start_s) <= LIMIT_TOLERANCE_S and abs(end_s) <= LIMIT_TOLERANCE_S


HEAD: Final = (
    "| camera | matches | corners px | position m (p95) | without a switch | distance %, p95 (mean) "
    "| top speed %, p95 (mean) | zones, frames | zones, times | hits F1 | rallies | start | end | both limits "
    "| start late by s | end late by s |"
)


def row(name: str, found: Sequence[MatchBesideTruth]) -> str:
    """Return a line of the table."""
    compared = [each.compared for each in found]
    players: list[PlayerComparison] = [player for each in compared for player in each.players]
    errors = np.concatenate([player.position_error_m for player in players]) if players else np.zeros(0)
    limits = np.concatenate([each.limit_errors_s for each in compared]).reshape(-1, 2)
    within = np.abs(limits) <= LIMIT_TOLERANCE_S
    distance = [100 * (player.distance_m / player.true_distance_m - 1) for player in players]
    speed = [100 * (player.top_speed_m_s / player.true_top_speed_m_s - 1) for player in players]
    corners = np.concatenate([each.corner_error_px.ravel() for each in compared])
    same = np.mean([not any(player.switch_count for player in each.players) for each in compared])
    cells = [
        name,
        f"{len(found)}",
        f"{_at(corners, 50):.2f}",
        f"{_at(errors, 50):.2f} ({_at(errors, 95):.2f})",
        f"{same:.2f}",
        *(
            f"{_at(np.abs(each), 50):.1f}, {_at(np.abs(each), 95):.1f} ({np.nanmean(each):+.1f})"
            for each in (distance, speed)
        ),
        f"{np.mean([player.zone_agreement for player in players]):.3f}",
        f"{np.mean([player.zone_time_agreement for player in players]):.3f}",
        f"{np.mean([each.hit_f1 for each in compared]):.2f}",
        f"{sum(each.rally_count for each in compared)} of {sum(each.true_rally_count for each in compared)}",
        *(f"{share:.2f}" for share in (*within.mean(0), within.all(1).mean())),
        *(_signed(column) for column in limits.T),
    ]
    return f"| {' | '.join(cells)} |"


def _signed(errors_s: Any) -> str:
    """Return median, 5th and 95th percentile of errors with their signs; positive: later than the truth."""
    return f"{_at(errors_s, 50):+.2f} ({_at(errors_s, 5):+.2f} to {_at(errors_s, 95):+.2f})"


def _at(values: Any, percentile: float) -> float:
    known = np.asarray(values, float)
    known = known[np.isfinite(known)]
    return float(np.percentile(known, percentile)) if known.size else float("nan")


def reliability(found: Sequence[MatchBesideTruth]) -> None:
    """Print how often both limits of a rally are right, by its confidence."""
    rallies = np.array([rally for each in found for rally in each.rallies], float).reshape(-1, 2)
    print("\n| confidence of the rally | rallies | mean confidence | both limits right |\n|---|---|---|---|")
    for low, high in pairwise(CONFIDENCES):
        part = rallies[(rallies[:, 0] >= low) & (rallies[:, 0] < high)]
        if len(part):
            print(f"| {low:.1f} to {high:.1f} | {len(part)} | {part[:, 0].mean():.2f} | {part[:, 1].mean():.2f} |")


def seeds(text: str) -> list[int]:
    """Return the seeds of a list like ``970-972,980``."""
    ranges = [part.split("-") for part in text.split(",")]
    return [seed for part in ranges for seed in range(int(part[0]), int(part[-1]) + 1)]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=seeds, default=[970])
    parser.add_argument("--cameras", nargs="+", choices=CAMERA_NAMES, default=CAMERA_NAMES)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--pose", choices=("learned", "motion"), default="learned")
    parser.add_argument("--shuttle", choices=("learned", "classical", "none"), default="learned")
    parser.add_argument("--court", choices=("found", "truth"), default="found")
    parser.add_argument("--bystanders", action="store_true")
    parser.add_argument("--kept", type=Path, help="folder in which rendered videos are looked for and stored")
    parser.add_argument("--errors", action="store_true", help="print each rally with a wrong limit")
    wanted = parser.parse_args()
    started_s = time.process_time()
    found: list[MatchBesideTruth] = []
    with tempfile.TemporaryDirectory() as temporary:
        home = (wanted.kept or Path(temporary)) / ("bystanders" if wanted.bystanders else "alone")
        home.mkdir(parents=True, exist_ok=True)
        for camera in wanted.cameras:
            for seed in wanted.seeds:
                options = MatchOptions(
                    seed=seed,
                    duration_s=wanted.seconds,
                    camera=camera,
                    doubles=seed % 4 == 3,
                    quick_service=True,
                    bystanders=wanted.bystanders,
                )
                one = measure(options, wanted, home)
                found += [one] if one is not None else []
    print(f"{HEAD}\n|{'---|' * (HEAD.count('|') - 1)}")
    for camera in wanted.cameras:
        if own := [each for each in found if each.options.camera == camera]:
            print(row(camera, own))
    if found:
        print(row("all", found))
        players = [player for each in found for player in each.compared.players]
        print(
            f"\nframes farther from an edge between zones than their own error: "
            f"{np.mean([player.sure_zone_share for player in players]):.2f} of all, in the right zone:"
            f" {np.nanmean([player.sure_zone_agreement for player in players]):.3f}"
        )
        reliability(found)
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{time.process_time() - started_s:.0f} s of CPU time, {peak_mib:.0f} MiB")


if __name__ == "__main__":
    main()
