"""The still picture of a hall as a camera sees it, and its net: rendered once for each camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_HEIGHT_AT_POSTS_M, NET_Y_M
from simulators.badminton.picture.hall_design import HALL_M, HallDesign, HallSheet
from simulators.badminton.picture.match_camera import CameraPose
from simulators.badminton.play.shots import net_height_m

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Picture = NDArray[np.uint8]

_FINE: Final = 2
#: Lines are drawn at this multiple of the size and averaged: their edges are right to a tenth of a pixel.
_LINE_FINE: Final = 6
_NEAREST_M: Final = 0.2
NET_BOTTOM_M: Final = 0.79


@dataclass(frozen=True, eq=False)
class NetLayer:
    """The net's colour times alpha, and its transparency [h, w, 3], at a place in the picture."""

    colour: Picture
    clear: Picture
    left_px: int
    top_px: int


@dataclass(frozen=True, eq=False)
class HallView:
    """Picture of a camera without persons and shuttle."""

    pose: CameraPose
    background: Picture
    net: NetLayer | None


def render_view(design: HallDesign, pose: CameraPose, *, with_net: bool = True) -> HallView:
    """Render hall and net for a camera."""
    background = _hall(design, pose)
    return HallView(pose, background, net_layer(design, pose) if with_net else None)


def turned_view(view: HallView, pose: CameraPose) -> HallView:
    """Return the view of a camera that stands at the same place but is turned, cut out of a larger view's picture."""
    base = view.pose
    turn = pose.intrinsic @ pose.rotation @ base.rotation.T @ np.linalg.inv(base.intrinsic)
    size = (pose.width_px, pose.height_px)
    background = cv2.warpPerspective(view.background, turn, size, flags=cv2.INTER_LINEAR)
    return HallView(
        pose, np.asarray(background, np.uint8), None if view.net is None else _turned_net(view.net, turn, size)
    )


def _turned_net(net: NetLayer, turn: Floats, size: tuple[int, int]) -> NetLayer | None:
    height, width = net.colour.shape[:2]
    corners = np.array([[net.left_px + x, net.top_px + y, 1.0] for x in (0, width) for y in (0, height)]) @ turn.T
    pixel = corners[:, :2] / corners[:, 2:]
    left, top = (int(max(part, 0)) for part in np.floor(pixel.min(axis=0)))
    right, bottom = (int(min(part, most)) for part, most in zip(np.ceil(pixel.max(axis=0)) + 1, size, strict=True))
    if right <= left or bottom <= top:
        return None
    into = np.array([[1, 0, -left], [0, 1, -top], [0, 0, 1.0]])
    out_of = np.array([[1, 0, net.left_px], [0, 1, net.top_px], [0, 0, 1.0]])
    turn, size = into @ turn @ out_of, (right - left, bottom - top)
    colour = cv2.warpPerspective(net.colour, turn, size, flags=cv2.INTER_LINEAR)
    clear = cv2.warpPerspective(net.clear, turn, size, flags=cv2.INTER_LINEAR, borderValue=(255, 255, 255))
    return NetLayer(np.asarray(colour, np.uint8), np.asarray(clear, np.uint8), left, top)


def _hall(design: HallDesign, pose: CameraPose) -> Picture:
    """Render all sheets by depth, and the lines on the floor where it is seen."""
    width, height = pose.width_px * _FINE, pose.height_px * _FINE
    picture = np.zeros((height, width, 3), np.uint8)
    nearest = np.full((height, width), 1e6, np.float32)
    floor = np.zeros((height, width), np.uint8)
    fine = _scaled(pose, _FINE)
    for sheet in design.sheets:
        _render_sheet(picture, nearest, floor, sheet, fine)
    size = (pose.width_px, pose.height_px)
    shown = cv2.resize(picture, size, interpolation=cv2.INTER_AREA).astype(np.float32)
    seen = cv2.resize(floor, size, interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    for colour in dict.fromkeys(stripe.colour for stripe in design.stripes):
        cover = _stripe_cover([stripe.corners_m for stripe in design.stripes if stripe.colour == colour], pose)
        share = (cover * seen * 0.95)[..., None]
        shown += share * (np.array(colour, np.float32) - shown)
    shown += (_gloss(design, pose) * seen)[..., None]
    return np.clip(shown, 0, 255).astype(np.uint8)


def _scaled(pose: CameraPose, fine: int) -> CameraPose:
    u, v = ((part + 0.5) * fine - 0.5 for part in pose.centre_px)
    return CameraPose(
        pose.eye_m, pose.rotation, pose.focal_px * fine, (u, v), pose.width_px * fine, pose.height_px * fine
    )


def _render_sheet(picture: Picture, nearest: Singles, floor: Picture, sheet: HallSheet, pose: CameraPose) -> None:
    """Cast rays onto one sheet; the place on the sheet is a homography of the pixel."""
    window = _window(sheet, pose)
    if window is None:
        return
    rows, columns = window
    frame = np.column_stack([sheet.right_m, sheet.down_m, sheet.origin_m - pose.eye_m])
    if abs(np.linalg.det(frame)) < 1e-9:
        return
    # origin + s right + t down = eye + depth * ray: linear in (s, t, 1) / depth.
    back = np.linalg.inv(frame) @ pose.rotation.T @ np.linalg.inv(pose.intrinsic)
    u = np.arange(columns.start, columns.stop, dtype=np.float32)[None]
    v = np.arange(rows.start, rows.stop, dtype=np.float32)[:, None]
    s, t, inverse = (np.float32(row[0]) * u + (np.float32(row[1]) * v + np.float32(row[2])) for row in back)
    depth = np.asarray(np.where(inverse > 1e-6, 1 / np.maximum(inverse, 1e-6), 1e6), np.float32)
    s, t = s * depth, t * depth
    hit = (s >= 0) & (s <= 1) & (t >= 0) & (t <= 1) & (depth > _NEAREST_M) & (depth < nearest[rows, columns])
    if not hit.any():
        return
    tall, wide = sheet.picture.shape[:2]
    colour = cv2.remap(sheet.picture, s * wide - 0.5, t * tall - 0.5, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    np.copyto(picture[rows, columns], colour, where=hit[..., None])
    np.copyto(nearest[rows, columns], depth, where=hit)
    floor[rows, columns][hit] = 255 if sheet.is_floor else 0


def _window(sheet: HallSheet, pose: CameraPose) -> tuple[slice, slice] | None:
    """Return the rows and columns in which a sheet can be seen; all of them where a part is behind the camera."""
    corners = np.array([sheet.origin_m + a * sheet.right_m + b * sheet.down_m for a in (0, 1) for b in (0, 1)])
    pixel, depth = pose.project(corners)
    if (depth < _NEAREST_M).all():
        return None
    if (depth < _NEAREST_M).any():
        return slice(0, pose.height_px), slice(0, pose.width_px)
    low, high = np.floor(pixel.min(axis=0)), np.ceil(pixel.max(axis=0)) + 1
    x0, y0 = (int(max(part, 0)) for part in low)
    x1, y1 = int(min(high[0], pose.width_px)), int(min(high[1], pose.height_px))
    return (slice(y0, y1), slice(x0, x1)) if x1 > x0 and y1 > y0 else None


def _stripe_cover(stripes: list[Floats], pose: CameraPose) -> Singles:
    """Return the share of each pixel [H, W] that painted lines cover."""
    fine = _scaled(pose, _LINE_FINE)
    canvas = np.zeros((fine.height_px, fine.width_px), np.uint8)
    for corners in stripes:
        outline = clipped_outline(np.column_stack([corners, np.zeros(len(corners))]), fine)
        if outline is not None:
            cv2.fillPoly(canvas, [outline], 255, cv2.LINE_8, 4)
    cover = cv2.resize(canvas, (pose.width_px, pose.height_px), interpolation=cv2.INTER_AREA)
    return np.asarray(cover, np.float32) / np.float32(255)


def clipped_outline(corners_m: Floats, pose: CameraPose) -> NDArray[np.int32] | None:
    """Return the outline of a flat polygon [N, 3] in pixels times 16, without what is behind the camera."""
    local = (corners_m - pose.eye_m) @ pose.rotation.T
    kept: list[Floats] = []
    for number, point in enumerate(local):
        before = local[number - 1]
        if (before[2] < _NEAREST_M) != (point[2] < _NEAREST_M):
            share = (_NEAREST_M - before[2]) / (point[2] - before[2])
            kept.append(before + share * (point - before))
        if point[2] >= _NEAREST_M:
            kept.append(point)
    if len(kept) < 3:
        return None
    points = np.array(kept)
    pixel = points[:, :2] / points[:, 2:] * pose.focal_px + pose.centre_px
    if (np.abs(pixel) > 1e6).any():
        pixel = np.clip(pixel, -1e6, 1e6)
    return np.asarray(np.round(pixel * 16), np.int32)


def _gloss(design: HallDesign, pose: CameraPose) -> Singles:
    """Return the light [H, W] that the floor reflects of the lamps, blurred by its roughness."""
    small = 8
    width, height = max(pose.width_px // small, 2), max(pose.height_px // small, 2)
    canvas = np.zeros((height, width), np.float32)
    for x, y in design.lamps_m:
        corners = np.array([[x - 1.2, y - 0.4], [x + 1.2, y - 0.4], [x + 1.2, y + 0.4], [x - 1.2, y + 0.4]])
        outline = clipped_outline(np.column_stack([corners, np.full(4, -HALL_M[2])]), pose)
        if outline is not None:
            cv2.fillPoly(canvas, [outline], 110.0, cv2.LINE_8, 4 + 3)
    blurred = cv2.GaussianBlur(canvas, (0, 0), max(width / 110, 0.6), sigmaY=max(width / 40, 1.0))
    grown = cv2.resize(blurred, (pose.width_px, pose.height_px), interpolation=cv2.INTER_LINEAR)
    return np.asarray(grown * design.gloss, np.float32)


def net_layer(design: HallDesign, pose: CameraPose) -> NetLayer | None:
    """Render the net with tape and posts; None where it is out of view."""
    xs = np.linspace(0.0, COURT_WIDTH_M, 25)
    top = np.array([[x, NET_Y_M, net_height_m(float(x))] for x in xs])
    posts = [_upright(x - 0.02, x + 0.02, 0.0, NET_HEIGHT_AT_POSTS_M) for x in (0.0, COURT_WIDTH_M)]
    corners, depth = pose.project(np.vstack([top, *posts, top * (1, 1, 0)]))
    if (depth < _NEAREST_M).all():
        return None
    seen = corners[depth > _NEAREST_M]
    left, upper = (max(int(part) - 3, 0) for part in seen.min(axis=0))
    right = min(int(seen[:, 0].max()) + 4, pose.width_px)
    lower = min(int(seen[:, 1].max()) + 4, pose.height_px)
    if right <= left or lower <= upper:
        return None
    fine = 4
    u, v = pose.centre_px
    part = CameraPose(pose.eye_m, pose.rotation, pose.focal_px, (u - left, v - upper), right - left, lower - upper)
    part = _scaled(part, fine)
    colour = np.zeros((part.height_px, part.width_px, 4), np.float32)

    def paint(outline_m: Floats, tone: tuple[int, ...], alpha: float) -> None:
        outline = clipped_outline(outline_m, part)
        if outline is not None:
            cv2.fillPoly(colour, [outline], (*(alpha * part for part in tone), 255 * alpha), cv2.LINE_8, 4)

    bottom = top[::-1] * (1, 1, 0) + (0, 0, NET_BOTTOM_M)
    paint(np.vstack([top, bottom]), design.net, 0.24)
    for x in np.arange(0.0, COURT_WIDTH_M, 0.06):  # the thicker of the cords
        paint(_upright(float(x), float(x) + 0.006, NET_BOTTOM_M, net_height_m(float(x))), design.net, 0.55)
    paint(np.vstack([top, top[::-1] - (0, 0, 0.075)]), (225, 228, 228), 0.98)
    for post in posts:
        paint(post, design.post, 1.0)
    small = cv2.resize(colour, (right - left, lower - upper), interpolation=cv2.INTER_AREA)
    clear = cv2.merge([255 - small[..., 3]] * 3)
    return NetLayer(
        np.clip(small[..., :3], 0, 255).astype(np.uint8), np.clip(clear, 0, 255).astype(np.uint8), left, upper
    )


def _upright(left_m: float, right_m: float, low_m: float, high_m: float) -> Floats:
    """Return the corners [4, 3] of a rectangle in the net's plane."""
    corners = ((left_m, low_m), (right_m, low_m), (right_m, high_m), (left_m, high_m))
    return np.array([(x, NET_Y_M, z) for x, z in corners])


def lay_net_over(frame: Picture, net: NetLayer) -> None:
    """Draw the net onto a frame [H, W, 3]."""
    height, width = net.colour.shape[:2]
    region = frame[net.top_px : net.top_px + height, net.left_px : net.left_px + width]
    cv2.add(cv2.multiply(region, net.clear, scale=1 / 255), net.colour, dst=region)
