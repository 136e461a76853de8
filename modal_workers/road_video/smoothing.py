"""Smoothing of unevenly sampled curves: running means and local polynomials with slope."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def running_mean(time_s: Floats, values: Floats, sigma_s: float) -> Floats:
    """Average values [N] or [N, K] over a Gaussian window in time, truncated at the ends."""
    weight, index = _windows(time_s, sigma_s)
    flat = values.reshape(len(values), -1)
    out = np.empty_like(flat, dtype=np.float64)
    for start in range(0, len(flat), 1024):
        rows = slice(start, start + 1024)
        share = weight[rows] / weight[rows].sum(axis=1, keepdims=True)
        out[rows] = np.einsum("nw,nwk->nk", share, flat[index[rows]])
    return out.reshape(values.shape)


def local_regression(time_s: Floats, values: Floats, weights: Floats, sigma_s: float) -> tuple[Floats, Floats]:
    """Fit a parabola around every sample, weighted by ``weights`` and a Gaussian window: value [N] and slope [N].

    Outliers get less weight (three rounds of Tukey's biweight).
    Source: Cleveland 1979 (LOWESS), Cleveland and Devlin 1988.
    """
    window, index = _windows(time_s, sigma_s)
    robust = np.ones(len(time_s))
    value, slope = values.astype(np.float64), np.gradient(values, time_s)
    for _ in range(3):
        weight = window * (weights * robust)[index]
        value, slope = _fitted(time_s, values, weight, index)
        residual = np.abs(values - value)
        # a single deviating sample is an outlier; a deviating stretch is a bend to follow
        around = np.sum(window * residual[index], axis=1) / np.sum(window, axis=1)
        scale = np.maximum(6 * np.maximum(np.median(residual), 1e-4), 4 * around)
        robust = np.clip(1 - (residual / scale) ** 2, 0, 1) ** 2 + 1e-6
    return value, slope


def _fitted(time_s: Floats, values: Floats, weight: Floats, index: NDArray[np.int64]) -> tuple[Floats, Floats]:
    value, slope = np.empty(len(time_s)), np.empty(len(time_s))
    for start in range(0, len(time_s), 1024):
        rows = slice(start, start + 1024)
        offset_s = time_s[index[rows]] - time_s[rows, None]
        basis = np.stack([np.ones_like(offset_s), offset_s, offset_s**2], axis=-1)
        base = values[rows]
        shifted = values[index[rows]] - base[:, None]
        normal = np.einsum("nwi,nw,nwj->nij", basis, weight[rows], basis)
        # a ridge on the quadratic term keeps the ends stable, where the window is one-sided
        scale = normal[:, 0, 0]
        normal[:, 2, 2] += 2e-3 * scale
        normal[:, [0, 1, 2], [0, 1, 2]] += 1e-9 * scale[:, None] + 1e-12
        right = np.einsum("nwi,nw,nw->ni", basis, weight[rows], shifted)
        solved = np.linalg.solve(normal, right[..., None])[..., 0]
        value[rows], slope[rows] = base + solved[:, 0], solved[:, 1]
    return value, slope


def _windows(time_s: Floats, sigma_s: float) -> tuple[Floats, NDArray[np.int64]]:
    """Return weights [N, W] and sample indices [N, W] of the window around every sample."""
    step = float(np.median(np.diff(time_s))) if len(time_s) > 1 else 1.0
    half = max(2, int(np.ceil(3 * sigma_s / max(step, 1e-4))))
    raw = np.arange(len(time_s))[:, None] + np.arange(-half, half + 1)
    index = np.clip(raw, 0, len(time_s) - 1)
    weight = np.exp(-0.5 * ((time_s[index] - time_s[:, None]) / sigma_s) ** 2)
    weight[(raw < 0) | (raw >= len(time_s))] = 0.0
    return weight, index
