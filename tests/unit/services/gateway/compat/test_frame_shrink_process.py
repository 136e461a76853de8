"""The process that reduces large frames: where it cannot be started, the frame is refused and the stream goes on."""

from __future__ import annotations

import asyncio
import sys

import pytest

from contracts.errors import ErrorCode, SaccadeError
from services.gateway.compat.vision.frame_shrink_process import FrameShrinker
from tests.harness.servers.gateway import picture

pytestmark = pytest.mark.anyio


async def test_a_process_that_cannot_be_started_refuses_one_frame(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(SaccadeError) as refused:
        await FrameShrinker().shrink("acme", b"\xff\xd8" + bytes(2_000_000))
    assert refused.value.code is ErrorCode.FRAME_UNREADABLE


async def test_frames_of_one_tenant_keep_those_of_another_waiting_for_one_at_most() -> None:
    """Each takes up to eight seconds, one after the other: by the end of a queue a frame is long dropped."""
    shrinker, order = FrameShrinker(), list[str]()

    async def shrink(tenant: str) -> None:
        assert (await shrinker.shrink(tenant, picture(64, 48))).startswith(b"\xff\xd8")
        order.append(tenant)

    tasks = [asyncio.ensure_future(shrink(tenant)) for tenant in ("acme", "acme", "acme", "rival")]
    await asyncio.gather(*tasks)
    assert order == ["acme", "rival", "acme", "acme"]
