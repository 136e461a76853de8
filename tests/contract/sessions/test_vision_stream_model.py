"""The vision stream's worker with a Gemma 3 of random weights: its own code from the camera to the transcript."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from contracts.job import State
from modal_workers.vision_stream.spec import WORKLOAD
from services.dispatcher.executors.local_executor import LocalExecutor
from tests.harness.runtime.executor_environment import ExecutorHarness
from tests.harness.runtime.watched_session import WatchedSession
from tests.harness.watching.random_gemma import write_random_gemma

pytestmark = pytest.mark.anyio


async def test_a_gemma_watches_answers_and_checks_the_rules(
    worker_harness: ExecutorHarness, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "acme/random-gemma"
    write_random_gemma(tmp_path / name)
    given = {"VISION_MODELS": f"tiny,{name}", "VISION_WEIGHTS_FOLDER": str(tmp_path)}
    for variable, value in given.items():
        monkeypatch.setenv(variable, value)
    session = WatchedSession(worker_harness)
    params = {
        "model": name,
        "chunk_frames": 2,
        "chunk_s": 0.2,
        "max_new_tokens": 6,
        "rules": [{"name": "red", "condition": "the picture is red", "threshold": 0.01}],
    }
    assignment = await session.driver.open(params, workload="vision_stream")
    executor = worker_harness.executor()
    assert isinstance(executor, LocalExecutor)
    await executor.launch(assignment, WORKLOAD.compute)
    await session.driver.until_published("session.ready")
    for number in range(1, 4):
        await session.show("red", 2)
        await session.until_texts(lambda texts, number=number: len(texts) >= number)
    asked = await session.ask("Which colour is it?")
    texts = await session.until_texts(lambda texts: any(text.prompt_id == asked for text in texts))
    assert [text.chunk for text in texts] == list(range(1, len(texts) + 1))
    for text in texts:
        assert (text.model, text.memory, text.error) == (name, "cache", None)
        assert text.tokens is not None
        assert 1 <= text.tokens <= 6
        assert text.latency is not None
        assert text.latency.prefill_ms > 0
        assert text.latency.first_token_ms <= text.latency.total_ms
        # The question is about frames that the rules were checked in before.
        assert text.prompt_id or 0 < text.rules["red"] < 1
    figures = await session.figures()
    assert figures["state"] == "watching"
    assert figures["cached_tokens"] > 0, "what was computed for the chunk before is used again"
    await session.driver.stop()
    job = await worker_harness.driver.until(session.driver.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert (job.result["model"], job.result["failed_chunks"]) == (name, 0)
    lines = [json.loads(line) for line in (await session.stored("transcript.jsonl")).splitlines()]
    assert sum(line["type"] == "text" for line in lines) == len(await session.texts())
