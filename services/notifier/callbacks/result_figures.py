"""Figures that a site keeps in its document of a video, from the job's ``compat/summary.json``. Pure.

Validators at the site accept these keys and types only.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, Final

from contracts.callback import Dialect


class SummaryError(ValueError):
    """The summary lacks a figure that the site requires."""


def figures_of(dialect: Dialect, summary: bytes, result: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``resultsMeta`` of the dialect ``site``, or ``results`` of the plan, which has the players of ``result``.

    Raises:
        SummaryError: the summary is not JSON, or lacks a figure.
    """
    try:
        found = json.loads(summary)
    except (ValueError, RecursionError) as error:
        raise SummaryError("compat/summary.json is not JSON") from error
    if not isinstance(found, dict):
        raise SummaryError("compat/summary.json is not a JSON object")
    return _meta(found) if dialect == "site" else _plan_results(found, result)


def _meta(summary: Mapping[str, Any]) -> dict[str, Any]:
    optional = {
        "player_count": _number(summary.get("playerCount")),
        "has_court_detection": _boolean(summary.get("hasCourtDetection")),
        "has_shuttle_analytics": _boolean(summary.get("hasShuttleAnalytics")),
        "has_rally_detection": _boolean(summary.get("hasRallyDetection")),
        "rally_count": _number(summary.get("rallyCount")),
        "tracknet_used": _boolean(summary.get("tracknetUsed")),
    }
    required = {
        "duration": _required(summary, "duration"),
        "fps": _required(summary, "fps"),
        "total_frames": _required(summary, "totalFrames"),
        "processed_frames": _required(summary, "processedFrames"),
    }
    return required | {name: value for name, value in optional.items() if value is not None}


#: Names at the site, and those of the job's result with the factor between their units.
_PLAYER_FIGURES: Final = (
    ("total_distance", "distance_m", 1.0),
    ("avg_speed", "mean_speed_m_s", 3.6),
    ("max_speed", "top_speed_m_s", 3.6),
)
_PLAN_NUMBERS: Final = ("duration", "fps", "totalFrames", "processedFrames", "videoWidth", "videoHeight")


def _plan_results(summary: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    results: dict[str, Any] = {name: _required(summary, name) for name in _PLAN_NUMBERS}
    players = result.get("players")
    results["players"] = [_player(player) for player in players or [] if isinstance(player, dict)]
    optional = {name: summary.get(name) for name in ("shuttle", "courtDetection")}
    return results | {name: value for name, value in optional.items() if value is not None}


def _player(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a player as the replaced system has it, in metres and km/h; an unknown figure is left out."""
    player: dict[str, Any] = {"player_id": figures.get("player")}
    for name, key, factor in _PLAYER_FIGURES:
        if (value := _number(figures.get(key))) is not None:
            player[name] = round(value * factor, 3)
    return player


def _required(summary: Mapping[str, Any], name: str) -> float:
    if summary.get(name, 0) is None:
        return 0  # unknown: the page of the replaced system shows it so, and the site accepts no null
    value = _number(summary.get(name))
    if value is None:
        raise SummaryError(f"compat/summary.json has no number {name!r}")
    return value


def _number(value: Any) -> float | None:
    """Return a finite number; None for anything else, also for true."""
    return value if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value) else None


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None
