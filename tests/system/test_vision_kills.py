"""Kill -9 of any process while a model watches: each chunk is said once to every reader, the transcript is whole."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from saccade_client import Client, ClientError

from contracts.events.session import SessionText
from tests.harness.runtime.watched_session import picture
from tests.system.chaos import WAIT_S, Killer, System, running
from tests.system.live_record import Record, check_events, check_verdicts, read_record

VICTIMS = ("worker", "services.gateway", "services.notifier")
KILLS = 2
RULE = {"name": "red", "condition": "it is red", "cooldown_s": 0}
PARAMS = {"chunk_frames": 3, "chunk_s": 0.2, "word_s": 0.01, "rules": [RULE]}
FRAMES_EVERY_S = 0.05
COLOURS = ("green", "red", "blue")


@pytest.fixture(scope="module")
def system(tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with running(tmp_path_factory.mktemp("vision")) as system:
        yield system


@dataclass
class Camera:
    """Posts frames of one colour after the other; a gateway that is away gets the same frame again."""

    url: str
    session_id: str
    sent: int = 0
    _ends: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Camera:
        self._thread = threading.Thread(target=self._film)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ends.set()
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the camera did not stop"

    def _film(self) -> None:
        with Client(self.url) as client:
            while not self._ends.wait(FRAMES_EVERY_S):
                colour = COLOURS[int(time.monotonic()) % len(COLOURS)]
                with contextlib.suppress(ClientError):
                    client.sessions.send_frame(self.session_id, picture(colour), seq=self.sent)
                    self.sent += 1


class Reader:
    """Follows the session's events over SSE, as a client does that was told to resume."""

    def __init__(self, url: str, session_id: str) -> None:
        self.seen: list[tuple[str, int]] = []
        self._url, self._session_id = url, session_id
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    def _follow(self) -> None:
        with Client(self._url) as client, client.events(session_id=self._session_id) as events:
            for event in events:
                if event.type == "session.text":
                    self.seen.append((event.type, event.data["chunk"]))
                elif event.type == "session.alert":
                    self.seen.append((event.type, event.data["alert"]))
                elif event.type in ("session.stopped", "session.failed"):
                    return

    def follow_to_the_end(self) -> None:
        self._thread.join(WAIT_S)
        assert not self._thread.is_alive(), "the end of the session did not come"


def asked(client: Client, session_id: str, number: int, context: str) -> str:
    """Ask a question, whatever is away."""
    key, end = f"{session_id}.{number}", time.monotonic() + WAIT_S
    while True:
        try:
            return client.sessions.prompt(session_id, "What is there?", idempotency_key=key).prompt_id
        except ClientError as error:
            if not error.retryable:
                raise
            assert time.monotonic() < end, f"{context}: no question was taken"
            time.sleep(0.1)


def until(client: Client, session_id: str, holds: Callable[[Any], bool], context: str) -> None:
    """Wait until the session is as wanted, whatever is away."""
    end = time.monotonic() + WAIT_S
    while True:
        with contextlib.suppress(ClientError):
            if holds(client.sessions.get(session_id)):
                return
        assert time.monotonic() < end, f"{context}: it does not go on"
        time.sleep(0.1)


def play(system: System, victims: list[str], dice: random.Random, context: str, folder: Path) -> Record:
    """Film and ask while processes die, stop, and check what is left."""
    with Client(system.url) as client:
        session = client.sessions.open("describing", PARAMS)
        reader, prompts = Reader(system.url, session.id), []
        with Camera(system.url, session.id) as camera:
            until(client, session.id, lambda _: len(reader.seen) > 2, f"{context}: the first texts")
            for number, victim in enumerate(victims):
                attempt = client.sessions.get(session.id).job["attempt"] + (victim == "worker")
                prompts.append(asked(client, session.id, number, context))
                killer = Killer(system, victim, dice.uniform(0.0, 0.8))
                killer.start().join(timeout=30)
                assert killer.killed, f"{context}: nothing was killed"
                until(client, session.id, lambda seen, wanted=attempt: seen.job["attempt"] >= wanted, context)
                wanted_events = len(reader.seen) + 3
                until(client, session.id, lambda _, wanted=wanted_events: len(reader.seen) >= wanted, context)
        client.sessions.stop(session.id)
        until(client, session.id, lambda seen: seen.ended, f"{context}: the end")
        reader.follow_to_the_end()
        client.download(session.id.replace("ses_", "job_"), folder)
    record = asyncio.run(read_record(system, session.id))
    assert record.frames.total() >= camera.sent, f"{context}: a frame that was taken is not stored"
    check_verdicts(record, context)
    check_events(record, victims.count("worker") + 1, context)
    check_words(record, reader, prompts, context)
    check_transcript(record, folder, context)
    return record


def check_words(record: Record, reader: Reader, prompts: list[str], context: str) -> None:
    """Each chunk was said once, of frames that no other chunk had, and a reader heard all of it once."""
    texts = [envelope.parsed() for envelope in record.of_session if envelope.type == "session.text"]
    assert [text.chunk for text in texts] == list(range(1, len(texts) + 1)), f"{context}: {[t.chunk for t in texts]}"
    shown = Counter(frame.seq for text in texts if _new_frames(text, texts) for frame in text.frames)
    assert max(shown.values()) == 1, f"{context}: frames were described twice: {shown.most_common(3)}"
    answered = Counter(text.prompt_id for text in texts if text.prompt_id)
    assert answered == Counter(prompts), f"{context}: {answered} of {prompts}"
    alerts = [envelope.parsed() for envelope in record.of_session if envelope.type == "session.alert"]
    assert [alert.alert for alert in alerts] == list(range(1, len(alerts) + 1)), context
    assert alerts, f"{context}: it was red and nobody was told"
    assert len({alert.chunk for alert in alerts}) == len(alerts), f"{context}: an alert was repeated"
    said = [("session.text", text.chunk) for text in texts] + [("session.alert", alert.alert) for alert in alerts]
    assert sorted(reader.seen) == sorted(said), f"{context}: {Counter(reader.seen) - Counter(said)}"


def _new_frames(text: SessionText, texts: list[SessionText]) -> bool:
    """Return whether a text is about frames of its own: an answer may be about the last ones again."""
    earlier = texts[text.chunk - 2].frames if text.chunk > 1 else []
    return text.prompt_id is None or {frame.seq for frame in text.frames} != {frame.seq for frame in earlier}


def check_transcript(record: Record, folder: Path, context: str) -> None:
    lines = [json.loads(line) for line in (folder / "transcript.jsonl").read_text().splitlines()]
    counts = Counter(line["type"] for line in lines)
    stored = Counter(record.types)
    assert counts["text"] == stored["session.text"], context
    assert counts["alert"] == stored["session.alert"], context
    page = (folder / "transcript.html").read_text()
    assert all(f'id="chunk-{number}"' in page for number in range(1, counts["text"] + 1)), context


@pytest.mark.soak
@pytest.mark.timeout(3600)  # a soak is long; each wait in it has a limit of its own
def test_a_watching_model_outlives_whatever_is_killed(
    system: System, seed: int, soak_runs: int, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    first = dice.randrange(len(VICTIMS))
    for number in range(max(1, soak_runs // 6)):
        victims = ["worker", VICTIMS[(first + number) % len(VICTIMS)]][:KILLS]
        dice.shuffle(victims)
        context = f"--seed {seed}: run {number}, {' and '.join(victims)} killed"
        record = play(system, victims, dice, context, tmp_path / str(number))
        print(f"{context}: {len(record.acks)} frames, {record.types.count('session.text')} texts")
