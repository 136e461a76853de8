"""Times of the frames: regular, or as phones record."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulators.badminton.match_options import MatchOptions

Floats = NDArray[np.float64]


def frame_times(options: MatchOptions) -> Floats:
    """Return the times of the frames' mid-exposures [N], as the file holds them; the first is 0."""
    times = np.arange(0.0, options.duration_s - 1e-9, 1 / options.rate_hz)
    if options.rate_jitter or options.dropped:
        random = np.random.default_rng([options.seed, 61])
        times = times + random.uniform(0, options.rate_jitter, len(times)) / options.rate_hz
        kept = random.uniform(size=len(times)) >= options.dropped
        kept[0] = True
        times = np.sort(times[kept])
    ticks = np.round((times - times[0]) * TICKS_HZ)
    return np.asarray(ticks / TICKS_HZ)


#: The file's time base.
TICKS_HZ = 90_000
