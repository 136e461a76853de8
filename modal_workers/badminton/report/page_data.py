"""Tracks for the report's page: few bytes each, at most 30 Hz, as base64 of small integers."""

from __future__ import annotations

import base64
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics import heat_map
from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.match import CameraSegmentResult, Match
from modal_workers.badminton.rendering.palette import SHUTTLE, hexadecimal, player_colour
from modal_workers.badminton.report.json_stream import rounded
from modal_workers.badminton.wording import player_label, player_name

MAX_RATE_HZ: Final = 30.0
#: Samples in the page: 33 minutes at 30 Hz, about 12 MB for two players. Longer matches get fewer a second.
MAX_SAMPLES: Final = 60_000
UNKNOWN: Final = -32_768
#: Steps in a pixel, in a metre, in a metre a second.
PX_STEPS: Final = 8
M_STEPS: Final = 100


def page_data(match: Match, analysis: Analysis, picture_size: tuple[int, int]) -> dict[str, Any]:
    """Return what the page's script draws; pixels are those of a copy of the video of ``picture_size``."""
    scale = picture_size[1] / max(1, match.facts.height_px)
    kept = sampled_frames(match.times_s)
    return {
        "width": picture_size[0],
        "height": picture_size[1],
        "duration": rounded(max(float(match.times_s[-1]), 0.1)),
        "skeletons": match.has_skeletons and match.tracks is not None,
        "shuttleColour": hexadecimal(SHUTTLE),
        "pxSteps": PX_STEPS,
        "mSteps": M_STEPS,
        "unknown": UNKNOWN,
        "players": [
            {"name": player_name(player), "label": player_label(player), "colour": hexadecimal(player_colour(player))}
            for player in range(match.player_count)
        ],
        "segments": [
            {
                "start": rounded(segment.start_s),
                "end": rounded(segment.end_s),
                "reason": segment.reason or "no court",
                "court": _scaled(segment.court.image_from_court, scale) if segment.court is not None else None,
                "views": _views(segment, kept, scale),
            }
            for segment in match.segments
        ],
        "rallies": [
            {
                "number": rally.number,
                "start": rounded(rally.start_s),
                "end": rounded(rally.end_s),
                "hits": [{"time": rounded(hit.time_s), "player": hit.player} for hit in rally.hits],
            }
            for rally in match.rallies
        ],
        "heat": {
            "rows": heat_map.ROWS,
            "columns": heat_map.COLUMNS,
            "cell": heat_map.CELL_M,
            "margin": heat_map.MARGIN_M,
            "maps": [_heat(figures.heat_map_s) for figures in analysis.players],
        },
        "tracks": _tracks(match, analysis, kept, scale),
    }


def sampled_frames(times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the frames to keep: at most 30 Hz, and at most ``MAX_SAMPLES``."""
    duration_s = float(times_s[-1] - times_s[0]) if len(times_s) else 0.0
    interval_s = max(1 / MAX_RATE_HZ, duration_s / MAX_SAMPLES)
    slot = np.floor((times_s - times_s[0]) / interval_s + 0.5).astype(np.int64)
    return np.flatnonzero(np.diff(slot, prepend=-1) > 0)


def _tracks(match: Match, analysis: Analysis, kept: NDArray[np.int64], scale: float) -> dict[str, Any]:
    tracks, shuttle = match.tracks, match.shuttle
    data: dict[str, Any] = {
        "count": len(kept),
        "time": _base64(np.rint(match.times_s[kept] * 1000).astype("<u4")),
        "position": None,
        "shuttle": None,
    }
    if tracks is not None:
        data["position"] = _steps(tracks.position_m[:, kept], M_STEPS)
        data["speed"] = _steps(analysis.speed_m_s[:, kept], M_STEPS)
        data["box"] = _steps(_to_copy(tracks.boxes_px[:, kept], scale), PX_STEPS)
        if match.has_skeletons:
            data["keypoints"] = _steps(_to_copy(tracks.keypoints_px[:, kept, :, :2], scale), PX_STEPS)
            confidence = np.nan_to_num(tracks.keypoints_px[:, kept, :, 2], nan=0.0)
            data["keypointConfidence"] = _base64(np.rint(255 * confidence.clip(0, 1)).astype(np.uint8))
    if shuttle is not None:
        data["shuttle"] = _steps(_to_copy(shuttle.position_px[kept], scale), PX_STEPS)
        data["shuttleConfidence"] = _base64(np.rint(255 * shuttle.confidence[kept].clip(0, 1)).astype(np.uint8))
    return data


def _to_copy(pixels: NDArray[Any], scale: float) -> NDArray[Any]:
    """Return pixels of the video as pixels of its copy; (0, 0) is the centre of the first in both."""
    return (pixels + 0.5) * scale - 0.5


def _steps(values: NDArray[Any], steps: int) -> str:
    scaled = np.rint(np.nan_to_num(values, nan=0.0) * steps).clip(-32_767, 32_767)
    return _base64(np.where(np.isfinite(values), scaled, UNKNOWN).astype("<i2"))


def _base64(values: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()


def _heat(seconds: NDArray[np.float64]) -> str:
    # The root shows places that were visited briefly beside the one where the player waits.
    share = np.sqrt(seconds / max(1e-9, float(seconds.max())))
    return _base64(np.rint(255 * share).astype(np.uint8))


def _views(segment: CameraSegmentResult, kept: NDArray[np.int64], scale: float) -> dict[str, Any] | None:
    """Return the views of a moving camera at the kept frames, from the sample with the number ``first`` on."""
    views = segment.moving_views()
    if views is None:
        return None
    inside = np.flatnonzero((kept >= segment.first_frame) & (kept <= segment.last_frame))
    if not len(inside):
        return None
    at_samples = _to_scale(scale) @ views[kept[inside] - segment.first_frame]
    return {"first": int(inside[0]), "values": _base64(at_samples.astype("<f4"))}


def _to_scale(scale: float) -> NDArray[np.float64]:
    shift = 0.5 * scale - 0.5
    return np.array([[scale, 0, shift], [0, scale, shift], [0, 0, 1]])


def _scaled(image_from_court: NDArray[np.float64], scale: float) -> list[list[float]]:
    scaled = _to_scale(scale) @ image_from_court
    return [[float(f"{value:.8g}") for value in row] for row in scaled]
