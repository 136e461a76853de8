"""The process that reduces large frames: where it cannot be started, the frame is refused and the stream goes on."""

from __future__ import annotations

import sys

import pytest

from contracts.errors import ErrorCode, SaccadeError
from services.gateway.compat.vision.frame_shrink_process import FrameShrinker

pytestmark = pytest.mark.anyio


async def test_a_process_that_cannot_be_started_refuses_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SaccadeError) as refused:
        await FrameShrinker().shrink(b"\xff\xd8" + bytes(2_000_000))
    assert refused.value.code is ErrorCode.FRAME_UNREADABLE
