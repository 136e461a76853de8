"""Keypoints over time: smoothed without a lag, short gaps bridged with less confidence, doubtful joints left out."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: Below this confidence a joint was not found.
MIN_CONFIDENCE: Final = 0.3
MAX_GAP_S: Final = 0.2
#: Half of the window of a quadratic fit around each frame: a swing takes about 0.2 s and is not flattened by it.
_HALF_WINDOW_S: Final = 0.07
#: A bridged joint's confidence, as a share of that of its neighbours.
_BRIDGED: Final = 0.5
_FRAMES_AT_ONCE: Final = 8192


def smooth_skeleton(
    keypoints_px: NDArray[np.float32], times_s: NDArray[np.float64], segment: NDArray[np.int64]
) -> None:
    """Smooth keypoints [N, 17, 3] (x, y, confidence) of one player in place; no window reaches over a cut."""
    missing = ~(keypoints_px[..., 2] >= MIN_CONFIDENCE)
    keypoints_px[missing] = np.nan
    if missing.all():
        return
    _bridge(keypoints_px, times_s, segment)
    interval_s = float(np.median(np.diff(times_s))) if len(times_s) > 1 else 1.0
    reach = max(1, round(_HALF_WINDOW_S / max(interval_s, 1e-4)))
    # A stretch is written only when the next one, whose window reads its end, is fitted.
    before: tuple[int, NDArray[np.float32]] | None = None
    for low in range(0, len(times_s), _FRAMES_AT_ONCE):
        high = min(low + _FRAMES_AT_ONCE, len(times_s))
        first, last = max(low - reach, 0), min(high + reach, len(times_s))
        fitted = _fitted(keypoints_px[first:last, :, :2], times_s[first:last], segment[first:last], reach)
        if before is not None:
            keypoints_px[before[0] : low, :, :2] = before[1]
        before = low, fitted[low - first : high - first]
    if before is not None:
        keypoints_px[before[0] :, :, :2] = before[1]


def _bridge(keypoints: NDArray[np.float32], times_s: NDArray[np.float64], segment: NDArray[np.int64]) -> None:
    """Interpolate gaps of each joint."""
    for joint in range(keypoints.shape[1]):
        found = np.flatnonzero(np.isfinite(keypoints[:, joint, 0]))
        gaps = np.flatnonzero(np.diff(found) > 1)
        for gap in gaps.tolist():
            first, last = int(found[gap]), int(found[gap + 1])
            if times_s[last] - times_s[first] > MAX_GAP_S + 1e-6 or segment[first] != segment[last]:
                continue
            inside = np.arange(first + 1, last)
            share = ((times_s[inside] - times_s[first]) / (times_s[last] - times_s[first]))[:, None]
            before, after = keypoints[first, joint], keypoints[last, joint]
            keypoints[inside, joint] = before + share * (after - before)
            keypoints[inside, joint, 2] = _BRIDGED * min(before[2], after[2])


def _fitted(
    places: NDArray[np.float32], times_s: NDArray[np.float64], segment: NDArray[np.int64], reach: int
) -> NDArray[np.float32]:
    """Return the value at each frame of a quadratic in time fitted to the frames around it (weighted least squares)."""
    count = len(times_s)
    moments = np.zeros((5, count, places.shape[1]))
    sums = np.zeros((3, count, places.shape[1], 2))
    scale = max(float(np.median(np.diff(times_s))) * reach, 1e-6) if count > 1 else 1.0
    for shift in range(-reach, reach + 1):
        mine = slice(max(-shift, 0), count - max(shift, 0))
        other = slice(max(shift, 0), count - max(-shift, 0))
        offset = (times_s[other] - times_s[mine]) / scale
        near = (np.abs(offset) < 1.6) & (segment[other] == segment[mine])
        weight = np.where(near, np.maximum(1 - (offset / 1.6) ** 2, 0), 0.0)[:, None]
        seen = np.isfinite(places[other, :, 0]) * weight
        value = np.nan_to_num(places[other])
        for power in range(5):
            moments[power][mine] += seen * offset[:, None] ** power
        for power in range(3):
            sums[power][mine] += (seen * offset[:, None] ** power)[..., None] * value
    m0, m1, m2, m3, m4 = moments
    # The first line of the inverse of the 3x3 matrix of moments.
    a, b, c = m2 * m4 - m3 * m3, m2 * m3 - m1 * m4, m1 * m3 - m2 * m2
    determinant = m0 * a + m1 * b + m2 * c
    solvable = determinant > 1e-6
    with np.errstate(invalid="ignore", divide="ignore"):
        value = (a[..., None] * sums[0] + b[..., None] * sums[1] + c[..., None] * sums[2]) / determinant[..., None]
    fitted = np.where(solvable[..., None], value, places)
    return np.where(np.isfinite(places), fitted, np.nan).astype(np.float32)
