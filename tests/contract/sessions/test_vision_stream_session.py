"""The vision stream's worker on a real bus and bucket: every frame has one verdict, every chunk one text."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from itertools import pairwise

import psutil
import pytest

from contracts.events.session import SessionText
from contracts.job import State
from services.dispatcher.executors.executor import CallState
from tests.harness.runtime.executor_environment import ExecutorHarness, processes_of_run
from tests.harness.runtime.watched_session import WatchedSession

pytestmark = pytest.mark.anyio

RED = {"name": "red", "condition": "the picture is red", "cooldown_s": 0.0}


async def test_chunks_are_described_rules_publish_alerts_and_the_transcript_has_it_all(
    worker_harness: ExecutorHarness,
) -> None:
    session = WatchedSession(worker_harness)
    assignment = await session.open(
        {"chunk_frames": 3, "chunk_s": 0.1, "rules": [RED], "answer_schema": {"type": "object", "properties": {}}}
    )
    await session.launch(assignment)
    for colour, frames in (("green", 6), ("red", 6), ("blue", 3), ("red", 3)):
        before = len(await session.texts())
        await session.show(colour, frames, interval_s=0.03)
        await session.until_texts(lambda texts, before=before: len(texts) > before)
    await session.driver.frame(session.seq, b"\xff\xd8 no picture")
    session.seq += 1
    await session.driver.until(lambda acks: len(acks) == session.seq)
    result = await session.finish()

    texts, alerts = await session.texts(), await session.alerts()
    assert [text.chunk for text in texts] == list(range(1, len(texts) + 1))
    await session.check_frames(texts)
    for text in texts:
        assert 1 <= len(text.frames) <= 3
        assert (text.first_seq, text.last_seq) == (text.frames[0].seq, text.frames[-1].seq)
        assert (text.source, text.model, text.memory, text.finish_reason) == ("camera", "colour", "cache", "complete")
        assert text.start_s is not None
        assert text.end_s is not None
        assert 0 <= text.start_s <= text.end_s < 60
        assert text.latency is not None
        assert 0 < text.latency.total_ms < 10_000
        assert text.text.startswith("The picture is ")
        assert text.answer == {"colour": text.text.split()[-2]}
        assert set(text.rules) == {"red"}
    assert len({text.prompt_version for text in texts}) == 1
    assert [earlier.end_s for earlier, later in pairwise(texts) if later.start_s < earlier.end_s] == []

    firsts = [
        text.chunk
        for before, text in pairwise([None, *texts])
        if text.rules["red"] > 0.5 and (before is None or before.rules["red"] < 0.5)
    ]
    assert [(alert.alert, alert.chunk) for alert in alerts] == list(enumerate(firsts, 1))
    assert len(alerts) == 2
    for alert in alerts:
        backing = texts[alert.chunk - 1]
        assert (alert.rule, alert.condition, alert.confidence) == ("red", RED["condition"], 0.9)
        assert [frame.seq for frame in alert.frames] == [frame.seq for frame in backing.frames]
        assert alert.image is not None
        assert (await session.stored(alert.image.name)).startswith(b"\xff\xd8")

    rejected = [ack for ack in await session.driver.acks() if ack.status == "rejected"]
    assert [(ack.reason, ack.seq) for ack in rejected] == [("frame_unreadable", session.seq - 1)]
    assert (result["chunks"], result["texts"], result["alerts"]) == (len(texts), len(texts), 2)
    assert result["latency_p50_ms"] > 0
    lines = [json.loads(line) for line in (await session.stored("transcript.jsonl")).splitlines()]
    assert Counter(line["type"] for line in lines) == {"session": 1, "text": len(texts), "alert": 2}
    assert (await session.stored("transcript.html")).count(b"data:image/jpeg") == len(texts)
    assert (await session.stored("transcript.vtt")).startswith(b"WEBVTT")


async def test_with_overlap_each_chunk_begins_where_the_one_before_ended_also_after_a_lost_run(
    session_harness: ExecutorHarness,
) -> None:
    session = WatchedSession(session_harness)
    params = {"chunk_frames": 3, "chunk_s": 0.1, "overlap": True, "rules": [RED | {"min_chunks": 2}]}
    assignment = await session.open(params)
    call = await session.launch(assignment)
    for number in range(1, 4):
        await session.show("red", 3, interval_s=0.02)
        await session.until_texts(lambda texts, number=number: len(texts) >= number)
    for process in processes_of_run(assignment):
        process.kill()
    await session_harness.ended(session_harness.made[-1], call)
    await session.launch(await session_harness.driver.replace_attempt(assignment))
    await session.show("blue", 3, interval_s=0.02)
    await session.until_texts(lambda texts: "blue" in texts[-1].text)
    await session.driver.until(lambda acks: len(acks) == session.seq)
    await session.finish()

    texts, alerts = await session.texts(), await session.alerts()
    assert len({text.run_id for text in texts}) == 2
    assert all(len(text.frames) <= 3 for text in texts)
    for earlier, later in pairwise(texts):
        assert later.frames[0] == earlier.frames[-1]
        assert (later.first_seq, later.start_s) == (earlier.last_seq, earlier.end_s)
    new = [texts[0], *(text.model_copy(update={"frames": text.frames[1:]}) for text in texts[1:])]
    await session.check_frames(new)
    (alert,) = alerts
    backing = [frame.seq for frame in alert.frames]
    assert backing == sorted(set(backing)), "the frame that two chunks have backs the alert once"


async def test_a_killed_worker_is_replaced_and_each_text_answer_and_alert_is_there_once(
    session_harness: ExecutorHarness,
) -> None:
    seed = random.randrange(1 << 30)
    print(f"seed {seed}")
    dice = random.Random(seed)
    session = WatchedSession(session_harness)
    params = {"chunk_frames": 3, "chunk_s": 0.1, "word_s": 0.03, "rules": [RED], "memory": "history"}
    assignment = await session.open(params)
    call = await session.launch(assignment)
    await session.show("green", 4, interval_s=0.05)
    await session.until_texts(lambda texts: len(texts) >= 1)
    await session.show("red", 5, interval_s=0.05)
    await session.until_texts(lambda texts: any("red" in text.text for text in texts))
    for _ in range(2):
        await session.show("red", dice.randrange(2, 6), interval_s=0.05)
        await asyncio.sleep(dice.uniform(0.0, 0.3))
        for process in processes_of_run(assignment):
            process.kill()
        await session_harness.ended(session_harness.made[-1], call)
        asked = await session.ask("What is there?")
        await session.show("red", 3)  # while there is no worker
        assignment = await session_harness.driver.replace_attempt(assignment)
        call = await session.launch(assignment)
        await session.until_texts(lambda texts, asked=asked: any(text.prompt_id == asked for text in texts))
    await session.show("blue", 3, interval_s=0.05)
    await session.until_texts(lambda texts: "blue" in texts[-1].text)
    await session.driver.until(lambda acks: len(acks) == session.seq)
    recalled = await session.ask("What was said before?")
    texts = await session.until_texts(lambda texts: any(text.prompt_id == recalled for text in texts))
    memory = next(text.text for text in texts if text.prompt_id == recalled)
    assert "red" in memory, "the texts of the run that was killed are the memory of the next"
    result = await session.finish()

    texts, alerts = await session.texts(), await session.alerts()
    assert [text.chunk for text in texts] == list(range(1, len(texts) + 1)), "each text once, none is missing"
    assert len({text.run_id for text in texts}) == 3
    first_s = texts[0].frames[0].captured_at_s
    assert [text.start_s for text in texts] == [round(text.frames[0].captured_at_s - first_s, 3) for text in texts]
    assert [alert.alert for alert in alerts] == [1], "it stayed red all the time"
    answers = Counter(text.prompt_id for text in texts if text.prompt_id)
    assert set(answers.values()) == {1}
    assert len(answers) == 3
    new = [text for text in texts if text.prompt_id is None or text.frames[-1].seq not in _shown_before(texts, text)]
    await session.check_frames(new)
    assert (await session.driver.types()).count("session.started") == 1
    assert (result["chunks"], result["alerts"], result["answered_prompts"]) == (len(texts), 1, 3)
    lines = [json.loads(line) for line in (await session.stored("transcript.jsonl")).splitlines()]
    assert sum(line["type"] == "text" for line in lines) == len(texts)
    page = await session.stored("transcript.html")
    assert page.count(b"data:image/jpeg") == len(texts), "frames of runs that were killed before they saved them, too"


def _shown_before(texts: list[SessionText], text: SessionText) -> set[int]:
    return {frame.seq for earlier in texts if earlier.chunk < text.chunk for frame in earlier.frames}


async def test_a_flood_keeps_the_memory_flat_and_the_delay_below_two_chunks(worker_harness: ExecutorHarness) -> None:
    session = WatchedSession(worker_harness)
    assignment = await session.open({"chunk_frames": 4, "chunk_s": 0.0, "word_s": 0.06})
    await session.launch(assignment)
    await session.show("green", 2)
    await session.until_texts(lambda texts: len(texts) >= 1)
    memory = _memory_bytes(session, assignment)
    body = b"\xff\xd8" + bytes(60_000)  # as large as a frame; it is rejected when it is shown
    began_s = time.monotonic()
    for number in range(480):
        colour = None if number % 8 else "blue"
        await (session.show(colour) if colour else session.driver.frame(session.seq, body))
        session.seq += colour is None
        await asyncio.sleep(max(0.0, began_s + number / 120 - time.monotonic()))
    took_s = time.monotonic() - began_s
    grown = _memory_bytes(session, assignment) - memory
    await session.driver.until(lambda acks: len(acks) == session.seq)
    await session.finish()
    texts = await session.texts()
    await session.check_frames(texts)
    assert len(texts) >= 5, f"{took_s:.1f} s"
    assert grown < 24 << 20, f"{grown / 2**20:.1f} MiB for {480 * len(body) / 2**20:.0f} MiB of frames"
    chunk_ms = max(text.latency.total_ms for text in texts if text.latency)
    delays = sorted(text.latency.queue_ms + text.latency.total_ms for text in texts if text.latency)
    assert delays[int(0.9 * len(delays))] <= 2 * chunk_ms + 100, delays


def _memory_bytes(session: WatchedSession, assignment: object) -> int:
    processes: list[psutil.Process] = processes_of_run(assignment)  # type: ignore[arg-type]
    return sum(process.memory_info().rss for process in processes)


async def test_a_question_is_answered_a_text_cancelled_and_a_reset_forgets(worker_harness: ExecutorHarness) -> None:
    session = WatchedSession(worker_harness)
    assignment = await session.open({"chunk_s": 0.0, "word_s": 0.15, "load_s": 2.0})
    await session.launch(assignment)
    while (figures := await session.figures()).get("state") != "loading" or not 10 <= figures["loading_percent"] <= 90:
        assert figures.get("state") in (None, "loading"), "it is told while it loads"
        await asyncio.sleep(0.02)
    await session.show("green")
    await session.until_texts(lambda texts: len(texts) == 1)

    began_s = time.monotonic()
    schema = {"type": "object", "properties": {"colour": {"type": "string"}}, "required": ["colour"]}
    asked = await session.ask("Which colour is it?", answer_schema=schema)
    texts = await session.until_texts(lambda texts: len(texts) == 2)
    assert (texts[1].prompt_id, texts[1].text, texts[1].answer) == (asked, "It is green.", {"colour": "green"})
    assert texts[1].frames == texts[0].frames, "there are no newer ones"
    assert texts[1].prompt_version != texts[0].prompt_version
    assert time.monotonic() - began_s < 15.0

    await session.show("yellow")
    subject = f"saccade.prog.test.session.{session.driver.session_id}.text_delta"
    while not any(b"picture" in stored.body for stored in await session.driver.driver.progress.load(subject)):
        await asyncio.sleep(0.01)
    await session.cancel()
    texts = await session.until_texts(lambda texts: len(texts) == 3)
    assert texts[2].finish_reason == "cancelled"
    assert "The picture ".startswith(texts[2].text[:12])
    assert texts[2].tokens is not None
    assert 2 <= texts[2].tokens <= 4, "one word more than was heard of"

    await session.driver.reset()
    while not any(acked.reset for acked in await session.driver.acked()):
        await asyncio.sleep(0.02)
    await session.show("blue")
    await session.until_texts(lambda texts: len(texts) >= 4)
    recalled = await session.ask("What was said before?")
    texts = await session.until_texts(lambda texts: any(text.prompt_id == recalled for text in texts))
    memory = next(text.text for text in texts if text.prompt_id == recalled)
    assert "green" not in memory
    assert [text.chunk for text in texts] == list(range(1, len(texts) + 1))
    await session.finish()


async def test_a_failed_inference_is_one_text_without_words_and_five_in_a_row_end_the_session(
    worker_harness: ExecutorHarness,
) -> None:
    session = WatchedSession(worker_harness)
    assignment = await session.open({"chunk_s": 0.0, "chunk_frames": 1})
    call = await session.launch(assignment)
    for number, colour in enumerate(("dark", "dark", "dark", "dark", "green"), 1):
        await session.show(colour)
        await session.until_texts(lambda texts, number=number: len(texts) == number)
    texts = await session.texts()
    assert [text.finish_reason for text in texts] == ["error"] * 4 + ["complete"]
    assert texts[0].error is not None
    assert "there is nothing to see in the dark" in texts[0].error.message
    for _ in range(5):
        asked = await session.ask("Why? " * 100)
        await session.show("green")
        texts = await session.until_texts(lambda texts, asked=asked: any(text.prompt_id == asked for text in texts))
        answer = next(text for text in texts if text.prompt_id == asked)
        assert answer.error is not None, "the question's fault, which ends no session"
        assert answer.error.code == "invalid_parameter"
    described = len(texts)
    for number in range(described + 1, described + 5):
        await session.show("dark")
        await session.until_texts(lambda texts, number=number: len(texts) == number)
    await session.show("dark")
    status = await worker_harness.ended(worker_harness.made[-1], call)
    assert status.state is not CallState.RUNNING
    job = await worker_harness.driver.until_job(session.driver.job_id, lambda job: job.state is not State.RUNNING)
    assert job.error is not None
    assert "5 times in a row" in job.error.message


async def test_too_large_a_chunk_for_the_device_ends_the_run_at_once_for_a_larger_one(
    worker_harness: ExecutorHarness,
) -> None:
    session = WatchedSession(worker_harness)
    assignment = await session.open({"chunk_s": 0.0, "memory_px": 1000})
    call = await session.launch(assignment)
    await session.show("green")
    await worker_harness.ended(worker_harness.made[-1], call)
    job = await worker_harness.driver.until_job(session.driver.job_id, lambda job: job.state is not State.RUNNING)
    assert job.error is not None
    assert (job.failure, job.error.code) == ("out_of_memory", "out_of_memory")
    assert await session.texts() == [], "the next run describes these frames"


async def test_a_session_ends_at_once_while_it_loads_and_soon_while_it_speaks(worker_harness: ExecutorHarness) -> None:
    loading = WatchedSession(worker_harness)
    await loading.launch(await loading.open({"load_s": 60.0}))
    while (await loading.figures()).get("state") != "loading":
        await asyncio.sleep(0.02)
    await loading.show("green")
    began_s = time.monotonic()
    assert await _totals_of(loading) == (1, 1)
    assert time.monotonic() - began_s < 20.0
    assert (await loading.stored("transcript.vtt")).startswith(b"WEBVTT")

    speaking = WatchedSession(worker_harness)
    await speaking.launch(await speaking.open({"word_s": 1.0, "chunk_frames": 6, "chunk_s": 0.1}))
    for colour in ("red", "green", "blue", "yellow", "white", "grey"):
        await speaking.show(colour)
    subject = f"saccade.prog.test.session.{speaking.driver.session_id}.text_delta"
    while not await speaking.driver.driver.progress.load(subject):
        await asyncio.sleep(0.02)
    await speaking.finish()
    (text,) = await speaking.texts()
    assert text.finish_reason == "cancelled"
    assert text.tokens is not None
    assert 2 <= text.tokens <= 5, "of ten words, a second each"


async def _totals_of(session: WatchedSession) -> tuple[int, int]:
    """Return how many frames the session got, and how many of them it dropped at its end."""
    totals = (await session.finish())["totals"]
    return totals["sent"], totals["dropped"]


async def test_who_waits_for_the_weights_is_not_idle(worker_harness: ExecutorHarness) -> None:
    session = WatchedSession(worker_harness)
    await session.launch(await session.open({"load_s": 3.0, "chunk_s": 0.0}, idle_timeout_s=1.5))
    while (await session.figures()).get("loading_percent") != 100:
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.5)
    await session.show("green")
    await session.until_texts(lambda texts: len(texts) == 1)
    job = await worker_harness.driver.until(session.driver.job_id, State.SUCCEEDED)
    assert job.result is not None
    assert job.result["reason"] == "idle"


async def test_two_sessions_at_once_never_hear_of_each_other(worker_harness: ExecutorHarness) -> None:
    sessions = {colour: WatchedSession(worker_harness) for colour in ("red", "blue")}
    for session in sessions.values():
        await session.launch(await session.open({"chunk_s": 0.0, "chunk_frames": 1, "memory": "history"}))
    for _ in range(4):
        for colour, session in sessions.items():
            await session.show(colour)
            await asyncio.sleep(0.05)
    for colour, session in sessions.items():
        await session.until_texts(lambda texts: len(texts) >= 1)
        recalled = await session.ask("What was said before?")
        texts = await session.until_texts(lambda texts, asked=recalled: any(text.prompt_id == asked for text in texts))
        (other,) = set(sessions) - {colour}
        assert all(other not in text.text for text in texts)
        assert any(colour in text.text for text in texts if text.prompt_id == recalled)
        await session.finish()
