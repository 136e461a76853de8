"""The page of a session that describes video, in Chromium over the real gateway and bus; only the worker is played."""

from __future__ import annotations

from pathlib import Path

import pytest

from contracts.errors import ErrorBody
from contracts.events.session import SessionAlert, SessionText, SessionTextDelta, TextLatency
from kit.settings import NatsSettings, S3Settings
from tests.contract.pages.test_session_page_gateway import on_a_port
from tests.harness.clients.session_page_browser import WEBCAM, SessionTab, session_tab
from tests.harness.servers.gateway import RunningGateway, running_gateway
from tests.harness.sessions.scripted_session_worker import (
    ScriptedSessionWorker,
    opened,
    run_scripted_worker,
    shown,
)

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]
HOSTILE = '<img src="x" onerror="document.title=1"><b>bold</b>'
LATENCY = TextLatency(queue_ms=12, prefill_ms=80, decode_ms=200, first_token_ms=95, total_ms=292)


def text(chunk: int, said: str, **more: object) -> SessionText:
    fields = {"run_id": "r", "chunk": chunk, "text": said, "start_s": chunk - 1.0, "end_s": chunk, "latency": LATENCY}
    return SessionText.model_validate(fields | {"first_seq": chunk, "last_seq": chunk, "model": "tiny"} | more)


def delta(chunk: int, said: str) -> SessionTextDelta:
    return SessionTextDelta(run_id="r", chunk=chunk, n=1, delta=said, text=said)


async def test_the_words_of_a_camera_are_followed(session_servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*session_servers, tmp_path) as running, on_a_port(running) as origin:
        session_id = (await opened(running, workload="described"))["id"]
        async with (
            run_scripted_worker(running, session_id) as worker,
            session_tab(origin, session_id, *WEBCAM) as page,
        ):
            await worker.claim()
            await page.until_text("state", "Ready for frames")
            await _check_camera(page, worker)
            await _check_words(page, worker)
            await _check_question(page, running, worker)
            await _check_cancel(page, running, worker)
            await _check_alerts(page, worker)
            assert page.complaints() == []
            page.check_alone()
        async with session_tab(origin, session_id, size=(360, 740), scheme="dark") as page:
            await page.until("document.querySelectorAll('#words li').length", 5)
            assert await page.tab.evaluate("document.documentElement.scrollWidth") <= 360
            assert await page.text("live-words") == "The gripper opens."
            assert page.complaints() == []


async def _check_camera(page: SessionTab, worker: ScriptedSessionWorker) -> None:
    """Frames go in, each is acknowledged, and the page says in what time."""
    await page.until("document.getElementById('webcam').disabled", False)
    assert "No camera" in await page.text("overlay")
    await page.click("#webcam")
    await worker.heard(frames=3)
    await page.until("/ ms$/.test(document.getElementById('ack-delay').innerText)")
    await page.until_text("webcam", "Stop the camera")
    assert await page.text("overlay") == ""
    await page.click("#webcam")
    await page.until_text("webcam", "Use the camera")
    await page.until("document.getElementById('accepted').innerText", str(worker.totals.accepted))


async def _check_words(page: SessionTab, worker: ScriptedSessionWorker) -> None:
    """The words of a chunk stand there while they are written, then the whole text; nothing of it is markup."""
    await worker.say(delta(1, "The red"))
    await page.until_text("live-words", "The red")
    assert await page.tab.evaluate("document.getElementById('caption').classList.contains('writing')")
    await worker.say(text(1, "The red cube falls.", dropped=4))
    await page.until_text("live-words", "The red cube falls.")
    await page.until_text("live-note", "0.0–1.0 s")
    await page.until_text("delay", "292 ms")
    await page.until_text("skipped", "4")
    await worker.say(delta(1, "The red cube"))  # of a text that is complete: too late
    await worker.say(text(2, HOSTILE))
    await page.until_text("live-words", HOSTILE)
    assert await page.tab.evaluate("document.querySelectorAll('main img, main b').length") == 0
    assert await page.tab.evaluate("document.querySelector('#words .said')?.textContent") == HOSTILE
    error = ErrorBody(code="worker_broken", message="The inference failed.", hint="It goes on.")
    await worker.say(text(3, "", finish_reason="error", error=error))
    await page.until("document.querySelector('#words .bad')?.textContent", "The inference failed.")
    assert await page.text("word-count") == "(3)"


async def _check_question(page: SessionTab, running: RunningGateway, worker: ScriptedSessionWorker) -> None:
    await page.tab.evaluate("document.getElementById('question').value = 'What is <b>red</b>?'")
    await page.click("#ask-now")
    await page.until("document.getElementById('asked').innerText.startsWith('Asked')")
    (waiting,) = (await shown(running, worker.session_id))["prompts"]
    assert waiting["text"] == "What is <b>red</b>?"
    await worker.say(text(4, "The cube.", prompt_id=waiting["prompt_id"]))
    await page.until("document.querySelector('#words .question')?.textContent", "What is <b>red</b>?")
    await page.until_text("live-words", "The cube.")


async def _check_cancel(page: SessionTab, running: RunningGateway, worker: ScriptedSessionWorker) -> None:
    assert await page.tab.evaluate("document.getElementById('cancel').disabled")
    await worker.say(delta(5, "The gripper"))
    await page.until("document.getElementById('cancel').disabled", False)
    await page.click("#cancel")
    types: list[str] = []
    while "session.cancel_requested" not in types:
        types = await running.types()
    await worker.say(text(5, "The gripper opens.", finish_reason="cancelled"))
    await page.until("document.querySelector('#words .note-of-text')?.textContent", "stopped")
    assert await page.tab.evaluate("document.getElementById('cancel').disabled")


async def _check_alerts(page: SessionTab, worker: ScriptedSessionWorker) -> None:
    assert await page.text("no-alerts") == "None yet."
    alert = SessionAlert(
        run_id="r", alert=1, rule="dropped", condition="the cube falls", chunk=4, confidence=0.93, text=HOSTILE
    )
    await worker.say(alert)
    await page.until("document.querySelector('#alerts .rule')?.textContent", "dropped")
    assert "the cube falls (93 %)" in await page.text("alerts")
    assert await page.tab.evaluate("document.querySelectorAll('main img').length") == 0


async def test_each_workload_has_its_page(session_servers: Servers, tmp_path: Path) -> None:
    async with running_gateway(*session_servers, tmp_path) as running:
        splat = (await opened(running))["id"]
        watched = (await opened(running, workload="described"))["id"]
        pages = {name: await running.http.get(f"/sessions/{name}") for name in (splat, watched)}
        assert "/watch/page.js" in pages[watched].text
        assert "/watch/page.js" not in pages[splat].text
        policies = {answer.headers["content-security-policy"] for answer in pages.values()}
        assert len(policies) == 1
        tag = pages[watched].headers["etag"]
        assert tag != pages[splat].headers["etag"]
        again = await running.http.get(f"/sessions/{watched}", headers={"If-None-Match": tag})
        assert again.status_code == 304
