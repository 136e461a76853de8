"""LeRobot plugin that registers ``streamed_<type>`` for every known robot type; LeRobot imports it by its name.

LeRobot searches a robot's factory in the package of its config, so the factories are put here.
"""

from __future__ import annotations

from lerobot_robot_saccade.publishing import PublishConfig
from lerobot_robot_saccade.streamed import register_streamed_robots

__all__ = ["PublishConfig", "register_streamed_robots"]

register_streamed_robots()
