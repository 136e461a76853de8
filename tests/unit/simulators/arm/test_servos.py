"""The servos of the virtual SO-101, in their own process on a real pseudo-terminal, and the robot built on them."""

from __future__ import annotations

import json
import math
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modal_workers.live_splat.kinematics import SO101, SO101_JOINTS
from modal_workers.live_splat.rigid_transform import inverse_poses
from simulators.arm.feetech_client import ServoBus
from simulators.arm.feetech_protocol import BROADCAST, Instruction, Packet, PacketReader, Register
from simulators.arm.motion import ArmMotion
from simulators.arm.robot import VirtualRobot, WristCamera
from simulators.arm.servo_calibration import (
    CALIBRATION,
    rad_of_value,
    tick_of_rad,
    tick_of_value,
    value_of_rad,
    value_of_tick,
)
from simulators.arm.servos import LAG_S
from simulators.arm.table_scene import TableScene
from simulators.arm.wrist_camera import world_from_camera
from tests.harness.servers.process_output import read_line

SERVOS = list(range(1, 7))
MIDDLE = {motor.id: (motor.range_min + motor.range_max) // 2 for motor in CALIBRATION.values()}
SEED = 3


def launched(*options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "simulators.arm.servos", "--seed", str(SEED), *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def announced_devices(process: subprocess.Popen[bytes]) -> dict[str, Any]:
    assert process.stdout is not None
    return json.loads(read_line(process.stdout))


@pytest.fixture(scope="module")
def arms() -> Iterator[dict[str, Any]]:
    with launched() as process:
        yield announced_devices(process)
        process.communicate(timeout=30)
    assert process.returncode == 0


@pytest.fixture
def follower(arms: dict[str, Any]) -> Iterator[ServoBus]:
    with ServoBus(arms["follower"]) as bus:
        bus.torque(SERVOS, on=True)
        yield bus
        bus.torque(SERVOS, on=False)


def settled(bus: ServoBus, goals: dict[int, int]) -> dict[int, int]:
    """Wait until all servos stand within a tick of their goals, or ten seconds."""
    until = time.monotonic() + 10
    positions = bus.positions(list(goals))
    while time.monotonic() < until and any(abs(positions[servo] - goal) > 1 for servo, goal in goals.items()):
        time.sleep(0.02)
        positions = bus.positions(list(goals))
    return positions


def raw_answer(path: str, data: bytes, patience_s: float) -> bytes:
    line = os.open(path, os.O_RDWR | os.O_NOCTTY)
    try:
        os.write(line, data)
        return os.read(line, 4096) if select.select([line], [], [], patience_s)[0] else b""
    finally:
        os.close(line)


def test_all_servos_answer_with_their_model(follower: ServoBus) -> None:
    assert all(follower.ping(servo) for servo in SERVOS)
    assert not follower.ping(9)
    assert follower.read(Register.MODEL, SERVOS) == dict.fromkeys(SERVOS, 777)
    for motor in CALIBRATION.values():
        assert follower.read(Register.MIN_POSITION, [motor.id])[motor.id] == motor.range_min
        assert follower.read(Register.MAX_POSITION, [motor.id])[motor.id] == motor.range_max


def test_servos_move_to_their_goals(follower: ServoBus) -> None:
    random = np.random.default_rng(SEED)
    for _ in range(2):
        goals = {m.id: int(random.integers(m.range_min, m.range_max + 1)) for m in CALIBRATION.values()}
        follower.move(goals)
        reached = settled(follower, goals)
        assert all(abs(reached[servo] - goal) <= 1 for servo, goal in goals.items()), (SEED, goals, reached)


def test_a_servo_lags_and_does_not_move_without_torque(follower: ServoBus) -> None:
    follower.move(MIDDLE)
    settled(follower, MIDDLE)
    sent_at = time.perf_counter()
    follower.move({1: MIDDLE[1] + 800})
    on_its_way = follower.positions([1])[1]
    most = 800 * (1 - math.exp(-(time.perf_counter() - sent_at) / LAG_S))
    assert on_its_way <= MIDDLE[1] + most + 2, "it cannot be there at once"
    settled(follower, {1: MIDDLE[1] + 800})
    follower.torque([1], on=False)
    follower.move({1: MIDDLE[1]})
    time.sleep(0.3)
    assert follower.positions([1])[1] == pytest.approx(MIDDLE[1] + 800, abs=1)
    follower.torque([1], on=True)
    time.sleep(0.3)
    assert follower.positions([1])[1] == pytest.approx(MIDDLE[1] + 800, abs=1), "torque holds it where it is"


def test_single_reads_and_writes_are_answered(arms: dict[str, Any], follower: ServoBus) -> None:
    follower.torque([2], on=False)
    goal = (1234).to_bytes(2, "little")
    written = raw_answer(
        arms["follower"], Packet(2, Instruction.WRITE, bytes([Register.GOAL_POSITION]) + goal).encoded(), 5
    )
    assert written == Packet(2, 0).encoded()
    read = raw_answer(arms["follower"], Packet(2, Instruction.READ, bytes([Register.GOAL_POSITION, 2])).encoded(), 5)
    assert read == Packet(2, 0, goal).encoded()


@pytest.mark.parametrize(
    "damaged",
    [
        pytest.param(Packet(1, Instruction.PING).encoded()[:-1] + b"\x00", id="checksum"),
        pytest.param(b"\xff\xff\x01\x01\xfb", id="too-short"),
        pytest.param(b"\xff\xff\x01\xff\x01\xfb", id="too-long"),
        pytest.param(b"hello\xff", id="noise"),
        pytest.param(Packet(1, 0x55).encoded(), id="no-such-instruction"),
        pytest.param(Packet(1, Instruction.READ, b"\x38").encoded(), id="no-length"),
        pytest.param(Packet(BROADCAST, Instruction.SYNC_WRITE, b"\x2a\x02\x01").encoded(), id="cut-goal"),
    ],
)
def test_damaged_packets_are_ignored(arms: dict[str, Any], follower: ServoBus, damaged: bytes) -> None:
    before = follower.positions(SERVOS)
    assert raw_answer(arms["follower"], damaged, 0.15) == b""
    assert follower.ping(1), "the next packet is answered"
    assert follower.positions(SERVOS) == before
    whole = damaged + Packet(3, Instruction.PING).encoded()
    if not damaged.startswith(b"\xff\xff\x01\xff"):
        assert Packet(3, 0).encoded() in raw_answer(arms["follower"], whole, 5)


def test_packets_are_found_in_any_fragmentation() -> None:
    random = np.random.default_rng(SEED)
    packets = [Packet(int(random.integers(1, 7)), 0, random.bytes(int(random.integers(0, 30)))) for _ in range(40)]
    stream = b"".join(packet.encoded() for packet in packets)
    cuts = sorted(random.integers(0, len(stream), 60).tolist())
    reader = PacketReader()
    found = [
        p for low, high in zip([0, *cuts], [*cuts, len(stream)], strict=True) for p in reader.feed(stream[low:high])
    ]
    assert found == packets, SEED
    assert reader.damaged == 0


def test_a_missing_servo_is_reported(follower: ServoBus) -> None:
    with pytest.raises(TimeoutError, match=r"\[9\]"):
        follower.positions([1, 9])


def test_the_leader_follows_the_motion(arms: dict[str, Any]) -> None:
    motion = ArmMotion(SEED)
    path = motion.positions(np.linspace(0, motion.period_s, 4801))
    with ServoBus(arms["leader"]) as leader:
        first = leader.positions(SERVOS)
        time.sleep(0.5)
        second = leader.positions(SERVOS)
    assert first != second
    for ticks in (first, second):
        radians = [rad_of_value(name, value_of_tick(name, ticks[motor.id])) for name, motor in CALIBRATION.items()]
        assert np.abs(path - radians).max(axis=1).min() < 0.004, (SEED, radians)


def test_units_convert_both_ways() -> None:
    for name, motor in CALIBRATION.items():
        lower, upper = SO101.limits_rad[name]
        for tick in (motor.range_min, 2048, motor.range_max):
            value = value_of_tick(name, tick)
            assert tick_of_value(name, value) == pytest.approx(tick)
            assert tick_of_rad(name, rad_of_value(name, value)) == pytest.approx(tick)
            assert value_of_rad(name, rad_of_value(name, value)) == pytest.approx(value)
        if name != "wrist_roll":
            assert rad_of_value(name, value_of_tick(name, motor.range_min)) == pytest.approx(lower, abs=3e-3)
            assert rad_of_value(name, value_of_tick(name, motor.range_max)) == pytest.approx(upper, abs=3e-3)


def test_the_robot_observes_the_positions_it_was_sent(arms: dict[str, Any]) -> None:
    robot = VirtualRobot(arms["follower"])
    with pytest.raises(ConnectionError, match="connect"):
        robot.get_observation()
    robot.connect()
    try:
        wanted = {name + ".pos": value_of_rad(name, 0.25) for name in SO101_JOINTS}
        sent = robot.send_action(wanted)
        assert sent == pytest.approx(wanted, abs=0.1)
        assert robot.send_action({"elbow_flex.pos": 1e6})["elbow_flex.pos"] < 100, "within its range"
        robot.send_action(wanted)
        until = time.monotonic() + 10
        observed = robot.get_observation()
        while time.monotonic() < until and observed != pytest.approx(sent, abs=0.1):
            observed = robot.get_observation()
        assert observed == pytest.approx(sent, abs=0.1), "within a tick"
        assert set(observed) == set(robot.observation_features)
    finally:
        robot.disconnect()
    assert not robot.is_connected


def test_the_wrist_camera_shows_the_reported_pose(arms: dict[str, Any]) -> None:
    scene = TableScene(SEED)
    camera = WristCamera(scene, 80, 60, rate_hz=1000.0, offsets_rad={"wrist_flex": 0.05})
    robot = VirtualRobot(arms["follower"], camera)
    assert robot.observation_features["wrist"] == (60, 80, 3)
    robot.connect()
    try:
        robot.send_action({name + ".pos": value_of_rad(name, p) for name, p in ArmMotion(SEED).named(2.0).items()})
        time.sleep(2.0)
        observed = robot.get_observation()
        again = robot.get_observation()
    finally:
        robot.disconnect()
    said = np.array([rad_of_value(name, observed[name + ".pos"]) for name in SO101_JOINTS])
    said[3] += 0.05
    expected = scene.render(camera.matrix, inverse_poses(world_from_camera(said)), 80, 60)
    assert np.array_equal(observed["wrist"], expected)
    assert again["wrist"] is not observed["wrist"], "every picture is a new one"
    assert robot.cameras["wrist"].latest_frame is again["wrist"]


@pytest.mark.parametrize("how", ["stdin", "sigterm"])
def test_it_ends_with_its_parent_or_on_request(how: str, tmp_path: Path) -> None:
    with launched("--calibration", str(tmp_path), "--id", "arm7") as process:
        devices = announced_devices(process)
        assert devices["follower"] != devices["leader"]
        if how == "sigterm":
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0
        else:
            process.communicate(timeout=20)
            assert process.returncode == 0
    for kind in ("robots/so_follower", "teleoperators/so_leader"):
        kept = json.loads((tmp_path / kind / "arm7.json").read_text())
        assert kept == devices["calibration"]
        assert kept["gripper"] == {
            "id": 6,
            "drive_mode": 0,
            "homing_offset": 0,
            "range_min": 1934,
            "range_max": 3185,
        }
