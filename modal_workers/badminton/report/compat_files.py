"""Views of the result for clients of the system that is replaced: its results file, its summary, its routes' bodies.

Each guard here keeps a reader of that system working: figures are always numbers, ``players`` is always an array,
timestamps rise, frames count from 1, what does not exist is null, and there is no NaN. Its "near" is the half at the
top of the picture, and its left is the left of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics.analysis import Analysis, PlayerFigures
from modal_workers.badminton.analytics.motion import KMH_PER_M_S
from modal_workers.badminton.analytics.zones import DEPTHS, WIDTHS
from modal_workers.badminton.court.dimensions import (
    CENTRE_X_M,
    CORNERS_M,
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    NET_Y_M,
    SHORT_SERVICE_FROM_NET_M,
)
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.match import Match
from modal_workers.badminton.players.persons import KEYPOINTS
from modal_workers.badminton.report.json_stream import Column, write_json
from modal_workers.badminton.report.results_file import thinning

Floats = NDArray[np.float64]

#: Most rows of all players together in ``skeleton_data``, about 1.3 kB each: the page reads the file in one piece.
#: Longer matches keep every k-th frame, and the page interpolates between them.
MAX_SKELETONS: Final = 72_000
HEAT_MAP_SIZE: Final = (64, 48)

_NEAR_SERVICE_Y_M: Final = NET_Y_M - SHORT_SERVICE_FROM_NET_M
_FAR_SERVICE_Y_M: Final = NET_Y_M + SHORT_SERVICE_FROM_NET_M
#: Names and places of the court's keypoints, in that system's order.
COURT_KEYPOINTS_M: Final = dict(
    zip(("top_left", "top_right", "bottom_right", "bottom_left"), CORNERS_M, strict=True)
) | {
    "net_left": (0.0, NET_Y_M),
    "net_right": (COURT_WIDTH_M, NET_Y_M),
    "service_line_near_left": (0.0, _NEAR_SERVICE_Y_M),
    "service_line_near_right": (COURT_WIDTH_M, _NEAR_SERVICE_Y_M),
    "service_line_far_left": (0.0, _FAR_SERVICE_Y_M),
    "service_line_far_right": (COURT_WIDTH_M, _FAR_SERVICE_Y_M),
    "center_near": (CENTRE_X_M, _NEAR_SERVICE_Y_M),
    "center_far": (CENTRE_X_M, _FAR_SERVICE_Y_M),
}


def write_compat_files(match: Match, analysis: Analysis, folder: Path, *, video_id: str) -> dict[str, Path]:
    """Write results.json, summary.json, speed.json, zones.json and heatmap.json; return the paths by name."""
    view = _View(match, analysis, video_id)
    bodies = {
        "results.json": view.results(),
        "summary.json": view.summary(),
        "speed.json": view.speed(),
        "zones.json": view.zones(),
        "heatmap.json": view.heat_map(),
    }
    paths = {name: folder / name for name in bodies}
    for name, body in bodies.items():
        write_json(paths[name], body)
    return paths


class _View:
    def __init__(self, match: Match, analysis: Analysis, video_id: str) -> None:
        self._match, self._analysis, self._video_id = match, analysis, video_id
        self._feet_px = _feet_px(match)
        self._frames = _kept_frames(match)
        self._court = _longest_court(match)

    def results(self) -> dict[str, Any]:
        """Return the snake_case results file."""
        match, facts = self._match, self._match.facts
        return {
            "video_id": self._video_id,
            "duration": _number(facts.duration_s),
            "fps": _number(facts.mean_rate_hz),
            "total_frames": facts.frame_count,
            "processed_frames": len(self._frames),
            "video_width": facts.width_px,
            "video_height": facts.height_px,
            "players": [self._player(figures) for figures in self._analysis.players],
            "skeleton_data": self._skeleton_rows(),
            "shuttle": None,
            "court_detection": self._court_detection(),
            "shuttle_analytics": None,
            "player_zone_analytics": self._zone_analytics() or None,
            "rallies": self._rallies() if match.rallies else None,
            "rally_stats": self._rally_stats(),
        }

    def summary(self) -> dict[str, Any]:
        """Return the camelCase summary."""
        match, facts = self._match, self._match.facts
        return {
            "videoId": self._video_id,
            "duration": _number(facts.duration_s),
            "fps": _number(facts.mean_rate_hz),
            "totalFrames": facts.frame_count,
            "processedFrames": len(self._frames),
            "videoWidth": facts.width_px,
            "videoHeight": facts.height_px,
            "playerCount": match.player_count,
            "hasCourtDetection": self._court is not None,
            "hasShuttleAnalytics": False,
            "hasRallyDetection": bool(match.rallies),
            "rallyCount": len(match.rallies),
            "tracknetUsed": self._tracknet(),
            "courtDetection": self._court_detection(),
        }

    def speed(self) -> dict[str, Any]:
        """Return the body of ``/api/speed``."""
        manual = self._manual()
        statistics = {
            str(figures.player): {
                "avg": {"speed_kmh": _number(figures.motion.mean_speed_m_s * KMH_PER_M_S)},
                "max": {"speed_kmh": _number(figures.motion.top_speed_m_s * KMH_PER_M_S)},
                "total_distance_m": _number(figures.motion.distance_m),
            }
            for figures in self._analysis.players
        }
        return {
            "video_id": self._video_id,
            "speed_data": {
                "frame_data": self._speed_rows(),
                "statistics": statistics,
                "manual_keypoints_used": manual,
            },
            "manual_keypoints_used": manual,
            "detection_source": "manual" if manual else "automatic" if self._court is not None else "none",
        }

    def zones(self) -> dict[str, Any]:
        """Return the body of ``/api/zone-analytics``."""
        return {
            "video_id": self._video_id,
            "player_zone_analytics": self._zone_analytics(),
            "manual_keypoints_used": self._manual(),
        }

    def heat_map(self) -> dict[str, Any]:
        """Return the body of ``/api/heatmap``: feet in the picture, 64 x 48 cells."""
        facts = self._match.facts
        maps = [_picture_heat_map(feet, (facts.width_px, facts.height_px)) for feet in self._feet_px]
        combined = np.sum(maps, axis=0) if maps else np.zeros(HEAT_MAP_SIZE[::-1])
        return {
            "video_id": self._video_id,
            "width": HEAT_MAP_SIZE[0],
            "height": HEAT_MAP_SIZE[1],
            "colormap": "turbo",
            "combined_heatmap": Column(_bytes(combined)),
            "player_heatmaps": {str(player): Column(_bytes(cells)) for player, cells in enumerate(maps)},
            "total_frames": facts.frame_count,
            "video_width": facts.width_px,
            "video_height": facts.height_px,
        }

    def _player(self, figures: PlayerFigures) -> dict[str, Any]:
        motion, feet = figures.motion, self._feet_px[figures.player]
        return {
            "player_id": figures.player,
            "avg_speed": _number(motion.mean_speed_m_s * KMH_PER_M_S),
            "max_speed": _number(motion.top_speed_m_s * KMH_PER_M_S),
            "total_distance": _number(motion.distance_m),
            "positions": (
                {
                    "frame": self._number_of(frame),
                    "x": round(float(feet[frame, 0]), 1),
                    "y": round(float(feet[frame, 1]), 1),
                }
                for frame in self._frames
                if math.isfinite(feet[frame, 0])
            ),
            "keypoints_history": [],
        }

    def _number_of(self, frame: int) -> int:
        """Return a frame's number in the video, from 1."""
        return int(self._match.source_frame[frame]) + 1

    def _skeleton_rows(self) -> Iterator[dict[str, Any]]:
        match, shuttle = self._match, self._match.shuttle
        source = "tracknet" if self._tracknet() else "classical"
        for frame in self._frames:
            place = shuttle.position_px[frame] if shuttle is not None else (math.nan, math.nan)
            known = math.isfinite(place[0]) and math.isfinite(place[1])
            players = [player for player in range(match.player_count) if math.isfinite(self._feet_px[player][frame, 0])]
            yield {
                "frame": self._number_of(frame),
                "timestamp": round(float(match.times_s[frame]), 5),
                "players": [self._skeleton(player, frame) for player in players],
                "badminton_detections": None if match.has_skeletons else self._boxes(players, frame),
                "shuttle_position": {"x": round(float(place[0]), 1), "y": round(float(place[1]), 1), "source": source}
                if known
                else None,
            }

    def _skeleton(self, player: int, frame: int) -> dict[str, Any]:
        tracks = self._match.tracks
        assert tracks is not None
        x, y = (round(float(value), 1) for value in self._feet_px[player][frame])
        keypoints = []
        for name, (joint_x, joint_y, confidence) in zip(
            KEYPOINTS, tracks.keypoints_px[player, frame].tolist(), strict=True
        ):
            known = math.isfinite(joint_x) and math.isfinite(joint_y) and math.isfinite(confidence)
            keypoints.append(
                {
                    "name": name,
                    "x": round(joint_x, 1) if known else None,
                    "y": round(joint_y, 1) if known else None,
                    "confidence": round(confidence, 2) if known else 0.0,
                }
            )
        return {
            "player_id": player,
            "center": {"x": x, "y": y},
            "keypoints": keypoints,
            "current_speed": _number(float(self._analysis.speed_m_s[player, frame]) * KMH_PER_M_S),
        }

    def _boxes(self, players: list[int], frame: int) -> dict[str, Any]:
        """Return the players' boxes: without skeletons they are all that the page can draw."""
        tracks = self._match.tracks
        boxes = []
        for player in players if tracks is not None else ():
            assert tracks is not None
            left, top, right, bottom = (float(value) for value in tracks.boxes_px[player, frame])
            if not math.isfinite(left + top + right + bottom):
                continue
            boxes.append(
                {
                    "class": "player",
                    "confidence": _number(float(tracks.confidence[player, frame])),
                    "x": round((left + right) / 2, 1),
                    "y": round((top + bottom) / 2, 1),
                    "width": round(right - left, 1),
                    "height": round(bottom - top, 1),
                    "class_id": 0,
                    "detection_id": None,
                }
            )
        return {"frame": self._number_of(frame), "players": boxes, "shuttlecocks": [], "rackets": [], "other": []}

    def _speed_rows(self) -> Iterator[dict[str, Any]]:
        speed_m_s = self._analysis.speed_m_s
        for frame in self._frames:
            yield {
                "frame": self._number_of(frame),
                "players": [
                    {"player_id": player, "speed_kmh": round(float(speed_m_s[player, frame]) * KMH_PER_M_S, 2)}
                    for player in range(len(speed_m_s))
                    if math.isfinite(speed_m_s[player, frame])
                ],
            }

    def _court_detection(self) -> dict[str, Any] | None:
        if self._court is None:
            return None
        points = {name: self._court.to_image(place).tolist() for name, place in COURT_KEYPOINTS_M.items()}
        confidence = _number(self._court.confidence)
        return {
            "detected": True,
            "confidence": confidence,
            "court_corners": [[round(x, 2), round(y, 2)] for x, y in list(points.values())[:4]],
            "keypoints": [
                {"name": name, "x": round(x, 2), "y": round(y, 2), "confidence": confidence}
                for name, (x, y) in points.items()
            ],
            "court_dimensions": {"width_meters": COURT_WIDTH_M, "length_meters": COURT_LENGTH_M},
        }

    def _zone_analytics(self) -> dict[str, Any]:
        found = {}
        for figures in self._analysis.players:
            time_s = figures.zones.camera_time_s
            total_s = max(1e-9, float(time_s.sum()))
            depth, width = 100 * time_s.sum(axis=1) / total_s, 100 * time_s.sum(axis=0) / total_s
            count = figures.zones.position_count
            found[str(figures.player)] = {
                "zone_coverage": {
                    name: round(float(share), 2)
                    for name, share in (*zip(DEPTHS, depth, strict=True), *zip(WIDTHS, width, strict=True))
                },
                "total_positions": count,
                "position_count": count,
                "avg_distance_to_net_m": _number(figures.zones.mean_from_net_m),
            }
        return found

    def _rallies(self) -> list[dict[str, Any]]:
        return [
            {
                "id": rally.number,
                "start_frame": self._number_of(rally.first_frame),
                "end_frame": self._number_of(rally.last_frame),
                "start_timestamp": _number(rally.start_s),
                "end_timestamp": _number(rally.end_s),
                "duration_seconds": _number(rally.end_s - rally.start_s),
            }
            for rally in self._match.rallies
        ]

    def _rally_stats(self) -> dict[str, Any] | None:
        time, count = self._analysis.play_time, len(self._match.rallies)
        if not count:
            return None
        return {
            "total_rallies": count,
            "total_rally_time_s": _number(time.rally_s),
            "total_idle_time_s": _number(max(0.0, time.total_s - time.rally_s)),
            "rally_percentage": _number(100 * time.rally_s / max(1e-9, time.total_s)),
            "avg_rally_duration_s": _number(time.mean_rally_s),
            "min_rally_duration_s": _number(time.shortest_rally_s),
            "max_rally_duration_s": _number(time.longest_rally_s),
        }

    def _manual(self) -> bool:
        return self._court is not None and self._court.source == "keypoints"

    def _tracknet(self) -> bool:
        return "tracknet" in self._match.shuttle_backend.lower() or "onnx" in self._match.shuttle_backend.lower()


def _kept_frames(match: Match) -> NDArray[np.int64]:
    """Return the frames of ``skeleton_data``: none in ``rally_only``, as that system has it."""
    if match.tracks is None:
        return np.arange(0)
    every = thinning(match.frame_count * match.tracks.player_count, MAX_SKELETONS)
    return np.arange(0, match.frame_count, every)


def _feet_px(match: Match) -> list[Floats]:
    """Return each player's place in the picture [N, 2]: that system's centre is the middle between the feet."""
    if match.tracks is None:
        return []
    feet = [np.full((match.frame_count, 2), np.nan) for _ in range(match.player_count)]
    for segment in match.segments:
        if segment.court is not None:
            part, views = slice(segment.first_frame, segment.last_frame + 1), segment.moving_views()
            for player, places in enumerate(feet):
                position_m = match.tracks.position_m[player, part]
                places[part] = segment.court.to_image(position_m) if views is None else _seen_by(views, position_m)
    return feet


def _seen_by(views: Floats, position_m: NDArray[np.float32]) -> Floats:
    """Return the pixels of places [n, 2], each in the view [n, 3, 3] of its own frame."""
    mapped = np.einsum("nij,nj->ni", views[:, :, :2], position_m) + views[:, :, 2]
    in_front = mapped[:, 2:] > 0
    return np.where(in_front, mapped[:, :2] / np.where(in_front, mapped[:, 2:], 1.0), np.nan)


def _longest_court(match: Match) -> CourtView | None:
    analysed = [segment for segment in match.segments if segment.court is not None]
    return max(analysed, key=lambda segment: segment.end_s - segment.start_s).court if analysed else None


def _picture_heat_map(feet_px: Floats, size: tuple[int, int]) -> Floats:
    known = feet_px[np.isfinite(feet_px).all(axis=1)]
    cells, _, _ = np.histogram2d(
        known[:, 1], known[:, 0], bins=HEAT_MAP_SIZE[::-1], range=((0, max(1, size[1])), (0, max(1, size[0])))
    )
    kernel = np.exp(-0.5 * (np.arange(-4, 5) / 1.5) ** 2)
    kernel /= kernel.sum()
    for axis in (0, 1):
        cells = np.apply_along_axis(lambda row: np.convolve(row, kernel, mode="same"), axis, cells)
    return np.asarray(cells, np.float64)


def _bytes(cells: Floats) -> NDArray[np.int64]:
    return np.rint(255 * cells / max(1e-12, float(cells.max()))).astype(np.int64)


def _number(value: float) -> float:
    """Return a figure as that system's page needs it: a number, 0 where it is not known."""
    return round(float(value), 4) if math.isfinite(value) else 0.0
