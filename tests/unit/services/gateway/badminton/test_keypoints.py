"""Points of the court that a page sends."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from contracts.errors import SaccadeError
from modal_workers.badminton.spec import KEYPOINT_NAMES, BadmintonParams
from services.gateway.compat.badminton.videos.keypoints import checked_keypoints

CORNERS: dict[str, Any] = {"top_left": [1, 2], "top_right": [9, 2.5], "bottom_right": [9, 9], "bottom_left": [0, 0]}


def test_all_twelve_are_accepted_and_what_is_kept_is_a_parameter_of_the_workload() -> None:
    given = {name: [float(number), 7.0] for number, name in enumerate(KEYPOINT_NAMES)}
    assert checked_keypoints(given) == given
    text = json.dumps({"court_keypoints": checked_keypoints(CORNERS)})
    kept = BadmintonParams.model_validate_json(text, strict=True).court_keypoints
    assert kept is not None
    assert kept["bottom_left"] == (0, 0), "a corner may be there"


def test_points_that_were_not_clicked_are_left_out() -> None:
    assert checked_keypoints(CORNERS | {"net_left": [0, 0], "net_right": None}) == CORNERS


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (None, "not an object"),
        ([[1, 2]], "not an object"),
        ({**CORNERS, "top_left": None}, "the corner top_left is missing"),
        ({**CORNERS, "doubles_left_near": [1, 2]}, "no keypoint 'doubles_left_near'"),
        ({**CORNERS, "net_left": [1]}, "net_left is not"),
        ({**CORNERS, "net_left": [1, 2, 3]}, "net_left is not"),
        ({**CORNERS, "net_left": "1,2"}, "net_left is not"),
        ({**CORNERS, "net_left": [1, "2"]}, "no number"),
        ({**CORNERS, "net_left": [True, 2]}, "no number"),
        ({**CORNERS, "net_left": [math.nan, 2]}, "no number"),
        ({**CORNERS, "net_left": [math.inf, 2]}, "no number"),
        ({**CORNERS, "net_left": [1e9, 2]}, "far outside"),
    ],
)
def test_others_are_refused_clearly(given: Any, told: str) -> None:
    with pytest.raises(SaccadeError, match=told):
        checked_keypoints(given)
