"""Frames and joints sent into a live session by HTTP, and the model read from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
from pydantic import BaseModel, ConfigDict

from saccade_client.api import Api, Model
from saccade_client.errors import ClientError, refusal
from saccade_client.request_parts import LONGEST_WAIT_S, without_none

_PNG: Final = b"\x89PNG"
_NOT_MODIFIED: Final = 304
_REQUEST_S: Final = 30.0

#: Sequence number, capture time in unix seconds, positions; then the robot's native values, where it has any.
JointSample = tuple[int, float, Sequence[float]] | tuple[int, float, Sequence[float], Sequence[float]]


class FrameAnswer(BaseModel):
    """A frame that was stored (``received``), or its verdict: ``accepted``, ``dropped`` or ``rejected``."""

    model_config = ConfigDict(extra="ignore")

    source: str
    seq: int
    status: str
    #: Why it was not accepted.
    reason: str | None = None
    #: Time from its capture to its verdict.
    age_s: float | None = None
    queue_depth: int | None = None
    #: Joint positions at its capture, radians, and the time to the nearest sample.
    positions: tuple[float, ...] | None = None
    joints_gap_s: float | None = None


class JointsAnswer(BaseModel):
    """Number of samples that were stored, and what looks wrong with them."""

    model_config = ConfigDict(extra="ignore")

    received: int
    warnings: list[str] = []


@dataclass(frozen=True)
class Ply:
    """A model as a 3DGS PLY file; ``etag`` is its version."""

    body: bytes
    etag: str


def content_type_of(picture: bytes) -> str:
    """Return a picture's media type by its first bytes; the server rejects what is not a picture."""
    return "image/png" if picture.startswith(_PNG) else "image/jpeg"


def joint_batch(
    names: Sequence[str],
    samples: Iterable[JointSample],
    *,
    unit: str = "rad",
    source: str | None = None,
    clock_offset_s: float | None = None,
    clock_error_s: float = 0.0,
) -> dict[str, Any]:
    """Return samples as the API takes them; ``clock_offset_s`` is the server's clock minus your own."""
    clock = None if clock_offset_s is None else {"offset_s": clock_offset_s, "error_s": clock_error_s}
    written = [[seq, captured_at_s, *map(list, values)] for seq, captured_at_s, *values in samples]
    return without_none({"source": source, "clock": clock}) | {"names": list(names), "unit": unit, "samples": written}


async def send_frame(
    api: Api, path: str, picture: bytes, fields: Mapping[str, Any], wait_s: float | None
) -> FrameAnswer:
    """Send a picture once, without retries: the next one is newer.

    Raises:
        ClientError: refused, or unreachable.
    """
    headers = {f"X-Frame-{name}": str(value) for name, value in fields.items() if value is not None}
    whole_s = min(LONGEST_WAIT_S, max(0, round(wait_s or 0)) or (1 if wait_s else 0))
    if whole_s:
        headers["Prefer"] = f"wait={whole_s}"
    headers["Content-Type"] = content_type_of(picture)
    answer = await api.send(
        "POST", path, content=picture, headers=headers, timeout=_REQUEST_S + whole_s, patience_s=0.0
    )
    return _read(FrameAnswer, answer)


async def send_joints(api: Api, path: str, batch: Mapping[str, Any]) -> JointsAnswer:
    """Send samples; repeated ones count once, by their sequence numbers.

    Raises:
        ClientError: refused, or unreachable.
    """
    body = json.dumps(batch).encode()  # the server rejects NaN and integers beyond floats
    answer = await api.send("POST", path, content=body, headers={"Content-Type": "application/json"})
    return _read(JointsAnswer, answer)


async def fetch_ply(api: Api, path: str, *, max_splats: int | None, etag: str | None) -> Ply | None:
    """Fetch the newest model; None if it is the version ``etag``.

    Raises:
        ClientError: refused (there is no model yet), or unreachable.
    """
    headers = {} if etag is None else {"If-None-Match": etag}
    answer = await api.send("GET", path, headers=headers, params=without_none({"max_splats": max_splats}))
    if answer.status_code == _NOT_MODIFIED:
        return None
    if answer.is_error:
        raise refusal(answer)
    return Ply(answer.content, str(answer.headers.get("ETag", "")))


def _read(model: type[Model], answer: httpx.Response) -> Model:
    if answer.is_error:
        raise refusal(answer)
    try:
        return model.model_validate_json(answer.content)
    except ValueError as error:
        raise ClientError(
            "unexpected_answer", "The answer has an unexpected form.", status=answer.status_code
        ) from error
