"""What the command line says of streaming, as ``--robot.publish.…``, and the session that it makes of it."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path

from saccade_robot import RobotDescription, Session, find_session, open_session, read_params

from lerobot_robot_saccade.settings import api_key


@dataclass
class PublishConfig:
    """Where a robot's observations go. Every field is a plain value: a config of a robot in here hangs LeRobot."""

    #: Address of the Saccade server; without it nothing is streamed.
    url: str | None = None
    #: A session that is open already; without it one is opened, and stopped at the end.
    session: str | None = None
    workload: str = "live_splat"
    #: A JSON file with parameters of the session that is opened: a camera's calibration, say.
    params: str | None = None
    #: Name of the environment variable that holds the API key.
    key_env: str | None = "SACCADE_API_KEY"
    #: Names of the cameras to stream, with commas between them; all by default, none if empty.
    cameras: str | None = None
    frame_rate_hz: float = 10.0
    #: Send every 20 ms instead of every 5 ms.
    economy: bool = False

    @property
    def camera_names(self) -> list[str] | None:
        """Give the cameras by name, None for all of them."""
        return None if self.cameras is None else [n.strip() for n in self.cameras.split(",") if n.strip()]


class SessionOpener:
    """Opens the session of one robot; asked again after a failure, it opens the same one."""

    def __init__(self, config: PublishConfig) -> None:
        """Open nothing yet; raises ``RobotClientError`` where the parameters cannot be read."""
        self._config = config
        self._params = {} if config.params is None else read_params(Path(config.params))
        self._attempt = str(uuid.uuid4())

    def __call__(self, robot: RobotDescription) -> Session:
        """Open it; raises ``RobotClientError``."""
        config, key = self._config, api_key(self._config.key_env)
        url = config.url or ""
        if config.session:
            return find_session(url, config.session, key)
        return open_session(
            url, key, workload=config.workload, params=self._params, robot=robot, idempotency_key=self._attempt
        )
