"""Check of joint positions: parsing, and warnings about implausible values. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from contracts.errors import ErrorCode
from contracts.telemetry import JointBatch
from kit.http.request_body import parse_body
from modal_workers import catalog

#: Excess over a limit without a warning, since a motor's zero position differs from the model's.
_LIMIT_TOLERANCE_RAD: Final = 0.35
_FULL_TURN_RAD: Final = 2 * math.pi


def joint_limits_rad(workload: str) -> Mapping[str, tuple[float, float]]:
    """Return the limits of a workload's robot as (low, high) by joint; empty if it declares none."""
    declared = catalog.workloads().get(workload)
    return declared.joint_limits_rad if declared else {}


def read_joints(body: str | bytes) -> JointBatch:
    """Parse a batch.

    Raises:
        SaccadeError: JOINTS_INVALID, with a pointer to each fault; MALFORMED_REQUEST, if it is not JSON;
            INVALID_PARAMETER, if text in it is not Unicode.
    """
    return parse_body(JointBatch, body, ErrorCode.JOINTS_INVALID, hint=_HINT)


_HINT: Final = (
    "Send one finite value per joint and sample, in radians, in the order of the names; see docs/sessions.md."
)


def joint_warnings(batch: JointBatch, limits_rad: Mapping[str, tuple[float, float]]) -> list[str]:
    """Return a sentence for each implausible joint, about its worst value."""
    return list(_warnings(batch, limits_rad))


def _warnings(batch: JointBatch, limits_rad: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    if missing := [name for name in limits_rad if name not in batch.names]:
        yield f"The batch has no {', '.join(missing)}: the arm's pose cannot be computed without them."
    if batch.unit == "native":
        yield "Positions are not in radians (unit native): they are stored, and no pose is computed from them."
        return
    for index, name in enumerate(batch.names):
        low, high = limits_rad.get(name, (-_FULL_TURN_RAD, _FULL_TURN_RAD))
        positions = (sample.positions[index] for sample in batch.samples)
        worst = max(positions, key=lambda position: max(low - position, position - high))
        if max(low - worst, worst - high) > _LIMIT_TOLERANCE_RAD:
            likely = "; it looks like degrees" if abs(worst) > _FULL_TURN_RAD else ""
            yield f"{name}: {worst:.4g} rad is beyond its limits, {low:.4g} to {high:.4g} rad{likely}."
