"""``results.json``: everything that was measured, written as its schema (``results_schema``) says."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from modal_workers.badminton.analytics import heat_map, zones
from modal_workers.badminton.analytics.analysis import Analysis, PlayerFigures, RallyFigures
from modal_workers.badminton.analytics.motion import KMH_PER_M_S, Motion
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.match import CameraSegmentResult, Match
from modal_workers.badminton.players.persons import KEYPOINTS
from modal_workers.badminton.rallies.rally import Hit
from modal_workers.badminton.report.json_stream import Column, rounded, write_json

VERSION: Final = 1
#: Skeletons in the file, of all players together: 20 minutes of singles at 50 Hz. Longer matches keep every k-th frame.
MAX_SKELETONS: Final = 120_000


def write_results(match: Match, analysis: Analysis, path: Path, *, video_id: str = "") -> None:
    """Write results.json."""
    facts = asdict(match.facts)
    write_json(
        path,
        {
            "version": VERSION,
            "video_id": video_id,
            "video": {**facts, "analysed_frame_count": match.frame_count},
            "mode": match.mode,
            "pose_backend": match.pose_backend,
            "shuttle_backend": match.shuttle_backend,
            "has_skeletons": match.has_skeletons,
            "warnings": list(match.warnings),
            "missing": [asdict(missing) for missing in match.missing],
            "segments": [_segment(segment) for segment in match.segments],
            "players": [_player(figures) for figures in analysis.players],
            "play_time": {name: rounded(value) for name, value in vars(analysis.play_time).items()},
            "rallies": [_rally(figures) for figures in analysis.rallies],
            "hits": [_hit(hit) for hit in match.hits],
            "tracks": _tracks(match, analysis),
            "skeletons": _skeletons(match),
        },
    )


def thinning(rows: int, limit: int) -> int:
    """Return k so that every k-th of so many rows stays within a limit."""
    return max(1, -(-rows // limit))


def _segment(segment: CameraSegmentResult) -> dict[str, Any]:
    views = segment.moving_views()
    return {
        "first_frame": segment.first_frame,
        "last_frame": segment.last_frame,
        "start_s": rounded(segment.start_s),
        "end_s": rounded(segment.end_s),
        "kind": segment.kind,
        "reason": segment.reason,
        "court": _court(segment.court) if segment.court is not None else None,
        "frame_views": Column(views.reshape(-1, 9), 6) if views is not None else None,
    }


def _court(court: CourtView) -> dict[str, Any]:
    return {
        "image_from_court": court.image_from_court.tolist(),
        "corners_px": Column(court.corners_px, 2),
        "residual_m": rounded(court.residual_m),
        "residual_px": rounded(court.residual_px),
        "confidence": rounded(court.confidence),
        "source": court.source,
        "inlier_share": rounded(court.inlier_share),
        "visible_share": rounded(court.visible_share),
    }


def motion_figures(motion: Motion) -> dict[str, float | None]:
    """Return the figures of a motion by name, with speeds in km/h too."""
    return {
        **{name: rounded(value) for name, value in vars(motion).items()},
        "mean_speed_kmh": rounded(motion.mean_speed_m_s * KMH_PER_M_S),
        "top_speed_kmh": rounded(motion.top_speed_m_s * KMH_PER_M_S),
    }


def _player(figures: PlayerFigures) -> dict[str, Any]:
    zone_times = figures.zones
    return {
        "player_id": figures.player,
        "motion": motion_figures(figures.motion),
        "motion_point": figures.motion_point,
        "in_rallies": motion_figures(figures.in_rallies) if figures.in_rallies is not None else None,
        "zones": {
            "time_s": Column(zone_times.time_s),
            "share": Column(zone_times.share(), 4),
            "mean_from_net_m": rounded(zone_times.mean_from_net_m),
            "outside_s": rounded(zone_times.outside_s),
            "near_edge_s": rounded(zone_times.near_edge_s),
            "position_count": zone_times.position_count,
            "depth_edges_m": [rounded(edge) for edge in zones.DEPTH_EDGES_M],
            "width_edges_m": [rounded(edge) for edge in zones.WIDTH_EDGES_M],
        },
        "heat_map": {
            "cell_m": heat_map.CELL_M,
            "smoothing_m": heat_map.SMOOTHING_M,
            "left_m": -heat_map.MARGIN_M,
            "far_m": -heat_map.MARGIN_M,
            "time_s": Column(figures.heat_map_s, 4),
        },
        "footwork": {name: rounded(value) for name, value in vars(figures.footwork).items()},
        "hit_count": figures.hit_count,
        "won_count": figures.won_count,
        "outlier_count": figures.outlier_count,
        "identity_confidence": rounded(figures.identity_confidence),
        "identity_confidence_min": rounded(figures.identity_confidence_min),
        "position_error_m": rounded(figures.position_error_m),
    }


def _hit(hit: Hit) -> dict[str, Any]:
    return {
        "frame": hit.frame,
        "time_s": rounded(hit.time_s),
        "player_id": hit.player,
        "player_confidence": rounded(hit.player_confidence),
        "confidence": rounded(hit.confidence),
        "shuttle_px": [rounded(value, 2) for value in hit.shuttle_px],
    }


def _rally(figures: RallyFigures) -> dict[str, Any]:
    rally = figures.rally
    return {
        "number": rally.number,
        "first_frame": rally.first_frame,
        "last_frame": rally.last_frame,
        "start_s": rounded(rally.start_s),
        "end_s": rounded(rally.end_s),
        "duration_s": rounded(figures.duration_s),
        "confidence": rounded(rally.confidence),
        "evidence": rally.evidence,
        "winner": rally.winner,
        "winner_confidence": rounded(rally.winner_confidence),
        "winner_evidence": rally.winner_evidence,
        "hits": [_hit(hit) for hit in rally.hits],
        "shots": [
            {
                name: rounded(value) if isinstance(value, float) else value
                for name, value in vars(shot).items()
                if name != "rally"
            }
            for shot in figures.shots
        ],
        "players": [motion_figures(motion) for motion in figures.players],
        "hit_counts": list(figures.hit_counts),
    }


def _tracks(match: Match, analysis: Analysis) -> dict[str, Any]:
    tracks, shuttle = match.tracks, match.shuttle
    players = []
    if tracks is not None:
        players = [
            {
                "player_id": player,
                "x_m": Column(tracks.position_m[player, :, 0]),
                "y_m": Column(tracks.position_m[player, :, 1]),
                "error_m": Column(tracks.position_error_m[player]),
                "speed_m_s": Column(analysis.speed_m_s[player]),
                "observed": Column(tracks.observed[player]),
                "confidence": Column(np.where(tracks.observed[player], tracks.confidence[player], np.nan)),
                "identity_confidence": Column(
                    np.where(np.isfinite(tracks.position_m[player, :, 0]), tracks.identity_confidence[player], np.nan)
                ),
                "box_px": Column(tracks.boxes_px[player], 1),
            }
            for player in range(tracks.player_count)
        ]
    return {
        "time_s": Column(match.times_s, 5),
        "source_frame": Column(match.source_frame),
        "players": players,
        "shuttle": {
            "x_px": Column(shuttle.position_px[:, 0], 1),
            "y_px": Column(shuttle.position_px[:, 1], 1),
            "confidence": Column(np.where(np.isfinite(shuttle.position_px[:, 0]), shuttle.confidence, np.nan)),
        }
        if shuttle is not None
        else None,
    }


def _skeletons(match: Match) -> dict[str, Any] | None:
    tracks = match.tracks
    if tracks is None or not match.has_skeletons:
        return None
    every = thinning(match.frame_count * tracks.player_count, MAX_SKELETONS)
    kept = np.s_[::every]
    return {
        "keypoints": list(KEYPOINTS),
        "every": every,
        "players": [
            {
                "player_id": player,
                "x_px": Column(tracks.keypoints_px[player, kept, :, 0], 1),
                "y_px": Column(tracks.keypoints_px[player, kept, :, 1], 1),
                "confidence": Column(tracks.keypoints_px[player, kept, :, 2], 2),
            }
            for player in range(tracks.player_count)
        ],
    }
