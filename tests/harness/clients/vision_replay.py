"""Replays a video to ``WS /vision/stream`` as the public script of the replaced system does: in lock-step.

It sends a frame, waits for one message without a time limit of its own, and reads ``frame``, ``bytes``, ``caption`` and
``inference_error`` from it; answers may have 16 MB.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from websockets.asyncio.client import ClientConnection, connect

_ANSWER_BYTES = 16 * 1024 * 1024


def stream_url(address: str, magic_word: str = "") -> str:
    """Return the URL that the script makes of its ``--url``: http becomes ws, and an empty path the stream's."""
    parts = urlsplit(address)
    scheme = {"http": "ws", "https": "wss"}.get(parts.scheme, parts.scheme)
    query = urlencode({"magic_word": magic_word}) if magic_word else parts.query
    path = parts.path if parts.path not in ("", "/") else "/vision/stream"
    return f"{scheme}://{parts.netloc}{path}" + (f"?{query}" if query else "")


def connected(url: str, **headers: str) -> connect:
    """Open a connection; underscores in the headers' names stand for hyphens."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return connect(url, max_size=_ANSWER_BYTES, additional_headers=named, open_timeout=20, proxy=None)


async def exchange(socket: ClientConnection, frame: bytes) -> dict[str, Any]:
    """Send a frame and return the one message that answers it."""
    await socket.send(frame)
    async with asyncio.timeout(20):
        found: dict[str, Any] = json.loads(await socket.recv(decode=True))
    return found


@dataclass
class Replay:
    """What the script counts."""

    sent_frames: int = 0
    inference_events: int = 0
    captions: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    slowest_ack_s: float = 0.0


async def replay(url: str, frames: Iterable[bytes], fps: float, **headers: str) -> Replay:
    """Send frames at a rate, each after the answer to the one before; fail on an answer that the script cannot read."""
    found = Replay()
    async with connected(url, **headers) as socket:
        started = time.monotonic()
        for number, frame in enumerate(frames, 1):
            sent_at = time.monotonic()
            ack = await exchange(socket, frame)
            found.slowest_ack_s = max(found.slowest_ack_s, time.monotonic() - sent_at)
            assert (ack["frame"], ack["bytes"]) == (number, len(frame))
            assert None not in ack.values(), "nulls are left out"
            found.sent_frames += 1
            if "caption" in ack:
                found.captions.append(ack["caption"])
            if "inference_error" in ack:
                found.errors.append(ack["inference_error"])
            found.inference_events += "caption" in ack or "inference_error" in ack
            await asyncio.sleep(max(0.0, started + number / fps - time.monotonic()))
    return found
