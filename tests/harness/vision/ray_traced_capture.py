"""A ray-traced box and ball on a patterned table: photos, exact silhouettes, and poses as from SfM."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Bytes = NDArray[np.uint8]

BALL_RADIUS = 0.075
BALL = np.array([0.02, -0.01, 0.155])
BOX_HALF = np.array([0.11, 0.08, 0.05])
BOX_MIDDLE = np.array([0.0, 0.0, 0.05])
CENTRE = np.array([0.0, 0.0, 0.1])
DISTANCE = 0.8
#: Similarity between the coordinates of SfM and the true ones.
TURN = cv2.Rodrigues(np.array([0.4, -0.9, 0.3]))[0]
SHIFT = np.array([0.7, -2.0, 1.1])
SCALE = 3.7


@dataclass(frozen=True)
class View:
    """A pinhole camera of square images, in true coordinates; OpenCV axes."""

    world_from_camera: Floats
    size_px: int
    focal_px: float


def look(azimuth_deg: float, elevation_deg: float, size_px: int, *, distance: float = DISTANCE, focal: float = 1.5):
    a, e = math.radians(azimuth_deg), math.radians(elevation_deg)
    back = np.array([math.cos(e) * math.cos(a), math.cos(e) * math.sin(a), math.sin(e)])
    z = -back
    x = np.cross(z, [0.0, 0.0, 1.0])
    x /= np.linalg.norm(x)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([x, np.cross(z, x), z], 1)
    pose[:3, 3] = CENTRE + distance * back
    return View(pose, size_px, focal * size_px)


def ring(count: int, size_px: int, *, elevations_deg: tuple[float, ...] = (22.0, 45.0)) -> list[View]:
    per = count / len(elevations_deg)
    return [
        look(
            360 * ((index + 0.5 * (index % 2)) / count) * len(elevations_deg), elevations_deg[int(index / per)], size_px
        )
        for index in range(count)
    ]


def trace(view: View, oversampling: int = 2) -> tuple[Bytes, Floats]:
    """Return RGB [H, W, 3] and the object's coverage [H, W] in 0..1."""
    fine = view.size_px * oversampling
    at = (np.arange(fine) + 0.5) / oversampling
    u, v = np.meshgrid(at, at)
    rays = np.stack(
        [(u - view.size_px / 2) / view.focal_px, (v - view.size_px / 2) / view.focal_px, np.ones_like(u)], -1
    )
    rays = rays @ view.world_from_camera[:3, :3].T
    origin = view.world_from_camera[:3, 3]
    depth, colour, hit = _nearest(origin, rays)
    del depth
    shape = (view.size_px, oversampling, view.size_px, oversampling)
    picture = colour.reshape(*shape, 3).mean((1, 3))
    return (picture * 255).round().astype(np.uint8), hit.reshape(shape).mean((1, 3))


def _nearest(origin: Floats, rays: Floats) -> tuple[Floats, Floats, NDArray[np.bool_]]:
    table = np.where(rays[..., 2] < 0, -origin[2] / np.minimum(rays[..., 2], -1e-9), np.inf)
    at = origin + np.where(np.isfinite(table), table, 0)[..., None] * rays
    on_table = np.isfinite(table) & (np.hypot(at[..., 0], at[..., 1]) < 0.7)
    colour = np.where(on_table[..., None], _pattern(at, 23.0, (0.55, 0.48, 0.4)), 0.62)
    box = _box(origin, rays)
    ball = _ball(origin, rays)
    near = np.minimum(box, ball)
    hit = np.isfinite(near) & (near < np.where(on_table, table, np.inf))
    at = origin + np.where(hit, near, 0)[..., None] * rays
    tints = np.where((ball < box)[..., None], (0.25, 0.5, 0.75), (0.8, 0.3, 0.25))
    colour = np.where(hit[..., None], np.clip(_pattern(at, 55.0, (0.0, 0.0, 0.0)) + tints, 0, 1), colour)
    return near, colour, hit


def _pattern(at: Floats, pitch: float, middle: tuple[float, float, float]) -> Floats:
    x, y, z = (at * pitch).transpose(2, 0, 1)
    waves = (
        np.sin(x + 0.6 * np.sin(y + z)) + np.sin(1.3 * y - 0.7 * z + 1.1 * np.sin(0.8 * x)) + np.sin(1.7 * z + 0.9 * x)
    )
    return np.stack([0.09 * waves, 0.07 * np.sin(2 * waves + 1), 0.08 * np.cos(1.5 * waves)], -1) + np.array(middle)


def _box(origin: Floats, rays: Floats) -> Floats:
    safe = np.where(np.abs(rays) < 1e-12, 1e-12, rays)
    one, other = (BOX_MIDDLE - BOX_HALF - origin) / safe, (BOX_MIDDLE + BOX_HALF - origin) / safe
    enter, leave = np.minimum(one, other).max(-1), np.maximum(one, other).min(-1)
    return np.where((enter <= leave) & (enter > 0), enter, np.inf)


def _ball(origin: Floats, rays: Floats) -> Floats:
    square, half = (rays * rays).sum(-1), (rays @ (origin - BALL))
    root = half**2 - square * (((origin - BALL) ** 2).sum() - BALL_RADIUS**2)
    return np.where(root > 0, (-half - np.sqrt(np.maximum(root, 0))) / square, np.inf)


def surface_points(count: int, seed: int = 0) -> tuple[Floats, Bytes]:
    """Return points on the object and the table with their colours, in true coordinates."""
    generator = np.random.default_rng(seed)
    points, colours = [], []
    while sum(len(some) for some in points) < count:
        view = look(float(generator.uniform(0, 360)), float(generator.uniform(15, 55)), 64)
        rays = np.stack([*generator.uniform(-0.33, 0.33, (2, 40, 1)), np.ones((40, 1))], -1)
        rays = rays @ view.world_from_camera[:3, :3].T
        origin = view.world_from_camera[:3, 3]
        near, colour, hit = _nearest(origin, rays)
        table = -origin[2] / rays[..., 2]
        depth = np.where(hit, near, table)
        at = origin + depth[..., None] * rays
        seen = (depth > 0) & np.isfinite(depth) & (np.linalg.norm(at - CENTRE, axis=-1) < 0.8)
        points.append(at[seen])
        colours.append(colour[seen])
    return np.concatenate(points)[:count], (np.concatenate(colours)[:count] * 255).astype(np.uint8)


def to_sfm(pose: Floats) -> Floats:
    found = np.eye(4)
    found[:3, :3] = TURN @ pose[:3, :3]
    found[:3, 3] = SCALE * TURN @ pose[:3, 3] + SHIFT
    return found


def from_sfm(pose: Floats) -> Floats:
    found = np.eye(4)
    found[:3, :3] = TURN.T @ pose[:3, :3]
    found[:3, 3] = TURN.T @ (pose[:3, 3] - SHIFT) / SCALE
    return found


def write_dataset(path: Path, views: list[View], *, masks: bool = False, points: int = 1500, seed: int = 0) -> Path:
    """Write ``dataset.zip`` as the poses stage does."""
    frames = []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for index, view in enumerate(views):
            picture, coverage = trace(view)
            name = f"{index:04d}_photo"
            encoded = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            archive.writestr(f"images/{name}.jpg", encoded.tobytes())
            frame = {"file_path": f"images/{name}.jpg"}
            if masks:
                mask = cv2.imencode(".png", ((coverage > 0.5) * 255).astype(np.uint8))[1]
                archive.writestr(f"masks/{name}.png", mask.tobytes())
                frame["mask_path"] = f"masks/{name}.png"
            matrix = to_sfm(view.world_from_camera) @ np.diag([1.0, -1.0, -1.0, 1.0])
            frame["transform_matrix"] = matrix.tolist()
            frames.append(frame)
        view, size = views[0], views[0].size_px
        common = {"camera_model": "PINHOLE", "w": size, "h": size, "fl_x": view.focal_px, "fl_y": view.focal_px}
        common |= {"cx": size / 2, "cy": size / 2, "frames": frames}
        archive.writestr("transforms.json", json.dumps(common))
        xyz, rgb = surface_points(points, seed)
        noise = np.random.default_rng(seed).normal(0, 0.001, xyz.shape)
        data = io.BytesIO()
        xyz = (SCALE * (xyz + noise) @ TURN.T + SHIFT).astype(np.float32)
        np.savez(data, xyz=xyz, rgb=rgb, error_px=np.full(points, 0.4), track_length=np.full(points, 5))
        archive.writestr("points.npz", data.getvalue())
    return path
