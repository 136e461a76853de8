"""What the reaction to an upload leaves to its retries, and what it gives up at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from nats.errors import ConnectionClosedError
from saccade_events import Event, Reject

from contracts.errors import ErrorCode, SaccadeError
from contracts.events.base import decode, encode
from contracts.events.upload import MediaFacts, UploadCompleted
from contracts.ids import new_id
from services.dispatcher.rules.on_upload import completed

pytestmark = pytest.mark.anyio


@dataclass
class FailingRules:
    """Rules whose application fails with one error."""

    error: Exception

    async def apply(self, *_: Any) -> None:
        raise self.error


def uploaded() -> Event[UploadCompleted]:
    media = MediaFacts(media="image", container="png", codec="png", width_px=8, height_px=8)
    data = UploadCompleted(size_bytes=9, sha256="0" * 64, media=media)
    body = encode(data, tenant="acme", subject_id=new_id("upl"), source="/gateway").body
    return Event[UploadCompleted].model_validate(decode(body).model_dump())


@pytest.mark.parametrize(
    "error",
    [SaccadeError(ErrorCode.BUS_UNAVAILABLE), ConnectionClosedError(), TimeoutError(), OSError("no space")],
    ids=lambda error: type(error).__name__,
)
async def test_what_passes_is_tried_again(error: Exception) -> None:
    with pytest.raises(type(error)):
        await completed(uploaded(), FailingRules(error))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "error",
    [SaccadeError(ErrorCode.INVALID_PARAMETER, "wrong"), KeyError("a fault of ours"), AssertionError()],
    ids=lambda error: type(error).__name__,
)
async def test_what_would_fail_again_is_a_dead_letter_now(error: Exception) -> None:
    with pytest.raises(Reject) as rejected:
        await completed(uploaded(), FailingRules(error))  # type: ignore[arg-type]
    assert rejected.value.__cause__ is error
