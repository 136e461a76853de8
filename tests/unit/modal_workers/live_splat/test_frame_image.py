"""Frames that cannot be used are refused by what is wrong with them."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import FRAME_SIDE_PX
from modal_workers.live_splat.frame_image import FrameDecoder
from modal_workers.live_splat.spec import LiveSplatParams


def refused(body: bytes) -> ErrorCode:
    with pytest.raises(SaccadeError) as error:
        FrameDecoder(LiveSplatParams()).decode(body)
    return error.value.code


def test_a_frame_with_too_long_a_side_is_too_large_and_not_unreadable() -> None:
    wide = cv2.imencode(".png", np.zeros((8, FRAME_SIDE_PX + 1, 3), np.uint8))[1].tobytes()
    assert refused(wide) is ErrorCode.FRAME_TOO_LARGE
    assert refused(wide[:12]) is ErrorCode.FRAME_UNREADABLE
    assert refused(b"no picture") is ErrorCode.FRAME_UNREADABLE
