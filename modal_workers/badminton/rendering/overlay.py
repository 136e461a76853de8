"""The overlay of one frame: players, shuttle, mini court, rally, and what was not analysed."""

from __future__ import annotations

from bisect import bisect_right
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.match import CameraSegmentResult, Match
from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.rally import Rally
from modal_workers.badminton.rendering.figures import draw_corners, draw_ground, draw_skeleton
from modal_workers.badminton.rendering.labels import Labels, Pixels
from modal_workers.badminton.rendering.mini_court import SHIFT, MiniCourt, draw_trail, fixed
from modal_workers.badminton.rendering.palette import OUTLINE, PANEL, PLAY, QUIET, SHUTTLE, WHITE, bgr, player_colour
from modal_workers.badminton.wording import player_label

TRAIL_S: Final = 1.5
SHUTTLE_TRAIL_S: Final = 0.45
#: Points of a trail: more are not seen.
TRAIL_POINTS: Final = 30
#: Speeds in labels change this often, so that they can be read.
LABEL_INTERVAL_S: Final = 0.2
HIT_SHOWN_S: Final = 0.45


class Overlay:
    """Overlay for pictures of ``size`` (width, height), a scaled copy of the video's."""

    def __init__(self, match: Match, analysis: Analysis, size: tuple[int, int]) -> None:
        self._match, self._analysis, self._size = match, analysis, size
        self._scale = size[1] / max(1, match.facts.height_px)
        unit = min(size[1], size[0] * 0.75)  # a portrait picture is narrow
        self._line_px = max(2.0, unit / 300)
        self._margin_px = round(unit / 40)
        self._labels = Labels(max(11, round(unit / 38)))
        self._chips = Labels(max(12, round(unit / 30)))
        self._mini = MiniCourt(size, self._margin_px)
        self._segment = match.segment_of_frame()
        self._past, self._future = self._drawn_timeline(1.0), self._drawn_timeline(0.5)
        self._rally_starts = [rally.first_frame for rally in match.rallies]
        self._hit_frames = [hit.frame for hit in match.hits]

    def draw(self, picture: Pixels, frame: int) -> None:
        """Draw the overlay of a frame onto its picture, BGR."""
        number = int(self._segment[frame])
        segment = self._match.segments[number] if number >= 0 else None
        if segment is None or segment.court is None:
            self._draw_left_out(picture, segment)
        elif self._match.tracks is not None:
            self._draw_players(picture, frame, segment, self._match.tracks)
        if self._match.shuttle is not None:
            self._draw_shuttle(picture, frame)
        self._draw_rally(picture, frame, analysed=segment is not None and segment.analysed)
        self._draw_timeline(picture, frame)

    def _trail_frames(self, frame: int, first_allowed: int, duration_s: float) -> NDArray[np.int64]:
        times_s = self._match.times_s
        first = max(first_allowed, int(np.searchsorted(times_s, times_s[frame] - duration_s)))
        count = min(TRAIL_POINTS, frame - first + 1)
        return np.unique(np.linspace(first, frame, count).round().astype(np.int64))

    def _draw_players(self, picture: Pixels, frame: int, segment: CameraSegmentResult, tracks: PlayerTracks) -> None:
        court = segment.court_at(frame)
        assert court is not None
        trail = self._trail_frames(frame, segment.first_frame, TRAIL_S)
        paths_m = tracks.position_m[:, trail]
        colours = [player_colour(player) for player in range(tracks.player_count)]
        for path_m, colour in zip(paths_m, colours, strict=True):
            draw_ground(picture, (court, self._scale), path_m, colour, self._line_px + 1)
        for player in range(tracks.player_count):
            self._draw_figure(picture, frame, player, tracks)
        self._mini.draw_ground(picture)
        for path_m, colour in zip(paths_m, colours, strict=True):
            self._mini.draw_player(picture, path_m, colour)
        for hit in self._match.hits[: bisect_right(self._hit_frames, frame)][-2:]:
            age = (self._match.times_s[frame] - hit.time_s) / HIT_SHOWN_S
            if hit.player is not None and age < 1 and hit.frame >= segment.first_frame:
                self._mini.draw_hit(picture, tracks.position_m[hit.player, hit.frame], float(age))

    def _draw_figure(self, picture: Pixels, frame: int, player: int, tracks: PlayerTracks) -> None:
        box_px = (tracks.boxes_px[player, frame] + 0.5) * self._scale - 0.5
        colour = player_colour(player)
        keypoints_px = tracks.keypoints_px[player, frame].copy()
        keypoints_px[:, :2] = (keypoints_px[:, :2] + 0.5) * self._scale - 0.5
        drawn = draw_skeleton(picture, keypoints_px, colour, self._line_px)
        if not np.isfinite(box_px).all():
            return
        if not drawn:
            draw_corners(picture, box_px, colour, self._line_px)
        label = self._labels.label(self._speed_text(player, frame), dot=colour)
        x = round(float(box_px[0] + box_px[2] - label.width) / 2)
        y = round(float(box_px[1]) - label.height - 0.4 * self._labels.size_px)
        left = max(self._margin_px // 2, min(x, self._size[0] - label.width - self._margin_px // 2))
        label.blend(picture, left, max(2, y))

    def _speed_text(self, player: int, frame: int) -> str:
        times_s = self._match.times_s
        shown_at_s = float(times_s[frame]) // LABEL_INTERVAL_S * LABEL_INTERVAL_S
        held = min(frame, int(np.searchsorted(times_s, shown_at_s)))
        speed_m_s = float(self._analysis.speed_m_s[player, held])
        return f"{player_label(player)}  {speed_m_s:.1f} m/s" if np.isfinite(speed_m_s) else player_label(player)

    def _draw_shuttle(self, picture: Pixels, frame: int) -> None:
        shuttle = self._match.shuttle
        assert shuttle is not None
        frames = self._trail_frames(frame, 0, SHUTTLE_TRAIL_S)
        places = (shuttle.position_px[frames] + 0.5) * self._scale - 0.5
        draw_trail(picture, places, SHUTTLE, self._line_px)
        if not np.isfinite(places[-1]).all():
            return
        # The arc is the confidence: a full ring is 1.
        radius = round(2.2 * self._line_px * (1 << SHIFT))
        centre, share = fixed(places[-1]), float(np.clip(shuttle.confidence[frame], 0, 1))
        thick = max(1, round(0.6 * self._line_px))
        cv2.circle(picture, centre, radius, bgr(OUTLINE), thick + 2, cv2.LINE_AA, SHIFT)
        cv2.ellipse(picture, centre, (radius, radius), -90, 0, 360 * share, bgr(SHUTTLE), thick, cv2.LINE_AA, SHIFT)

    def _rally_at(self, frame: int) -> Rally | None:
        number = bisect_right(self._rally_starts, frame) - 1
        if number < 0 or self._match.rallies[number].last_frame < frame:
            return None
        return self._match.rallies[number]

    def _draw_rally(self, picture: Pixels, frame: int, *, analysed: bool) -> None:
        rally = self._rally_at(frame)
        if rally is None and (not analysed or not self._match.rallies):
            return
        if rally is None:
            chip = self._chips.label("Between rallies", QUIET)
        else:
            passed_s = float(self._match.times_s[frame]) - rally.start_s
            hits = sum(hit.frame <= frame for hit in rally.hits)
            text = f"Rally {rally.number}   {passed_s:4.1f} s" + (f"   hit {hits}" if hits else "")
            chip = self._chips.label(text, WHITE, dot=PLAY)
        chip.blend(picture, self._margin_px, self._margin_px)

    def _draw_left_out(self, picture: Pixels, segment: CameraSegmentResult | None) -> None:
        reason = segment.reason if segment is not None and segment.reason else "no court"
        room_px = self._size[0] - 2 * self._margin_px
        chip = self._labels.label(self._labels.fitting(f"Not analysed: {reason}", room_px), QUIET)
        chip.blend(picture, self._margin_px, self._size[1] - chip.height - self._margin_px)

    def _draw_timeline(self, picture: Pixels, frame: int) -> None:
        """Draw a bar along the bottom: rallies, and the time so far."""
        width, height = self._size
        duration_s = max(1e-6, float(self._match.times_s[-1]))
        now = round(width * float(self._match.times_s[frame]) / duration_s)
        bar = picture[height - self._past.shape[0] :]
        bar[:, :now], bar[:, now:] = self._past[:, :now], self._future[:, now:]
        bar[:, max(0, now - 1) : now + 2] = bgr(WHITE)

    def _drawn_timeline(self, share: float) -> Pixels:
        """Return the bar with rallies in a share of their colour."""
        width = self._size[0]
        bar = np.full((max(3, round(self._line_px * 1.6)), width, 3), bgr(PANEL), np.uint8)
        duration_s = max(1e-6, float(self._match.times_s[-1]))
        for rally in self._match.rallies:
            left, right = (round(width * time_s / duration_s) for time_s in (rally.start_s, rally.end_s))
            bar[:, left : max(left + 1, right)] = [round(share * channel) for channel in bgr(PLAY)]
        return bar
