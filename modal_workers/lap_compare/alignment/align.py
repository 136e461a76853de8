"""Aligns two described clips by place: path, sub-frame refinement, smoothing, error band. Refusals are in trust."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.lap_compare.alignment.smoothing import local_regression, running_mean
from modal_workers.lap_compare.alignment.time_warping import WarpingPath, find_warping_path
from modal_workers.lap_compare.clips.descriptors import CELLS, DIRECTIONS, ClipDescriptors, centred_vectors

Floats = NDArray[np.float64]
Values = NDArray[np.float32]

#: How far around the path the valley of cost is looked at, in seconds of B.
SEARCH_RADIUS_S: Final = 0.33
#: Costs are averaged along the path over about this long (one standard deviation), then the line is smoothed.
COST_SMOOTHING_S: Final = 0.10
CURVE_SMOOTHING_S: Final = 0.28
#: A picture that changes less than this share of the clip's median is one of a car at rest.
REST_SHARE: Final = 0.12
REST_S: Final = 0.5
#: Columns of cells whose separate opinions tell how sure the whole is.
IMAGE_STRIPS: Final = (slice(0, 3), slice(3, 5), slice(5, 7), slice(7, 10))
#: Half-width of the 95 % band from residual scatter, disagreement of strips and width of the valley: fitted by
#: quantile regression on 15 generated pairs of laps (seeds from 101 on, which no reported figure uses), then widened
#: by 30 % because lasting offsets (another line, another mount) differ from pair to pair.
ERROR_BAND_WEIGHTS: Final = (0.85, 1.6, 0.75)


@dataclass(frozen=True)
class MovingSamples:
    """A clip without its rests. Shapes: index [M] into the description, clock_s [M] runs only while the car does."""

    index: NDArray[np.int64]
    clock_s: Floats
    vectors: Values  # [M, LENGTH] unit


@dataclass(frozen=True)
class TimeMap:
    """Where B was on its moving clock for each matched moving sample of A. Shapes: all [N]."""

    sample_a: NDArray[np.int64]  # into Moving A
    clock_b_s: Floats
    pace: Floats  # seconds of B for one of A
    error_s: Floats
    disagreement_s: Floats
    cost: Floats
    path: WarpingPath


def drop_rests(description: ClipDescriptors, mask: Values | None = None) -> MovingSamples:
    """Leave out rests of half a second and more: at rest every picture is the same and no place is better.

    ``mask`` [LENGTH] leaves out cells that the other clip does not cover.
    """
    time = description.time_s
    at_rest = rest_mask(description)
    index = np.flatnonzero(~at_rest)
    step = np.diff(time[index], prepend=time[index[:1]])
    nominal = float(np.median(np.diff(time)))
    gap = np.diff(index, prepend=index[:1]) > 1
    clock = np.cumsum(np.where(gap, nominal, step))
    return MovingSamples(index, clock, centred_vectors(description, mask)[index])


def rest_mask(description: ClipDescriptors) -> NDArray[np.bool_]:
    """Tell for every sample [N] whether the car stood still for half a second around it."""
    activity = description.activity
    quiet = activity < max(0.35, REST_SHARE * float(np.median(activity)))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], quiet.astype(np.int8), [0]])))
    rest = np.zeros(len(quiet), bool)
    for first, last in zip(edges[::2], edges[1::2], strict=True):
        if description.time_s[last - 1] - description.time_s[first] >= REST_S:
            rest[first:last] = True
    return rest


def align_samples(a: MovingSamples, b: MovingSamples) -> TimeMap:
    """Align B to A: warping path, then twice the valley of cost around it, smoothed."""
    path = find_warping_path(a.vectors, b.vectors)
    sample_a, sample_b = path.b_of_a()
    clock_a = a.clock_s[sample_a]
    grid_b = np.arange(len(b.clock_s), dtype=np.float64)
    clock_b, pace = local_regression(
        clock_a, np.interp(sample_b, grid_b, b.clock_s), np.ones(len(clock_a)), CURVE_SMOOTHING_S
    )
    for _ in range(3):
        found = np.interp(clock_b, b.clock_s, grid_b)
        valley = _valley(a.vectors[sample_a], b, found, clock_a)
        step_b = np.interp(clock_b, b.clock_s, np.gradient(b.clock_s))
        raw = clock_b + valley.shift * step_b
        clock_b, pace = local_regression(clock_a, raw, valley.weight, CURVE_SMOOTHING_S)
    scatter = np.sqrt(running_mean(clock_a, (raw - clock_b) ** 2, 2 * CURVE_SMOOTHING_S))
    opinions = running_mean(clock_a, valley.strip_shift, CURVE_SMOOTHING_S) * step_b[:, None]
    disagreement = np.std(opinions, axis=1) / np.sqrt(len(IMAGE_STRIPS) - 1)
    disagreement = np.sqrt(running_mean(clock_a, disagreement**2, 2 * CURVE_SMOOTHING_S))
    # where a car crawls the curve bends more sharply than the smoothing follows
    bend = running_mean(clock_a, 0.5 * CURVE_SMOOTHING_S**2 * np.abs(np.gradient(pace, clock_a)), CURVE_SMOOTHING_S)
    error = np.sqrt(
        (ERROR_BAND_WEIGHTS[0] * scatter) ** 2
        + (ERROR_BAND_WEIGHTS[1] * disagreement) ** 2
        + (ERROR_BAND_WEIGHTS[2] * valley.width * step_b) ** 2
        + bend**2
    )
    return TimeMap(sample_a, clock_b, pace, error, disagreement, valley.cost, path)


@dataclass(frozen=True)
class _Valley:
    """The valley of cost across the path. Shapes: [N], strip_shift [N, S]; shifts in samples of B."""

    shift: Floats
    weight: Floats
    width: Floats  # how far from its bottom the cost has risen by as much as is left at the bottom
    cost: Floats
    strip_shift: Floats


def _valley(a: Values, b: MovingSamples, found: Floats, clock_a: Floats) -> _Valley:
    """Look across the path at ``found`` [N] samples of B and find the bottom of the valley, below one sample."""
    rate = 1 / float(np.median(np.diff(b.clock_s)))
    reach = int(np.clip(round(SEARCH_RADIUS_S * rate), 3, 12))
    costs = _costs_around(a, b.vectors, found, reach)
    smooth = running_mean(clock_a, costs.reshape(len(a), -1), COST_SMOOTHING_S).reshape(costs.shape)
    whole = smooth[:, :, 0]
    shift, curvature = _bottom(whole, reach)
    strips = np.stack([_bottom(smooth[:, :, part], reach)[0] for part in range(1, 1 + len(IMAGE_STRIPS))], axis=1)
    lowest = np.maximum(whole.min(axis=1), 0.0)
    curvature = np.maximum(curvature, 1e-5)
    width = np.minimum(np.sqrt(lowest / curvature), 2.0 * reach)
    return _Valley(shift, curvature, width, lowest, strips)


def _costs_around(a: Values, b: Values, found: Floats, reach: int) -> Floats:
    """Cost of a's samples against B at ``found - reach .. found + reach``: [N, 2 reach + 1, 1 + strips].

    Costs are read between samples by Catmull-Rom: interpolating descriptors instead would favour whole samples.
    """
    offsets = np.arange(-reach - 1, reach + 3)
    base = np.floor(found).astype(np.int64)
    part = (found - base)[:, None, None]
    out = np.empty((len(a), 2 * reach + 1, 1 + len(IMAGE_STRIPS)))
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


def _bottom(cost: Floats, reach: int) -> tuple[Floats, Floats]:
    """Find the bottom [N] of valleys [N, 2 reach + 1] in samples from their middle, and the curvature [N] there."""
    near = np.abs(np.arange(-reach, reach + 1)) * 1e-4  # of equal bottoms the nearest
    at = np.clip((cost + near).argmin(axis=1), 1, 2 * reach - 1)
    rows = np.arange(len(cost))
    left, middle, right = cost[rows, at - 1], cost[rows, at], cost[rows, at + 1]
    curvature = left - 2 * middle + right
    step = np.where(curvature > 1e-6, 0.5 * (left - right) / np.maximum(curvature, 1e-6), 0.0)
    return at - reach + np.clip(step, -1, 1), curvature
