"""A client of Feetech servos on a serial line: reads and writes all servos of an arm in one packet."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Final, Self

from simulators.arm.feetech_protocol import BROADCAST, Instruction, Packet, PacketReader, Register, word

_ANSWER_TIMEOUT_S: Final = 0.25
_ATTEMPTS: Final = 3


class ServoBus:
    """One serial line with servos. Not thread-safe.

    Raises:
        OSError: the device cannot be opened, or has disappeared.
    """

    def __init__(self, path: str) -> None:
        """Open the line at 1 Mbit/s, raw."""
        self._file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        tty.setraw(self._file)
        settings = termios.tcgetattr(self._file)
        settings[4] = settings[5] = termios.B1000000
        termios.tcsetattr(self._file, termios.TCSANOW, settings)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the line."""
        os.close(self._file)

    def ping(self, servo: int) -> bool:
        """Return whether a servo answers."""
        return servo in self._request(Packet(servo, Instruction.PING), [servo], attempts=1)

    def read(self, register: Register, servos: Sequence[int], count: int = 2) -> dict[int, int]:
        """Return a register of ``count`` bytes of several servos, read in one packet.

        Raises:
            TimeoutError: a servo did not answer, after three attempts.
        """
        packet = Packet(BROADCAST, Instruction.SYNC_READ, bytes([register, count, *servos]))
        answers = self._request(packet, servos, attempts=_ATTEMPTS)
        silent = [servo for servo in servos if len(answers.get(servo, b"")) != count]
        if silent:
            raise TimeoutError(f"servos {silent} do not answer: is the arm switched on and its cable connected?")
        return {servo: int.from_bytes(answers[servo], "little") for servo in servos}

    def positions(self, servos: Sequence[int]) -> dict[int, int]:
        """Return the positions of servos, in ticks."""
        return self.read(Register.PRESENT_POSITION, servos)

    def move(self, ticks: Mapping[int, int]) -> None:
        """Send goals in ticks, in one packet without answers."""
        goals = b"".join(bytes([servo]) + word(tick) for servo, tick in ticks.items())
        self._send(Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([Register.GOAL_POSITION, 2]) + goals))

    def torque(self, servos: Sequence[int], *, on: bool) -> None:
        """Turn the torque on or off."""
        flags = b"".join(bytes([servo, on]) for servo in servos)
        self._send(Packet(BROADCAST, Instruction.SYNC_WRITE, bytes([Register.TORQUE_ENABLE, 1]) + flags))

    def _send(self, packet: Packet) -> None:
        os.write(self._file, packet.encoded())

    def _request(self, packet: Packet, servos: Sequence[int], *, attempts: int) -> dict[int, bytes]:
        answers: dict[int, bytes] = {}
        for _ in range(attempts):
            termios.tcflush(self._file, termios.TCIFLUSH)
            self._send(packet)
            reader, until_s = PacketReader(), time.monotonic() + _ANSWER_TIMEOUT_S
            while (left_s := until_s - time.monotonic()) > 0:
                if not select.select([self._file], [], [], left_s)[0]:
                    break
                answers |= {answer.servo: answer.parameters for answer in reader.feed(os.read(self._file, 4096))}
                if all(servo in answers for servo in servos):
                    return answers
        return answers
