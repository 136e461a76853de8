"""The detector by differences finds a small bright thing that moves, and nothing that stands still."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from modal_workers.badminton.shuttle.classical import ClassicalShuttleBackend
from modal_workers.badminton.shuttle.shuttle_track import Picture, ShuttleCandidates

WIDTH, HEIGHT = 640, 360


def pictures(places: NDArray[np.float64], seed: int = 0) -> list[Picture]:
    """Return noisy pictures of a hall with a lamp, and a shuttle at the places [n, 2]; NaN: none."""
    random = np.random.default_rng(seed)
    hall = cv2.GaussianBlur(random.integers(40, 150, (HEIGHT, WIDTH, 3), dtype=np.uint8), (0, 0), 7)
    cv2.circle(hall, (500, 40), 4, (255, 255, 255), -1)
    found: list[Picture] = []
    for place in places:
        picture = hall.copy()
        if np.isfinite(place).all():
            x, y = (round(float(value) * 16) for value in place)
            cv2.circle(picture, (x, y), 40, (245, 250, 245), -1, cv2.LINE_AA, 4)
        noise = random.normal(0, 3, picture.shape)
        found.append(np.clip(picture + noise, 0, 255).astype(np.uint8))
    return found


def detected(backend: ClassicalShuttleBackend, frames: list[Picture], batch: int = 8) -> list[ShuttleCandidates]:
    found = [each for start in range(0, len(frames), batch) for each in backend.detect(frames[start : start + batch])]
    return found + backend.flush()


def path(count: int, rate_hz: float) -> NDArray[np.float64]:
    time_s = np.arange(count) / rate_hz
    return np.stack([60 + 300 * time_s, 300 - 380 * time_s + 190 * time_s**2], axis=1)


@pytest.mark.parametrize("rate_hz", [30.0, 60.0])
def test_a_flying_shuttle_is_found_to_the_pixel(rate_hz: float) -> None:
    places = path(round(1.5 * rate_hz), rate_hz)
    found = detected(ClassicalShuttleBackend(rate_hz), pictures(places))
    assert len(found) == len(places)
    errors = [
        float(np.hypot(*(each.position_px - place).T).min()) if len(each.score) else np.inf
        for each, place in zip(found, places, strict=True)
    ]
    assert np.mean(np.array(errors) < 1.5) > 0.95
    assert np.mean([len(each.score) for each in found]) < 2
    assert all(((each.score >= 0) & (each.score <= 1)).all() for each in found)


def test_what_stands_still_is_no_candidate() -> None:
    places = np.full((40, 2), np.nan)
    assert sum(len(each.score) for each in detected(ClassicalShuttleBackend(30.0), pictures(places))) <= 2


def test_the_batches_do_not_matter_and_every_picture_gets_an_entry() -> None:
    frames = pictures(path(23, 30.0))
    wanted = detected(ClassicalShuttleBackend(30.0), frames, batch=23)
    for batch in (1, 5):
        found = detected(ClassicalShuttleBackend(30.0), frames, batch=batch)
        assert len(found) == 23
        for one, other in zip(found, wanted, strict=True):
            assert np.array_equal(one.position_px, other.position_px)
    for count in (0, 1, 2, 4):
        assert len(detected(ClassicalShuttleBackend(30.0), frames[:count])) == count


def test_a_new_camera_is_not_compared_with_the_one_before() -> None:
    backend = ClassicalShuttleBackend(30.0)
    still = np.full((20, 2), np.nan)
    detected(backend, pictures(still, seed=1))
    backend.restart()
    assert sum(len(each.score) for each in detected(backend, pictures(still, seed=2))) <= 2


def test_it_holds_few_pictures() -> None:
    backend = ClassicalShuttleBackend(30.0)
    frames = pictures(path(60, 30.0))
    sizes = []
    for frame in frames * 3:
        backend.detect([frame])
        sizes.append(sum(len(held) for held in vars(backend).values() if isinstance(held, deque)))
    assert all(after <= 20 for after in sizes)
    assert not any(after > before for before, after in pairwise(sizes[-60:]))
