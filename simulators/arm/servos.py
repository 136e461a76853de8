"""A virtual SO-101: a follower and a leader of six STS3215 servos each, on pseudo-terminals that any driver can open.

``python -m simulators.arm.servos`` prints one line of JSON, the paths of both devices and their calibration, and serves
until its standard input ends or it gets SIGTERM. The leader follows `ArmMotion`; the follower moves to its goals with
the lag of a real servo.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pty
import signal
import sys
import threading
import time
import tty
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from simulators.arm.feetech_protocol import BROADCAST, Instruction, Packet, PacketReader, Register, word
from simulators.arm.servo_calibration import CALIBRATION, MotorCalibration, tick_of_rad

LAG_S: Final = 0.08
_BYTE_S: Final = 10e-6  # ten bits at 1 Mbit/s
_TURNAROUND_S: Final = 2e-4
_MODEL_STS3215: Final = 777
_TICKS: Final = 4096
_SIGN_BIT: Final = 1 << 11  # of the homing offset: sign and magnitude

PositionSource = Callable[[float], Sequence[float]]


class Servo:
    """The registers of one servo and the position of its shaft, in ticks."""

    def __init__(self, calibration: MotorCalibration, position: float) -> None:
        """Start at a position, torque off."""
        self.number = calibration.id
        self.position = position
        self._memory = bytearray(256)
        self._memory[Register.FIRMWARE : Register.FIRMWARE + 2] = bytes([3, 10])
        self._memory[Register.ID] = calibration.id
        self._set_word(Register.MODEL, _MODEL_STS3215)
        self._set_word(Register.MIN_POSITION, calibration.range_min)
        self._set_word(Register.MAX_POSITION, calibration.range_max)
        self._set_word(Register.GOAL_POSITION, round(position))
        self._set_word(Register.PRESENT_POSITION, round(position))

    def read(self, address: int, count: int) -> bytes:
        """Return bytes of the memory; none beyond its end."""
        return bytes(self._memory[address : address + count])

    def write(self, address: int, data: bytes) -> None:
        """Set bytes of the memory. Enabling torque holds the shaft in place until a goal is set."""
        held = self._memory[Register.TORQUE_ENABLE]
        data = data[: max(0, len(self._memory) - address)]
        self._memory[address : address + len(data)] = data
        if self._memory[Register.TORQUE_ENABLE] and not held:
            self._set_word(Register.GOAL_POSITION, self._word(Register.PRESENT_POSITION))

    def follow(self, elapsed_s: float) -> None:
        """Move towards the goal, if torque is on."""
        if self._memory[Register.TORQUE_ENABLE]:
            goal = self._word(Register.GOAL_POSITION) + self._homing_offset()
            self.position += (goal - self.position) * (1 - math.exp(-elapsed_s / LAG_S))
        self._update_present_position()

    def set_position(self, position: float) -> None:
        """Set the position, as if the shaft was turned manually."""
        self.position = position
        self._update_present_position()

    def _update_present_position(self) -> None:
        self._set_word(Register.PRESENT_POSITION, round(self.position - self._homing_offset()) % _TICKS)

    def _homing_offset(self) -> int:
        raw = self._word(Register.HOMING_OFFSET)
        magnitude = raw & (_SIGN_BIT - 1)
        return -magnitude if raw & _SIGN_BIT else magnitude

    def _word(self, address: int) -> int:
        return int.from_bytes(self._memory[address : address + 2], "little")

    def _set_word(self, address: int, value: int) -> None:
        self._memory[address : address + 2] = word(value)


class ServoArm:
    """Six servos on one bus."""

    def __init__(self, positions_rad: Sequence[float], drive: PositionSource | None = None) -> None:
        """Set the positions; ``drive`` returns those (rad) at a time (s), for an arm that is moved manually."""
        motors = CALIBRATION.items()
        self._servos = {
            motor.id: Servo(motor, tick_of_rad(name, position))
            for (name, motor), position in zip(motors, positions_rad, strict=True)
        }
        self._drive = drive
        self._moved_at_s = time.perf_counter()
        self._began_s = self._moved_at_s

    def answer(self, packet: Packet) -> bytes:
        """Execute a packet and return the servos' answers, if any."""
        self._move()
        parameters = packet.parameters
        addressed = [s for s in self._servos.values() if packet.servo in (s.number, BROADCAST)]
        match packet.code:
            case Instruction.PING:
                return b"".join(Packet(servo.number, 0).encoded() for servo in addressed)
            case Instruction.READ if len(parameters) == 2 and packet.servo != BROADCAST:
                return b"".join(Packet(servo.number, 0, servo.read(*parameters)).encoded() for servo in addressed)
            case Instruction.WRITE if len(parameters) >= 2:
                for servo in addressed:
                    servo.write(parameters[0], parameters[1:])
                return b"" if packet.servo == BROADCAST else b"".join(Packet(s.number, 0).encoded() for s in addressed)
            case Instruction.SYNC_READ if len(parameters) > 2:
                servos = [self._servos[number] for number in parameters[2:] if number in self._servos]
                return b"".join(Packet(s.number, 0, s.read(parameters[0], parameters[1])).encoded() for s in servos)
            case Instruction.SYNC_WRITE if len(parameters) > 2:
                address, width = parameters[0], parameters[1] + 1
                for start in range(2, len(parameters) - width + 1, width):
                    if parameters[start] in self._servos:
                        self._servos[parameters[start]].write(address, parameters[start + 1 : start + width])
        return b""

    def _move(self) -> None:
        now_s = time.perf_counter()
        if self._drive is None:
            for servo in self._servos.values():
                servo.follow(now_s - self._moved_at_s)
        else:
            positions = self._drive(now_s - self._began_s)
            for name, position in zip(CALIBRATION, positions, strict=True):
                self._servos[CALIBRATION[name].id].set_position(tick_of_rad(name, position))
        self._moved_at_s = now_s


class SerialLine:
    """A pseudo-terminal with an arm; drivers open ``path``."""

    def __init__(self, arm: ServoArm, *, wire_timing: bool = True) -> None:
        """Open the pseudo-terminal; ``wire_timing`` delays answers as at 1 Mbit/s."""
        self._arm, self._wire_timing = arm, wire_timing
        self._near, self._far = pty.openpty()  # the far end stays open here, so that drivers can reconnect
        tty.setraw(self._near)
        tty.setraw(self._far)
        self.path = os.ttyname(self._far)

    def serve(self) -> None:
        """Answer packets until the process ends."""
        reader = PacketReader()
        while True:
            for packet in reader.feed(os.read(self._near, 4096)):
                answer = self._arm.answer(packet)
                if answer:
                    if self._wire_timing:
                        time.sleep(len(answer) * _BYTE_S + _TURNAROUND_S)
                    os.write(self._near, answer)


def write_calibration(folder: Path, robot_id: str) -> None:
    """Write the calibration where LeRobot (0.4.4 and later) reads it, under HF_LEROBOT_CALIBRATION."""
    text = json.dumps({name: motor._asdict() for name, motor in CALIBRATION.items()}, indent=4)
    for kind in (
        "robots/so_follower",
        "robots/so101_follower",
        "teleoperators/so_leader",
        "teleoperators/so101_leader",
    ):
        path = folder / kind / f"{robot_id}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> None:
    """Serve a follower and a leader."""
    parser = argparse.ArgumentParser(description="Serve a virtual SO-101 follower and leader on two serial lines.")
    parser.add_argument("--seed", type=int, default=0, help="seed of the leader's motion")
    parser.add_argument("--no-wire-timing", action="store_true", help="answer immediately, not at 1 Mbit/s")
    parser.add_argument("--calibration", type=Path, help="folder for LeRobot's calibration files")
    parser.add_argument("--id", default="virtual", help="LeRobot's name for the arm")
    arguments = parser.parse_args()
    from simulators.arm.motion import ArmMotion  # noqa: PLC0415 - the servos themselves need no numpy

    motion = ArmMotion(arguments.seed)
    start = motion.positions(0.0).tolist()
    timing = not arguments.no_wire_timing
    follower = SerialLine(ServoArm(start), wire_timing=timing)
    leader = SerialLine(ServoArm(start, lambda time_s: motion.positions(time_s).tolist()), wire_timing=timing)
    if arguments.calibration is not None:
        write_calibration(arguments.calibration, arguments.id)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    for line in (follower, leader):
        threading.Thread(target=line.serve, daemon=True).start()
    calibration = {name: motor._asdict() for name, motor in CALIBRATION.items()}
    started = {"follower": follower.path, "leader": leader.path, "calibration": calibration}
    sys.stdout.write(json.dumps(started) + "\n")
    sys.stdout.flush()
    while sys.stdin.buffer.read(1):
        pass


if __name__ == "__main__":
    main()
