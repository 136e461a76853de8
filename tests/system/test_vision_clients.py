"""A client of the replaced vision system on ``saccade up``: the real worker answers its frames, behind a word."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.harness.clients.vision_replay import connected, exchange, stream_url
from tests.harness.sessions.scripted_session_worker import jpeg
from tests.harness.watching.random_gemma import write_random_gemma
from tests.system.embedded import up

WORD = "canary-sesame"
#: Longest time until the first caption: the worker loads PyTorch and the model.
CAPTION_S = 90.0


async def _caption(url: str) -> tuple[int, str]:
    """Send frames at 5 fps until one is answered by a caption; return its number and the caption."""
    async with connected(url) as socket, asyncio.timeout(CAPTION_S):
        for number in itertools.count(1):
            ack = await exchange(socket, jpeg(320, 240))
            assert ack["frame"] == number
            # On a busy machine the bus may be late once; the client is told, and goes on as those clients do.
            assert "does not answer" in ack.get("inference_error", "does not answer"), ack
            if "caption" in ack:
                assert isinstance(ack["latency_ms"], int)
                assert isinstance(ack["tokens_generated"], int)
                assert 0 <= ack["chunk_start_s"] < ack["chunk_end_s"] < CAPTION_S
                return number, ack["caption"]
            await asyncio.sleep(0.2)
    raise AssertionError


async def _refusal(url: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        async with connected(url):
            pass
    return refused.value.response.status_code


def test_a_client_gets_captions_from_the_worker(tmp_path: Path) -> None:
    model = write_random_gemma(tmp_path / "model")
    mapping = json.dumps([{"system": "vision", "word": WORD, "key": "glasses"}])
    settings = {
        "VISION_MODEL": str(model), "VISION_CHUNK_SECONDS": "0.4",
        "GATEWAY_REPLACED_CREDENTIALS": mapping,
    }  # fmt: skip
    with up(tmp_path / "data", **settings) as system:
        address = system.ready()["url"]
        assert asyncio.run(_refusal(stream_url(address, "wrong"))) == 403
        number, caption = asyncio.run(_caption(stream_url(address, WORD)))
        assert number > 1
        (session,) = httpx.get(f"{address}/v1/sessions", timeout=20).json()["data"]
        assert session["workload"] == "vision_stream"
        words = httpx.get(f"{address}/v1/sessions/{session['id']}/texts", timeout=20).json()["data"]
        assert caption in [word["data"]["text"] for word in words]
        ended = httpx.get(f"{address}/v1/sessions/{session['id']}", headers={"Prefer": "wait=30"}, timeout=60).json()
        assert (ended["state"], ended["reason"]) == ("stopped", "asked")
        assert system.stop() == 0
    logs = b"".join(path.read_bytes() for path in (tmp_path / "data").rglob("*") if path.is_file())
    assert session["id"].encode() in logs
    assert WORD.encode() not in logs
