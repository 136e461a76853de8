"""Cameras in the hall: where they stand, what they see, how they turn and shake."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import CENTRE_X_M, COURT_LENGTH_M, COURT_WIDTH_M
from simulators.badminton.match_options import CameraName, MatchOptions

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Stand:
    """Place of a camera, and how it frames the court."""

    eye_m: tuple[float, float, float]
    #: Share of the picture's width that the court may fill.
    width_share: float
    #: Where the near base line is in the picture, as a share of its height from the top.
    bottom_share: float
    #: The height above the far base line that is in view at least.
    seen_m: float


#: The broadcast cameras frame as those of 44 international matches do whose corners ShuttleSet publishes (W. Wang et
#: al., 2023, homography.csv): near base line at 0.92 of the height (0.88 to 0.97), 4.1 m in view above the far base
#: line (2.6 to 5.0), 5 m above the net. Their cameras are 5 to 11 m high; the two lowest frames see 4.8 and 5.0 m.
#: A phone right behind the court has to look down on the near base line; what its lens sees beyond that is above.
_STANDS: Final[dict[CameraName, _Stand]] = {
    "broadcast_high": _Stand((CENTRE_X_M, COURT_LENGTH_M + 14.0, 8.0), 0.80, 0.92, 4.1),
    "broadcast_low": _Stand((CENTRE_X_M, COURT_LENGTH_M + 11.0, 3.8), 0.82, 0.93, 4.8),
    "phone_back": _Stand((CENTRE_X_M, COURT_LENGTH_M + 2.2, 1.9), 0.94, 0.96, 4.0),
    "phone_corner": _Stand((COURT_WIDTH_M + 2.0, COURT_LENGTH_M + 2.4, 2.1), 0.80, 0.96, 4.0),
}
#: Nothing above this is worth a place in the picture: few shuttles fly higher.
_HIGHEST_M: Final = 9.0
_CORNERS_M: Final = np.array([[x, y, 0.0] for x in (0.0, COURT_WIDTH_M) for y in (0.0, COURT_LENGTH_M)])


@dataclass(frozen=True, eq=False)
class CameraPose:
    """A pinhole camera. Pixels: (0, 0) is the centre of the top left pixel."""

    eye_m: Floats
    #: Rows: right, down, forward in the world's axes, which are left-handed.
    rotation: Floats
    focal_px: float
    centre_px: tuple[float, float]
    width_px: int
    height_px: int

    @property
    def intrinsic(self) -> Floats:
        """The matrix [3, 3] from camera coordinates to pixels."""
        u, v = self.centre_px
        return np.array([[self.focal_px, 0, u], [0, self.focal_px, v], [0, 0, 1.0]])

    @property
    def image_from_world(self) -> Floats:
        """The matrix [3, 4] from the world to pixels."""
        turned = self.intrinsic @ self.rotation
        return np.column_stack([turned, -turned @ self.eye_m])

    @property
    def image_from_court(self) -> Floats:
        """The homography [3, 3] from metres on the court to pixels; positive depth in front of the camera."""
        return self.image_from_world[:, [0, 1, 3]]

    def project(self, points_m: Floats) -> tuple[Floats, Floats]:
        """Return pixels [..., 2] and depths [...] in metres of points [..., 3]."""
        local = (points_m - self.eye_m) @ self.rotation.T
        depth = local[..., 2]
        safe = np.where(depth > 0.05, depth, 0.05)
        return local[..., :2] / safe[..., None] * self.focal_px + self.centre_px, depth

    def turned(self, yaw_rad: float, pitch_rad: float, dx_px: float = 0.0, dy_px: float = 0.0) -> CameraPose:
        """Return the camera turned to the right and up, its picture moved by pixels."""
        cy, sy, cp, sp = math.cos(yaw_rad), math.sin(yaw_rad), math.cos(pitch_rad), math.sin(pitch_rad)
        yaw = np.array([[cy, 0, -sy], [0, 1, 0], [sy, 0, cy]])
        pitch = np.array([[1, 0, 0], [0, cp, sp], [0, -sp, cp]])
        u, v = self.centre_px
        return replace(self, rotation=pitch @ yaw @ self.rotation, centre_px=(u + dx_px, v + dy_px))

    def padded(self, x_px: int, y_px: int) -> CameraPose:
        """Return the camera with a larger picture."""
        u, v = self.centre_px
        return replace(
            self,
            centre_px=(u + x_px, v + y_px),
            width_px=self.width_px + 2 * x_px,
            height_px=self.height_px + 2 * y_px,
        )


def look_at(
    eye_m: Floats, target_m: Floats, focal_px: float, size_px: tuple[int, int], roll_rad: float = 0.0
) -> CameraPose:
    """Return a camera at ``eye_m`` that looks at ``target_m``."""
    forward = (target_m - eye_m) / np.linalg.norm(target_m - eye_m)
    right = np.array([-forward[1], forward[0], 0.0]) / math.hypot(forward[0], forward[1])
    down = -np.array([0.0, 0.0, 1.0]) + forward[2] * forward
    down /= np.linalg.norm(down)
    cosine, sine = math.cos(roll_rad), math.sin(roll_rad)
    rotation = np.stack([cosine * right + sine * down, cosine * down - sine * right, forward])
    width, height = size_px
    return CameraPose(eye_m, rotation, focal_px, ((width - 1) / 2, (height - 1) / 2), width, height)


def play_camera(options: MatchOptions) -> CameraPose:
    """Return the camera that films the play, aimed and zoomed so that court and play fill the picture."""
    random = np.random.default_rng([options.seed, 23])
    stand = _STANDS[options.camera]
    eye = np.array(stand.eye_m) + random.uniform(-1, 1, 3) * (0.25, 0.3, 0.15)
    size = (options.width_px, options.height_px)
    if options.height_px > options.width_px:
        eye[1] += 4.0
        eye[2] += 0.6
    pose = look_at(
        eye, np.array([CENTRE_X_M, COURT_LENGTH_M / 2, 0.5]), 1.0, size, float(random.uniform(-0.012, 0.012))
    )
    focal = 1.0
    for _ in range(12):
        least, most = _extent(pose, stand.seen_m), _extent(pose, _HIGHEST_M)
        half = (least[1, 0] - least[0, 0]) / 2
        focal = min(
            stand.width_share * options.width_px / 2 / half,
            stand.bottom_share * options.height_px / (least[1, 1] - least[0, 1]),
        )
        # The near base line at its place; where that shows more air than any shuttle needs, both in the middle.
        bottom = (stand.bottom_share - 0.5) * options.height_px / focal
        bottom = min(bottom, float(most[1, 1] - most[0, 1]) / 2)
        right = np.arctan(least[0, 0]) + np.arctan(least[1, 0])
        pose = pose.turned(float(right) / 2, math.atan(bottom) - math.atan(float(least[1, 1])))
    pose = replace(pose, focal_px=float(focal * random.uniform(0.96, 1.0)))
    if options.half_out_of_view:
        pose = replace(pose, focal_px=pose.focal_px * 1.3)
        side = float(random.choice([-1, 1]))
        pose = pose.turned(side * math.atan(0.85 * options.width_px / 2 / pose.focal_px), 0.0)
    if options.pan_deg:
        pose = replace(pose, focal_px=pose.focal_px * 1.25)
    return pose


def _extent(pose: CameraPose, height_m: float) -> Floats:
    """Return the least and the greatest tangents [2, 2] of the court and the air above its far base line."""
    above = _CORNERS_M[_CORNERS_M[:, 1] == 0] + (0.0, 0.0, height_m)
    local = (np.vstack([_CORNERS_M, above]) - pose.eye_m) @ pose.rotation.T
    at = local[:, :2] / local[:, 2:]
    return np.stack([at.min(axis=0), at.max(axis=0)])


@dataclass(frozen=True)
class CameraMotion:
    """Turns and shakes of the camera. Shapes [N]: one value a frame."""

    yaw_rad: Floats
    pitch_rad: Floats
    dx_px: Floats
    dy_px: Floats

    @property
    def still(self) -> bool:
        """Whether the camera stands still."""
        return not any(part.any() for part in (self.yaw_rad, self.pitch_rad, self.dx_px, self.dy_px))

    def pose(self, base: CameraPose, index: int) -> CameraPose:
        """Return the camera at a frame."""
        at = (self.yaw_rad[index], self.pitch_rad[index], self.dx_px[index], self.dy_px[index])
        return base.turned(*(float(part) for part in at)) if any(at) else base

    def padding_px(self, base: CameraPose) -> tuple[int, int]:
        """Return by how much a picture has to be larger to contain all frames."""
        if self.still:
            return 0, 0
        corner = math.hypot(base.width_px, base.height_px) / 2 / base.focal_px
        grown = base.focal_px * (1 + corner**2)
        x = grown * float(np.abs(self.yaw_rad).max()) + float(np.abs(self.dx_px).max())
        y = grown * float(np.abs(self.pitch_rad).max()) + float(np.abs(self.dy_px).max())
        return math.ceil(x * 1.1) + 4, math.ceil((y + 0.15 * x * corner) * 1.1) + 4


def camera_motion(options: MatchOptions, times_s: Floats, shuttle_m: Floats) -> CameraMotion:
    """Return how the camera follows the play and shakes; ``shuttle_m`` [N, 3] may be NaN."""
    random = np.random.default_rng([options.seed, 29])
    none = np.zeros(len(times_s))
    yaw, pitch, dx, dy = none, none, none, none
    if options.pan_deg:
        most = math.radians(options.pan_deg)
        aside = np.nan_to_num((shuttle_m[:, 0] - CENTRE_X_M) / (COURT_WIDTH_M / 2))
        ahead = np.nan_to_num((shuttle_m[:, 1] - COURT_LENGTH_M / 2) / (COURT_LENGTH_M / 2))
        width = max(3, round(0.8 * options.rate_hz) | 1)
        window = np.hanning(width + 2)[1:-1]
        window /= window.sum()
        yaw, pitch = (np.convolve(np.pad(part, width // 2, mode="edge"), window, "valid") for part in (aside, ahead))
        yaw = most * np.clip(0.6 * yaw + 0.4 * np.sin(2 * np.pi * times_s / 5.3 + random.uniform(0, 6)), -1, 1)
        pitch = -0.35 * most * np.clip(0.7 * pitch + 0.3 * np.sin(2 * np.pi * times_s / 7.1), -1, 1)
    if options.shake_px:
        scale = options.shake_px
        tones = [(0.7, 0.7), (1.9, 0.5), (4.3, 0.35), (7.7, 0.2)]
        waves = [
            [part * np.sin(2 * np.pi * hz * times_s + random.uniform(0, 6.3)) for hz, part in tones] for _ in range(2)
        ]
        dx, dy = (1.4 * scale * np.sum(wave, axis=0) for wave in waves)
    return CameraMotion(yaw, pitch, dx, dy)
