"""CRC-32C of chunks: against the published check value, and in lockstep as one by one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kit.history.crc32c import crc32c, crc32c_of_chunks


def test_the_published_check_value() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # RFC 3720, and every catalogue of CRCs


@given(st.binary(max_size=700), st.integers(1, 64))
def test_chunks_in_lockstep_are_as_one_by_one(data: bytes, chunk_bytes: int) -> None:
    chunks = [data[start : start + chunk_bytes] for start in range(0, len(data), chunk_bytes)]
    assert crc32c_of_chunks(data, chunk_bytes) == [crc32c(chunk) for chunk in chunks]
