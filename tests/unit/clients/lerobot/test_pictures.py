"""Encoding of camera pictures: colours by each encoder, media types, and the rate limit."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from saccade_robot.frames import CameraQueue
from saccade_robot.image_encoding import Encode, content_type, find_encoder


def _pillow() -> Encode:
    from saccade_robot import image_encoding as pictures

    return pictures._with_pillow(importlib.import_module("PIL.Image"))


@pytest.mark.parametrize("encoder", [find_encoder, _pillow])
def test_red_stays_red(encoder: Callable[[], Encode]) -> None:
    numpy: Any = pytest.importorskip("numpy")
    cv2: Any = pytest.importorskip("cv2")
    picture = numpy.zeros((48, 64, 3), numpy.uint8)
    picture[:, :, 0] = 250
    jpeg = encoder()(picture)
    assert content_type(jpeg) == "image/jpeg"
    shown = cv2.imdecode(numpy.frombuffer(jpeg, numpy.uint8), cv2.IMREAD_COLOR)
    assert shown.shape == (48, 64, 3)
    blue, green, red = shown[24, 32]
    assert red > 220
    assert max(blue, green) < 40


@given(
    rate_hz=st.floats(1, 40),
    camera_hz=st.floats(1, 200),
    jitter=st.lists(st.floats(0, 0.2), min_size=50, max_size=200),
)
def test_the_cap_holds_and_no_picture_is_uncounted(rate_hz: float, camera_hz: float, jitter: list[float]) -> None:
    camera = CameraQueue("wrist", rate_hz)
    times = [1.7e9 + (tick + late) / camera_hz for tick, late in enumerate(jitter)]
    taken = []
    for time_s in times:
        camera.offer(b"", time_s)
        if (one := camera.take()) is not None:
            taken.append(one)
    assert len(taken) + camera.skipped + camera.dropped == camera.offered == len(times)
    assert [number - taken[0][0] for number, _, _ in taken] == list(range(len(taken)))
    passed_s = times[-1] - times[0]
    # One at the beginning, and one that may come a little before its time.
    assert len(taken) <= passed_s * rate_hz + 2
    # A camera that is slower than the cap loses nothing.
    if camera_hz * 1.3 < rate_hz:
        assert camera.skipped == 0
