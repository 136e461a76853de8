"""The align stage: two clips with features in, an `Alignment` out, or a refusal with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.alignment import camera_mount
from modal_workers.lap_compare.alignment.align import MovingSamples, TimeMap, align_samples, drop_rests
from modal_workers.lap_compare.alignment.confidence import (
    AlignmentEvidence,
    alignment_confidence,
    collect_evidence,
    reject_mismatch,
)
from modal_workers.lap_compare.clips.descriptors import ClipDescriptors
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures, recompute_descriptors, run_in_parallel
from modal_workers.lap_compare.comparison import Alignment

Floats = NDArray[np.float64]

#: A first correction is kept if it lowers the cost along the path to below this share; later ones if they lower it.
MAX_COST_RATIO = 0.98
#: Times that the correction is estimated at most, each from the places that the one before it aligned.
MAX_MOUNT_ESTIMATES = 3
#: An estimate that moves no corner by more than this share of the width from the one before it changes nothing.
SETTLED_SHIFT = 0.003


@dataclass(frozen=True)
class AlignedClips:
    """Two clips after the align stage. ``relative_speed`` [N]: speed of B over that of A."""

    alignment: Alignment
    relative_speed: Floats


def align_clips(
    a: ClipFeatures, b: ClipFeatures, *, correct_mount: bool, progress: Callable[[float], None]
) -> AlignedClips:
    """Align two clips by place; correct B's camera mount where that makes the frames match better.

    ``progress`` is called with the share done and may raise to stop the work.

    Raises:
        SaccadeError: CLIPS_DIFFERENT_PLACES, CLIPS_OPPOSITE_DIRECTIONS.
    """
    progress(0.0)
    moving_a, moving_b = drop_rests(a.descriptors), drop_rests(b.descriptors)
    time_map = align_samples(moving_a, moving_b)
    evidence = collect_evidence(moving_a, moving_b, time_map)
    progress(0.3)
    sides, corrected = _Sides(moving_a, moving_b, time_map), None
    if correct_mount and evidence.backward_gain < evidence.gain:
        corrected = _correct_mount(a, b, sides, progress)
    if corrected is not None:
        sides = corrected
        evidence = collect_evidence(sides.moving_a, sides.moving_b, sides.time_map)
    reject_mismatch(evidence, a.clip.filename, b.clip.filename)
    progress(1.0)
    return _on_clip_clocks(a.descriptors, b.descriptors, sides, evidence, corrected=corrected is not None)


@dataclass(frozen=True)
class _Sides:
    """The moving samples of both clips and their alignment."""

    moving_a: MovingSamples
    moving_b: MovingSamples
    time_map: TimeMap

    @property
    def cost(self) -> float:
        return float(np.mean(self.time_map.cost))


def _correct_mount(a: ClipFeatures, b: ClipFeatures, first: _Sides, progress: Callable[[float], None]) -> _Sides | None:
    """Correct B's camera mount and align again; None if that does not lower the cost.

    Without the correction a turned camera shifts the matched places, and these shift the estimate towards no turn: so
    it is estimated again from the corrected alignment.
    """
    best, warp, step = None, None, 0.7 / MAX_MOUNT_ESTIMATES
    for number in range(MAX_MOUNT_ESTIMATES):
        start = 0.3 + step * number
        found = _estimate_mount(a, b, best or first, partial(progress, start))
        if found is None or (warp is not None and camera_mount.corner_shift(found, warp) < SETTLED_SHIFT):
            break
        warp = found
        described = recompute_descriptors(b, warp, progress=partial(_progress_within, progress, start, 0.9 * step))
        mask = camera_mount.coverage_mask(warp)
        moving_a, moving_b = drop_rests(a.descriptors, mask), drop_rests(described, mask)
        sides = _Sides(moving_a, moving_b, align_samples(moving_a, moving_b))
        if sides.cost >= (best.cost if best else MAX_COST_RATIO * first.cost):
            break
        best = sides
    return best


def _progress_within(progress: Callable[[float], None], start: float, length: float, share: float) -> None:
    progress(start + length * share)


def _estimate_mount(
    a: ClipFeatures, b: ClipFeatures, sides: _Sides, check: Callable[[], None]
) -> camera_mount.Matrix | None:
    """Estimate the warp [3, 3] of B's mount from the frames of aligned places; None if no warp lowers their cost."""
    time_map, sampled_b_s = sides.time_map, b.descriptors.time_s[sides.moving_b.index]
    time_b_s = np.interp(time_map.clock_b_s, sides.moving_b.clock_s, sampled_b_s)
    places = choose_places(time_b_s, sampled_b_s, camera_mount.SAMPLED_PLACES)
    times_a = a.descriptors.time_s[sides.moving_a.index[time_map.sample_a]][places]
    pictures_a, pictures_b = run_in_parallel(
        lambda: camera_mount.frames_at(a, times_a.tolist(), check),
        lambda: camera_mount.frames_at(b, np.sort(time_b_s[places]).tolist(), check),
    )
    found = camera_mount.estimate_mount(pictures_a, pictures_b)
    return None if found is None else found.warp


def choose_places(time_b_s: Floats, sampled_s: Floats, count: int) -> NDArray[np.int64]:
    """Choose places [count] spread over the lap whose time in B [N] is nearest to that of one of B's samples [M].

    A frame of B from half a sample earlier shows the place from further away: as a wrong zoom, in the same direction at
    most places.
    """
    right = np.clip(np.searchsorted(sampled_s, time_b_s), 1, len(sampled_s) - 1)
    distance_s = np.minimum(np.abs(sampled_s[right] - time_b_s), np.abs(time_b_s - sampled_s[right - 1]))
    bounds = (np.linspace(0.03, 0.97, count + 1) * len(time_b_s)).astype(int)
    return np.array(
        [start + np.argmin(distance_s[start : max(end, start + 1)]) for start, end in itertools.pairwise(bounds)]
    )


def _on_clip_clocks(
    a: ClipDescriptors,
    b: ClipDescriptors,
    sides: _Sides,
    evidence: AlignmentEvidence,
    *,
    corrected: bool,
) -> AlignedClips:
    """Map an alignment of moving samples to the clips' own clocks, rests included."""
    moving_a, moving_b, time_map = sides.moving_a, sides.moving_b, sides.time_map
    first, last = int(moving_a.index[time_map.sample_a[0]]), int(moving_a.index[time_map.sample_a[-1]])
    samples = np.arange(first, last + 1)
    # while A rests its place is that of its last moving sample
    last_moving = np.searchsorted(moving_a.index[time_map.sample_a], samples, side="right") - 1
    clock_b = np.maximum.accumulate(time_map.clock_b_s)
    time_b = np.interp(clock_b, moving_b.clock_s, b.time_s[moving_b.index])
    alignment = Alignment(
        time_a_s=a.time_s[samples],
        time_b_s=time_b[last_moving],
        error_s=time_map.error_s[last_moving],
        confidence=alignment_confidence(time_map, evidence)[last_moving],
        path_cost=evidence.path_cost,
        overlap=evidence.overlap,
        mount_corrected=corrected,
        piecewise_s=evidence.piecewise_s,
    )
    return AlignedClips(alignment, 1 / np.clip(time_map.pace, 0.1, 10.0)[last_moving])
