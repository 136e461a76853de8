"""Looks for vehicles ahead in both clips and says where a lap was held up or may have been."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np

from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.clips.vehicle_detection import VehicleDetector
from modal_workers.lap_compare.clips.video import ClipReader

SAMPLING_HZ: Final = 2.0
#: A vehicle this tall, as a share of the picture, is close enough to matter.
MIN_VEHICLE_HEIGHT: Final = 0.12


def detect_traffic(
    pair: tuple[ClipFeatures, ClipFeatures], detector: VehicleDetector, *, check: Callable[[], None]
) -> tuple[str, ...]:
    """Give a warning for each clip that shows a close vehicle in more than a tenth of the moments looked at."""
    warnings = []
    for one in pair:
        close_s = []
        looks = 0
        for frame in ClipReader(one.path, one.clip.filename).frames(rate_hz=SAMPLING_HZ):
            check()
            looks += 1
            if detector.nearest(frame.colour()) >= MIN_VEHICLE_HEIGHT:
                close_s.append(frame.time_s)
        if len(close_s) > 0.1 * looks:
            first, last = float(np.min(close_s)), float(np.max(close_s))
            share = 100 * len(close_s) / looks
            text = f"{one.clip.filename} has a vehicle close ahead {share:.0f} % of the time, from {first:.1f} s"
            warnings.append(f"{text} to {last:.1f} s: the comparison may not be a fair one.")
    return tuple(warnings)
