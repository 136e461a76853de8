"""Alignment of two clips by place: warping path, sub-frame refinement, smoothing, error band."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.road_video.descriptors import CELLS, DIRECTIONS
from modal_workers.road_video.moving_samples import MovingSamples
from modal_workers.road_video.smoothing import local_regression, running_mean
from modal_workers.road_video.time_warping import WarpingPath, find_warping_path

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: Search radius around the path, in seconds of B.
SEARCH_RADIUS_S: Final = 0.33
#: Standard deviations of the smoothing of costs along the path and of the curve.
COST_SMOOTHING_S: Final = 0.10
CURVE_SMOOTHING_S: Final = 0.28
#: Columns of cells that are aligned separately; their disagreement is part of the error.
IMAGE_STRIPS: Final = (slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 10))
#: Weights of residual scatter, disagreement of strips and width of the minimum in the half-width of the 95 % band:
#: fitted by quantile regression on 15 generated pairs of laps (seeds from 101 on, which no reported figure uses), then
#: widened by 30 % because systematic offsets (another line, another mount) differ from pair to pair.
ERROR_BAND_WEIGHTS: Final = (0.85, 1.6, 0.75)


@dataclass(frozen=True)
class TimeMap:
    """B's moving clock at each matched moving sample of A. Shapes: all [N]."""

    sample_a: NDArray[np.int64]  # index into A's MovingSamples
    clock_b_s: Floats
    pace: Floats  # seconds of B for one of A
    error_s: Floats
    cost: Floats


def align_samples(a: MovingSamples, b: MovingSamples, path: WarpingPath | None = None) -> TimeMap:
    """Align B to A: find the warping path unless it is given, refine it at the minimum of cost, smooth it."""
    path = find_warping_path(a.vectors, b.vectors) if path is None else path
    sample_a, sample_b = path.mean_b_per_a()
    clock_a = a.clock_s[sample_a]
    grid_b = np.arange(len(b.clock_s), dtype=np.float64)
    clock_b, pace = local_regression(
        clock_a, np.interp(sample_b, grid_b, b.clock_s), np.ones(len(clock_a)), CURVE_SMOOTHING_S
    )
    for _ in range(3):
        found = np.interp(clock_b, b.clock_s, grid_b)
        minimum = _cost_minimum(a.vectors[sample_a], b, found, clock_a)
        step_b = np.interp(clock_b, b.clock_s, np.gradient(b.clock_s))
        raw = clock_b + minimum.shift * step_b
        clock_b, pace = local_regression(clock_a, raw, minimum.weight, CURVE_SMOOTHING_S)
    scatter = np.sqrt(running_mean(clock_a, (raw - clock_b) ** 2, 2 * CURVE_SMOOTHING_S))
    strip_shifts = running_mean(clock_a, minimum.strip_shift, CURVE_SMOOTHING_S) * step_b[:, None]
    disagreement = np.std(strip_shifts, axis=1) / np.sqrt(len(IMAGE_STRIPS) - 1)
    disagreement = np.sqrt(running_mean(clock_a, disagreement**2, 2 * CURVE_SMOOTHING_S))
    # at walking pace the curve bends more sharply than the smoothing follows
    bend = running_mean(clock_a, 0.5 * CURVE_SMOOTHING_S**2 * np.abs(np.gradient(pace, clock_a)), CURVE_SMOOTHING_S)
    error = np.sqrt(
        (ERROR_BAND_WEIGHTS[0] * scatter) ** 2
        + (ERROR_BAND_WEIGHTS[1] * disagreement) ** 2
        + (ERROR_BAND_WEIGHTS[2] * minimum.width * step_b) ** 2
        + bend**2
    )
    return TimeMap(sample_a, clock_b, pace, error, minimum.cost)


@dataclass(frozen=True)
class _CostMinimum:
    """Minimum of the cost across the path.

    Shapes: [N], strip_shift [N, S]; shifts in samples of B.
    """

    shift: Floats
    weight: Floats
    width: Floats  # distance at which the cost is twice its minimum
    cost: Floats
    strip_shift: Floats


def _cost_minimum(a: Values, b: MovingSamples, found: Floats, clock_a: Floats) -> _CostMinimum:
    """Find the minimum of cost around ``found`` [N] samples of B, below one sample."""
    rate = 1 / float(np.median(np.diff(b.clock_s)))
    radius = int(np.clip(round(SEARCH_RADIUS_S * rate), 3, 12))
    costs = _costs_around(a, b.vectors, found, radius)
    smooth = running_mean(clock_a, costs.reshape(len(a), -1), COST_SMOOTHING_S).reshape(costs.shape)
    overall = smooth[:, :, 0]
    shift, curvature = _minimum(overall, radius)
    strips = np.stack([_minimum(smooth[:, :, part], radius)[0] for part in range(1, 1 + len(IMAGE_STRIPS))], axis=1)
    lowest = np.maximum(overall.min(axis=1), 0.0)
    curvature = np.maximum(curvature, 1e-5)
    width = np.minimum(np.sqrt(lowest / curvature), 2.0 * radius)
    return _CostMinimum(shift, curvature, width, lowest, strips)


def _costs_around(a: Values, b: Values, found: Floats, radius: int) -> Floats:
    """Return A's cost against B at ``found - radius .. found + radius``: [N, 2 radius + 1, 1 + strips].

    Costs between samples are interpolated by Catmull-Rom: interpolating descriptors instead would favour whole samples.
    """
    offsets = np.arange(-radius - 1, radius + 3)
    base = np.floor(found).astype(np.int64)
    part = (found - base)[:, None, None]
    out = np.empty((len(a), 2 * radius + 1, 1 + len(IMAGE_STRIPS)))
    shape = (CELLS[1], CELLS[0], DIRECTIONS)
    for start in range(0, len(a), 256):
        rows = slice(start, start + 256)
        where = np.clip(base[rows, None] + offsets, 0, len(b) - 1)
        left = a[rows].reshape(-1, 1, *shape)
        right = b[where].reshape(*where.shape, *shape)
        dots = np.einsum("nkrcd,nkrcd->nkc", np.broadcast_to(left, right.shape), right, optimize=True)
        norm_a = np.einsum("nkrcd,nkrcd->nkc", left, left)
        norm_b = np.einsum("nkrcd,nkrcd->nkc", right, right)
        costs = [np.asarray(1 - dots.sum(axis=-1))]
        for strip in IMAGE_STRIPS:
            scale = np.sqrt(norm_a[..., strip].sum(-1) * norm_b[..., strip].sum(-1)) + 1e-6
            costs.append(1 - dots[..., strip].sum(-1) / scale)
        cost = np.stack(costs, -1)
        t = part[rows]
        p0, p1, p2, p3 = cost[:, :-3], cost[:, 1:-2], cost[:, 2:-1], cost[:, 3:]
        curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
        out[rows] = curve
    return out


def _minimum(cost: Floats, radius: int) -> tuple[Floats, Floats]:
    """Return offsets [N] of the minima of costs [N, 2 radius + 1] from their middle, and the curvature [N] there."""
    near = np.abs(np.arange(-radius, radius + 1)) * 1e-4  # of equal minima the nearest
    at = np.clip((cost + near).argmin(axis=1), 1, 2 * radius - 1)
    rows = np.arange(len(cost))
    left, middle, right = cost[rows, at - 1], cost[rows, at], cost[rows, at + 1]
    curvature = left - 2 * middle + right
    step = np.where(curvature > 1e-6, 0.5 * (left - right) / np.maximum(curvature, 1e-6), 0.0)
    return at - radius + np.clip(step, -1, 1), curvature
