"""Pictures of badminton courts through a camera, with the homography they were drawn with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import cv2
import numpy as np

from modal_workers.badminton.court.detection import detect_in, median_grey
from modal_workers.badminton.court.dimensions import (
    COURT_LENGTH_M,
    COURT_WIDTH_M,
    LINE_WIDTH_M,
    NET_HEIGHT_AT_POSTS_M,
    NET_Y_M,
    line_segments_m,
)
from modal_workers.badminton.court.homography import CourtNotFound, CourtView

GREEN, BLUE, WOOD, GREY = (70, 120, 40), (140, 90, 40), (90, 140, 180), (95, 95, 95)
NEAREST_DEPTH_M = 0.3


@dataclass(frozen=True)
class Camera:
    """A camera over court coordinates; ``target_m`` is seen at the picture's centre."""

    position_m: tuple[float, float, float]
    target_m: tuple[float, float, float] = (COURT_WIDTH_M / 2, NET_Y_M, 0.0)
    focal_widths: float = 1.0
    size_px: tuple[int, int] = (1920, 1080)
    roll_deg: float = 0.0

    @property
    def from_space(self) -> np.ndarray:
        """3x4: (x, y, z, 1) in metres to pixels times depth in metres."""
        # x right and y towards the camera with z up are left-handed: the camera is built over (x, -y, z).
        flip = np.diag([1.0, -1.0, 1.0])
        eye, target = flip @ np.asarray(self.position_m), flip @ np.asarray(self.target_m)
        forward = (target - eye) / np.linalg.norm(target - eye)
        right = np.cross(forward, [0.0, 0.0, 1.0])
        right /= np.linalg.norm(right)
        down = np.cross(forward, right)
        angle = np.radians(self.roll_deg)
        right, down = np.cos(angle) * right + np.sin(angle) * down, np.cos(angle) * down - np.sin(angle) * right
        rotation = np.stack([right, down, forward])
        focal = self.focal_widths * self.size_px[0]
        intrinsics = np.array([[focal, 0, (self.size_px[0] - 1) / 2], [0, focal, (self.size_px[1] - 1) / 2], [0, 0, 1]])
        return intrinsics @ np.column_stack([rotation @ flip, -rotation @ eye])

    @property
    def image_from_court(self) -> np.ndarray:
        """3x3, metres on the floor to pixels."""
        return self.from_space[:, [0, 1, 3]]

    def polygon(self, points_m: list[tuple[float, float, float]]) -> np.ndarray | None:
        """Return a polygon's pixels, cut off in front of the camera."""
        places = np.column_stack([points_m, np.ones(len(points_m))]) @ self.from_space.T
        kept = []
        for here, there in zip(places, np.roll(places, -1, axis=0), strict=True):
            if here[2] > NEAREST_DEPTH_M:
                kept.append(here)
            if (here[2] > NEAREST_DEPTH_M) != (there[2] > NEAREST_DEPTH_M):
                share = (NEAREST_DEPTH_M - here[2]) / (there[2] - here[2])
                kept.append(here + share * (there - here))
        if len(kept) < 3:
            return None
        cut = np.array(kept)
        return cut[:, :2] / cut[:, 2:]


#: Behind the near baseline, high and low, a phone on a tripod, and a phone in the near right corner.
CAMERAS = {
    "broadcast_high": Camera((3.05, 28.0, 9.0), (3.05, 6.3, 0.0), 1.75),
    "broadcast_low": Camera((3.05, 24.0, 4.5), (3.05, 6.5, 0.3), 1.45),
    "phone_back": Camera((2.5, 18.6, 2.6), (3.05, 7.0, 0.2), 0.78),
    "phone_corner": Camera((8.6, 17.0, 2.9), (3.0, 7.2, 0.0), 0.72),
}


@dataclass
class Hall:
    """What is drawn beside the lines."""

    floor: tuple[int, int, int] = GREEN
    apron: tuple[int, int, int] = BLUE
    lines: tuple[int, int, int] = (235, 240, 240)
    wall: tuple[int, int, int] = (60, 50, 50)
    net: bool = True
    players: int = 0
    noise: float = 4.0
    #: Courts beside this one: the places of their left lines in metres.
    other_courts_x_m: tuple[float, ...] = ()
    #: Lines of other sports on the floor, in their own colours.
    other_lines: list[tuple[tuple[float, float], tuple[float, float], tuple[int, int, int]]] = field(
        default_factory=list
    )
    crowd: bool = False
    light_gradient: float = 0.0


def draw_court(camera: Camera, hall: Hall | None = None, seed: int = 0) -> np.ndarray:
    """Return a BGR picture of a hall with a badminton court."""
    hall = hall or Hall()

    def lines(picture: np.ndarray) -> None:
        for offset in (*hall.other_courts_x_m, 0.0):
            for start, end in line_segments_m():
                _line(picture, camera, (start[0] + offset, start[1]), (end[0] + offset, end[1]), hall.lines)

    return draw_hall(camera, hall, lines, seed)


def draw_hall(camera: Camera, hall: Hall, lines: Callable[[np.ndarray], object], seed: int = 0) -> np.ndarray:
    """Return a BGR picture of a hall on whose floor ``lines`` draws."""
    rng = np.random.default_rng(seed)
    width, height = camera.size_px
    picture = np.full((height, width, 3), hall.wall, np.uint8)
    if hall.crowd:
        small = rng.integers(0, 255, (height // 12, width // 12, 3), dtype=np.uint8)
        picture = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC) // 2 + picture // 2
    _floor(picture, camera, (-12.0, -5.0, 18.0, 40.0), hall.apron)
    _floor(picture, camera, (-0.6, -1.0, COURT_WIDTH_M + 0.6, COURT_LENGTH_M + 1.0), hall.floor)
    lines(picture)
    for start, end, colour in hall.other_lines:
        draw_floor_line(picture, camera, start, end, colour)
    if hall.net:
        _net(picture, camera)
    for _ in range(hall.players):
        _player(picture, camera, rng.uniform(0.5, COURT_WIDTH_M - 0.5), rng.uniform(0.5, COURT_LENGTH_M - 0.5), rng)
    if hall.light_gradient:
        ramp = 1.0 - hall.light_gradient * np.linspace(0, 1, width, dtype=np.float32)[None, :, None]
        picture = np.clip(picture * ramp, 0, 255).astype(np.uint8)
    blurred = cv2.GaussianBlur(picture, (0, 0), 0.7).astype(np.int16)
    if hall.noise:
        blurred += (rng.standard_normal((height, width, 1), dtype=np.float32) * hall.noise).astype(np.int16)
    return np.clip(blurred, 0, 255).astype(np.uint8)


def _fill(picture: np.ndarray, polygon: np.ndarray | None, colour: tuple[int, int, int]) -> None:
    if polygon is not None:
        fixed = np.round(np.clip(polygon, -30000, 30000) * 16).astype(np.int32)
        cv2.fillConvexPoly(picture, fixed, colour, lineType=cv2.LINE_AA, shift=4)


def _floor(
    picture: np.ndarray, camera: Camera, bounds_m: tuple[float, float, float, float], colour: tuple[int, int, int]
) -> None:
    left, far, right, near = bounds_m
    _fill(picture, camera.polygon([(left, far, 0), (right, far, 0), (right, near, 0), (left, near, 0)]), colour)


def draw_floor_line(
    picture: np.ndarray,
    camera: Camera,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    """Draw a line 5 cm wide, parallel to one of the court's sides."""
    half = 0.025
    across = abs(start[1] - end[1]) < 1e-6
    wide, deep = (0.0, half) if across else (half, 0.0)
    _floor(picture, camera, (start[0] - wide, start[1] - deep, end[0] + wide, end[1] + deep), colour)


def _inside(value: float, length: float) -> tuple[float, float]:
    """Return a line's edges: positions are those of outer edges, except at the middle."""
    if abs(value - length / 2) < 0.1:
        return value - LINE_WIDTH_M / 2, value + LINE_WIDTH_M / 2
    return (value, value + LINE_WIDTH_M) if value < length / 2 else (value - LINE_WIDTH_M, value)


def _line(
    picture: np.ndarray,
    camera: Camera,
    start: tuple[float, float],
    end: tuple[float, float],
    colour: tuple[int, int, int],
) -> None:
    if abs(start[1] - end[1]) < 1e-6:
        # The short service lines' outer edges are those towards the net.
        far, near = _cross_edges(start[1])
        bounds = (start[0], far, end[0], near)
    else:
        offset = start[0] - min((x for x in (0.0, 0.46, 3.05, 5.64, 6.10)), key=lambda x: abs(x - start[0] % 6.6))
        left, right = _inside(start[0] - offset, COURT_WIDTH_M)
        bounds = (left + offset, start[1], right + offset, end[1])
    _floor(picture, camera, bounds, colour)


def _cross_edges(y: float) -> tuple[float, float]:
    if y < 1.0 or 7.0 < y < 10.0:
        return y, y + LINE_WIDTH_M
    return y - LINE_WIDTH_M, y


def _net(picture: np.ndarray, camera: Camera) -> None:
    top = NET_HEIGHT_AT_POSTS_M
    mesh = camera.polygon([(0, NET_Y_M, top), (6.1, NET_Y_M, top), (6.1, NET_Y_M, 0.79), (0, NET_Y_M, 0.79)])
    if mesh is not None:
        veil = picture.copy()
        _fill(veil, mesh, (30, 30, 30))
        picture[:] = cv2.addWeighted(picture, 0.65, veil, 0.35, 0)
    for left, right, bottom, height in ((0.0, 6.1, top - 0.075, top), (-0.04, 0.0, 0.0, top), (6.1, 6.14, 0.0, top)):
        band = [(left, NET_Y_M, height), (right, NET_Y_M, height), (right, NET_Y_M, bottom), (left, NET_Y_M, bottom)]
        _fill(picture, camera.polygon(band), (230, 230, 230) if right - left > 1 else (40, 40, 40))


def _player(picture: np.ndarray, camera: Camera, x: float, y: float, rng: np.random.Generator) -> None:
    colour = tuple(int(value) for value in rng.integers(0, 255, 3))
    half = 0.25
    body = [(x - half, y, 0.8), (x - half, y, 1.75), (x + half, y, 1.75), (x + half, y, 0.8)]
    _fill(picture, camera.polygon(body), colour)
    for side in (-0.15, 0.15):
        leg = [(x + side - 0.08, y, 0.0), (x + side - 0.08, y, 0.85), (x + side + 0.08, y, 0.85)]
        _fill(picture, camera.polygon([*leg, (x + side + 0.08, y, 0.0)]), (200, 180, 170))


def detect_court(pictures: Sequence[np.ndarray]) -> CourtView | CourtNotFound:
    """Return the court in pictures of one still camera, as the job finds it in their median."""
    return detect_in(median_grey(pictures))
