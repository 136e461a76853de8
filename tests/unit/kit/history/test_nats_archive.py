"""Times of an archive keep every digit that the server gave."""

from __future__ import annotations

import pytest

from kit.history.nats_archive import nanoseconds


@pytest.mark.parametrize(
    ("timestamp", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("2025-10-09T08:53:20.123456789Z", 1_760_000_000_123_456_789),
        ("2025-10-09T08:53:20.1Z", 1_760_000_000_100_000_000),
        ("2025-10-09T10:53:20.000000001+02:00", 1_760_000_000_000_000_001),
        ("1969-12-31T23:59:59.5Z", -500_000_000),
    ],
)
def test_a_time_has_all_its_digits(timestamp: str, expected: int) -> None:
    assert nanoseconds(timestamp) == expected


@pytest.mark.parametrize("text", ["", "yesterday", "2025-10-09T08:53:20", "2025-10-09T08:53:20.12x"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"not a time|Invalid isoformat"):
        nanoseconds(text)
