"""Pictures that are not of the play's camera: replay, close-up, crowd, black."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import CENTRE_X_M, COURT_LENGTH_M, COURT_WIDTH_M
from simulators.badminton.body.skeleton import JOINTS
from simulators.badminton.match_truth import TrueSegment
from simulators.badminton.picture.hall_design import HallDesign, crowd
from simulators.badminton.picture.hall_renderer import HallView, render_view
from simulators.badminton.picture.match_camera import look_at
from simulators.badminton.truth_from_world import FilmedMatch

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

REPLAY_SPEED: Final = 0.5
_CROWD_PX_S: Final = 14.0


@dataclass(frozen=True, eq=False)
class CutAway:
    """One segment's picture: either the hall from another camera, or a still picture that moves slowly aside."""

    segment: TrueSegment
    size_px: tuple[int, int]
    view: HallView | None = None
    picture: Picture | None = None
    #: The time that is shown at the segment's end, and how fast time passes.
    ends_at_s: float = 0.0
    slow: float = 1.0

    def world_time_s(self, time_s: float) -> float:
        """Return which time of the match a time of the video shows."""
        return max(self.ends_at_s - self.slow * (self.segment.end_s - time_s), 0.0)

    def still(self, time_s: float) -> Picture:
        """Return the frame [H, W, 3] where there is no other camera."""
        width, height = self.size_px
        if self.picture is None:
            return np.zeros((height, width, 3), np.uint8)
        left = min(round((time_s - self.segment.start_s) * _CROWD_PX_S), self.picture.shape[1] - width)
        return self.picture[:, left : left + width].copy()


def cut_away(match: FilmedMatch, design: HallDesign, segment: TrueSegment) -> CutAway:
    """Prepare the picture of a segment that does not show the play."""
    size = (match.camera.width_px, match.camera.height_px)
    random = np.random.default_rng([match.truth.options.seed, 79, round(segment.start_s * 1000)])
    if segment.kind == "replay":
        before = [rally.end_s for rally in match.truth.rallies if rally.end_s <= segment.start_s]
        return CutAway(segment, size, _replay_view(design, size), ends_at_s=max(before) + 0.2, slow=REPLAY_SPEED)
    if segment.kind == "close-up":
        return CutAway(segment, size, _close_view(match, design, segment, random), ends_at_s=segment.end_s)
    if segment.kind == "crowd":
        wide = size[0] + round((segment.end_s - segment.start_s) * _CROWD_PX_S) + 2
        scale = size[1] / 420
        seen = crowd(random, (420, math.ceil(wide / scale)))
        grown = cv2.resize(seen, (wide, size[1]), interpolation=cv2.INTER_CUBIC)
        return CutAway(segment, size, picture=np.asarray(grown, np.uint8))
    return CutAway(segment, size)


def _replay_view(design: HallDesign, size: tuple[int, int]) -> HallView:
    """Return the court from its left side, low."""
    eye = np.array([-5.2, COURT_LENGTH_M / 2 + 3.5, 2.6])
    target = np.array([CENTRE_X_M, COURT_LENGTH_M / 2, 0.8])
    return render_view(design, look_at(eye, target, 0.62 * size[0], size))


def _close_view(match: FilmedMatch, design: HallDesign, segment: TrueSegment, random: np.random.Generator) -> HallView:
    """Return a player's head and trunk, the background out of focus."""
    size, bodies = (match.camera.width_px, match.camera.height_px), match.world.bodies
    body = bodies[int(random.integers(0, len(bodies)))]
    moments = body.sampled(np.linspace(segment.start_s, segment.end_s, 9))
    middle = moments[:, JOINTS["pelvis"]].mean(axis=0)
    ahead = moments[4, JOINTS["nose"]] - moments[4, JOINTS["head"]]
    angle = math.atan2(ahead[1], ahead[0]) + float(random.uniform(-0.6, 0.6))
    away = 5.0
    eye = np.array([middle[0] + away * math.cos(angle), middle[1] + away * math.sin(angle), 1.6])
    eye[0] = np.clip(eye[0], -11, COURT_WIDTH_M + 11)
    target = np.array([middle[0], middle[1], 1.3])
    focal = 0.75 * size[1] * float(np.linalg.norm(target - eye)) / 1.0
    view = render_view(design, look_at(eye, target, focal, size), with_net=False)
    blurred = cv2.GaussianBlur(view.background, (0, 0), size[1] / 90)
    return HallView(view.pose, np.asarray(blurred, np.uint8), None)
