"""Colours of clothes: the same in other light and size, different for other clothes."""

from __future__ import annotations

import cv2
import numpy as np

from modal_workers.badminton.players.appearance import APPEARANCE_BINS, appearances
from modal_workers.badminton.players.persons import Persons
from tests.harness.vision.badminton_persons import STANDING_M

BLUE, RED, WHITE, NAVY, BLACK = (190, 60, 30), (40, 40, 200), (230, 230, 230), (80, 40, 25), (30, 30, 30)
Colour = tuple[int, int, int]


def _person(
    shirt: Colour, shorts: Colour, *, height: int = 200, light: float = 1.0, skeleton: bool = True
) -> np.ndarray:
    """Draw somebody on a wooden floor and return the histogram."""
    random = np.random.default_rng(height)
    picture = np.full((260, 200, 3), (110, 150, 190), np.float64)
    top, left = 20, 100 - height // 8

    def band(first: float, last: float, colour: Colour) -> None:
        rows = slice(top + int(first * height), top + int(last * height))
        picture[rows, left : left + height // 4] = colour

    band(0.15, 0.48, shirt)
    band(0.48, 0.67, shorts)
    band(0.67, 1.0, (120, 150, 200))
    drawn = np.clip(picture * light + random.normal(0, 4, picture.shape), 0, 255).astype(np.uint8)
    box = np.array([[left, top, left + height // 4, top + height]], np.float32)
    keypoints = np.full((1, 17, 3), np.nan, np.float32)
    if skeleton:
        keypoints[0, :, 0] = 100 - STANDING_M[:, 0] / 1.75 * height * 0.5
        keypoints[0, :, 1] = top + (1 - STANDING_M[:, 1] / 1.75) * height
        keypoints[0, :, 2] = 0.9
    (found,) = appearances(cv2.GaussianBlur(drawn, (3, 3), 0), Persons(box, np.ones(1, np.float32), keypoints))
    return found


def distance(first: np.ndarray, second: np.ndarray) -> float:
    """Return the Hellinger distance of two histograms: 0 for the same colours, 1 for none in common."""
    return float(np.sqrt(max(1 - np.sqrt(first * second).sum(), 0.0)))


def test_a_histogram_has_sum_1() -> None:
    found = _person(BLUE, WHITE)
    assert found.shape == (APPEARANCE_BINS,)
    assert found.dtype == np.float32
    assert abs(found.sum() - 1) < 1e-5


def test_the_same_clothes_in_other_light_and_size_are_near_and_others_are_far() -> None:
    for skeleton in (True, False):
        own = _person(BLUE, WHITE, skeleton=skeleton)
        again = [
            _person(BLUE, WHITE, light=light, height=height, skeleton=skeleton)
            for light, height in ((0.8, 200), (1.1, 120), (0.9, 80))
        ]
        others = [
            _person(shirt, shorts, skeleton=skeleton) for shirt, shorts in ((RED, WHITE), (BLACK, BLACK), (WHITE, NAVY))
        ]
        same = max(distance(own, each) for each in again)
        other = min(distance(own, each) for each in others)
        assert other > 2 * same
        assert other > 0.4


def test_partners_in_one_shirt_differ_by_their_shorts() -> None:
    first, second = _person(BLUE, WHITE), _person(BLUE, NAVY)
    assert distance(first, _person(BLUE, WHITE, light=0.85, height=120)) < 0.2
    assert distance(first, second) > 0.4


def test_clothes_outside_the_picture_are_unknown() -> None:
    outside = Persons(
        np.array([[20, 400, 60, 600]], np.float32), np.ones(1, np.float32), np.full((1, 17, 3), np.nan, np.float32)
    )
    assert not appearances(np.zeros((200, 200, 3), np.uint8), outside).any()
