"""Which part of an object a Range header means, and of which version."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.bucket_proxy.byte_range import ByteRange, is_current, is_signed


@given(size=st.integers(0, 1000), first=st.integers(0, 1200), length=st.integers(1, 1200))
def test_a_range_is_the_slice_of_the_bytes(size: int, first: int, length: int) -> None:
    positions = list(range(size))
    wanted = {
        f"bytes={first}-{first + length - 1}": positions[first : first + length],
        f"bytes={first}-": positions[first:],
        f"bytes=-{length}": positions[-length:],
    }
    for header, expected in wanted.items():
        parsed = ByteRange.parse(header)
        assert parsed is not None
        assert str(parsed) == header
        assert parsed.within(size) == ((expected[0], expected[-1]) if expected else None)


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "bytes=2-1", "bytes=1-2,4-5", "bytes=a-", "lines=1-2", "bytes=٣-٤"]
)
def test_anything_else_is_ignored(header: str) -> None:
    assert ByteRange.parse(header) is None


def test_numbers_without_end_stay_numbers_that_a_server_can_read() -> None:
    far = ByteRange.parse(f"bytes={'9' * 5000}-")
    assert far is not None
    assert far.first < 2**63
    assert far.within(2**40) is None


def test_the_last_zero_bytes_are_no_range() -> None:
    nothing = ByteRange.parse("bytes=-0")
    assert nothing is not None
    assert nothing.within(100) is None


@pytest.mark.parametrize(
    ("target", "headers", "signed"),
    [
        ("/b/k?X-Amz-SignedHeaders=host", {}, False),
        ("/b/k?X-Amz-SignedHeaders=host%3Brange", {}, True),
        ("//[b/k?X-Amz-SignedHeaders=host%3Brange", {}, True),
        (
            "/b/k",
            {"Authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;range;x-amz-date, Signature=0"},
            True,
        ),
        ("/b/k", {"Authorization": "AWS4-HMAC-SHA256 Credential=x, SignedHeaders=host;x-amz-date, Signature=0"}, False),
        ("/b/k", {}, False),
    ],
)
def test_a_signature_names_its_headers(target: str, headers: dict[str, str], signed: bool) -> None:
    assert is_signed(target, headers) is signed


MODIFIED = "Sun, 22 Nov 2026 17:00:00 GMT"


@pytest.mark.parametrize(
    ("if_range", "date", "current"),
    [
        ('"one"', MODIFIED, True),
        ('"two"', MODIFIED, False),
        ('W/"one"', MODIFIED, False),
        (MODIFIED, "Sun, 22 Nov 2026 17:00:01 GMT", True),
        # It could have changed twice within that second.
        (MODIFIED, MODIFIED, False),
        ("Sun, 22 Nov 2026 16:59:59 GMT", "Sun, 22 Nov 2026 17:00:09 GMT", False),
        (MODIFIED, "no date", False),
        ("no date", "Sun, 22 Nov 2026 17:00:09 GMT", False),
    ],
)
def test_if_range_names_one_version(if_range: str, date: str, current: bool) -> None:
    assert is_current(if_range, {"ETag": '"one"', "Last-Modified": MODIFIED, "Date": date}) is current
