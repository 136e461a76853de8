"""Measures the court detection: corner errors, what is refused, and whether the confidence is the share that is right.

    python bench/badminton_court.py [--seeds 5] [--scenes 150] [--first 5000]

Three tables. Simulated matches of the four cameras (five pictures of each, 1920 x 1080) against their ground truth.
Scenes without a court, which must be refused. Halls, cameras and damage by chance, one picture each: there the court
is often hard to see, so that the confidence is compared with the share of the courts that are right. No constant was
fitted on seeds from 5000 on: the confidence was fitted on seeds below 600.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from bench.needs import needs

needs("av", "cv2")

import cv2
import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).parents[1]))

from modal_workers.badminton.court.candidates import best_candidate
from modal_workers.badminton.court.detection import confidence_of, median_grey, refusal_of
from modal_workers.badminton.court.dimensions import COURT_LENGTH_M, COURT_WIDTH_M
from modal_workers.badminton.court.homography import CourtNotFound, CourtView, project
from simulators.badminton.match_options import CAMERA_NAMES, MatchOptions
from simulators.badminton.match_renderer import MatchRenderer
from simulators.badminton.truth_from_world import make_match
from tests.harness.vision.court_pictures import detect_court, draw_court
from tests.harness.vision.random_halls import (
    OTHER_SPORTS,
    STANDS,
    pointed_aside,
    random_camera,
    random_floor,
    random_hall,
    spoil,
)

#: A court is right when no place of it that is in the picture is off by more than this.
RIGHT_M = 0.15
#: Half a turn of the court is the same court: which end is which is the camera's matter.
HALF_TURN = np.array([[-1.0, 0, COURT_WIDTH_M], [0, -1, COURT_LENGTH_M], [0, 0, 1]])
FLOOR_M = np.array(list(itertools.product(np.linspace(0, COURT_WIDTH_M, 8), np.linspace(0, COURT_LENGTH_M, 14))))
BINS = (0.0, 0.1, 0.5, 0.9, 0.97, 0.99, 1.0)


def pictures_of(options: MatchOptions, count: int) -> tuple[list[Any], Any]:
    """Return pictures spread over a match, and the homography of its camera."""
    renderer = MatchRenderer(make_match(options))
    truth = renderer.match.truth
    numbers = np.linspace(0, len(truth.time_s) - 1, count).round().astype(int)
    return [renderer.draw(int(number)) for number in numbers], truth.image_from_court[numbers[-1]]


def floor_error_m(found: NDArray[np.float64], truth: NDArray[np.float64], size_px: tuple[int, int]) -> float:
    """Return the largest error of places on the court that are in the picture."""
    pixels = project(truth, FLOOR_M)
    inside = ((pixels > 0) & (pixels < size_px)).all(axis=1)
    if not inside.any():
        return float("inf")
    errors = []
    for homography in (found, found @ HALF_TURN):
        places = project(np.linalg.inv(homography), pixels[inside])
        errors.append(float(np.linalg.norm(places - FLOOR_M[inside], axis=1).max()))
    return min(errors)


def matches(seeds: range) -> None:
    """Print the corner errors of simulated matches."""
    print("| camera | matches | found | corner error px: median, p95, largest | CPU s: median, longest |")
    print("|---|---|---|---|---|")
    for camera in CAMERA_NAMES:
        errors, times, count = [], [], 0
        for seed in seeds:
            options = MatchOptions(seed, 6.0, camera, 1920, 1080, doubles=seed % 2 == 1, bystanders=seed % 3 == 0)
            pictures, truth = pictures_of(options, 5)
            start = time.process_time()
            court = detect_court(pictures)
            times.append(time.process_time() - start)
            count += 1
            if isinstance(court, CourtView):
                corners = project(
                    truth, [(0, 0), (COURT_WIDTH_M, 0), (COURT_WIDTH_M, COURT_LENGTH_M), (0, COURT_LENGTH_M)]
                )
                errors += np.linalg.norm(court.corners_px - corners, axis=1).tolist()
            else:
                print(f"{camera} {seed}: {court.text}", file=sys.stderr)
        middle, high, largest = np.percentile(errors, [50, 95, 100]) if errors else (float("nan"),) * 3
        found = f"{len(errors) // 4} of {count}"
        print(
            f"| {camera} | {count} | {found} | {middle:.2f}, {high:.2f}, {largest:.2f} "
            f"| {np.median(times):.2f}, {max(times):.2f} |"
        )


def without_court(seeds: range) -> None:
    """Print what is said of scenes without a court, and of half a court."""
    print("\n| scene | pictures | courts reported | reasons |\n|---|---|---|---|")
    kinds: dict[str, list[CourtView | CourtNotFound]] = {}
    for seed, camera in itertools.product(seeds, CAMERA_NAMES):
        for scene in ("tennis", "plain"):
            options = MatchOptions(seed, 4.0, camera, 1920, 1080, scene=scene)
            kinds.setdefault(f"simulated {scene}", []).append(detect_court(pictures_of(options, 3)[0]))
    for seed, kind in itertools.product(seeds, (*OTHER_SPORTS, "grid", "lines")):
        rng = np.random.default_rng([5000, seed])
        kinds.setdefault(kind, []).append(detect_court([spoil(random_floor(rng, kind), rng)]))
    for kind, found in kinds.items():
        reasons = Counter(str(court.code) for court in found if isinstance(court, CourtNotFound))
        text = ", ".join(f"{code} {number}" for code, number in reasons.most_common())
        print(f"| {kind} | {len(found)} | {len(found) - sum(reasons.values())} | {text} |")
    right = wrong = refused = 0
    for seed, camera in itertools.product(seeds, CAMERA_NAMES):
        options = MatchOptions(seed, 4.0, camera, 1920, 1080, half_out_of_view=True)
        pictures, truth = pictures_of(options, 3)
        court = detect_court(pictures)
        if isinstance(court, CourtNotFound):
            refused += 1
        elif floor_error_m(court.image_from_court, truth, (1920, 1080)) < RIGHT_M:
            right += 1
        else:
            wrong += 1
    print(f"\nHalf of the court out of view: {right} right, {refused} refused, {wrong} wrong.")


def reliability(seeds: range) -> None:
    """Print the share of right courts by their confidence."""
    rows = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        amount = rng.uniform(0.5, 3.0)
        truth = None
        if seed % 4:
            camera = random_camera(rng, list(STANDS)[seed % len(STANDS)])
            camera = pointed_aside(camera, rng) if seed % 3 == 0 else camera
            picture, truth = draw_court(camera, random_hall(rng, alone=True), seed), camera.image_from_court
        else:
            picture = random_floor(rng, (*OTHER_SPORTS, "grid", "lines")[seed // 4 % 5])
        picture = spoil(picture, rng, amount)
        evidence = best_candidate(median_grey([picture]))
        if evidence is not None:
            size = (picture.shape[1], picture.shape[0])
            right = truth is not None and floor_error_m(evidence.fit.image_from_court, truth, size) < RIGHT_M
            rows.append((confidence_of(evidence), right, refusal_of(evidence) is None))
    confidence, right, accepted = (np.array(part) for part in zip(*rows, strict=True))
    print(
        f"\n{len(seeds)} halls by chance: {len(rows)} candidates, {right.sum()} right; {accepted.sum()} reported, ",
        end="",
    )
    print(f"{(accepted & ~right.astype(bool)).sum()} of them wrong\n")
    print("| confidence | candidates | mean confidence | right | reported |\n|---|---|---|---|---|")
    for low, high in itertools.pairwise(BINS):
        use = (confidence >= low) & ((confidence < high) | (high == 1.0))
        if use.any():
            shares = (confidence[use].mean(), right[use].mean(), accepted[use].mean())
            print(f"| {low:.2f} to {high:.2f} | {use.sum()} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")
    print(f"\nBrier score {np.mean((confidence - right) ** 2):.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="matches of each camera")
    parser.add_argument("--scenes", type=int, default=150, help="halls by chance")
    parser.add_argument("--first", type=int, default=5000)
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    matches(seeds)
    without_court(seeds)
    reliability(range(arguments.first, arguments.first + arguments.scenes))


if __name__ == "__main__":
    main()
