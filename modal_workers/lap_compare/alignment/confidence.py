"""Confidence of an alignment: evidence for and against it, refusal with a reason, confidence at every moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, NoReturn

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.road_video.align import TimeMap
from modal_workers.road_video.descriptors import IMAGE_HALVES, crop_vectors
from modal_workers.road_video.moving_samples import MovingSamples
from modal_workers.road_video.time_warping import SKIP_COST, WarpingPath, find_warping_path

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: Evidence is collected on at most this many samples of each clip.
EVIDENCE_SAMPLES: Final = 900
#: Gain per matched sample below which two clips show different places. Generated laps: the same circuit from 0.43 up
#: even with another mount and lens, different circuits mostly up to 0.2, at most 0.33.
MIN_GAIN_DENSITY: Final = 0.25
MIN_OVERLAP_S: Final = 2.0
#: If the halves of the frame disagree by more than this, the clips have nothing in common.
MAX_PIECEWISE_S: Final = 1.0
#: A weak match with an error above this is a match of similar scenery (forest with forest), not of one place.
MAX_WEAK_ERROR_S: Final = 0.18
CLEAR_GAIN_DENSITY: Final = 0.4
#: A short best stretch is the best of many candidates and looks better than it is.
CLEAR_OVERLAP: Final = 0.5
#: An error band of this half-width means confidence 0.5: three frames at 30 Hz.
HALF_CONFIDENCE_ERROR_S: Final = 0.1


@dataclass(frozen=True)
class AlignmentEvidence:
    """Evidence that two clips show the same road in the same direction."""

    gain: float  # per sample of the shorter clip: improvement over leaving everything unmatched
    backward_gain: float  # the same with B reversed
    overlap: float  # share of the shorter clip that is matched
    overlap_s: float
    piecewise_s: float  # median disagreement of the left and the right half of the frame, aligned separately
    path_cost: float
    error_s: float  # median half-width of the error band

    @property
    def density(self) -> float:
        """Gain per matched sample; halved where less than a fifth of the shorter clip is matched."""
        return self.gain / max(self.overlap, 0.2)


def collect_evidence(a: MovingSamples, b: MovingSamples, time_map: TimeMap) -> AlignmentEvidence:
    """Collect the evidence: align the halves of the frame separately, and A with B reversed."""
    thin_a, thin_b, stride = _thinned(a, b)
    shorter = min(len(thin_a), len(thin_b))
    halves = [
        find_warping_path(crop_vectors(thin_a, part), crop_vectors(thin_b, part)) for part in range(len(IMAGE_HALVES))
    ]
    distance_s = _path_distance(halves[0], halves[1]) * stride * float(np.median(np.diff(b.clock_s)))
    forward = find_warping_path(thin_a, thin_b)
    matched = max(np.ptp(forward.index_a), np.ptp(forward.index_b)) + 1
    return AlignmentEvidence(
        gain=forward.gain / shorter,
        backward_gain=find_warping_path(thin_a, thin_b[::-1]).gain / shorter,
        overlap=float(min(1.0, matched / shorter)),
        overlap_s=float(np.ptp(a.clock_s[time_map.sample_a])),
        piecewise_s=distance_s,
        path_cost=float(np.mean(time_map.cost)),
        error_s=float(np.median(time_map.error_s)),
    )


def _thinned(a: MovingSamples, b: MovingSamples) -> tuple[Values, Values, int]:
    """Return at most ``EVIDENCE_SAMPLES`` of each clip's vectors, and the stride between them."""
    stride = max(1, int(np.ceil(max(len(a.index), len(b.index)) / EVIDENCE_SAMPLES)))
    return a.vectors[::stride], b.vectors[::stride], stride


def _path_distance(first: WarpingPath, second: WarpingPath) -> float:
    """Return the median distance in samples of B between two paths over their common samples of A; infinite without."""
    (rows_1, columns_1), (rows_2, columns_2) = first.mean_b_per_a(), second.mean_b_per_a()
    low, high = max(rows_1[0], rows_2[0]), min(rows_1[-1], rows_2[-1])
    if high - low < 10:
        return float("inf")
    first_b = columns_1[low - rows_1[0] : high - rows_1[0]]
    second_b = columns_2[low - rows_2[0] : high - rows_2[0]]
    return float(np.median(np.abs(first_b - second_b)))


def reject_mismatch(evidence: AlignmentEvidence, name_a: str, name_b: str) -> None:
    """Raise if two clips do not show the same road in the same direction.

    Raises:
        SaccadeError: CLIPS_OPPOSITE_DIRECTIONS, CLIPS_DIFFERENT_PLACES.
    """
    _reject_opposite(evidence.gain, evidence.backward_gain, name_a, name_b)
    if evidence.density < MIN_GAIN_DENSITY:
        gain = f"the best match gains only {evidence.density:.2f} per picture over no match"
        why = f"{gain}; {MIN_GAIN_DENSITY} is needed"
    elif evidence.overlap_s < MIN_OVERLAP_S:
        why = f"only {evidence.overlap_s:.1f} s of them match; {MIN_OVERLAP_S:.0f} s are needed"
    elif evidence.piecewise_s > MAX_PIECEWISE_S:
        why = "the left and the right half of the picture match different places"
    elif evidence.error_s > MAX_WEAK_ERROR_S and evidence.density < CLEAR_GAIN_DENSITY:
        why = f"the best match is weak ({evidence.density:.2f}) and uncertain by {evidence.error_s:.2f} s"
    elif evidence.error_s > MAX_WEAK_ERROR_S and evidence.overlap < CLEAR_OVERLAP:
        part = f"{evidence.overlap:.0%} of the shorter clip"
        why = f"the best match covers only {part} and is uncertain by {evidence.error_s:.2f} s"
    else:
        return
    raise _different_places(name_a, name_b, why)


def reject_unmatched(a: MovingSamples, b: MovingSamples, name_a: str, name_b: str) -> NoReturn:
    """Raise why two clips are refused whose best path is too short to be refined.

    Raises:
        SaccadeError: CLIPS_OPPOSITE_DIRECTIONS, CLIPS_DIFFERENT_PLACES.
    """
    thin_a, thin_b, _ = _thinned(a, b)
    forward, backward = (
        find_warping_path(thin_a, other).gain / min(len(thin_a), len(thin_b)) for other in (thin_b, thin_b[::-1])
    )
    _reject_opposite(forward, backward, name_a, name_b)
    raise _different_places(name_a, name_b, "no two pictures in a row match")


def _reject_opposite(gain: float, backward_gain: float, name_a: str, name_b: str) -> None:
    if backward_gain > max(2 * gain, MIN_GAIN_DENSITY):
        raise SaccadeError(
            ErrorCode.CLIPS_OPPOSITE_DIRECTIONS, f"{name_b} matches {name_a} only when it is played backwards."
        )


def _different_places(name_a: str, name_b: str, why: str) -> SaccadeError:
    return SaccadeError(ErrorCode.CLIPS_DIFFERENT_PLACES, f"{name_a} and {name_b} do not show the same road: {why}.")


def alignment_confidence(time_map: TimeMap, evidence: AlignmentEvidence) -> Floats:
    """Return a confidence of 0 to 1 for every matched moment [N].

    It is 0.5 where the error band is ``HALF_CONFIDENCE_ERROR_S``, lower where the frames match badly, and lower as a
    whole where the evidence is weak.
    """
    precision = 1 / (1 + (time_map.error_s / HALF_CONFIDENCE_ERROR_S) ** 2)
    similarity = np.clip((SKIP_COST + 0.1 - time_map.cost) / 0.2, 0.1, 1.0)
    evidence_weight = float(np.clip((evidence.density - MIN_GAIN_DENSITY / 2) / (1.5 * MIN_GAIN_DENSITY), 0.2, 1.0))
    return np.asarray(precision * similarity * evidence_weight)
