"""Non-linear least squares for a few unknowns: Levenberg-Marquardt with numerical derivatives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STEP: Final = 1e-6
_CONVERGED: Final = 1e-10  # relative gain at convergence


def least_squares(residuals: Callable[[Floats], Floats], start: Floats, iterations: int = 60) -> Floats:
    """Return the unknowns [P], of about unit scale, at a local minimum of the sum of squares of ``residuals``.

    Source: Marquardt, "An algorithm for least-squares estimation of nonlinear parameters", 1963.
    """
    unknowns = start.astype(np.float64)
    off = residuals(unknowns)
    cost, damping = float(off @ off), 1e-3
    for _ in range(iterations):
        jacobian = _differences(residuals, unknowns)
        square, slope = jacobian.T @ jacobian, jacobian.T @ off
        gained = 0.0
        while damping < 1e12:
            scale = np.diag(square) + 1e-12 * np.trace(square)
            step = np.linalg.solve(square + damping * np.diag(scale), -slope)
            tried = residuals(unknowns + step)
            new_cost = float(tried @ tried)
            if new_cost < cost:
                gained = (cost - new_cost) / cost
                unknowns, off, cost = unknowns + step, tried, new_cost
                damping = max(damping / 10, 1e-12)
                break
            damping *= 10
        if gained < _CONVERGED:
            break
    return unknowns


def _differences(residuals: Callable[[Floats], Floats], unknowns: Floats) -> Floats:
    columns = []
    for index in range(len(unknowns)):
        offset = np.zeros(len(unknowns))
        offset[index] = _STEP
        columns.append((residuals(unknowns + offset) - residuals(unknowns - offset)) / (2 * _STEP))
    return np.column_stack(columns)
