"""Quiet hours of an endpoint: a daily time without requests, in a time zone. Pure; the time is an argument."""

from __future__ import annotations

import math
from datetime import UTC, datetime, time, timedelta
from functools import cache
from typing import Any, Final
from zoneinfo import ZoneInfo, available_timezones

from pydantic import BaseModel, ConfigDict, Field, field_validator

_CLOCK: Final = r"^([01]\d|2[0-3]):[0-5]\d$"


@cache
def zone_names() -> frozenset[str]:
    """Return the names of all time zones, which are read from many files once they are needed."""
    return frozenset(available_timezones())


def _list_zones(schema: dict[str, Any]) -> None:
    schema["enum"] = sorted(zone_names())


class QuietHours(BaseModel):
    """From ``start`` to ``end`` o'clock, every day; an ``end`` before the ``start`` is on the next day.

    None where both are equal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: str = Field(pattern=_CLOCK, examples=["22:00"])
    end: str = Field(pattern=_CLOCK, examples=["07:00"])
    time_zone: str = Field(
        default="UTC",
        description="Name in the IANA list.",
        examples=["Europe/Berlin"],
        json_schema_extra=_list_zones,
    )

    @field_validator("time_zone")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in zone_names():
            raise ValueError("is not a time zone: write a name such as Europe/Berlin")
        return value

    def over_at_s(self, now_s: float) -> float:
        """Return when the quiet hours around a Unix time are over, Unix seconds; minus infinity outside of them."""
        zone = ZoneInfo(self.time_zone)
        now = datetime.fromtimestamp(now_s, UTC).astimezone(zone)
        start, end = time.fromisoformat(self.start), time.fromisoformat(self.end)
        # Quiet hours that began yesterday may not be over yet.
        for began_days in (0, 1):
            day = now.date() - timedelta(days=began_days)
            began = datetime.combine(day, start, zone)
            ends = datetime.combine(day + timedelta(days=end < start), end, zone)
            if began.timestamp() <= now_s < ends.timestamp():
                return ends.timestamp()
        return -math.inf
