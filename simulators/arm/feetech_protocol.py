"""The Feetech servo protocol: packets with a checksum on a half-duplex line, as used by an STS3215.

Source: Feetech, "SCServo communication protocol"; LeRobot's motors/feetech.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from enum import IntEnum
from typing import Final, NamedTuple

HEADER: Final = b"\xff\xff"
BROADCAST: Final = 0xFE
_MAX_LENGTH: Final = 250
_PAUSE_S: Final = 0.1


class Instruction(IntEnum):
    """Instruction of a packet."""

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
    """One packet: ``code`` is an instruction to a servo, or the error flags of its answer."""

    servo: int
    code: int
    parameters: bytes = b""

    def encoded(self) -> bytes:
        """Return the bytes of the packet."""
        body = bytes([self.servo, len(self.parameters) + 2, self.code]) + self.parameters
        return HEADER + body + bytes([~sum(body) & 0xFF])


class PacketReader:
    """Parser of packets in a byte stream; damaged packets are skipped.

    The bytes of a packet follow each other closely: a packet that is incomplete after a pause is discarded.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._buffer = b""
        self._fed_at_s = 0.0
        self.damaged = 0

    def feed(self, data: bytes) -> Iterator[Packet]:
        """Add bytes and yield the packets they complete."""
        now_s = time.monotonic()
        if self._buffer and now_s - self._fed_at_s > _PAUSE_S:
            self.damaged += 1
            self._buffer = b""
        self._fed_at_s = now_s
        self._buffer += data
        while (start := self._buffer.find(HEADER)) >= 0:
            buffered = self._buffer = self._buffer[start:]
            if len(buffered) < 4:
                return
            end = 4 + buffered[3]
            valid = 2 <= buffered[3] <= _MAX_LENGTH and buffered[2] != 0xFF
            if valid and len(buffered) < end:
                return
            if not valid or (~sum(buffered[2 : end - 1]) & 0xFF) != buffered[end - 1]:
                self.damaged += 1
                self._buffer = buffered[1:]  # a header may begin within the damaged bytes
                continue
            self._buffer = buffered[end:]
            yield Packet(buffered[2], buffered[4], buffered[5 : end - 1])
        self._buffer = self._buffer[-1:] if self._buffer.endswith(b"\xff") else b""


def word(value: int) -> bytes:
    """Return an unsigned number as the two bytes of a register."""
    return value.to_bytes(2, "little")
