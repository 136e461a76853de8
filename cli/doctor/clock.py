"""Comparison of two clocks. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from cli.doctor.report_line import ReportLine, fail, ok, warn

#: Tokens and presigned URLs are refused when clocks differ by minutes; events of two machines are out of order before.
_FAIL_S: Final = 60.0
_WARN_S: Final = 5.0
_FIX: Final = "Set the clocks of this machine and of the server by NTP, on Linux: timedatectl set-ntp true."
_FRACTION: Final = re.compile(r"(\.\d{1,6})\d*")


def judge_clock(check: str, server: datetime, sent: datetime, received: datetime, resolution_s: float) -> ReportLine:
    """Compare a server's time with ours between a request and its answer."""
    latest, earliest = (server - sent).total_seconds() + resolution_s, (server - received).total_seconds()
    # Zero is possible if it lies between both: what took long on the way is no difference.
    offset_s = max(earliest, 0.0) if latest >= 0 else latest
    if abs(offset_s) < _WARN_S:
        return ok(check, f"its clock and this machine's agree within {_WARN_S:.0f} s")
    says = f"its clock is {_duration(abs(offset_s))} {'ahead of' if offset_s > 0 else 'behind'} this machine's"
    return (fail if abs(offset_s) >= _FAIL_S else warn)(check, says, _FIX)


def read_rfc3339(text: str) -> datetime:
    """Read a time with any number of decimals, as nats-server writes it.

    Raises:
        ValueError: it is none.
    """
    read = datetime.fromisoformat(_FRACTION.sub(r"\1", text))
    return read if read.tzinfo else read.replace(tzinfo=UTC)


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} min" if seconds >= 120 else f"{seconds:.0f} s"
