"""Registration of streamed robot types: the factory returns the original robot, attached to a session.

LeRobot calls the object named like the config without ``Config`` (``import_utils.py``,
``make_device_from_device_class``), so a function is enough: it returns the robot of the inner type, whose name, type
and id select its calibration and are stored in datasets.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import logging
from collections.abc import Callable
from typing import Any, Final

from lerobot.robots import RobotConfig, make_robot_from_config
from saccade_robot import attach

from lerobot_robot_saccade.publishing import PublishConfig, SessionOpener

log = logging.getLogger(__name__)

_OURS: Final = "lerobot_robot_saccade"
_PREFIX: Final = "streamed_"
#: Prefix of the distributions that LeRobot takes for plugins.
_PLUGIN_PREFIX: Final = "lerobot_robot_"


def register_streamed_robots() -> dict[str, Callable[[Any], Any]]:
    """Register a streamed type for each known robot type, and return the factories by name.

    Called when LeRobot imports this plugin. A program that registers robot types later calls it again.
    """
    _import_other_plugins()
    makers: dict[str, Callable[[Any], Any]] = {}
    known: dict[str, type[Any]] = dict(RobotConfig.get_known_choices())
    for name, config in known.items():
        if name.startswith(_PREFIX) or _PREFIX + name in known:
            continue
        try:
            maker = _register(name, config)
        except Exception:
            log.exception("%s cannot be streamed", name)
        else:
            makers[maker.__name__] = maker
    # LeRobot searches the factories in the package.
    vars(importlib.import_module(_OURS)).update(makers)
    return makers


def _register(name: str, inner: type[Any]) -> Callable[[Any], Any]:
    words = "".join(word.capitalize() for word in (_PREFIX + name).replace("-", "_").split("_"))
    config = dataclasses.make_dataclass(
        f"{words}Config",
        [("publish", PublishConfig, dataclasses.field(default_factory=PublishConfig))],
        bases=(inner,),
        namespace={"__module__": f"{_OURS}.streamed", "__doc__": f"{inner.__name__}, and where its data goes."},
        kw_only=True,
    )
    # Python 3.12 overwrites the module with the caller's.
    config.__module__ = f"{_OURS}.streamed"
    RobotConfig.register_subclass(_PREFIX + name)(config)

    def make(streamed: Any) -> Any:
        """Create the robot and attach it."""
        values = {f.name: getattr(streamed, f.name) for f in dataclasses.fields(inner) if f.init}
        robot = make_robot_from_config(inner(**values))
        publish: PublishConfig = streamed.publish
        if publish.url:
            _attach(robot, publish)
        else:
            log.warning("--robot.publish.url is not given: nothing is streamed")
        return robot

    make.__name__ = make.__qualname__ = words
    return make


def _attach(robot: Any, publish: PublishConfig) -> None:
    try:
        attach(
            robot,
            SessionOpener(publish),
            cameras=publish.camera_names,
            stop_at_end=publish.session is None,
            economy=publish.economy,
            frame_rate_hz=publish.frame_rate_hz,
        )
    except Exception:
        log.exception("the robot is not streamed; it works normally")


def _import_other_plugins() -> None:
    """Import other plugins, so that their robots are registered before ours."""
    for distribution in importlib.metadata.distributions():
        name = distribution.metadata["Name"] or ""
        if name.startswith(_PLUGIN_PREFIX) and name != _OURS:
            try:
                importlib.import_module(name)
            except Exception as error:  # noqa: BLE001 - LeRobot reports it when it imports the plugin itself
                log.debug("%s: %s", name, error)
