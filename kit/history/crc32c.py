"""CRC-32C (Castagnoli) of many chunks at once: the standard library has only CRC-32, and S2 frames need this one.

All chunks advance by one byte in each step; the table look-ups of a step are one ``bytes.translate``, the sums one
exclusive or of large integers. That is 70 MB/s, where a loop over the bytes does 7. Pure.
"""

from __future__ import annotations

from typing import Final

_POLYNOMIAL: Final = 0x82F63B78


def _table() -> list[int]:
    entries = []
    for number in range(256):
        value = number
        for _ in range(8):
            value = (value >> 1) ^ (_POLYNOMIAL if value & 1 else 0)
        entries.append(value)
    return entries


_TABLE: Final = _table()
#: Byte 0 (lowest) to 3 of each entry, as translation tables.
_PLANES: Final = tuple(bytes(entry >> shift & 0xFF for entry in _TABLE) for shift in (0, 8, 16, 24))


def crc32c(data: bytes) -> int:
    """Return the CRC-32C of some bytes."""
    value = 0xFFFFFFFF
    for byte in data:
        value = (value >> 8) ^ _TABLE[(value ^ byte) & 0xFF]
    return value ^ 0xFFFFFFFF


def crc32c_of_chunks(data: bytes, chunk_bytes: int) -> list[int]:
    """Return the CRC-32C of each chunk of some bytes; the last chunk may be shorter."""
    count = len(data) // chunk_bytes
    whole = memoryview(data)[: count * chunk_bytes]
    checksums = _in_lockstep(bytes(whole), count, chunk_bytes) if count else []
    if rest := data[count * chunk_bytes :]:
        checksums.append(crc32c(rest))
    return checksums


def _in_lockstep(data: bytes, count: int, chunk_bytes: int) -> list[int]:
    """Return the checksum of ``count`` chunks of equal length."""
    plane_0, plane_1, plane_2, plane_3 = _PLANES
    ones = (1 << 8 * count) - 1
    # Each holds one byte of the state of every chunk.
    low, second, third, high = ones, ones, ones, ones
    for position in range(chunk_bytes):
        column = int.from_bytes(data[position::chunk_bytes], "little")
        index = (low ^ column).to_bytes(count, "little")
        low = second ^ int.from_bytes(index.translate(plane_0), "little")
        second = third ^ int.from_bytes(index.translate(plane_1), "little")
        third = high ^ int.from_bytes(index.translate(plane_2), "little")
        high = int.from_bytes(index.translate(plane_3), "little")
    planes = [(plane ^ ones).to_bytes(count, "little") for plane in (low, second, third, high)]
    return [a | b << 8 | c << 16 | d << 24 for a, b, c, d in zip(*planes, strict=True)]
