"""A server with the paths of a session that a robot's client uses, which keeps what it is given; and robots' motions.

It stands for the gateway where a test is about the client: what comes in is read by the gateway's own contracts.
"""

from __future__ import annotations

import json
import math
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from contracts.telemetry import JointBatch
from tests.harness.servers.embedded import HOST

STARTING = {"code": "starting", "detail": "The gateway is starting.", "hint": "Try again later."}
SESSION = "ses_0198f0a0-0000-7000-8000-000000000001"
NAMES = ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")


def subjects(session_id: str = SESSION) -> dict[str, str]:
    """Name a session's subjects."""
    telemetry = f"saccade.tele.local.session.{session_id}"
    return {
        "joints": f"{telemetry}.joints",
        "frames": f"{telemetry}.frames",
        "clock": f"saccade.clock.local.session.{session_id}",
    }


def pose(number: int) -> tuple[float, ...]:
    """Return six positions that are unique to a number."""
    return tuple(40 * math.sin(0.01 * number + joint) + number / 7 for joint in range(6))


class RobotIngestServer:
    """The server; ``skew_s`` is how far its clock is ahead, ``answer`` what it says instead of 202.

    It answers the next ``starting`` requests for a session as a gateway does that starts.
    """

    def __init__(self, nats_url: str | None = None) -> None:
        self.opened: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.batches: list[JointBatch] = []
        self.frames: list[tuple[dict[str, str], bytes]] = []
        self.stops = 0
        self.skew_s = 0.0
        self.answer = 202
        self.starting = 0
        self.pause_s = 0.0
        self._nats_url = nats_url
        owner = self

        class Handler(_Handler):
            of = owner

        self._server = ThreadingHTTPServer((HOST, 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self._server.server_port}"

    def view(self) -> dict[str, Any]:
        """Show the session as the API does."""
        nats = None if self._nats_url is None else {"url": self._nats_url, "subjects": subjects()}
        path = f"/v1/sessions/{SESSION}"
        http = {"joints": f"{path}/joints", "frames": f"{path}/frames"}
        return {"id": SESSION, "state": "opening", "ingest": {"nats": nats, "http": http, "ws": None}}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(timeout=30)
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    of: RobotIngestServer
    protocol_version = "HTTP/1.1"
    # Headers and body go in one packet: the kernel would hold the second back.
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        if self.path == "/v1/clock":
            self._say(200, {"time_s": time.time() + self.of.skew_s})
        elif self._is_starting():
            self._say(503, STARTING)
        else:
            self._say(200, self.of.view())

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(self.of.pause_s)
        kept = dict(self.headers.items())
        if self.path == "/v1/sessions":
            self.of.headers.append(kept)
            if self._is_starting():
                self._say(503, STARTING)
                return
            self.of.opened.append(json.loads(body))
            self._say(201, self.of.view())
        elif self.path.endswith("/stop"):
            self.of.stops += 1
            self._say(202, {})
        elif self.of.answer != 202:
            self._say(self.of.answer, {"code": "session_ended", "detail": "The session is stopped."})
        elif self.path.endswith("/joints"):
            self.of.batches.append(JointBatch.model_validate_json(body))
            self._say(202, {"received": 1, "warnings": []})
        else:
            self.of.frames.append((kept, body))
            self._say(202, {"seq": 0, "status": "received"})

    def _is_starting(self) -> bool:
        self.of.starting -= 1
        return self.of.starting >= 0

    def _say(self, status: int, body: dict[str, Any]) -> None:
        answer = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)
