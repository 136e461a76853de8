"""Traffic warnings: clips in which a vehicle ahead may have held up the lap."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from modal_workers.footage.video_reader import VideoReader
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.clips.vehicle_detection import VehicleDetector

SAMPLING_HZ: Final = 2.0
#: A vehicle at least this tall, as a share of the frame's height, counts as close.
MIN_VEHICLE_HEIGHT: Final = 0.12


def detect_traffic(
    pair: tuple[ClipFeatures, ClipFeatures], detector: VehicleDetector, *, check: Callable[[], None]
) -> tuple[str, ...]:
    """Return a warning for each clip that shows a close vehicle in more than a tenth of the sampled frames."""
    warnings = []
    for features in pair:
        filename = features.clip.filename
        close_s = []
        sampled = 0
        for frame in VideoReader(features.path, filename).frames(rate_hz=SAMPLING_HZ):
            check()
            sampled += 1
            if detector.nearest(frame.colour()) >= MIN_VEHICLE_HEIGHT:
                close_s.append(frame.time_s)
        if len(close_s) > 0.1 * sampled:
            first, last = float(np.min(close_s)), float(np.max(close_s))
            share = 100 * len(close_s) / sampled
            text = f"{filename} has a vehicle close ahead {share:.0f} % of the time, from {first:.1f} s"
            warnings.append(f"{text} to {last:.1f} s: the comparison may not be a fair one.")
    return tuple(warnings)
