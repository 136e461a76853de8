"""Difference between two events: what was recorded, and what today's dispatcher would publish. Pure.

Decisions are compared exactly: type, attempt, rung, device, failure class, error code, shards, results. Times may
differ a little, money by what those times cost. Words for people, and what was merely counted, are not compared.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from contracts.events.base import Envelope

#: Between a decision and the time of its event lies the time that an answer took.
TIME_TOLERANCE_S: Final = 0.25
#: Money is compared by what the tolerated time costs, and never looser than this.
_MICRO_USD: Final = 2e-6
_MAXIMUM_USD: Final = 0.005
#: Fields that are drawn, worded or counted, and no decisions.
_IGNORED: Final = frozenset({"position", "message", "hint", "errors", "backlog", "workers", "estimated_usd"})
_EXACT_SECONDS: Final = frozenset({"delay_s"})
#: Fields that the events of the first versions do not have, whatever the dispatcher knew.
_LATER: Final = frozenset({"retry_after_s"})
_EXACT_S: Final = 0.002
_PRICE_USD: Final = 1e-9


def difference(recorded: Envelope, today: Envelope, usd_per_s: float) -> str | None:
    """Return what differs, in one phrase; None if the events are the same decision."""
    if today.type != recorded.type or today.subject != recorded.subject:
        return f"{today.type} instead of {recorded.type}"
    found = _of_values("", recorded.data, today.data, max(usd_per_s, 0.0))
    return found and f"{recorded.type}: {found}"


def _of_values(name: str, recorded: Any, today: Any, usd_per_s: float) -> str | None:
    own = name.rpartition(".")[2]
    if own in _IGNORED:
        return None
    if isinstance(recorded, Mapping) and isinstance(today, Mapping):
        for key in sorted(recorded.keys() | today.keys()):
            before, after = recorded.get(key), today.get(key)
            if (key in recorded and key in today) or before != after:
                if key not in recorded and (key in _LATER or not after):
                    continue  # a field that an older version did not have
                if key not in today and not before:
                    continue
                if found := _of_values(f"{name}.{key}" if name else key, before, after, usd_per_s):
                    return found
        return None
    same = recorded == today or _is_near(own, recorded, today, usd_per_s)
    return None if same else f"{name} {_shown(today)} instead of {_shown(recorded)}"


def _is_near(name: str, recorded: Any, today: Any, usd_per_s: float) -> bool:
    if isinstance(recorded, bool) or isinstance(today, bool):
        return False
    if isinstance(recorded, int | float) and isinstance(today, int | float):
        distance = math.fabs(recorded - today)
        if "usd_per" in name:
            return distance <= _PRICE_USD
        if name in _EXACT_SECONDS:
            return distance <= _EXACT_S
        if name.endswith("usd"):
            return distance <= min(_MAXIMUM_USD, max(_MICRO_USD, TIME_TOLERANCE_S * usd_per_s))
        return distance <= (TIME_TOLERANCE_S if name.endswith("_s") or name == "seconds" else 0.0)
    if isinstance(recorded, str) and isinstance(today, str):
        first, second = _time(recorded), _time(today)
        return bool(first and second and abs((first - second).total_seconds()) <= TIME_TOLERANCE_S)
    return False


def _time(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if len(text) > 18 and text[4] == "-" else None
    except ValueError:
        return None


def _shown(value: Any) -> str:
    text = f"{value:g}" if isinstance(value, float) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"
