"""From the descriptors of a video to its laps. Pure but for ``mean_level``, which is asked for only without laps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np

from modal_workers.lap_detection.crossings import choose_start_line, find_crossings
from modal_workers.lap_detection.laps import MovingClock, build_laps, why_nothing
from modal_workers.lap_detection.return_map import Moments, ReturnPath, find_return_map, moments_of
from modal_workers.lap_detection.spec import CrossingResult, LapDetectionParams, LapResult, Reason
from modal_workers.road_video.clip_description import is_static
from modal_workers.road_video.descriptors import ClipDescriptors
from modal_workers.road_video.moving_samples import drop_rests

#: Fewer moving samples than this are no drive.
MIN_SAMPLES: Final = 30
#: A camera on a car that stands sees noise, vibration and what passes. Generated drives vary by 0.25 and more from
#: half second to half second, a standing car with a vibrating camera by 0.04, noise in the dark by 0.07.
MIN_VARIATION: Final = 0.09
_VARIATION_INTERVAL_S: Final = 0.5


@dataclass(frozen=True)
class Detection:
    """The laps of a video and the evidence for them."""

    laps: tuple[LapResult, ...]
    crossings: tuple[CrossingResult, ...]
    reference_s: float | None
    reason: Reason | None
    moments: Moments | None = None
    paths: tuple[ReturnPath, ...] = ()


def detect_laps(
    descriptors: ClipDescriptors,
    params: LapDetectionParams,
    *,
    mean_level: Callable[[], float],
    progress: Callable[[float], None],
) -> Detection:
    """Find the laps of a video.

    ``mean_level`` returns the mean grey level of the video; ``progress`` is called with the share done and may raise to
    stop the work.
    """
    progress(0.0)
    moving = drop_rests(descriptors)
    static = is_static(descriptors) or len(moving.index) < MIN_SAMPLES or variation(descriptors) < MIN_VARIATION
    rejected, line_given, moving_s = None, False, 0.0
    if not static:
        moments = moments_of(moving)
        moving_s = float(moments.clock_s[-1] - moments.clock_s[0])
        paths, rejected = find_return_map(moments, (params.min_lap_s, params.max_lap_s))
        progress(0.4)
        if paths:
            timeline = MovingClock(moving.clock_s, descriptors.time_s[moving.index])
            if params.start_line_s is None:
                line = choose_start_line(
                    moving, moments, paths, params.min_lap_s, lambda share: progress(0.4 + 0.6 * share)
                )
            else:
                at_s = float(np.interp(params.start_line_s, timeline.time_s, timeline.clock_s))
                line = find_crossings(moving, moments, paths, at_s, params.min_lap_s)
            laps, crossings = build_laps(line, timeline, moments, paths)
            if laps:
                return Detection(laps, crossings, timeline.at(line.reference_s), None, moments, paths)
            line_given = params.start_line_s is not None
    reason = why_nothing(
        static=static,
        mean_level=mean_level(),
        moving_s=moving_s,
        min_lap_s=params.min_lap_s,
        rejected=rejected,
        line_given=line_given,
    )
    return Detection((), (), None, reason)


def variation(descriptors: ClipDescriptors) -> float:
    """Return how much the view varies: the median distance of the mean of each half second from that of all, a share.

    Means of half a second leave out noise and vibration.
    """
    cells = descriptors.cells.astype(np.float32)
    part = np.unique((descriptors.time_s / _VARIATION_INTERVAL_S).astype(np.int64), return_inverse=True)[1]
    count = np.bincount(part)
    means = np.zeros((len(count), cells.shape[1]), np.float32)
    np.add.at(means, part, cells)
    means /= count[:, None].astype(np.float32)
    away = np.linalg.norm(means - means.mean(axis=0), axis=1) / (np.linalg.norm(means, axis=1) + 1e-6)
    return float(np.median(away))
