"""A hint is placed in one of the photos, or refused with what would be right."""

from __future__ import annotations

import pytest

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.capture.hint_place import place_hint
from modal_workers.nerf.capture.working_copies import WorkingCopy
from modal_workers.nerf.found_object import ObjectHint

# The photo was larger than its working copy.
PHOTOS = [
    WorkingCopy("0000_one", "in/one.JPG", 2000, 1500, 4000, 3000, None, "", False),
    WorkingCopy("0001_two", "two.heic", 2000, 1500, 4000, 3000, None, "", False),
]


@pytest.mark.parametrize(
    ("given", "placed"),
    [
        ({"photo": "one.jpg", "x": 1000, "y": 1500}, ("0000_one", [0.25, 0.5])),
        ({"photo": "two.heic", "x": 0.1, "y": 0.2}, ("0001_two", [0.1, 0.2])),
        ({"photo": "0001_two.jpg", "box": (400, 300, 4000, 3000)}, ("0001_two", [0.1, 0.1, 1.0, 1.0])),
    ],
)
def test_it_becomes_fractions_of_the_working_copy(given: dict, placed: tuple[str, list[float]]) -> None:
    found = place_hint(ObjectHint.model_validate(given), PHOTOS)
    assert (found["photo"], found["values"]) == placed


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (
            {"photo": "three.jpg", "x": 0.5, "y": 0.5},
            "no photo is called 'three.jpg'; the photos are in/one.JPG, two.heic",
        ),
        ({"photo": "one.jpg", "x": 4001, "y": 10}, "outside of in/one.JPG, which has 4000 x 3000 px"),
        ({"photo": "one.jpg", "box": (10, 10, 3000, 3001)}, "outside of in/one.JPG"),
    ],
)
def test_a_bad_one_says_what_would_be_right(given: dict, words: str) -> None:
    with pytest.raises(SaccadeError) as caught:
        place_hint(ObjectHint.model_validate(given), PHOTOS)
    assert caught.value.code is ErrorCode.INVALID_PARAMETER
    assert words in caught.value.message
