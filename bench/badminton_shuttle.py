"""Measures shuttle, hits and rallies against the simulator's truth, on seeds that were not used for tuning.

    python bench/badminton_shuttle.py [--seeds 5] [--first 900] [--seconds 60] [--rendered 25] [--network FILE]

For each of the four cameras: with a track of a learned detector's quality (95 % recall, 1.5 px noise; from the truth,
without pictures), with the classical detector on rendered pictures, and on the same pictures with a TrackNet in an ONNX
file (badminton_shuttle_network.py trains a small one). Seeds below 900 were used for tuning.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from bench.needs import needs

needs("cv2", "numpy", "av")

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.badminton.rallies.hits import judge_contacts
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.rallies.segmentation import find_rallies
from modal_workers.badminton.shuttle.classical import ClassicalShuttleBackend
from modal_workers.badminton.shuttle.linking import link_shuttle
from modal_workers.badminton.shuttle.onnx_backend import OnnxShuttleBackend, ShuttleNetwork
from modal_workers.badminton.shuttle.shuttle_track import CandidateLog, ShuttleBackend, ShuttleCandidates
from simulators.badminton.match_options import CAMERA_NAMES, CameraName, MatchOptions
from simulators.badminton.match_renderer import MatchRenderer
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from simulators.badminton.truth_from_world import make_match
from tests.harness.vision.shuttle_logs import (
    IN_FLIGHT,
    candidate_log,
    person_log,
    picture_size,
    player_tracks,
    whole,
)

NEAR_PX, HIT_S, LIMIT_S = 8.0, 0.15, 0.3


class Totals:
    """Counts over several matches, and their shares."""

    def __init__(self) -> None:
        self.counts: dict[str, float] = {}
        self.reliability = np.zeros((5, 2))

    def add(self, **counts: float) -> None:
        """Add to the counts."""
        for name, value in counts.items():
            self.counts[name] = self.counts.get(name, 0.0) + float(value)

    def share(self, part: str, of: str) -> float:
        """Return one count as a share of another."""
        return self.counts.get(part, 0.0) / max(self.counts.get(of, 0.0), 1.0)

    def line(self) -> str:
        """Return the figures."""
        counts, share = self.counts, self.share
        f1 = 2 * counts.get("hits_right", 0) / max(counts.get("hits", 0) + counts.get("true_hits", 0), 1)
        parts = [
            f"track precision {share('right', 'found'):.3f} recall {share('right_visible', 'visible'):.3f}",
            f"hits F1 {f1:.3f} (n={counts.get('true_hits', 0):.0f})",
            f"hitter {share('hitter_right', 'hitter_named'):.3f}, named {share('hitter_named', 'hits_right'):.2f}",
            f"rallies {counts.get('rallies', 0):.0f} of {counts.get('true_rallies', 0):.0f}",
            f"both limits {share('limits', 'complete'):.2f} (n={counts.get('complete', 0):.0f})",
            f"winner right {share('winner_right', 'winner_named'):.2f}, named {share('winner_named', 'complete'):.2f}",
            f"{1000 * share('seconds', 'frames'):.2f} ms a frame",
        ]
        if "candidates" in counts:
            found = share("candidate", "visible")
            parts.insert(0, f"candidate recall {found:.3f}, {share('candidates', 'frames'):.1f} a frame")
        return " | ".join(parts)


def rendered_log(options: MatchOptions, backend: ShuttleBackend, totals: Totals) -> tuple[MatchTruth, CandidateLog]:
    """Return the truth and what a detector finds in the rendered pictures."""
    renderer = MatchRenderer(make_match(options))
    truth = renderer.match.truth
    found: list[ShuttleCandidates] = []
    cpu_s = 0.0
    for index in range(len(truth.time_s)):
        picture = renderer.draw(index)
        start_s = time.process_time()
        found += backend.detect([picture])
        cpu_s += time.process_time() - start_s
    found += backend.flush()
    offsets = np.concatenate([[0], np.cumsum([len(each.score) for each in found])]).astype(np.int64)
    log = CandidateLog(
        offsets, np.concatenate([each.position_px for each in found]), np.concatenate([each.score for each in found])
    )
    near = [_nearest(log, frame, truth.shuttle_px[frame]) < NEAR_PX for frame in np.flatnonzero(_visible(truth))]
    totals.add(candidate=sum(near), candidates=len(log.score), detector_cpu_s=cpu_s)
    return truth, log


def measure(truth: MatchTruth, log: CandidateLog, totals: Totals) -> None:
    """Add one match."""
    size, segments, players = picture_size(truth), whole(truth), player_tracks(truth)
    start_s = time.process_time()
    track = link_shuttle(log, truth.time_s, size, segments, person_log(truth))
    contacts = judge_contacts(track, players, truth.time_s, segments, picture_size=size)
    hits = [each.hit for each in contacts if each.hit is not None]
    rallies = find_rallies(
        hits, track, players, truth.time_s, segments, mode="full", picture_size=size, contacts=contacts
    )
    totals.add(seconds=time.process_time() - start_s, frames=len(truth.time_s))
    found = np.isfinite(track.position_px[:, 0])
    right = found & (np.hypot(*(track.position_px - truth.shuttle_px).T) < NEAR_PX * size[1] / 720)
    totals.add(found=found.sum(), right=right.sum(), visible=_visible(truth).sum())
    totals.add(right_visible=(right & _visible(truth)).sum())
    bins = np.minimum((track.confidence[found] * 5).astype(int), 4)
    np.add.at(totals.reliability, bins, np.stack([np.ones(found.sum()), right[found]], axis=1))
    _measure_hits([hit for rally in rallies for hit in rally.hits], truth, totals)
    _measure_rallies(rallies, truth, totals)


def _measure_hits(hits: list[Hit], truth: MatchTruth, totals: Totals) -> None:
    left = [hit for hit in truth.hits if hit.time_s < truth.time_s[-1] - HIT_S]
    totals.add(hits=len(hits), true_hits=len(left))
    for hit in hits:
        nearest = min(left, key=lambda true: abs(true.time_s - hit.time_s), default=None)
        if nearest is not None and abs(nearest.time_s - hit.time_s) <= HIT_S:
            left.remove(nearest)
            totals.add(hits_right=1, hitter_named=hit.player is not None, hitter_right=hit.player == nearest.player)


def _measure_rallies(rallies: list[Rally], truth: MatchTruth, totals: Totals) -> None:
    pair = max(1, len(truth.positions_m) // 2)
    totals.add(rallies=len(rallies), true_rallies=len(truth.rallies))
    for true in (each for each in truth.rallies if each.complete):
        own = [rally for rally in rallies if rally.start_s < true.end_s and rally.end_s > true.start_s]
        totals.add(complete=1)
        if len(own) != 1:
            continue
        limits = abs(own[0].start_s - true.start_s) <= LIMIT_S and abs(own[0].end_s - true.end_s) <= LIMIT_S
        named = own[0].winner is not None
        right = named and own[0].winner // pair == true.winner_team
        totals.add(limits=limits, winner_named=named, winner_right=right)


def _visible(truth: MatchTruth) -> NDArray[np.bool_]:
    return truth.shuttle_visible & (truth.shuttle_state == IN_FLIGHT)


def _nearest(log: CandidateLog, frame: int, place: NDArray[np.float64]) -> float:
    return float(np.hypot(*(log.position_px[log.rows(frame)] - place).T).min(initial=np.inf))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=900)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--network", type=Path, help="a TrackNet as an ONNX file")
    parser.add_argument("--rendered", type=float, default=25.0, help="seconds of each rendered match; 0: none")
    arguments = parser.parse_args()
    kinds = ("learned", "classical", *(["network"] if arguments.network else []))
    everything = {kind: Totals() for kind in kinds}
    for camera in CAMERA_NAMES:
        for kind in kinds:
            totals = Totals()
            _measure_camera(kind, camera, arguments, totals)
            if totals.counts:
                print(f"{kind:9s} {camera:14s} {totals.line()}", flush=True)
                everything[kind].add(**totals.counts)
                everything[kind].reliability += totals.reliability
    for kind, totals in everything.items():
        if totals.counts:
            print(f"{kind:9s} {'all':14s} {totals.line()}")
            for low, (count, right) in zip((0.0, 0.2, 0.4, 0.6, 0.8), totals.reliability, strict=True):
                if count:
                    print(f"  confidence {low:.1f} to {low + 0.2:.1f}: {count:.0f} points, {right / count:.2f} right")
    for kind, detector in everything.items():
        if "detector_cpu_s" in detector.counts:
            print(f"{kind} detector: {1000 * detector.share('detector_cpu_s', 'frames'):.1f} ms CPU a frame")


def _measure_camera(kind: str, camera: CameraName, arguments: argparse.Namespace, totals: Totals) -> None:
    seconds = arguments.seconds if kind == "learned" else arguments.rendered
    # Rendering takes ten times as long as all that is measured.
    count = arguments.seeds if kind == "learned" else max(1, arguments.seeds // 5)
    for seed in range(arguments.first, arguments.first + count if seconds else arguments.first):
        options = MatchOptions(seed=seed, duration_s=seconds, camera=camera, doubles=seed % 4 == 3, quick_service=True)
        if kind == "learned":
            truth = match_truth(options)
            measure(truth, candidate_log(truth), totals)
        else:
            backend: ShuttleBackend = ClassicalShuttleBackend(options.rate_hz)
            if kind == "network":
                backend = OnnxShuttleBackend(ShuttleNetwork(arguments.network), options.rate_hz)
            truth, log = rendered_log(options, backend, totals)
            measure(truth, log, totals)


if __name__ == "__main__":
    main()
