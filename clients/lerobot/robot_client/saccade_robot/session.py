"""Opens a live session for a robot, finds one that is open, and stops it."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from saccade_robot.errors import RobotClientError, refusal
from saccade_robot.http_link import HttpConnection
from saccade_robot.robot import RobotDescription
from saccade_robot.target import IngestTarget, target_of

_ANSWER_S: Final = 10.0
#: Stopping stands at the end of a program, which somebody waits for.
_STOP_S: Final = 2.0


@dataclass(frozen=True)
class Session:
    """A live session and where its telemetry goes."""

    id: str
    base_url: str
    target: IngestTarget
    key: str | None = field(default=None, repr=False)

    @property
    def page(self) -> str:
        """Give the address of the page that shows it."""
        return f"{self.base_url}/sessions/{self.id}"

    def stop(self) -> None:
        """Ask the session to end; what it made stays.

        Raises:
            RobotClientError: the server refused, or did not answer.
        """
        _ask(self.base_url, self.key, "POST", f"/v1/sessions/{self.id}/stop", {}, timeout_s=_STOP_S)


def open_session(
    base_url: str,
    key: str | None = None,
    *,
    workload: str = "live_splat",
    params: Mapping[str, Any] | None = None,
    robot: RobotDescription | None = None,
    idempotency_key: str | None = None,
) -> Session:
    """Open a live session, telling it of the robot and its calibration; it need not be ready to be streamed to.

    A call with the same ``idempotency_key`` gives the same session.

    Raises:
        RobotClientError: the server refused (``code`` is its own), or ``server_unreachable``.
    """
    told = {} if robot is None else {"robot": robot.as_parameter()}
    body = {"workload": workload, "params": {**told, **(params or {})}}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    return _session(_ask(base_url, key, "POST", "/v1/sessions", body, headers=headers), base_url, key)


def read_params(path: Path) -> dict[str, Any]:
    """Read a session's parameters from a file, a camera's calibration say.

    Raises:
        RobotClientError: the file is not there, or no JSON object.
    """
    hint = "Name a file that `saccade calibrate` wrote."
    try:
        params = json.loads(path.read_bytes())
    except OSError as error:
        raise RobotClientError("no_such_file", f"{path} cannot be read ({error.strerror}).", hint) from error
    except ValueError as error:
        raise RobotClientError("params_invalid", f"{path} is no JSON ({error}).", hint) from error
    if not isinstance(params, dict):
        raise RobotClientError("params_invalid", f"{path} is no JSON object.", hint)
    return params


def find_session(base_url: str, session_id: str, key: str | None = None) -> Session:
    """Find a session that somebody has opened.

    Raises:
        RobotClientError: the server refused (``code`` is its own), or ``server_unreachable``.
    """
    return _session(_ask(base_url, key, "GET", f"/v1/sessions/{session_id}"), base_url, key)


def _session(view: Mapping[str, Any], base_url: str, key: str | None) -> Session:
    base_url = base_url.rstrip("/")
    return Session(str(view["id"]), base_url, target_of(view, base_url, key), key)


def _ask(
    base_url: str,
    key: str | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = _ANSWER_S,
) -> dict[str, Any]:
    door = HttpConnection(base_url, key, timeout_s)
    sent = None if body is None else json.dumps(body).encode()
    said = {**({} if sent is None else {"Content-Type": "application/json"}), **(headers or {})}
    try:
        status, answer = door.ask(method, base_url.rstrip("/") + path, sent, said)
    except (OSError, http.client.HTTPException) as error:
        message = f"No answer from {base_url} ({error or type(error).__name__})."
        hint = "See that it runs and that this address is right."
        raise RobotClientError("server_unreachable", message, hint) from error
    finally:
        door.close()
    if not 200 <= status < 300:
        raise refusal(status, answer)
    try:
        view = json.loads(answer)
    except ValueError:
        view = None
    if not isinstance(view, dict):
        hint = "See that this is the address of a Saccade server."
        raise RobotClientError("unexpected_answer", f"{base_url} answered something else.", hint, status=status)
    return view
