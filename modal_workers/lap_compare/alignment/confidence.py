"""Decides whether an alignment can be believed: evidence for and against, refusal with a reason, confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.lap_compare.alignment.align import MovingSamples, TimeMap
from modal_workers.lap_compare.alignment.time_warping import SKIP_COST, WarpingPath, find_warping_path
from modal_workers.lap_compare.clips.descriptors import IMAGE_HALVES, crop_vectors

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: Evidence is gathered on at most this many samples of each clip.
EVIDENCE_SAMPLES: Final = 900
#: Gain per matched sample below which two clips are taken for different places. Generated laps: the same circuit
#: from 0.43 up even with another mount and lens, different circuits mostly up to 0.2, at most 0.33.
MIN_GAIN_DENSITY: Final = 0.25
MIN_OVERLAP_S: Final = 2.0
#: Halves of the picture that disagree by more than this see nothing in common.
MAX_PIECEWISE_S: Final = 1.0
#: A weak match that also wavers by this much is one of lookalikes: forest here, forest there.
MAX_WEAK_ERROR_S: Final = 0.18
CLEAR_GAIN_DENSITY: Final = 0.4
#: The best stretch of a fraction of the clip is picked from many, and looks better than it is.
CLEAR_OVERLAP: Final = 0.5
#: An error band of this half-width has confidence 0.5: three frames at 30 Hz.
HALF_CONFIDENCE_ERROR_S: Final = 0.1


@dataclass(frozen=True)
class AlignmentEvidence:
    """What speaks for two clips showing the same road in the same direction."""

    gain: float  # per sample of the shorter clip: how much better than leaving everything unmatched
    backward_gain: float  # the same for B run backwards
    overlap: float  # share of the shorter clip that is matched
    overlap_s: float
    piecewise_s: float  # how far left and right half of the picture, aligned separately, disagree: median
    path_cost: float
    error_s: float  # median half-width of the error band

    @property
    def density(self) -> float:
        """Gain per matched sample; half of it where less than a fifth of the shorter clip is matched."""
        return self.gain / max(self.overlap, 0.2)


def collect_evidence(a: MovingSamples, b: MovingSamples, track: TimeMap) -> AlignmentEvidence:
    """Gather the evidence: align the halves of the picture separately, and A with B run backwards."""
    stride = max(1, int(np.ceil(max(len(a.index), len(b.index)) / EVIDENCE_SAMPLES)))
    thin_a, thin_b = a.vectors[::stride], b.vectors[::stride]
    shorter = min(len(thin_a), len(thin_b))
    halves = [
        find_warping_path(crop_vectors(thin_a, part), crop_vectors(thin_b, part)) for part in range(len(IMAGE_HALVES))
    ]
    apart = _apart(halves[0], halves[1]) * stride * float(np.median(np.diff(b.clock_s)))
    forward = find_warping_path(thin_a, thin_b)
    matched = max(np.ptp(forward.index_a), np.ptp(forward.index_b)) + 1
    return AlignmentEvidence(
        gain=forward.gain / shorter,
        backward_gain=find_warping_path(thin_a, thin_b[::-1]).gain / shorter,
        overlap=float(min(1.0, matched / shorter)),
        overlap_s=float(np.ptp(a.clock_s[track.sample_a])),
        piecewise_s=apart,
        path_cost=float(np.mean(track.cost)),
        error_s=float(np.median(track.error_s)),
    )


def _apart(first: WarpingPath, second: WarpingPath) -> float:
    """Give the median distance in samples of B between two paths where both have samples of A; infinite without."""
    (rows_1, columns_1), (rows_2, columns_2) = first.b_of_a(), second.b_of_a()
    low, high = max(rows_1[0], rows_2[0]), min(rows_1[-1], rows_2[-1])
    if high - low < 10:
        return float("inf")
    one = columns_1[low - rows_1[0] : high - rows_1[0]]
    other = columns_2[low - rows_2[0] : high - rows_2[0]]
    return float(np.median(np.abs(one - other)))


def reject_mismatch(evidence: AlignmentEvidence, name_a: str, name_b: str) -> None:
    """Refuse two clips that do not show the same road in the same direction.

    Raises:
        SaccadeError: CLIPS_OPPOSITE_DIRECTIONS, CLIPS_DIFFERENT_PLACES.
    """
    if evidence.backward_gain > max(2 * evidence.gain, MIN_GAIN_DENSITY):
        raise SaccadeError(
            ErrorCode.CLIPS_OPPOSITE_DIRECTIONS, f"{name_b} fits {name_a} only when it is played backwards."
        )
    if evidence.density < MIN_GAIN_DENSITY:
        why = f"at its best the match is {evidence.density:.2f} better than chance, {MIN_GAIN_DENSITY} is needed"
    elif evidence.overlap_s < MIN_OVERLAP_S:
        why = f"only {evidence.overlap_s:.1f} s of them fit, {MIN_OVERLAP_S:.0f} s are needed"
    elif evidence.piecewise_s > MAX_PIECEWISE_S:
        why = "left and right half of the picture each say something else"
    elif evidence.error_s > MAX_WEAK_ERROR_S and evidence.density < CLEAR_GAIN_DENSITY:
        why = f"the best match is weak ({evidence.density:.2f}) and wavers by {evidence.error_s:.2f} s"
    elif evidence.error_s > MAX_WEAK_ERROR_S and evidence.overlap < CLEAR_OVERLAP:
        part = f"{evidence.overlap:.0%} of the shorter clip"
        why = f"the best match is of {part} only and wavers by {evidence.error_s:.2f} s"
    else:
        return
    raise SaccadeError(ErrorCode.CLIPS_DIFFERENT_PLACES, f"{name_a} and {name_b} do not show the same road: {why}.")


def alignment_confidence(track: TimeMap, evidence: AlignmentEvidence) -> Floats:
    """Give a confidence of 0 to 1 for every matched moment [N]: 0.5 where the error band is ``EVEN_ERROR_S``.

    It is lowered where the pictures fit badly, and as a whole where the evidence is thin.
    """
    sharp = 1 / (1 + (track.error_s / HALF_CONFIDENCE_ERROR_S) ** 2)
    fitting = np.clip((SKIP_COST + 0.1 - track.cost) / 0.2, 0.1, 1.0)
    whole = float(np.clip((evidence.density - MIN_GAIN_DENSITY / 2) / (1.5 * MIN_GAIN_DENSITY), 0.2, 1.0))
    return np.asarray(sharp * fitting * whole)
