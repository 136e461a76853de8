"""Image effects of lens, mount and sensor: shake, distortion, exposure, noise, occluders."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.laps.car_camera import CarCamera

Picture = NDArray[np.uint8]


class LensEffects:
    """The imperfections of one camera."""

    def __init__(self, camera: CarCamera) -> None:
        """Compute the fixed maps and tables."""
        self._camera = camera
        self._random = np.random.default_rng([camera.seed, 53])
        self._distorted = camera.distortion != 0 or camera.keystone != 0
        self._map = self._distortion_maps() if self._distorted else None
        tone = np.clip(255 * (np.arange(256) / 255 * camera.gain) ** camera.gamma, 0, 255)
        self._tone = tone.astype(np.uint8)
        shape = (camera.height_px + 64, camera.width_px + 64)
        grain = self._random.standard_normal(shape) * camera.noise
        self._lighter = cv2.merge([np.clip(grain, 0, 255).astype(np.uint8)] * 3)
        self._darker = cv2.merge([np.clip(-grain, 0, 255).astype(np.uint8)] * 3)

    def _distortion_maps(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the maps [H, W] from the distorted image to the pinhole image."""
        camera = self._camera
        across, down = np.meshgrid(np.arange(camera.width_px, dtype=np.float64), np.arange(camera.height_px))
        x = (across - camera.width_px / 2) / camera.focal_px
        y = (down - camera.height_px / 2) / camera.focal_px
        lean = 1 + camera.keystone * (x + 0.6 * y)
        x, y = x / lean, y / lean
        squared = x * x + y * y
        bend = 1 + camera.distortion * squared
        map_x = x * bend * camera.focal_px + camera.width_px / 2
        map_y = y * bend * camera.focal_px + camera.height_px / 2
        return map_x.astype(np.float32), map_y.astype(np.float32)

    def distort(self, frame: Picture, acceleration_mps2: float, index: int) -> Picture:
        """Distort and shake a frame [H, W, 3]."""
        camera = self._camera
        if self._map is not None:
            frame = np.asarray(cv2.remap(frame, *self._map, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))
        scale = camera.width_px / 640
        phase = camera.seed * 1.7 + index / camera.rate_hz * 2 * np.pi
        bump = camera.shake_px * scale
        dx = bump * (np.sin(phase * 5.1) * 0.5 + self._random.standard_normal() * 0.5)
        dy = bump * (np.sin(phase * 3.3) * 0.7 + self._random.standard_normal() * 0.7)
        dy -= 0.25 * scale * float(np.clip(acceleration_mps2, -9, 6)) * (camera.shake_px > 0)
        warp = np.array([[1, 0, dx], [0, 1, dy]])
        size = (camera.width_px, camera.height_px)
        return np.asarray(cv2.warpAffine(frame, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101))

    def expose(self, frame: Picture, index: int) -> Picture:
        """Apply exposure and noise, and the wiper if it is on."""
        camera = self._camera
        if camera.occluder == "wiper":
            swing = np.sin(index / camera.rate_hz * 2 * np.pi * 0.8)
            foot = (int(camera.width_px * 0.45), int(camera.height_px * 1.05))
            reach, angle = camera.height_px * 1.0, np.pi / 2 + swing * 1.1
            tip = (int(foot[0] + reach * np.cos(angle)), int(foot[1] - reach * np.sin(angle)))
            cv2.line(frame, foot, tip, (22, 22, 24), max(2, camera.width_px // 60), cv2.LINE_AA)
        frame = np.asarray(cv2.LUT(frame, self._tone))
        if camera.noise > 0:
            x, y = self._random.integers(0, 64, 2)
            rows, columns = slice(y, y + camera.height_px), slice(x, x + camera.width_px)
            frame = np.asarray(cv2.subtract(cv2.add(frame, self._lighter[rows, columns]), self._darker[rows, columns]))
        return frame


def occluder_picture(camera: CarCamera) -> tuple[Picture, Picture] | None:
    """Draw the visible part of the car: colour [H, W, 3] times alpha, and its transparency; None without one."""
    if camera.occluder == "none":
        return None
    width, height = camera.width_px, camera.height_px
    colour, alpha = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), np.uint8)
    if camera.occluder in ("bonnet", "wiper"):
        centre, axes = (int(width * 0.48), int(height * 1.16)), (int(width * 0.52), int(height * 0.31))
        cv2.ellipse(alpha, centre, axes, 0, 0, 360, 255, -1, cv2.LINE_AA)
        fall = np.linspace(1.1, 0.55, height)[:, None, None] * np.array([150, 64, 26.0])
        shine = np.exp(-(((np.arange(width) / width - 0.36) / 0.12) ** 2))[None, :, None] * 60
        colour[:] = np.clip(fall + shine, 0, 255)
        for x in (0.40, 0.56):
            cv2.line(
                colour, (int(width * x), height), (int(width * (x + 0.48) / 2), int(height * 0.86)), (60, 26, 12), 2
            )
    else:
        top = int(height * 0.80)
        points = [
            (0, top + 14),
            (width // 3, top),
            (width * 2 // 3, top),
            (width, top + 14),
            (width, height),
            (0, height),
        ]
        cv2.fillPoly(alpha, [np.array(points)], 255, cv2.LINE_AA)
        for outer, inner in ((0, width // 14), (width, width - width // 14)):
            pillar = np.array([(outer, 0), (inner, 0), (outer, int(height * 0.8))])
            cv2.fillPoly(alpha, [pillar], 255, cv2.LINE_AA)
        colour[:] = np.clip(np.linspace(70, 18, height)[:, None, None] * np.array([1.0, 0.97, 0.95]), 0, 255)
        cv2.ellipse(
            colour, (width // 3, height), (height // 5, height // 6), 0, 180, 360, (120, 120, 124), 3, cv2.LINE_AA
        )
    solid = cv2.merge([alpha] * 3)
    return np.asarray(cv2.multiply(colour, solid, scale=1 / 255)), np.asarray(255 - solid)
