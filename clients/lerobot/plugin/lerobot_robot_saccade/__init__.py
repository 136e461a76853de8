"""Registers ``streamed_<type>`` for every robot that LeRobot knows; LeRobot imports this by its name.

LeRobot looks what makes a robot up in the package of its config, so the makers are put here.
"""

from __future__ import annotations

from lerobot_robot_saccade.publishing import PublishConfig
from lerobot_robot_saccade.streamed import register_streamed_robots

__all__ = ["PublishConfig", "register_streamed_robots"]

register_streamed_robots()
