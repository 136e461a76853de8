"""Halls, cameras and other sports' floors drawn by chance, and pictures spoilt as phones and broadcasts spoil them."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from tests.harness.vision.court_pictures import BLUE, GREEN, GREY, WOOD, Camera, Hall, draw_floor_line, draw_hall

SIZES = ((1920, 1080), (1280, 720), (960, 540), (640, 360))
#: Camera positions: x, y and z in metres with their spread, target's y, focal length in widths with its spread.
STANDS = {
    "broadcast_high": ((3.05, 29.0, 9.5), (0.6, 4.0, 2.0), 6.3, (1.5, 2.2)),
    "broadcast_low": ((3.05, 24.0, 4.7), (1.0, 2.5, 1.0), 6.5, (1.2, 1.6)),
    "phone_back": ((3.0, 18.5, 2.6), (1.8, 2.0, 0.8), 7.0, (0.65, 0.9)),
    "phone_corner": ((8.2, 16.5, 3.0), (1.2, 2.0, 0.9), 7.3, (0.62, 0.8)),
    "side": ((13.0, 7.5, 3.7), (2.0, 2.0, 1.2), 6.7, (0.6, 0.75)),
}
#: Lines of other floors as (start, end) in metres, and the scale of the camera's distance.
OTHER_SPORTS = {
    "tennis": (
        [((0, y), (10.97, y)) for y in (0, 23.77)]
        + [((1.37, y), (9.6, y)) for y in (5.485, 18.285)]
        + [((x, 0), (x, 23.77)) for x in (0, 1.37, 9.6, 10.97)]
        + [((5.485, 5.485), (5.485, 18.285))],
        1.8,
    ),
    "volleyball": (
        [((0, y), (9, y)) for y in (0, 6, 9, 12, 18)] + [((x, 0), (x, 18)) for x in (0, 9)],
        1.4,
    ),
    "basketball": (
        [((0, y), (15, y)) for y in (0, 14, 28)]
        + [((5.05, y), (9.95, y)) for y in (5.8, 22.2)]
        + [((x, 0), (x, 28)) for x in (0, 15)]
        + [((x, y), (x, y + 5.8)) for x in (5.05, 9.95) for y in (0, 22.2)],
        2.0,
    ),
}


def random_camera(rng: np.random.Generator, stand: str, size_px: tuple[int, int] | None = None) -> Camera:
    """Return a camera at about one of the stands."""
    place, spread, target_y, focal = STANDS[stand]
    position = np.array(place) + rng.uniform(-1, 1, 3) * spread
    if rng.random() < 0.5:
        position[0] = 6.1 - position[0]
    target = (3.05 + rng.normal(0, 0.4), target_y + rng.normal(0, 0.5), rng.uniform(0, 0.4))
    size_px = size_px or SIZES[rng.integers(len(SIZES))]
    return Camera(tuple(position), target, rng.uniform(*focal), size_px, rng.normal(0, 1.0))


def pointed_aside(camera: Camera, rng: np.random.Generator) -> Camera:
    """Return a camera that shows a part of the court."""
    aside = rng.choice([-1, 1]) * rng.uniform(0.5, 5)
    target = (camera.target_m[0] + aside, camera.target_m[1] + rng.uniform(-2, 2), camera.target_m[2])
    return replace(camera, target_m=target, focal_widths=camera.focal_widths * rng.uniform(1, 1.5))


def random_hall(rng: np.random.Generator, *, alone: bool = False) -> Hall:
    """Return a hall: colours, players, lines of other sports across, and other courts beside if it is not ``alone``."""
    colours = (GREEN, BLUE, WOOD, GREY, (60, 60, 160), (150, 150, 60))
    lines = ((235, 240, 240), (210, 215, 215), (80, 220, 235), (185, 185, 185))
    others = []
    for _ in range(rng.integers(0, 5) if rng.random() < 0.5 else 0):
        colour = ((40, 40, 200), (200, 60, 40), (30, 200, 230), (20, 20, 20), (220, 220, 220))[rng.integers(5)]
        x, y = rng.uniform(-3, 9), rng.uniform(-3, 16)
        others.append(((x, -4.0), (x, 20.0), colour) if rng.random() < 0.5 else ((-8.0, y), (14.0, y), colour))
    return Hall(
        floor=colours[rng.integers(6)],
        apron=colours[rng.integers(6)],
        lines=lines[rng.choice(4, p=[0.5, 0.25, 0.15, 0.1])],
        wall=tuple(int(value) for value in rng.integers(20, 160, 3)),
        net=bool(rng.random() < 0.9),
        players=int(rng.integers(0, 7)),
        noise=float(rng.uniform(1, 9)),
        other_courts_x_m=() if alone else ((), (-7.6,), (7.6,), (8.5,))[rng.choice(4, p=[0.7, 0.1, 0.1, 0.1])],
        other_lines=others,
        crowd=bool(rng.random() < 0.5),
        light_gradient=float(rng.uniform(0, 0.6)),
    )


def random_floor(rng: np.random.Generator, kind: str) -> np.ndarray:
    """Return a picture of a floor without a badminton court: a sport's name, ``grid`` or ``lines``."""
    hall = replace(random_hall(rng), other_courts_x_m=(), other_lines=[])
    if kind == "grid":
        scale, (across, along) = 1.0, rng.uniform(0.5, 2.5, 2)
        lines = [((x, -15.0), (x, 40.0)) for x in np.arange(-10, 18, across)]
        lines += [((-20.0, y), (30.0, y)) for y in np.arange(-10, 30, along)]
    elif kind == "lines":
        scale = 1.0
        lines = [((x, rng.uniform(-4, 3)), (x, rng.uniform(8, 20))) for x in rng.uniform(-3, 9, rng.integers(3, 9))]
        lines += [((rng.uniform(-6, 1), y), (rng.uniform(4, 12), y)) for y in rng.uniform(-2, 15, rng.integers(3, 9))]
    else:
        lines, scale = OTHER_SPORTS[kind]
    camera = random_camera(rng, list(STANDS)[rng.integers(len(STANDS))])
    far = (tuple(scale * np.array(camera.position_m)), tuple(scale * np.array(camera.target_m)))
    camera = replace(camera, position_m=far[0], target_m=far[1])
    return draw_hall(
        camera, hall, lambda picture: [draw_floor_line(picture, camera, *line, hall.lines) for line in lines]
    )


def spoil(picture: np.ndarray, rng: np.random.Generator, amount: float = 1.0) -> np.ndarray:
    """Return a picture out of focus, dark or compressed; ``amount`` 1 is usual, 3 is barely of use."""
    if rng.random() < 0.3 * amount:
        picture = cv2.GaussianBlur(picture, (0, 0), amount * rng.uniform(0.5, 1.6) * picture.shape[1] / 1920)
    if rng.random() < 0.3 * amount:
        picture = (picture * rng.uniform(1.0 - 0.25 * amount, 1.0)).astype(np.uint8)
    quality = int(rng.integers(max(8, round(92 - 55 * amount)), 92))
    return cv2.imdecode(cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_COLOR)
