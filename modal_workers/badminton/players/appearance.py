"""The colours of a person's shirt and shorts: a histogram that changes little with the light.

Partners often wear one shirt, and different shorts.
"""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.persons import KEYPOINTS, Floats, Persons, Picture

Corners = NDArray[np.float64]

_HUES: Final = 10
#: Limits of colourfulness (chroma in Lab units) between grey, pale and strong.
_PALE: Final = 10.0
_STRONG: Final = 32.0
_GREYS: Final = 6
_GREY_BLUR: Final = 0.8
#: Bins: two rings of hues and a row of greys, for the shirt and for the shorts.
_BINS: Final = 2 * _HUES + _GREYS
APPEARANCE_BINS: Final = 2 * _BINS
#: A region is sampled at about so many pixels: clothes have few colours.
_SAMPLES: Final = 250
_MIN_KEYPOINT_CONFIDENCE: Final = 0.3
_TORSO: Final = [KEYPOINTS.index(name) for name in ("left_shoulder", "right_shoulder", "right_hip", "left_hip")]
_THIGHS: Final = [KEYPOINTS.index(name) for name in ("left_hip", "right_hip", "right_knee", "left_knee")]
#: Shorts end above the knee.
_SHORTS_SHARE: Final = 0.6
#: Without a skeleton: share of the box's width and height in which they are, whichever way a player leans.
_BOX_X: Final = (0.3, 0.7)
_SHIRT_Y: Final = (0.2, 0.46)
_SHORTS_Y: Final = (0.5, 0.64)
#: A region seen from the side is a narrow quadrilateral; it is widened to this share of its length.
_LEAST_WIDTH: Final = 0.25


def appearances(picture: Picture, persons: Persons) -> Floats:
    """Return a histogram [n, APPEARANCE_BINS] for each person, with sum 1; zeros where the clothes are not in view."""
    found = np.zeros((len(persons), APPEARANCE_BINS), np.float32)
    for index in range(len(persons)):
        box, keypoints = persons.boxes_px[index], persons.keypoints_px[index].astype(np.float64)
        shirt = _pixels(picture, _torso(keypoints), box, _SHIRT_Y)
        shorts = _pixels(picture, _thighs(keypoints), box, _SHORTS_Y)
        if len(shirt) and len(shorts):
            found[index, :_BINS] = histogram(shirt) / 2
            found[index, _BINS:] = histogram(shorts) / 2
    return found


def histogram(pixels: NDArray[np.uint8]) -> Floats:
    """Return the histogram of the BGR pixels [n, 3] of one region; a colour between two bins counts in both."""
    lab = cv2.cvtColor(np.ascontiguousarray(pixels[None], np.float32) / 255, cv2.COLOR_BGR2Lab)[0]
    lightness, a, b = lab[:, 0], lab[:, 1], lab[:, 2]
    chroma = np.hypot(a, b)
    grey = np.clip((_PALE + 6 - chroma) / 12, 0, 1)
    strong = np.clip((chroma - _STRONG + 8) / 16, 0, 1)
    result = np.zeros(_BINS)
    hue = np.arctan2(b, a) / (2 * np.pi) * _HUES % _HUES
    low = np.floor(hue).astype(int) % _HUES
    share = hue - np.floor(hue)
    for ring, weight in ((0, (1 - grey) * (1 - strong)), (1, (1 - grey) * strong)):
        result[ring * _HUES : (ring + 1) * _HUES] += np.bincount(low, weight * (1 - share), _HUES)
        result[ring * _HUES : (ring + 1) * _HUES] += np.bincount((low + 1) % _HUES, weight * share, _HUES)
    # Light changes by a bin within a match: greys are blurred over it.
    off = lightness[:, None] / 100 * (_GREYS - 1) - np.arange(_GREYS)
    share = np.exp(-0.5 * (off / _GREY_BLUR) ** 2)
    result[2 * _HUES :] += (grey[:, None] * share / share.sum(axis=1, keepdims=True)).sum(axis=0)
    return np.asarray(result / result.sum(), np.float32)


def _torso(keypoints: Corners) -> Corners | None:
    found = _found(keypoints[_TORSO])
    return None if found is None else _widened(found)


def _thighs(keypoints: Corners) -> Corners | None:
    found = _found(keypoints[_THIGHS])
    if found is None:
        return None
    hips, knees = found[:2], found[3:1:-1]
    ends = hips + _SHORTS_SHARE * (knees - hips)
    return _widened(np.concatenate([hips, ends[::-1]]))


def _found(corners: Corners) -> Corners | None:
    known = np.isfinite(corners).all() and (corners[:, 2] >= _MIN_KEYPOINT_CONFIDENCE).all()
    return corners[:, :2] if known else None


def _pixels(picture: Picture, corners: Corners | None, box: Floats, along: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the pixels of a region given by its corners, or else by its place in the box."""
    if corners is not None:
        return _in_quadrilateral(picture, corners)
    left, top, right, bottom = (float(value) for value in box)
    if not np.isfinite(box).all():
        return np.zeros((0, 3), np.uint8)
    width, height = right - left, bottom - top
    x0, x1 = left + _BOX_X[0] * width, left + _BOX_X[1] * width
    y0, y1 = top + along[0] * height, top + along[1] * height
    return _in_quadrilateral(picture, np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)]))


def _widened(torso: Corners) -> Corners:
    """Return the upper left, upper right, lower right and lower left corner, moved apart if seen from the side."""
    top, bottom = torso[:2].mean(axis=0), torso[2:].mean(axis=0)
    length = float(np.linalg.norm(bottom - top))
    if length < 1:
        return torso
    across = np.array([bottom[1] - top[1], top[0] - bottom[0]]) / length
    half = _LEAST_WIDTH * length / 2
    wide = torso.copy()
    for middle, corners in ((top, (0, 1)), (bottom, (3, 2))):
        if abs(float((torso[corners[0]] - torso[corners[1]]) @ across)) < 2 * half:
            wide[corners[0]], wide[corners[1]] = middle + half * across, middle - half * across
    # The rim belongs to arms and background as often as to the shirt.
    centre = wide.mean(axis=0)
    return np.asarray(centre + 0.85 * (wide - centre))


def _in_quadrilateral(picture: Picture, corners: Corners) -> NDArray[np.uint8]:
    """Return pixels at a grid of places inside four corners, those outside the picture left out."""
    side = max(2, round(_SAMPLES**0.5))
    steps = (np.arange(side) + 0.5) / side
    u, v = np.meshgrid(steps, steps)
    u, v = u[..., None], v[..., None]
    places = (1 - v) * ((1 - u) * corners[0] + u * corners[1]) + v * ((1 - u) * corners[3] + u * corners[2])
    columns, rows = np.round(places.reshape(-1, 2)).T
    inside = (columns >= 0) & (columns < picture.shape[1]) & (rows >= 0) & (rows < picture.shape[0])
    return np.asarray(picture[rows[inside].astype(int), columns[inside].astype(int)], np.uint8)
