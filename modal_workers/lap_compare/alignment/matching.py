"""The align stage: two clips with features in, an `Alignment` out, or a refusal with its reason."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.alignment import camera_mount, joint_mount
from modal_workers.lap_compare.alignment.confidence import (
    AlignmentEvidence,
    alignment_confidence,
    collect_evidence,
    reject_mismatch,
    reject_unmatched,
)
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures, recompute_descriptors, run_in_parallel
from modal_workers.lap_compare.comparison import Alignment
from modal_workers.road_video.align import TimeMap, align_samples
from modal_workers.road_video.descriptors import ClipDescriptors
from modal_workers.road_video.moving_samples import MovingSamples, drop_rests
from modal_workers.road_video.time_warping import find_warping_path

Floats = NDArray[np.float64]

#: Estimates of the mount in turn, each from the places that the one before it aligned: the share of the cost before it
#: that each must stay below.
COST_RATIOS: Final = (0.98, 1.0)
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
    time_map = _time_map(moving_a, moving_b)
    if time_map is None:
        reject_unmatched(moving_a, moving_b, a.clip.filename, b.clip.filename)
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


def _time_map(moving_a: MovingSamples, moving_b: MovingSamples) -> TimeMap | None:
    """Align B to A; None if a single moment matches, which nothing can be refined from."""
    path = find_warping_path(moving_a.vectors, moving_b.vectors)
    return align_samples(moving_a, moving_b, path) if len(path.mean_b_per_a()[0]) > 1 else None


@dataclass(frozen=True)
class _Sides:
    """The moving samples of both clips and their alignment."""

    moving_a: MovingSamples
    moving_b: MovingSamples
    time_map: TimeMap
    mount_shift: float = 0.0  # largest shift of a corner by the mount correction, in widths

    @property
    def cost(self) -> float:
        return float(np.mean(self.time_map.cost))


def _correct_mount(a: ClipFeatures, b: ClipFeatures, first: _Sides, progress: Callable[[float], None]) -> _Sides | None:
    """Correct B's camera mount and align again; None if that does not lower the cost.

    It is estimated again from the corrected alignment: many places of the first one are wrong.
    """
    best, warp, step = None, None, 0.7 / len(COST_RATIOS)
    for number, ratio in enumerate(COST_RATIOS):
        start = 0.3 + step * number
        found = _estimate_turn(a, b, best or first, partial(progress, start))
        if found is None or (warp is not None and camera_mount.corner_shift(found, warp) < SETTLED_SHIFT):
            continue
        described = recompute_descriptors(b, found, progress=partial(_progress_within, progress, start, 0.9 * step))
        mask = camera_mount.coverage_mask(found)
        moving_a, moving_b = drop_rests(a.descriptors, mask), drop_rests(described, mask)
        time_map = _time_map(moving_a, moving_b)
        if time_map is None:
            continue
        sides = _Sides(moving_a, moving_b, time_map, camera_mount.corner_shift(found))
        if sides.cost < ratio * (best or first).cost:
            best, warp = sides, found
    return best


def _progress_within(progress: Callable[[float], None], start: float, length: float, share: float) -> None:
    progress(start + length * share)


def _estimate_turn(
    a: ClipFeatures, b: ClipFeatures, sides: _Sides, check: Callable[[], None]
) -> camera_mount.Matrix | None:
    """Estimate turn and zoom of B's camera together with the shifts of the places; None if it is hardly turned."""
    times_a, times_b = _sampled_places(a, b, sides)
    sampled_a = a.descriptors.time_s
    later = np.minimum(np.searchsorted(sampled_a, times_a + joint_mount.MOTION_INTERVAL_S), len(sampled_a) - 1)
    times_later = sampled_a[later]
    # of each clip the frames are read once, in order
    wanted = np.sort(np.concatenate([times_a, times_later]), kind="stable")
    read_a, pictures_b = run_in_parallel(
        lambda: camera_mount.frames_at(a, wanted.tolist(), check),
        lambda: camera_mount.frames_at(b, times_b.tolist(), check),
    )
    if len(read_a) < len(wanted):
        return None
    pictures_a, pictures_later = (
        [read_a[at] for at in np.searchsorted(wanted, times)] for times in (times_a, times_later)
    )
    matches = joint_mount.match_places(pictures_a, pictures_later, (times_later - times_a).tolist(), pictures_b)
    warp = joint_mount.fit_mount(matches) if matches is not None else None
    return warp if warp is not None and camera_mount.is_plausible(warp) else None


def _sampled_places(a: ClipFeatures, b: ClipFeatures, sides: _Sides) -> tuple[Floats, Floats]:
    """Return the times of A and of B at places spread over the lap."""
    time_map, sampled_b_s = sides.time_map, b.descriptors.time_s[sides.moving_b.index]
    time_b_s = np.interp(time_map.clock_b_s, sides.moving_b.clock_s, sampled_b_s)
    places = choose_places(time_b_s, sampled_b_s, camera_mount.SAMPLED_PLACES)
    times_a = a.descriptors.time_s[sides.moving_a.index[time_map.sample_a]][places]
    return times_a, np.sort(time_b_s[places])


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
        mount_shift=sides.mount_shift,
    )
    return AlignedClips(alignment, 1 / np.clip(time_map.pace, 0.1, 10.0)[last_moving])
