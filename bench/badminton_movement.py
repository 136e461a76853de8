"""Fits and measures rallies that are found by the players' movement alone, on simulated matches.

    python bench/badminton_movement.py [--fitted 900,902-903] [--unseen 1500-1501,1503] [--kept FOLDER] [--fit]

Detections are made from the truth, without any picture, and tracked by the worker: as a pose network makes them
(``learned``), and with a third of them missing, no skeletons, and times of 0.4 to 2.5 s in which nobody is detected
(``gaps``). Four cameras, singles and doubles, long and short pauses, judges and spectators. A period is right when it
and one rally have at least half of their time in common (intersection over union). ``--fit`` tries the limits of
modal_workers/badminton/rallies/movement.py on the first seeds. ``--kept`` stores the tracks.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av")

import numpy as np

from bench.badminton_goals import seeds
from modal_workers.badminton.checkpoints import TrackStage, load_tracks, save_tracks
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.rallies.movement import LIMITS, ActivePeriod, MovementLimits, find_active_periods
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from simulators.badminton.play.match_script import TrueRally
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.simulated_detections import Detector, court_segments, detections

DETECTORS: Final = {"learned": Detector(), "gaps": Detector(skeletons=False, missed=0.33, box_error=0.03)}
RIGHT_SHARE: Final = 0.5
NEAR_S: Final = 1.0
#: Values that are tried, all combinations.
TRIED: Final = {
    "play_m_s": (1.5, 1.9, 2.3, 2.7),
    "rest_m_s": (0.5, 0.8, 1.2, 1.6),
    "longest_stop_s": (0.3, 0.7),
    "longest_rest_s": (1.5, 2.0, 2.5, 3.0, 3.5),
}


@dataclass(frozen=True, eq=False)
class TrackedMatch:
    """Players of one match, and its rallies."""

    players: PlayerTracks
    times_s: np.ndarray
    segments: tuple[tuple[int, int], ...]
    rallies: tuple[TrueRally, ...]

    def periods(self, limits: MovementLimits) -> list[ActivePeriod]:
        """Return the periods of play."""
        return [
            period
            for first, last in self.segments
            for period in find_active_periods(self.players, self.times_s, first, last, limits)
        ]


@dataclass(frozen=True)
class Score:
    """Complete rallies; confidence of each period found, whether it is right, and whether its limits are near."""

    rallies: int
    periods: tuple[tuple[float, bool, bool], ...]

    @property
    def f1(self) -> float:
        """Harmonic mean of the shares of periods and of rallies that are right."""
        return 2 * sum(right for _, right, _ in self.periods) / max(1, len(self.periods) + self.rallies)

    def __str__(self) -> str:
        means = np.array(self.periods, float).reshape(-1, 3).mean(axis=0) if self.periods else [float("nan")] * 3
        confidence, right, near = means
        return (
            f"{len(self.periods)} periods, {self.rallies} rallies, right {right:.2f}, mean confidence "
            f"{confidence:.2f}, both limits within {NEAR_S:.0f} s {near:.2f}, F1 {self.f1:.2f}"
        )


def with_gaps(truth: MatchTruth) -> MatchTruth:
    """Return a match in which nobody is seen for short times."""
    random = np.random.default_rng([truth.options.seed, 7])
    boxes, at_s = truth.boxes_px.copy(), 0.0
    while (at_s := at_s + random.exponential(5.0)) < truth.time_s[-1]:
        length_s = random.uniform(0.4, 2.5)
        boxes[:, (truth.time_s >= at_s) & (truth.time_s < at_s + length_s)] = np.nan
        at_s += length_s
    return replace(truth, boxes_px=boxes)


def tracked(options: MatchOptions, kind: str, kept: Path | None) -> TrackedMatch:
    """Return a match as the worker tracks its players."""
    truth = match_truth(options)
    segments = court_segments(truth)
    path = None if kept is None else kept / f"{options.seed}-{options.camera}-{options.duration_s:.0f}-{kind}.npz"
    if path is not None and path.exists():
        players = load_tracks(path).players
        assert players is not None
    else:
        random = np.random.default_rng(options.seed)
        detector = DETECTORS[kind]
        colours = shirts(random, len(truth.positions_m), similarity=0.3)
        persons, _ = detections(random, with_gaps(truth) if kind == "gaps" else truth, colours, detector)
        size = (options.width_px, options.height_px)
        players, warnings = track_players(
            persons,
            truth.time_s,
            segments,
            picture_size_px=size,
            players="auto",
            has_skeletons=detector.skeletons,
        )
        if path is not None:
            save_tracks(path, TrackStage(players, None, warnings))
    return TrackedMatch(players, truth.time_s, tuple((first, last) for first, last, _ in segments), truth.rallies)


def judged(matches: Sequence[TrackedMatch], limits: MovementLimits, *, in_heights: bool = False) -> Score:
    """Return how the periods of matches are beside the truth; ``in_heights`` as if no place on the court was known."""
    periods: list[tuple[float, bool, bool]] = []
    for match in matches:
        seen = match
        if in_heights:
            unknown = np.full_like(match.players.position_m, np.nan)
            seen = replace(match, players=replace(match.players, position_m=unknown))
        for period in seen.periods(limits):
            start_s, end_s = (float(match.times_s[frame]) for frame in (period.first_frame, period.last_frame))
            of = [rally for rally in match.rallies if start_s < rally.end_s and end_s > rally.start_s]
            if not all(rally.complete for rally in of):
                continue  # the video ends before the rally does
            common = [_common(rally, start_s, end_s) for rally in of]
            off_s = [max(abs(start_s - rally.start_s), abs(end_s - rally.end_s)) for rally in of]
            right = max(common, default=0.0) >= RIGHT_SHARE
            periods.append((period.confidence, right, min(off_s, default=np.inf) <= NEAR_S))
    return Score(sum(rally.complete for match in matches for rally in match.rallies), tuple(periods))


def _common(rally: TrueRally, start_s: float, end_s: float) -> float:
    """Return the share of the time of a rally or a period that is of both."""
    together_s = min(end_s, rally.end_s) - max(start_s, rally.start_s)
    return together_s / (max(end_s, rally.end_s) - min(start_s, rally.start_s))


def fitted(matches: Sequence[TrackedMatch]) -> None:
    """Print the best limits."""
    scored = []
    for values in itertools.product(*TRIED.values()):
        limits = replace(LIMITS, **dict(zip(TRIED, values, strict=True)))
        scored.append((judged(matches, limits).f1, limits))
    scored.sort(key=lambda each: -each[0])
    for f1, limits in scored[:8]:
        print(f"F1 {f1:.3f}: {', '.join(f'{each.name} {getattr(limits, each.name)}' for each in fields(limits))}")


def main() -> None:
    """Fit if wanted, and print how the limits do."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fitted", type=seeds, default=seeds("900,902-903"))
    parser.add_argument("--unseen", type=seeds, default=seeds("1500-1501,1503"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--kinds", nargs="+", choices=list(DETECTORS), default=list(DETECTORS))
    parser.add_argument("--kept", type=Path)
    parser.add_argument("--fit", action="store_true")
    wanted = parser.parse_args()
    if wanted.kept:
        wanted.kept.mkdir(parents=True, exist_ok=True)
    for name, chosen in (("fitted", wanted.fitted), ("unseen", wanted.unseen)):
        of_kind = {
            kind: [
                tracked(
                    MatchOptions(
                        seed=seed,
                        duration_s=wanted.seconds,
                        camera=camera,
                        doubles=seed % 4 == 3,
                        quick_service=seed % 2 == 0,
                        bystanders=True,
                    ),
                    kind,
                    wanted.kept,
                )
                for seed in chosen
                for camera in CAMERA_NAMES
            ]
            for kind in wanted.kinds
        }
        every = [match for matches in of_kind.values() for match in matches]
        if wanted.fit and name == "fitted":
            fitted(every)
        for kind, matches in of_kind.items():
            print(f"{name} {kind}, in metres: {judged(matches, LIMITS)}")
            print(f"{name} {kind}, in heights: {judged(matches, LIMITS, in_heights=True)}", flush=True)


if __name__ == "__main__":
    main()
