"""Fits the confidence of badminton rallies: facts of each found rally against whether both of its limits are right.

    python bench/badminton_rally_confidence.py [--mixed 1220-1223,1226] [--learned 1400-1403] [--kept FILE]

Detections are made from the truth, as in badminton_goals.py, without any picture; with judges and spectators, four
cameras, singles and doubles. In the mixed matches the shuttle is detected as well as a learned network does in a third,
as the classical detector does in another, and between them: a confidence that saw good tracks only would not know bad
ones. Prints the weights of modal_workers/badminton/rallies/rally_confidence.py, and a reliability table in which each
rally has the confidence of a fit without the matches of its seed. ``--kept`` stores the facts: fits are quick.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from bench.needs import needs

needs("cv2", "av")

import numpy as np
from numpy.typing import NDArray

from bench.badminton_goals import seeds
from modal_workers.badminton.players.tracking import track_players
from modal_workers.badminton.rallies.hits import judge_contacts
from modal_workers.badminton.rallies.rally_confidence import FACTS, rally_facts
from modal_workers.badminton.rallies.segmentation import find_spans
from modal_workers.badminton.shuttle.linking import link_shuttle
from simulators.badminton.comparison import LIMIT_TOLERANCE_S
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_truth import MatchTruth
from simulators.badminton.match_video import match_truth
from tests.harness.vision.badminton_persons import shirts
from tests.harness.vision.shuttle_logs import CLASSICAL, LEARNED, DetectorQuality, candidate_log
from tests.harness.vision.simulated_detections import court_segments, detections

Floats = NDArray[np.float64]
#: Facts and whether the limits are right; the same by match.
Rallies = list[tuple[list[float], bool]]
Known = dict[str, Rallies]
QUALITIES: Final = (LEARNED, DetectorQuality(recall=0.8, noise_px=2.5, anywhere=0.3, limbs=0.3), CLASSICAL)
#: Gaussian prior of the weights: one standard deviation. There are few wrong rallies to fit them on.
PRIOR: Final = 2.0
BINS: Final = (0.0, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)


def rallies_of(options: MatchOptions, quality: DetectorQuality) -> Iterator[tuple[list[float], bool]]:
    """Yield facts of the rallies found in a match, and whether both limits are right; none that the video cuts off."""
    truth = match_truth(options)
    random = np.random.default_rng(options.seed)
    persons, _ = detections(random, truth, shirts(random, len(truth.positions_m), similarity=0.3))
    times_s, courts, size = truth.time_s, court_segments(truth), (options.width_px, options.height_px)
    players, _ = track_players(persons, times_s, courts, picture_size_px=size, players="auto", has_skeletons=True)
    track = link_shuttle(candidate_log(truth, quality), times_s, size, courts, persons)
    contacts = judge_contacts(track, players, times_s, courts, picture_size=size)
    hits = [each.hit for each in contacts if each.hit is not None]
    for span in find_spans(hits, contacts, track, times_s, courts):
        right = _right(truth, span.hits[0].time_s, span.ending.time_s)
        if right is not None and not span.cut:
            yield list(rally_facts(span.ending, span.seen_share(track, times_s))), right


def _right(truth: MatchTruth, start_s: float, end_s: float) -> bool | None:
    near = [each for each in truth.rallies if start_s < each.end_s and end_s > each.start_s]
    if near and not near[0].complete:
        return None
    return len(near) == 1 and max(abs(start_s - near[0].start_s), abs(end_s - near[0].end_s)) <= LIMIT_TOLERANCE_S


def collect(mixed: list[int], learned: list[int], known: Known) -> dict[int, Rallies]:
    """Return the rallies of all matches by seed, from what is known where that has them."""
    found: dict[int, Rallies] = {}
    for seed in (*mixed, *learned):
        for number, camera in enumerate(CAMERA_NAMES):
            quality = (seed + number) % len(QUALITIES) if seed in mixed else 0
            name = f"{seed} {camera} {'LMC'[quality]}"
            if name not in known:
                options = MatchOptions(
                    seed=seed,
                    duration_s=60.0,
                    camera=camera,
                    doubles=seed % 4 == 3,
                    quick_service=True,
                    bystanders=True,
                )
                known[name] = list(rallies_of(options, QUALITIES[quality]))
                print(name, len(known[name]), sum(right for _, right in known[name]), flush=True)
            found.setdefault(seed, []).extend(known[name])
    return found


def fit(rallies: Rallies) -> Floats:
    """Return the weights, the constant first: the most probable ones under the prior (Newton's method)."""
    facts = np.array([[1.0, *each] for each, _ in rallies])
    right = np.array([float(each) for _, each in rallies])
    held = np.full(facts.shape[1], PRIOR**-2.0)
    held[0] = 1e-3
    weights = np.zeros(facts.shape[1])
    for _ in range(50):
        share = 1 / (1 + np.exp(-facts @ weights))
        gradient = facts.T @ (right - share) - held * weights
        normal = (facts * (share * (1 - share))[:, None]).T @ facts + np.diag(held)
        weights += np.linalg.solve(normal, gradient)
    return weights


def confidences(rallies: Rallies, weights: Floats) -> Floats:
    """Return the confidence of each rally."""
    facts = np.array([[1.0, *each] for each, _ in rallies])
    return np.asarray(1 / (1 + np.exp(-facts @ weights)))


def reliability(share: Floats, right: Floats) -> None:
    """Print how often rallies are right, by confidence."""
    brier, plain = np.mean((share - right) ** 2), right.mean() * (1 - right.mean())
    print(f"\n{len(right)} rallies, {right.mean():.3f} right, mean confidence {share.mean():.3f}")
    print(f"Brier score {brier:.3f}, of the mean alone {plain:.3f}")
    print("| confidence | rallies | mean confidence | both limits right |\n|---|---|---|---|")
    for low, high in pairwise(BINS):
        part = (share >= low) & (share < high)
        if part.any():
            cells = f"{part.sum()} | {share[part].mean():.2f} | {right[part].mean():.2f}"
            print(f"| {low:.2f} to {min(high, 1):.2f} | {cells} |")


def main() -> None:
    """Fit and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mixed", type=seeds, default=seeds("1220-1223,1226"))
    parser.add_argument("--learned", type=seeds, default=seeds("1400-1403"))
    parser.add_argument("--kept", type=Path)
    wanted = parser.parse_args()
    known = json.loads(wanted.kept.read_text()) if wanted.kept and wanted.kept.exists() else {}
    found = collect(wanted.mixed, wanted.learned, known)
    if wanted.kept:
        wanted.kept.write_text(json.dumps(known))
    weights = fit([each for rallies in found.values() for each in rallies])
    for name, weight in zip(("constant", *FACTS), weights, strict=True):
        print(f"{name}: {weight:+.2f}")
    share, right = [], []
    for seed, rallies in found.items():
        others = [each for other, of_it in found.items() if other != seed for each in of_it]
        share.append(confidences(rallies, fit(others)))
        right.append(np.array([float(each) for _, each in rallies]))
    reliability(np.concatenate(share), np.concatenate(right))


if __name__ == "__main__":
    main()
