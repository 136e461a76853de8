"""A generated table top in the robot's frame, rendered with true colour and depth from any camera above it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from simulators.arm import textures
from simulators.arm.baked_light import lit
from simulators.shapes import (
    FARTHEST_M,
    Box,
    Floats,
    Frustum,
    Picture,
    Shape,
    Sheet,
    Singles,
    Sphere,
    draw_where,
    mip_pyramid,
    points_at,
    rotated_about_z,
    window_of,
)

#: Centre of the objects on the table: m in the robot's frame.
SCENE_CENTRE_M: Final = (0.30, 0.0, 0.03)
_BACKDROP: Final = np.array([206, 212, 220], np.uint8)
_SUPERSAMPLING: Final = 2
_TABLE: Final = Sheet((-0.8, -1.2), (1.6, 1.2))
_MAT: Final = Sheet((0.17, -0.18), (0.45, 0.18), 0.0005)
_NEAR_M: Final = 0.01


@dataclass(frozen=True)
class TexturedSolid:
    """A shape and the lit textures of its faces, each as a mip pyramid."""

    shape: Shape
    texel_m: float
    pyramids: tuple[tuple[Picture, ...], ...]


class TableScene:
    """A wooden table with a cutting mat, a puzzle cube, a toy block, a parcel, a tin and a ball on it.

    The seed determines positions and textures. Nothing moves and nothing is specular: a point has the same colour from
    everywhere.
    """

    def __init__(self, seed: int = 0, board: tuple[Sheet, Picture] | None = None) -> None:
        """Paint the scene and bake its light: about a second of work.

        ``board`` is a sheet with its picture (RGB, x of the table upwards), for example a calibration target: it
        replaces all objects on the table.
        """
        self.seed = seed
        random = np.random.default_rng([seed, 503])
        objects = _objects(random) if board is None else []
        solids = [shape for shape, _, _ in objects]
        table = textures.planks(random, 1600, 10)
        mat = textures.cutting_mat(random, 1080, 840, 30)
        self._solids = [
            TexturedSolid(_TABLE, 0.0015, (mip_pyramid(_lit_table(table, solids)),)),
            TexturedSolid(_MAT, 1 / 3000, (mip_pyramid(lit(mat, _MAT, 0, solids, 96)),)),
        ]
        for shape, texel_m, painted in objects:
            faces = [lit(albedo, shape, face, solids, 20) for face, albedo in enumerate(painted)]
            self._solids.append(TexturedSolid(shape, texel_m, tuple(mip_pyramid(face) for face in faces)))
        if board is not None:
            sheet, painted_board = board
            texel_m = (sheet.high[1] - sheet.low[1]) / painted_board.shape[1]
            self._solids.append(TexturedSolid(sheet, texel_m, (mip_pyramid(lit(painted_board, sheet, 0, [], 1)),)))

    def render(self, camera_matrix: Floats, camera_from_world: Floats, width_px: int, height_px: int) -> Picture:
        """Return the image [H, W, 3] (RGB) of a pinhole camera.

        ``camera_matrix`` [3, 3] in px, the centre of the first pixel at (0, 0), as in OpenCV; ``camera_from_world`` [4,
        4] with the camera's x to the right, y down and z ahead.
        """
        picture, _ = self._cast(camera_matrix, camera_from_world, width_px, height_px, _SUPERSAMPLING)
        return np.asarray(cv2.resize(picture, (width_px, height_px), interpolation=cv2.INTER_AREA), np.uint8)

    def depth(self, camera_matrix: Floats, camera_from_world: Floats, width_px: int, height_px: int) -> Singles:
        """Return the depth z [H, W] in m at each pixel's centre, infinite where there is nothing."""
        return self._cast(camera_matrix, camera_from_world, width_px, height_px, 1)[1]

    def _cast(
        self, camera_matrix: Floats, camera_from_world: Floats, width_px: int, height_px: int, fine: int
    ) -> tuple[Picture, Singles]:
        matrix = _scaled(camera_matrix, fine)
        width, height = width_px * fine, height_px * fine
        rotation = camera_from_world[:3, :3]
        origin = (-rotation.T @ camera_from_world[:3, 3]).astype(np.float32)
        to_world = (rotation.T @ np.linalg.inv(matrix)).astype(np.float32)
        across, down = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)
        rays = (across[None, :, None] * to_world[:, 0] + down[:, None, None] * to_world[:, 1]) + to_world[:, 2]
        picture = np.empty((height, width, 3), np.uint8)
        picture[:] = _BACKDROP
        depth = np.full((height, width), FARTHEST_M, np.float32)
        for solid in self._solids:
            window = _window(solid.shape, matrix, camera_from_world, width, height)
            if window is not None:
                texels_per_m = 1 / (float(matrix[0, 0]) * solid.texel_m)
                _paint(solid, (origin, rays[window]), picture[window], depth[window], texels_per_m)
        return picture, np.where(depth < FARTHEST_M, depth, np.float32(np.inf))


def _paint(
    solid: TexturedSolid, rays_from: tuple[Singles, Singles], picture: Picture, nearest: Singles, texels_per_m: float
) -> None:
    """Draw a solid into a window of the image where it is nearer than what is there.

    ``rays_from`` holds the origin and the directions of the rays; ``texels_per_m`` is the number of texels per pixel
    and metre.
    """
    origin, rays = rays_from
    depth = solid.shape.depth(origin, rays)
    hit = depth < nearest
    if not hit.any():
        return
    np.copyto(nearest, depth, where=hit)
    points = points_at(origin, rays, np.where(hit, depth, np.float32(0)))
    texels_per_px = float(np.median(depth[hit])) * texels_per_m
    for face, on_face, u, v in solid.shape.faces(points):
        seen = on_face & hit
        part = window_of(seen)
        if part is not None:
            colours = _sample(solid.pyramids[face], u[part], v[part], texels_per_px)
            draw_where(seen[part], picture[part], colours)


def _sample(pyramid: tuple[Picture, ...], u: Singles, v: Singles, texels_per_px: float) -> Picture:
    """Sample a texture bilinearly on the two levels whose texels are nearest a pixel's size."""
    level = float(np.clip(np.log2(max(texels_per_px, 1e-6)), 0, len(pyramid) - 1))
    low = min(int(level), len(pyramid) - 2) if len(pyramid) > 1 else 0
    share = level - low
    finer = _bilinear(pyramid[low], u, v)
    if share < 0.02 or len(pyramid) == 1:
        return finer
    coarser = _bilinear(pyramid[low + 1], u, v)
    return np.asarray(cv2.addWeighted(finer, 1 - share, coarser, share, 0), np.uint8)


def _bilinear(texture: Picture, u: Singles, v: Singles) -> Picture:
    height, width = texture.shape[:2]
    x, y = u * np.float32(width) - np.float32(0.5), v * np.float32(height) - np.float32(0.5)
    found = cv2.remap(texture, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.asarray(found, np.uint8)


def _window(
    shape: Shape, matrix: Floats, camera_from_world: Floats, width: int, height: int
) -> tuple[slice, slice] | None:
    """Return the rows and columns within which a shape is visible; None if nowhere."""
    corners = shape.corners().astype(np.float64) @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]
    if corners[:, 2].min() < _NEAR_M:
        return (slice(0, height), slice(0, width)) if corners[:, 2].max() > _NEAR_M else None
    pixels = corners @ matrix.T
    pixels = pixels[:, :2] / pixels[:, 2:]
    low, high = np.floor(pixels.min(0)), np.ceil(pixels.max(0)) + 1
    columns = slice(max(0, int(low[0])), min(width, max(0, int(high[0]))))
    rows = slice(max(0, int(low[1])), min(height, max(0, int(high[1]))))
    return (rows, columns) if columns.start < columns.stop and rows.start < rows.stop else None


def _scaled(matrix: Floats, fine: int) -> Floats:
    """Return the camera matrix of the same image with ``fine`` times as many pixels per side."""
    scaled = np.array(matrix, np.float64)
    scaled[:2] *= fine
    scaled[:2, 2] += (fine - 1) / 2
    return scaled


def _lit_table(table: Picture, solids: list[Shape]) -> Picture:
    """Light the table: uniformly where nothing stands, finely around the objects."""
    size = table.shape[0]
    texels_per_m = size / (_TABLE.high[0] - _TABLE.low[0])
    whole = lit(table, _TABLE, 0, [], 1)
    low, high = (0.0, -0.35), (0.70, 0.35)
    rows = slice(round((_TABLE.high[0] - high[0]) * texels_per_m), round((_TABLE.high[0] - low[0]) * texels_per_m))
    columns = slice(round((_TABLE.high[1] - high[1]) * texels_per_m), round((_TABLE.high[1] - low[1]) * texels_per_m))
    whole[rows, columns] = lit(table[rows, columns], Sheet(low, high), 0, solids, 100)
    return whole


def _objects(random: np.random.Generator) -> list[tuple[Shape, float, list[Picture]]]:
    """Generate the objects: shape, metres per texel, and each face's picture."""

    def near(x: float, y: float) -> tuple[float, float]:
        return float(x + random.uniform(-0.006, 0.006)), float(y + random.uniform(-0.006, 0.006))

    def turn(yaw_deg: float) -> Floats:
        return rotated_about_z(float(np.deg2rad(yaw_deg + random.uniform(-12, 12))))

    def tilted(angle_rad: float) -> Floats:
        cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
        return np.array([[cosine, 0.0, -sine], [0.0, 1.0, 0.0], [sine, 0.0, cosine]])

    cube, block, parcel = (0.057,) * 3, (0.038,) * 3, (0.070, 0.105, 0.048)
    tin_radius, tin_height, ball_radius = 0.033, 0.078, 0.031
    return [
        (Box((*near(0.268, 0.062), cube[2] / 2), cube, turn(28)), cube[0] / 192, textures.puzzle_cube(random, 192)),
        (
            Box((*near(0.300, -0.004), block[2] / 2), block, turn(-35)),
            block[0] / 128,
            textures.letter_block(random, 128),
        ),
        (
            Box((*near(0.370, 0.058), parcel[2] / 2), parcel, turn(12)),
            1 / 3000,
            textures.parcel(random, parcel, 3000),
        ),
        (
            Frustum((*near(0.362, -0.056), tin_height / 2), (tin_radius, tin_radius), tin_height),
            2 * np.pi * tin_radius / 640,
            [textures.tin_label(random, 640, 240), textures.tin_lid(192), textures.tin_lid(192)],
        ),
        (
            Sphere((*near(0.258, -0.066), ball_radius), ball_radius, tilted(float(random.uniform(0.4, 0.8)))),
            2 * np.pi * ball_radius / 512,
            [textures.beach_ball(random, 512, 256)],
        ),
    ]
