"""``players.csv`` and ``rallies.csv``: figures for spreadsheets; the names of columns end in units."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from modal_workers.badminton.analytics.analysis import Analysis, PlayerFigures, RallyFigures
from modal_workers.badminton.analytics.motion import KMH_PER_M_S
from modal_workers.badminton.analytics.zones import DEPTHS, WIDTHS

PLAYER_UNITS: Final = {
    "player_id": "0 to 3: doubles 0 and 1 begin on the far half, singles 0",
    "known_s": "s, time in which the place is known",
    "observed_share": "1, share of the frames in which the player was seen",
    "distance_m": "m",
    "distance_error_m": "m, half-width of the 95 % band",
    "mean_speed_m_s": "m/s",
    "mean_speed_kmh": "km/h",
    "top_speed_m_s": "m/s",
    "top_speed_kmh": "km/h",
    "top_speed_error_m_s": "m/s, half-width of the 95 % band",
    "top_speed_at_s": "s, from the video's first frame",
    "motion_point": "what distances and speeds are of: body_centre or feet",
    "mean_from_net_m": "m",
    "covered_share": "1, share of the own half's cells of 0.5 m",
    "hull_area_m2": "m2, convex hull of the places in the own half",
    "hit_count": "1, in rallies; empty where the shuttle was not tracked",
    "won_count": "1, rallies won with evidence",
    "outlier_count": "1, detections rejected",
    "identity_confidence_min": "1, lowest probability that it is one person",
    "position_error_m": "m, median standard deviation of the place",
    **{
        f"{depth}_{width}_share": "1, share of the time in this third of the own half, as the player sees it"
        for depth in DEPTHS
        for width in WIDTHS
    },
}
RALLY_UNITS: Final = {
    "rally": "1, from 1",
    "start_s": "s, from the video's first frame",
    "end_s": "s",
    "duration_s": "s",
    "hit_count": "1",
    "winner": "id of the player, empty where nobody can be named",
    "winner_evidence": "what shows it, or why nobody is named",
    "confidence": "1, by the shuttle that both limits are within 0.3 s, by movement that most of it is one rally",
    "mean_ground_speed_between_hits_m_s": "m/s on the ground plane, mean; no speed of the shuttle in space",
}


def rally_units(player_count: int) -> dict[str, str]:
    """Return the columns of rallies.csv with their units: three for each player."""
    by_player = {
        name: unit
        for player in range(player_count)
        for name, unit in (
            (f"player_{player}_distance_m", "m"),
            (f"player_{player}_mean_speed_m_s", "m/s"),
            (f"player_{player}_hit_count", "1"),
        )
    }
    return {**RALLY_UNITS, **by_player}


def write_players(analysis: Analysis, path: Path) -> None:
    """Write players.csv: one row for each player."""
    _write(path, PLAYER_UNITS, (_player_row(figures) for figures in analysis.players))


def write_rallies(analysis: Analysis, path: Path, player_count: int) -> None:
    """Write rallies.csv: one row for each rally."""
    _write(path, rally_units(player_count), (_rally_row(figures) for figures in analysis.rallies))


def _player_row(figures: PlayerFigures) -> dict[str, Any]:
    motion, share = figures.motion, figures.zones.share()
    return {
        "player_id": figures.player,
        **vars(motion),
        "mean_speed_kmh": motion.mean_speed_m_s * KMH_PER_M_S,
        "top_speed_kmh": motion.top_speed_m_s * KMH_PER_M_S,
        "motion_point": figures.motion_point,
        "mean_from_net_m": figures.zones.mean_from_net_m,
        **vars(figures.footwork),
        "hit_count": figures.hit_count,
        "won_count": figures.won_count,
        "outlier_count": figures.outlier_count,
        "identity_confidence_min": figures.identity_confidence_min,
        "position_error_m": figures.position_error_m,
        **{
            f"{depth}_{width}_share": float(share[row, column])
            for row, depth in enumerate(DEPTHS)
            for column, width in enumerate(WIDTHS)
        },
    }


def _rally_row(figures: RallyFigures) -> dict[str, Any]:
    rally, shots = figures.rally, figures.shots
    speeds = [shot.mean_ground_speed_between_hits_m_s for shot in shots]
    row: dict[str, Any] = {
        "rally": rally.number,
        "start_s": rally.start_s,
        "end_s": rally.end_s,
        "duration_s": figures.duration_s,
        "hit_count": len(rally.hits) if rally.evidence == "shuttle" else None,
        "winner": rally.winner,
        "winner_evidence": rally.winner_evidence,
        "confidence": rally.confidence,
        "mean_ground_speed_between_hits_m_s": sum(speeds) / len(speeds) if speeds else None,
    }
    for player, motion in enumerate(figures.players):
        row[f"player_{player}_distance_m"] = motion.distance_m
        row[f"player_{player}_mean_speed_m_s"] = motion.mean_speed_m_s
        row[f"player_{player}_hit_count"] = figures.hit_counts[player] if figures.hit_counts else None
    return row


def _write(path: Path, units: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(units)
        for row in rows:
            table.writerow(_cell(row.get(name)) for name in units)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.4f}" if math.isfinite(value) else ""
    return str(value)
