"""Rendering of the camera image at a place of a circuit."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.laps.car_camera import CarCamera
from simulators.laps.circuit import Circuit
from simulators.laps.ground_texture import GroundTexture, paint_ground
from simulators.laps.lens_effects import LensEffects, occluder_picture
from simulators.laps.scenery import (
    HAZE_BGR,
    PANORAMA_HALF_RAD,
    PANORAMA_WIDTH_PX,
    Scenery,
    make_scenery,
)

Floats = NDArray[np.float64]
Picture = NDArray[np.uint8]

NEAR_M = 1.0
FAR_M = 260.0
HAZE_M = 420.0
HAZE_STEPS = 6


class CircuitWorld:
    """A circuit with painted ground and scenery: created once, rendered by many cameras."""

    def __init__(self, circuit: Circuit, pixels_per_m: float = 8.0) -> None:
        """Paint the world; ``pixels_per_m`` is the finest detail of the ground."""
        self.circuit = circuit
        self.scenery: Scenery = make_scenery(circuit)
        tree = self.scenery.tree_m
        crowns = np.column_stack([tree[:, :2], tree[:, 3] / 2])
        self.ground: GroundTexture = paint_ground(circuit, crowns, pixels_per_m)
        self.panels = [_mipmaps(picture) for picture in self.scenery.panel_pictures]
        self.panel_tones = [picture.mean((0, 1)).astype(np.uint8) for picture in self.scenery.panel_pictures]
        self.sprites = [_mipmaps(picture) for picture in self.scenery.sprites]


class FrameRenderer:
    """Renderer of the frames of one camera in one world."""

    def __init__(self, world: CircuitWorld, camera: CarCamera) -> None:
        """Precompute all that is constant over frames."""
        self._world, self._camera = world, camera
        self._lens = LensEffects(camera)
        self._occluder = occluder_picture(camera)
        rays = camera.horizon_ray()
        flat = np.hypot(rays[..., 0], rays[..., 2])
        azimuth = np.arctan2(rays[..., 0], rays[..., 2])
        elevation = np.arctan2(-rays[..., 1], flat)
        height = world.scenery.panorama.shape[0]
        self._sky_x = (azimuth / (2 * np.pi) * PANORAMA_WIDTH_PX).astype(np.float32)
        self._sky_y = ((1 - elevation / PANORAMA_HALF_RAD) * (height - 1)).astype(np.float32)
        self._sky_rows = int(np.max(np.flatnonzero((elevation > -0.01).any(1)), initial=0)) + 1
        self._on_ground = (elevation < 0).astype(np.uint8) * 255
        distance = camera.height_m / np.maximum(np.tan(np.maximum(-elevation, 1e-6)), 1e-6)
        self._clear = np.exp(-distance / HAZE_M).astype(np.float32)
        self._haze = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
        self._haze[:] = HAZE_BGR
        self._bands = self._mip_bands(distance)
        self._sprite_cache: dict[tuple[int, int, int], tuple[Picture, Picture]] = {}

    def _mip_bands(self, distance_m: Floats) -> list[tuple[int, int, int]]:
        """Split the rows below the horizon by the ground level to sample: (first, last, level)."""
        ground = self._world.ground
        row_m = np.median(distance_m, axis=1)
        step = np.maximum(row_m / self._camera.focal_px * 3.0 * ground.pixels_per_m, 1.0)
        level = np.clip(np.log2(step).astype(int), 0, len(ground.levels) - 1)
        first = int(np.argmax(self._on_ground.any(1)))
        cuts = [first, *(np.flatnonzero(np.diff(level[first:])) + first + 1), self._camera.height_px]
        return [(a, b, int(level[a])) for a, b in pairwise(cuts) if b > a]

    def draw(self, place_m: float, offset_m: float, acceleration_mps2: float, index: int) -> Picture:
        """Render the frame [H, W, 3] BGR at a place; ``index`` seeds shake and noise.

        The camera looks along the road; braking tilts it slightly down.
        """
        camera, circuit = self._camera, self._world.circuit
        heading = float(circuit.heading_at(np.array([place_m]))[0])
        eye = np.append(circuit.at(np.array([place_m]), offset_m + camera.sideways_m)[0], camera.height_m)
        rotation = camera.rotation(heading)
        frame = self._backdrop(heading, eye, rotation)
        for depth, kind, item, corners in self._visible(eye, rotation):
            if kind == 0:
                self._sprite(frame, item, corners, depth)
            else:
                self._panel(frame, item, corners, depth)
        frame = self._lens.distort(frame, acceleration_mps2, index)
        if self._occluder is not None:
            picture, clear = self._occluder
            frame = np.asarray(cv2.add(cv2.multiply(frame, clear, scale=1 / 255), picture))
        return self._lens.expose(frame, index)

    def _backdrop(self, heading: float, eye: Floats, rotation: Floats) -> Picture:
        """Draw sky, hills and ground [H, W, 3]."""
        camera, ground = self._camera, self._world.ground
        frame = np.empty((camera.height_px, camera.width_px, 3), np.uint8)
        # azimuth increases to the right, heading to the left
        shift = np.float32((-heading / (2 * np.pi)) % 1 * PANORAMA_WIDTH_PX)
        rows = slice(0, self._sky_rows)
        frame[rows] = cv2.remap(
            self._world.scenery.panorama,
            (self._sky_x[rows] + shift) % (PANORAMA_WIDTH_PX - 1),
            np.clip(self._sky_y[rows], 0, self._world.scenery.panorama.shape[0] - 1),
            cv2.INTER_LINEAR,
        )
        onto = camera.intrinsic @ np.column_stack([rotation[:, 0], rotation[:, 1], -rotation @ eye])
        below = np.empty_like(frame)
        for first, last, level in self._bands:
            crop = np.array([[1, 0, 0], [0, 1, -first], [0, 0, 1.0]])
            back = ground.from_world(level) @ np.linalg.inv(crop @ onto)
            below[first:last] = cv2.warpPerspective(
                ground.levels[level],
                back,
                (camera.width_px, last - first),
                flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                borderMode=cv2.BORDER_CONSTANT,
                borderValue=(58, 118, 96),
            )
        start = self._bands[0][0] if self._bands else camera.height_px
        clear = self._clear[start:]
        hazy = cv2.blendLinear(below[start:], self._haze[start:], clear, 1 - clear)
        cv2.copyTo(hazy, self._on_ground[start:], frame[start:])
        return frame

    def _visible(self, eye: Floats, rotation: Floats) -> list[tuple[float, int, int, Floats]]:
        """List the objects in view, farthest first: (depth, 0 tree or 1 panel, index, corners in pixels).

        A tree's corners are foot and top [2, 2], a panel's its four [4, 2].
        """
        scenery, camera = self._world.scenery, self._camera
        tree = scenery.tree_m
        upright = np.stack(
            [
                np.column_stack([tree[:, :2], np.zeros(len(tree))]),
                np.column_stack([tree[:, :2], tree[:, 2]]),
            ],
            axis=1,
        )
        seen: list[tuple[float, int, int, Floats]] = []
        for kind, points, nearest, wide in (
            (0, upright, 3.0, tree[:, 3] * camera.focal_px / 2),
            (1, scenery.panel_m, NEAR_M, np.zeros(len(scenery.panel_m))),
        ):
            local = (points - eye) @ rotation.T
            depth = local[:, :, 2]
            near = np.flatnonzero((depth.min(axis=1) > nearest) & (depth.max(axis=1) < FAR_M))
            pixel = local[near] @ camera.intrinsic.T
            corners = pixel[:, :, :2] / pixel[:, :, 2:]
            middle = depth[near].mean(axis=1)
            spread = (wide[near] / middle)[:, None]
            low, high = corners.min(axis=1) - spread, corners.max(axis=1) + spread
            size = (camera.width_px, camera.height_px)
            inside = np.all((high > 0) & (low < size), axis=1) & (high[:, 1] - low[:, 1] > 0.7)
            seen += [
                (float(middle[number]), kind, int(near[number]), corners[number]) for number in np.flatnonzero(inside)
            ]
        return sorted(seen, key=lambda item: -item[0])

    def _sprite(self, frame: Picture, item: int, corners: Floats, depth: float) -> None:
        _, _, height, width, sprite = self._world.scenery.tree_m[item]
        (x0, y0), (x1, y1) = corners.tolist()
        span = math.hypot(x1 - x0, y1 - y0)
        wide = span * width / height
        left, right = round((x0 + x1) / 2 - wide / 2), round((x0 + x1) / 2 + wide / 2)
        upper, lower = round(min(y0, y1)), round(max(y0, y1))
        frame_height, frame_width = frame.shape[:2]
        # scale only the part inside the frame
        x_low, y_low, x_high, y_high = max(left, 0), max(upper, 0), min(right, frame_width), min(lower, frame_height)
        if lower - upper < 3 or right - left < 2 or x_high <= x_low or y_high <= y_low:
            return
        colour, clear = self._hazed_sprite(int(sprite), lower - upper, depth)
        sx, sy = colour.shape[1] / (right - left), colour.shape[0] / (lower - upper)
        warp = np.array([[sx, 0, (x_low - left + 0.5) * sx - 0.5], [0, sy, (y_low - upper + 0.5) * sy - 0.5]])
        size = (x_high - x_low, y_high - y_low)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        colour = np.asarray(cv2.warpAffine(colour, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))
        clear = np.asarray(cv2.warpAffine(clear, warp, size, flags=flags, borderMode=cv2.BORDER_REPLICATE))
        region = frame[y_low:y_high, x_low:x_high]
        cv2.add(cv2.multiply(region, clear, scale=1 / 255), colour, dst=region)

    def _hazed_sprite(self, sprite: int, height_px: int, depth_m: float) -> tuple[Picture, Picture]:
        """Return a tree's colour [h, w, 3] (times alpha) and transparency [h, w, 3], in the haze at its depth."""
        levels = self._world.sprites[sprite]
        level = min(max(int(math.log2(256 / max(height_px, 1))), 0), len(levels) - 1)
        haze = int((1 - math.exp(-depth_m / HAZE_M)) * 2 * HAZE_STEPS)
        key = (sprite, level, haze)
        if key not in self._sprite_cache:
            picture = levels[level]
            alpha = cv2.merge([picture[..., 3]] * 3)
            share = haze / (2 * HAZE_STEPS)
            air = (alpha.astype(np.float32) * (np.array(HAZE_BGR, np.float32) / 255)).astype(np.uint8)
            colour = cv2.addWeighted(np.ascontiguousarray(picture[..., :3]), 1 - share, air, share, 0)
            self._sprite_cache[key] = (np.asarray(colour), np.asarray(255 - alpha))
        return self._sprite_cache[key]

    def _panel(self, frame: Picture, item: int, corners: Floats, depth: float) -> None:
        scenery = self._world.scenery
        # In Python's numbers: a frame has 40 panels, most of them small, and numpy's calls took most of the time.
        x, y = zip(*corners.tolist(), strict=True)
        left, top = max(math.floor(min(x)), 0), max(math.floor(min(y)), 0)
        right, bottom = min(math.ceil(max(x)) + 1, frame.shape[1]), min(math.ceil(max(y)) + 1, frame.shape[0])
        width, height = right - left, bottom - top
        if min(width, height) < 1:
            return
        levels = self._world.panels[int(scenery.panel_picture[item])]
        tall = max(1.0, math.hypot(x[3] - x[0], y[3] - y[0]))
        level = min(int(math.log2(max(1.0, levels[0].shape[0] / tall))), len(levels) - 1)
        picture = levels[level]
        clear = math.exp(-depth / HAZE_M)
        region = frame[top:bottom, left:right]
        local = (corners - (left, top)).astype(np.float32)
        mask = np.zeros((height, width), np.uint8)
        cv2.fillConvexPoly(mask, np.round(local * 16).astype(np.int32), 255, cv2.LINE_AA, 4)
        if tall < 2.5:
            shown = np.empty_like(region)
            shown[:] = self._world.panel_tones[int(scenery.panel_picture[item])]
        else:
            across, down = picture.shape[1] - 0.5, picture.shape[0] - 0.5
            source = np.array([[-0.5, -0.5], [across, -0.5], [across, down], [-0.5, down]], np.float32)
            warp = cv2.getPerspectiveTransform(source, local)
            shown = np.asarray(
                cv2.warpPerspective(
                    picture, warp, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
                )
            )
        shown = np.asarray(cv2.addWeighted(shown, clear, self._haze[:height, :width], 1 - clear, 0))
        weight = mask.astype(np.float32) * np.float32(1 / 255)
        region[:] = cv2.blendLinear(shown, np.ascontiguousarray(region), weight, 1 - weight)


def _mipmaps(picture: Picture) -> list[Picture]:
    levels = [picture]
    while min(levels[-1].shape[:2]) > 4:
        levels.append(np.asarray(cv2.resize(levels[-1], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)))
    return levels
