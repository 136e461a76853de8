"""A robot and a webcam that stream into one session of an embedded system, and note what they were told."""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Self

from saccade_robot import Scale, Session, Stats, Streamer, now_s

from tests.harness.sessions.scripted_session_worker import jpeg

JOINTS_EVERY_S = 0.01
FRAMES_EVERY_S = 0.05
JPEG = jpeg()
#: Whatever proxy this machine names for the world is not for the servers of a test.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def words(source: str, number: int) -> bytes:
    """Return a picture that says which one it is."""
    return JPEG + f"picture {source} {number}".encode()


@dataclass
class Robot:
    """The arm streams by NATS with its client; the webcam posts to the gateway, one frame after the other."""

    session: Session
    #: Numbers of frames that the gateway said it has stored.
    received: list[int] = field(default_factory=list)
    posted: int = 0
    stats: Stats | None = None

    def __post_init__(self) -> None:
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=work) for work in (self._move, self._film)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End streaming, once all is sent."""
        self._ends.set()
        for thread in self._threads:
            thread.join(timeout=60)
            assert not thread.is_alive(), "the robot did not stop"

    def _move(self) -> None:
        with Streamer(self.session.target, names=("pan",), scales=[Scale(1.0)], frame_rate_hz=1000) as streamer:
            tick = 0
            while not self._ends.wait(JOINTS_EVERY_S):
                at_s = now_s()
                streamer.offer([math.sin(at_s)], at_s)
                if tick % round(FRAMES_EVERY_S / JOINTS_EVERY_S) == 0:
                    streamer.offer_frame(words("camera", tick), "camera", at_s)
                tick += 1
            self.stats = streamer.close()

    def _film(self) -> None:
        url = f"{self.session.base_url}/v1/sessions/{self.session.id}/frames"
        while not self._ends.wait(2 * FRAMES_EVERY_S):
            self.posted += 1
            headers = {"Content-Type": "image/jpeg", "X-Frame-Seq": str(self.posted), "X-Frame-Source": "webcam"}
            headers["X-Frame-Captured-At"] = repr(time.time())
            request = urllib.request.Request(url, words("webcam", self.posted), headers, method="POST")
            # What a gateway that is away may have stored all the same is found in the record.
            with contextlib.suppress(OSError), DIRECT.open(request, timeout=5) as answer:
                assert answer.status == 202
                self.received.append(self.posted)


class SessionClient:
    """Asks about one session, however long the gateway is away."""

    def __init__(self, session: Session, wait_s: float) -> None:
        self._url = f"{session.base_url}/v1"
        self._session = f"/sessions/{session.id}"
        self._job = f"/jobs/job_{session.id.removeprefix('ses_')}"
        self._wait_s = wait_s

    def look(self) -> dict[str, Any]:
        return self._ask("GET", self._session)

    def job(self) -> dict[str, Any]:
        return self._ask("GET", self._job)

    def stop(self) -> None:
        self._ask("POST", f"{self._session}/stop")

    def notes(self, name: str) -> list[dict[str, Any]]:
        """Read a chunk of the watching worker."""
        return self._ask("GET", f"{self._job}/artifacts/{name}")

    def until(self, holds: Any, what: str) -> dict[str, Any]:
        """Wait until the session is as wanted."""
        end = time.monotonic() + self._wait_s
        while not holds(seen := self.look()):
            assert time.monotonic() < end, f"it did not come to be: {what}: {seen} {self.job()}"
            time.sleep(0.05)
        return seen

    def _ask(self, method: str, path: str) -> Any:
        end = time.monotonic() + self._wait_s
        body = b"" if method == "POST" else None
        while True:
            status, said = 0, b"no answer"
            with contextlib.suppress(OSError):
                status, said = self._answer(urllib.request.Request(self._url + path, body, method=method))
            if 200 <= status < 300:
                return json.loads(said)
            assert not 400 <= status < 500, said
            assert time.monotonic() < end, f"the gateway stays away: {path}: {status} {said!r}"
            time.sleep(0.05)

    @staticmethod
    def _answer(request: urllib.request.Request) -> tuple[int, bytes]:
        try:
            with DIRECT.open(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
