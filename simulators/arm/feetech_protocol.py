"""The Feetech servo protocol: packets with a checksum on a half-duplex line, as an STS3215 speaks it.

Source: Feetech, "SCServo communication protocol"; LeRobot's motors/feetech.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

HEADER: Final = b"\xff\xff"
BROADCAST: Final = 0xFE
_LONGEST: Final = 250
_PAUSE_S: Final = 0.1


class Instruction(IntEnum):
    """What a packet asks for."""

    PING = 0x01
    READ = 0x02
    WRITE = 0x03
    SYNC_READ = 0x82
    SYNC_WRITE = 0x83


class Register(IntEnum):
    """Addresses in a servo's memory; words are little-endian."""

    FIRMWARE = 0
    MODEL = 3
    ID = 5
    MIN_POSITION = 9
    MAX_POSITION = 11
    HOMING_OFFSET = 31
    TORQUE_ENABLE = 40
    GOAL_POSITION = 42
    PRESENT_POSITION = 56


class Packet(NamedTuple):
    """One packet: ``code`` is an instruction on the way to a servo, and its error flags on the way back."""

    servo: int
    code: int
    parameters: bytes = b""

    def encoded(self) -> bytes:
        """Give the packet as it goes over the line."""
        body = bytes([self.servo, len(self.parameters) + 2, self.code]) + self.parameters
        return HEADER + body + bytes([~sum(body) & 0xFF])


class PacketReader:
    """Finds packets in bytes as they come; what is damaged is passed over.

    The bytes of a packet follow each other closely: what is not complete when a pause ends never will be.
    """

    def __init__(self) -> None:
        """Begin with nothing."""
        self._waiting = b""
        self._fed_at_s = 0.0
        self.damaged = 0

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Take bytes and give the packets they complete."""
        now_s = time.monotonic()
        if self._waiting and now_s - self._fed_at_s > _PAUSE_S:
            self.damaged += 1
            self._waiting = b""
        self._fed_at_s = now_s
        self._waiting += data
        while (start := self._waiting.find(HEADER)) >= 0:
            waiting = self._waiting = self._waiting[start:]
            if len(waiting) < 4:
                return
            end = 4 + waiting[3]
            whole = 2 <= waiting[3] <= _LONGEST and waiting[2] != 0xFF
            if whole and len(waiting) < end:
                return
            if not whole or (~sum(waiting[2 : end - 1]) & 0xFF) != waiting[end - 1]:
                self.damaged += 1
                self._waiting = waiting[1:]  # a header may begin within what is damaged
                continue
            self._waiting = waiting[end:]
            yield Packet(waiting[2], waiting[4], waiting[5 : end - 1])
        self._waiting = self._waiting[-1:] if self._waiting.endswith(b"\xff") else b""


def word(value: int) -> bytes:
    """Give an unsigned number as the two bytes a register keeps."""
    return value.to_bytes(2, "little")
