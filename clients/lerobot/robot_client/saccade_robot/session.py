"""Live sessions of a robot: open one, find an open one, stop it."""

from __future__ import annotations

import http.client
import json
import logging
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from saccade_robot.errors import RobotClientError, refusal
from saccade_robot.http_link import HttpConnection
from saccade_robot.robot import RobotDescription
from saccade_robot.target import IngestTarget, target_of

log = logging.getLogger(__name__)

_ANSWER_S: Final = 10.0
#: A server that answers "unavailable", as it does while it starts, is asked again for so long, as by `saccade_client`.
UNAVAILABLE_S: Final = 30.0
_FIRST_PAUSE_S: Final = 0.3
_LONGEST_PAUSE_S: Final = 2.0
#: Statuses of a server that starts or is busy, or of a proxy in front of it.
_UNAVAILABLE: Final = frozenset({429, 502, 503, 504})
#: Short, because a stop delays the end of the program.
_STOP_S: Final = 2.0


@dataclass(frozen=True)
class Session:
    """A live session and the addresses of its telemetry."""

    id: str
    base_url: str
    target: IngestTarget
    key: str | None = field(default=None, repr=False)

    @property
    def page(self) -> str:
        """Address of the session's web page."""
        return f"{self.base_url}/sessions/{self.id}"

    def stop(self) -> None:
        """Request the end of the session; its results are kept.

        Raises:
            RobotClientError: the server refused, or did not answer.
        """
        _request(self.base_url, self.key, "POST", f"/v1/sessions/{self.id}/stop", {}, timeout_s=_STOP_S)


def open_session(
    base_url: str,
    key: str | None = None,
    *,
    workload: str = "live_splat",
    params: Mapping[str, Any] | None = None,
    robot: RobotDescription | None = None,
    idempotency_key: str | None = None,
    patience_s: float = UNAVAILABLE_S,
) -> Session:
    """Open a live session with the robot's description and calibration; streaming may start before it is ready.

    A call with the same ``idempotency_key`` returns the same session. A server that starts or is busy is asked again
    for ``patience_s``.

    Raises:
        RobotClientError: the server refused (``code`` is its own), or ``server_unreachable``.
    """
    described = {} if robot is None else {"robot": robot.as_parameter()}
    body = {"workload": workload, "params": {**described, **(params or {})}}
    headers = {"Idempotency-Key": idempotency_key or str(uuid.uuid4())}
    view = _request(base_url, key, "POST", "/v1/sessions", body, headers=headers, patience_s=patience_s)
    return _session(view, base_url, key)


def read_params(path: Path) -> dict[str, Any]:
    """Load a session's parameters from a JSON file, for example a camera's calibration.

    Raises:
        RobotClientError: the file cannot be read, or is not a JSON object.
    """
    hint = "Name a file that `saccade calibrate` wrote."
    try:
        params = json.loads(path.read_bytes())
    except OSError as error:
        raise RobotClientError("no_such_file", f"{path} cannot be read ({error.strerror}).", hint) from error
    except ValueError as error:
        raise RobotClientError("params_invalid", f"{path} is not JSON ({error}).", hint) from error
    if not isinstance(params, dict):
        raise RobotClientError("params_invalid", f"{path} is not a JSON object.", hint)
    return params


def find_session(
    base_url: str, session_id: str, key: str | None = None, *, patience_s: float = UNAVAILABLE_S
) -> Session:
    """Return a session that is already open. A server that starts or is busy is asked again for ``patience_s``.

    Raises:
        RobotClientError: the server refused (``code`` is its own), or ``server_unreachable``.
    """
    view = _request(base_url, key, "GET", f"/v1/sessions/{session_id}", patience_s=patience_s)
    return _session(view, base_url, key)


def _session(view: Mapping[str, Any], base_url: str, key: str | None) -> Session:
    base_url = base_url.rstrip("/")
    return Session(str(view["id"]), base_url, target_of(view, base_url, key), key)


def _request(
    base_url: str,
    key: str | None,
    method: str,
    path: str,
    body: Mapping[str, Any] | None = None,
    *,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = _ANSWER_S,
    patience_s: float = 0.0,
) -> dict[str, Any]:
    connection = HttpConnection(base_url, key, timeout_s)
    url = base_url.rstrip("/") + path
    sent = None if body is None else json.dumps(body).encode()
    all_headers = {**({} if sent is None else {"Content-Type": "application/json"}), **(headers or {})}
    try:
        status, answer = connection.request(method, url, sent, all_headers)
        end_s, pause_s = time.monotonic() + patience_s, _FIRST_PAUSE_S
        while status in _UNAVAILABLE and time.monotonic() + max(pause_s, connection.asked_s) <= end_s:
            if pause_s == _FIRST_PAUSE_S:
                log.warning("%s is unavailable and is asked again: %s", base_url, refusal(status, answer))
            time.sleep(max(pause_s, connection.asked_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            status, answer = connection.request(method, url, sent, all_headers)
    except (OSError, http.client.HTTPException) as error:
        message = f"No answer from {base_url} ({error or type(error).__name__})."
        hint = "Check that the server runs and that the address is right."
        raise RobotClientError("server_unreachable", message, hint) from error
    finally:
        connection.close()
    if not 200 <= status < 300:
        raise refusal(status, answer)
    try:
        view = json.loads(answer)
    except ValueError:
        view = None
    if not isinstance(view, dict):
        hint = "Check that this is the address of a Saccade server."
        raise RobotClientError(
            "unexpected_answer", f"{base_url} did not answer like a Saccade server.", hint, status=status
        )
    return view
