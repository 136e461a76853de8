"""Streaming of a robot's joints and camera frames to a Saccade session, without blocking its control loop."""

from __future__ import annotations

from saccade_robot.attachment import Attachment, attach, detach
from saccade_robot.clock import now_s
from saccade_robot.errors import RobotClientError
from saccade_robot.robot import RobotDescription, describe
from saccade_robot.session import Session, find_session, open_session, read_params
from saccade_robot.streamer import Stats, Streamer
from saccade_robot.target import HttpTarget, IngestTarget, NatsTarget, Target, target_of
from saccade_robot.units import Motor, MotorDescription, Scale, scale_of

__all__ = [
    "Attachment",
    "HttpTarget",
    "IngestTarget",
    "Motor",
    "MotorDescription",
    "NatsTarget",
    "RobotClientError",
    "RobotDescription",
    "Scale",
    "Session",
    "Stats",
    "Streamer",
    "Target",
    "attach",
    "describe",
    "detach",
    "find_session",
    "now_s",
    "open_session",
    "read_params",
    "scale_of",
    "target_of",
]
