"""The align stage: two clips with features in, an `Alignment` out, or a refusal with its reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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

#: A correction is kept if it lowers the cost along the path to below this share.
MAX_COST_RATIO = 0.98


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
    corrected = False
    if correct_mount and evidence.backward_gain < evidence.gain:
        better = _corrected(a, b, time_map, (moving_a, moving_b), progress)
        if better is not None and float(np.mean(better[2].cost)) < MAX_COST_RATIO * float(np.mean(time_map.cost)):
            moving_a, moving_b, time_map = better
            evidence, corrected = collect_evidence(moving_a, moving_b, time_map), True
    reject_mismatch(evidence, a.clip.filename, b.clip.filename)
    progress(1.0)
    sides = (moving_a, moving_b, time_map)
    return _on_clip_clocks(a.descriptors, b.descriptors, sides, evidence, corrected=corrected)


def _corrected(
    a: ClipFeatures,
    b: ClipFeatures,
    first: TimeMap,
    moving: tuple[MovingSamples, MovingSamples],
    progress: Callable[[float], None],
) -> tuple[MovingSamples, MovingSamples, TimeMap] | None:
    """Estimate the mount from matched places, describe B through it, align corrected_b; None without an estimate."""
    order = (np.linspace(0.03, 0.97, camera_mount.SAMPLED_PLACES) * (len(first.sample_a) - 1)).astype(int)
    times_a = a.descriptors.time_s[moving[0].index[first.sample_a]][order]
    times_b = np.interp(first.clock_b_s, moving[1].clock_s, b.descriptors.time_s[moving[1].index])[order]

    def check() -> None:
        progress(0.3)

    pictures_a, pictures_b = run_in_parallel(
        lambda: camera_mount.frames_at(a, [float(t) for t in times_a], check),
        lambda: camera_mount.frames_at(b, [float(t) for t in np.sort(times_b)], check),
    )
    found = camera_mount.estimate_mount(pictures_a, pictures_b)
    progress(0.5)
    if found is None:
        return None
    corrected_b = recompute_descriptors(b, found.warp, progress=lambda share: progress(0.5 + 0.3 * share))
    mask = camera_mount.coverage_mask(found.warp)
    moving_a, moving_b = drop_rests(a.descriptors, mask), drop_rests(corrected_b, mask)
    return moving_a, moving_b, align_samples(moving_a, moving_b)


def _on_clip_clocks(
    a: ClipDescriptors,
    b: ClipDescriptors,
    sides: tuple[MovingSamples, MovingSamples, TimeMap],
    evidence: AlignmentEvidence,
    *,
    corrected: bool,
) -> AlignedClips:
    """Map an alignment of moving samples to the clips' own clocks, rests included."""
    moving_a, moving_b, time_map = sides
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
