"""Whether joint positions may go into a live session, and what looks wrong with those that may. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Final

from pydantic import ValidationError

from contracts.errors import ErrorCode, SaccadeError
from contracts.telemetry import JointBatch
from kit.http.problems import invalid_values
from modal_workers import catalog

#: A motor's zero is not the drawing's: beyond a limit by less than this is nothing to warn of.
_TOLERANCE_RAD: Final = 0.35
_TURN_RAD: Final = 2 * math.pi


def joint_limits_rad(workload: str) -> Mapping[str, tuple[float, float]]:
    """Give the limits of the robot that a workload is made for, by joint; empty where it declares none."""
    declared = catalog.workloads().get(workload)
    return declared.joint_limits_rad if declared else {}


def read_joints(body: str | bytes) -> JointBatch:
    """Read a batch.

    Raises:
        SaccadeError: JOINTS_INVALID, with what is wrong where; MALFORMED_REQUEST, when it is not JSON.
    """
    try:
        return JointBatch.model_validate_json(body)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False)
        if any(one["type"] == "json_invalid" for one in errors):
            raise SaccadeError(ErrorCode.MALFORMED_REQUEST, "The body is not valid JSON.") from None
        raise invalid_values(errors, ErrorCode.JOINTS_INVALID, hint=_HINT) from None


_HINT: Final = (
    "Send one finite value a joint and sample, in radians, in the order of the names; docs/sessions.md shows it."
)


def warnings_of(batch: JointBatch, limits_rad: Mapping[str, tuple[float, float]]) -> list[str]:
    """Say in sentences what looks wrong; of each joint the worst value only."""
    return list(_warnings(batch, limits_rad))


def _warnings(batch: JointBatch, limits_rad: Mapping[str, tuple[float, float]]) -> Iterator[str]:
    if missing := [name for name in limits_rad if name not in batch.names]:
        yield f"The batch has no {', '.join(missing)}: without them no pose is known."
    if batch.unit == "native":
        yield "Positions are not in radians (unit native): they are kept, and no pose is computed from them."
        return
    for number, name in enumerate(batch.names):
        low, high = limits_rad.get(name, (-_TURN_RAD, _TURN_RAD))
        value = max((sample.positions[number] for sample in batch.samples), key=lambda one: max(low - one, one - high))
        if max(low - value, value - high) > _TOLERANCE_RAD:
            likely = "; it looks like degrees" if abs(value) > _TURN_RAD else ""
            yield f"{name}: {value:.4g} rad is beyond its limits, {low:.4g} to {high:.4g} rad{likely}."
