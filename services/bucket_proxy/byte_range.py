"""Byte ranges of HTTP: what a request asks for, and which part of an object that is (RFC 9110, section 14)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final, Self
from urllib.parse import parse_qs

_SINGLE: Final = re.compile(r"bytes=[ \t]*(\d*)-(\d*)[ \t]*", re.IGNORECASE | re.ASCII)
_SIGNED: Final = re.compile(r"SignedHeaders=([^,\s]*)")
#: Larger than any object; S3 servers refuse numbers that do not fit into 64 bits.
_LARGEST: Final = 2**62
#: A date names one version only if the object was not changed again within the same second.
_DATE_RESOLUTION: Final = timedelta(seconds=1)


@dataclass(frozen=True)
class ByteRange:
    """A single range: from ``first`` to ``last`` inclusive or to the end, or the last ``suffix`` bytes."""

    first: int = 0
    last: int | None = None
    suffix: int | None = None

    @classmethod
    def parse(cls, header: str) -> Self | None:
        """Return the range of a Range header; None if the header is to be ignored.

        It is where it is invalid or names another unit, and where it has several ranges: a server may send the whole.
        """
        found = _SINGLE.fullmatch(header.strip())
        if not found:
            return None
        first, last = (min(int(digits[:20]), _LARGEST) if digits else None for digits in found.groups())
        if first is None:
            return None if last is None else cls(suffix=last)
        return None if last is not None and last < first else cls(first, last)

    def __str__(self) -> str:
        """Return the value of the Range header."""
        if self.suffix is not None:
            return f"bytes=-{self.suffix}"
        return f"bytes={self.first}-{'' if self.last is None else self.last}"

    def within(self, size_bytes: int) -> tuple[int, int] | None:
        """Return the first and last position in an object of this size; None if the range contains no byte of it."""
        first = self.first if self.suffix is None else max(0, size_bytes - self.suffix)
        last = size_bytes - 1 if self.last is None else min(self.last, size_bytes - 1)
        return (first, last) if first <= last else None


def is_signed(target: str, headers: Mapping[str, str]) -> bool:
    """Return whether the request's signature includes the Range header, which then cannot be changed or left out."""
    signed = parse_qs(target.partition("?")[2]).get("X-Amz-SignedHeaders", [])
    signed += _SIGNED.findall(headers.get("Authorization", ""))
    return any("range" in names.lower().split(";") for names in signed)


def is_current(if_range: str, headers: Mapping[str, str]) -> bool:
    """Return whether the validator of an If-Range header names the version that a response has (RFC 9110, 13.1.5)."""
    if '"' in if_range:
        return not if_range.startswith("W/") and if_range == headers.get("ETag")
    if if_range != headers.get("Last-Modified"):
        return False
    sent_at, modified_at = _date(headers.get("Date", "")), _date(if_range)
    return sent_at is not None and modified_at is not None and sent_at - modified_at >= _DATE_RESOLUTION


def _date(text: str) -> datetime | None:
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except ValueError:
        return None
