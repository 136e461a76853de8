"""Options ``--robot.publish.…`` of the command line, and the session that they open."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from saccade_robot import RobotDescription, Session, find_session, open_session, read_params

from lerobot_robot_saccade.settings import api_key


@dataclass
class PublishConfig:
    """Destination of a robot's observations. All fields are plain values: a robot config in here hangs LeRobot."""

    #: Address of the Saccade server; nothing is streamed without it.
    url: str | None = None
    #: Id of an open session; by default one is opened, and stopped at the end.
    session: str | None = None
    workload: str = "live_splat"
    #: JSON file with parameters of the new session, for example a camera's calibration.
    params: str | None = None
    #: Name of the environment variable that holds the API key.
    key_env: str | None = "SACCADE_API_KEY"
    #: Comma-separated names of the cameras to stream; all by default, none if empty.
    cameras: str | None = None
    frame_rate_hz: float = 10.0
    #: Send every 20 ms instead of every 5 ms.
    economy: bool = False

    @property
    def camera_names(self) -> list[str] | None:
        """Names of the cameras; None for all."""
        return None if self.cameras is None else [n.strip() for n in self.cameras.split(",") if n.strip()]


class SessionOpener:
    """Function that opens the session of one robot; a retry returns the same session."""

    def __init__(self, config: PublishConfig) -> None:
        """Load the parameters; raises ``RobotClientError`` if they cannot be read."""
        self._config = config
        self._params = {} if config.params is None else read_params(Path(config.params))
        self._idempotency_key = str(uuid.uuid4())

    def __call__(self, robot: RobotDescription) -> Session:
        """Open or find the session; raises ``RobotClientError``, after which the streamer calls again."""
        config, key = self._config, api_key(self._config.key_env)
        url = config.url or ""
        if config.session:
            return find_session(url, config.session, key, patience_s=0.0)
        return open_session(
            url,
            key,
            workload=config.workload,
            params=self._params,
            robot=robot,
            idempotency_key=self._idempotency_key,
            patience_s=0.0,
        )
