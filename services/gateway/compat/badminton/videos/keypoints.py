"""Points of the court that a user has clicked in the page. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.badminton.spec import CORNER_NAMES, KEYPOINT_NAMES

Keypoints = dict[str, list[float]]

_LOWEST_PX: Final = -10_000.0
_HIGHEST_PX: Final = 20_000.0
_HINT: Final = f"Send {', '.join(CORNER_NAMES)} and any of {', '.join(KEYPOINT_NAMES[4:])}, each as [x, y] in pixels."


def checked_keypoints(given: Any) -> Keypoints:
    """Return valid points by name: the four corners, and up to eight more.

    A point besides the corners that is null or at [0, 0] was not clicked: the page fills missing ones so.

    Raises:
        SaccadeError: INVALID_PARAMETER.
    """
    if not isinstance(given, Mapping):
        raise _invalid("keypoints: not an object")
    if unknown := [name for name in given if name not in KEYPOINT_NAMES]:
        raise _invalid(f"keypoints: there is no keypoint {str(unknown[0])[:50]!r}")
    found: Keypoints = {}
    for name in KEYPOINT_NAMES:
        value = given.get(name)
        if name in CORNER_NAMES and value is None:
            raise _invalid(f"keypoints: the corner {name} is missing")
        if value is None:
            continue
        point = _point(name, value)
        if name in CORNER_NAMES or any(point):
            found[name] = point
    return found


def _point(name: str, value: Any) -> list[float]:
    if not isinstance(value, list) or len(value) != 2:
        raise _invalid(f"keypoints: {name} is not [x, y]")
    for number in value:
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number):
            raise _invalid(f"keypoints: {name} has a coordinate that is no number")
        if not _LOWEST_PX <= number <= _HIGHEST_PX:
            raise _invalid(f"keypoints: {name} is far outside the picture")
    return [float(number) for number in value]


def _invalid(message: str) -> SaccadeError:
    return SaccadeError(ErrorCode.INVALID_PARAMETER, f"{message}.", hint=_HINT)
