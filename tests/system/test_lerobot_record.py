"""LeRobot's own ``lerobot-record`` with the plugin, against a virtual SO-101: opt-in, in an environment of its own.

Runs where LEROBOT_PYTHON names the interpreter of an environment that has LeRobot and both distributions of
``clients/lerobot`` (docs/lerobot.md says how to make one).
"""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.harness.servers.embedded import ROOT, NatsServer
from tests.harness.servers.process_output import read_line
from tests.harness.sessions.robot_server import NAMES, RobotIngestServer
from tests.harness.sessions.telemetry_listener import TelemetryListener, counted

PYTHON = os.environ.get("LEROBOT_PYTHON", "")  # noqa: TID251
pytestmark = pytest.mark.skipif(not PYTHON, reason="no LeRobot: set LEROBOT_PYTHON")

#: As a calibration is given.
PARAMS = {"gripper_from_camera": [1.0, 0.0, 0.0, -0.05, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]}

_STATES = """
import glob, json, sys
import pyarrow.parquet as parquet
states = []
for path in sorted(glob.glob(sys.argv[1] + "/data/*/*.parquet")):
    states += [[float(v) for v in row] for row in parquet.read_table(path)["observation.state"].to_pylist()]
print(json.dumps(states))
"""

_TWINS = """
import json, pathlib
from lerobot.scripts import lerobot_record
from lerobot.robots import RobotConfig, make_robot_from_config
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
known = RobotConfig.get_known_choices()
config = known["streamed_so101_follower"](port="none", id="black", calibration_dir=pathlib.Path("calibration"))
robot = make_robot_from_config(config)
made = [type(robot).__name__, robot.robot_type, robot.id, type(robot.config) is known["so101_follower"]]
print(json.dumps([list(known), made]))
"""


@pytest.fixture
def arms() -> Iterator[dict[str, Any]]:
    """Start a follower and a leader that moves, each on a serial port of its own."""
    command = [sys.executable, "-m", "simulators.arm.servos"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    # It ends with its standard input.
    with subprocess.Popen(command, cwd=ROOT, text=True, **pipes) as process:
        assert process.stdout is not None
        yield json.loads(read_line(process.stdout))


def environment(folder: Path, arms: dict[str, Any]) -> dict[str, str]:
    """Return LeRobot's environment: no hub, no display, and the calibration that the arms have in their motors."""
    calibration = folder / "calibration"
    for kind, name in (("robots/so_follower", "black"), ("teleoperators/so_leader", "blue")):
        (calibration / kind).mkdir(parents=True)
        (calibration / kind / f"{name}.json").write_text(json.dumps(arms["calibration"]))
    kept = {name: value for name, value in os.environ.items() if name not in {"DISPLAY", "PYTHONPATH"}}  # noqa: TID251
    return kept | {
        "HF_LEROBOT_CALIBRATION": str(calibration),
        "HF_LEROBOT_HOME": str(folder / "home"),
        "HF_HOME": str(folder / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "SACCADE_API_KEY": "key.secret",
    }


def recorded(
    folder: Path, arms: dict[str, Any], url: str, server: NatsServer | None = None
) -> tuple[str, Path, TelemetryListener | None]:
    """Record one episode, and give what was said, where it is and what was heard of it.

    It is done again where a motor of the virtual arm answered too late, which ends LeRobot 0.4.4 on a busy machine.
    """
    for attempt in range(4):
        of = folder / str(attempt)
        of.mkdir()
        with TelemetryListener(server) if server is not None else nullcontext() as heard:
            done = record(of, arms, url)
        if not any(late in done.stdout for late in ("There is no status packet!", "motor check failed")):
            break
    assert done.returncode == 0, done.stdout
    return done.stdout, of, heard


def record(folder: Path, arms: dict[str, Any], url: str) -> subprocess.CompletedProcess[str]:
    """Record one episode by LeRobot's own command line."""
    params = folder / "calibration.json"
    params.write_text(json.dumps(PARAMS))
    command = [
        str(Path(PYTHON).parent / "lerobot-record"),
        "--robot.type=streamed_so101_follower",
        f"--robot.port={arms['follower']}",
        "--robot.id=black",
        f"--robot.publish.url={url}",
        f"--robot.publish.params={params}",
        "--teleop.type=so101_leader",
        f"--teleop.port={arms['leader']}",
        "--teleop.id=blue",
        "--dataset.repo_id=local/virtual",
        f"--dataset.root={folder / 'dataset'}",
        "--dataset.single_task=wave",
        "--dataset.num_episodes=1",
        "--dataset.episode_time_s=5",
        "--dataset.reset_time_s=0",
        "--dataset.fps=30",
        "--dataset.push_to_hub=false",
        "--play_sounds=false",
    ]
    return subprocess.run(
        command,
        check=False,
        env=environment(folder, arms),
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )


def as_float32(values: tuple[float, ...] | list[float]) -> bytes:
    return struct.pack(f"<{len(values)}f", *values)


def test_what_arrives_is_the_dataset_bit_by_bit(nats_server: NatsServer, arms: dict[str, Any], tmp_path: Path) -> None:
    with RobotIngestServer(nats_server.settings.url) as door:
        said, folder, heard = recorded(tmp_path, arms, door.url, nats_server)
        assert door.stops == len(door.opened)
    assert heard is not None
    robot = door.opened[-1]["params"].pop("robot")
    assert door.opened[-1]["params"] == PARAMS
    assert (robot["id"], robot["type"], robot["names"]) == ("black", "so_follower", list(NAMES))
    assert robot["norm_modes"]["gripper"] == "range_0_100"
    assert robot["calibration"] == arms["calibration"]
    samples = heard.samples()
    assert counted(samples) == list(range(len(samples)))
    shown = subprocess.run(
        [PYTHON, "-c", _STATES, str(folder / "dataset")], check=True, capture_output=True, text=True, timeout=300
    )
    states = [as_float32(row) for row in json.loads(shown.stdout)]
    raw = [as_float32(sample.raw) for sample in samples if sample.raw is not None]
    assert len(states) > 60
    # The loop also observes outside of episodes: the episode's frames are those samples, in a row, without a gap.
    first = raw.index(states[0])
    assert raw[first : first + len(states)] == states
    info = json.loads((folder / "dataset/meta/info.json").read_text())
    assert info["robot_type"] == "so_follower"
    assert f"streamed: Stats(offered={len(samples)}, sent={len(samples)}, dropped=0" in said


def test_every_robot_has_a_streamed_twin_that_is_the_robot_itself(tmp_path: Path) -> None:
    done = subprocess.run([PYTHON, "-c", _TWINS], check=True, capture_output=True, text=True, cwd=tmp_path, timeout=300)
    known, made = json.loads(done.stdout)
    plain = {name for name in known if not name.startswith("streamed_")}
    assert {f"streamed_{name}" for name in plain} == set(known) - plain
    assert "so101_follower" in plain
    assert made == ["SOFollower", "so_follower", "black", True]


def test_recording_goes_on_without_any_server(arms: dict[str, Any], tmp_path: Path) -> None:
    said, folder, _ = recorded(tmp_path, arms, "http://no-such-host.invalid:8080")
    assert "no session yet: No answer from http://no-such-host.invalid:8080" in said
    assert json.loads((folder / "dataset/meta/info.json").read_text())["total_frames"] > 60
