"""Attached robots: a session that opens too late, and what is not streamed."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
from saccade_robot import Session, attach, describe, open_session
from saccade_robot.robot import RobotDescription

from tests.contract.lerobot.test_streaming import Arm
from tests.harness.servers.embedded import NatsServer
from tests.harness.sessions.robot_server import RobotIngestServer
from tests.harness.sessions.telemetry_listener import until


def test_a_session_that_opens_after_the_robot_was_disconnected_is_stopped(
    nats_server: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    arm, allowed = Arm(), threading.Event()
    with RobotIngestServer(nats_server.settings.url) as door:

        def opens(robot: RobotDescription) -> Session:
            allowed.wait(60)
            return open_session(door.url, robot=robot)

        attach(arm, opens, cameras=("wrist", "frnt"), stop_at_end=True)
        arm.connect()
        arm.disconnect()
        assert (len(door.opened), door.stops) == (0, 0)
        allowed.set()
        until(lambda: door.stops == 1)
    assert "no camera frnt that" in caplog.text


def test_joints_that_the_server_does_not_take_are_told(caplog: pytest.LogCaptureFixture) -> None:
    assert describe(SimpleNamespace(observation_features={"shoulder pan.pos": float})).names == ()
    assert "joints are not sent" in caplog.text
