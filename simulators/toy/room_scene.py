"""The toy on a table in a room, with baked light, rendered by ray casting.

A point has the same colour from everywhere, except for the effects of the camera, unless the toy is a mirror.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from simulators.shapes import (
    FARTHEST_M,
    Box,
    Floats,
    Masks,
    Shape,
    Singles,
    draw_where,
    face_grid,
    mip_pyramid,
    points_at,
    window_of,
)
from simulators.toy import textures as paint
from simulators.toy.locomotive import TexturedPart
from simulators.toy.other_objects import OBJECTS, TOY
from simulators.toy.ring_camera import PosedCamera
from simulators.toy.textures import Picture

_TABLE: Final = Box((0.0, 0.0, -0.015), (1.3, 1.3, 0.03))
_ROOM: Final = Box((0.0, 0.0, 0.35), (4.6, 4.0, 2.3))
#: Rays per pixel and direction, which are averaged.
_FINE: Final = 2
_SUN: Final = np.array([0.46, -0.34, 0.82])
_SUN_SHARE: Final = 0.5
#: Ambient share of the light; and in a bright room.
BOUNCED: Final = 0.22
BRIGHT: Final = 0.36
_NEAR_M: Final = 0.02

#: What the object is made of: as painted, of one colour per part, nearly black, or chrome that reflects the room.
Material = Literal["painted", "plain", "dark", "mirror"]
_DARK: Final = 0.07
_REFLECTED: Final = 0.8


@dataclass(frozen=True)
class _TexturedSolid:
    shape: Shape
    #: Mip pyramid of each face.
    pyramids: tuple[tuple[Picture, ...], ...]
    texel_m: float
    #: Mip pyramids of the walls of the room, where it is a mirror.
    reflects: tuple[tuple[Picture, ...], ...] = ()


@functools.lru_cache(maxsize=6)
def room_scene(
    seed: int, *, textured: bool = True, bounced: float = BOUNCED, thing: str = TOY, material: Material = "painted"
) -> RoomScene:
    """Return the scene of a seed; it is created once, in about a second."""
    return RoomScene(seed, textured=textured, bounced=bounced, thing=thing, material=material)


class RoomScene:
    """A toy on a table in a room. The seed determines all textures; ``textured=False`` makes them uniform.

    ``bounced`` is the ambient light, which also reaches shadows: a bright room has more of it. ``thing`` is the object
    on the table, one of ``OBJECTS``.
    """

    def __init__(
        self,
        seed: int,
        *,
        textured: bool = True,
        bounced: float = BOUNCED,
        thing: str = TOY,
        material: Material = "painted",
    ) -> None:
        """Paint everything and bake its light."""
        self.seed = seed
        random = np.random.default_rng([seed, 607])
        parts = OBJECTS[thing](random)
        table = (paint.table_top(random, 1400), *(paint.wood(random, 700, 24, (120, 84, 56)) for _ in range(5)))
        walls = tuple(paint.wall(random, 640) for _ in range(4))
        floor = paint.wood(random, 640, 640, (112, 82, 62), 16)
        room = (*walls, paint.worn(random, 320, 320, (214, 210, 202)), floor)
        if not textured:
            parts = [TexturedPart(part.shape, tuple(map(paint.plain, part.pictures))) for part in parts]
            table, room = tuple(map(paint.plain, table)), tuple(map(paint.plain, room))
        if material in {"plain", "dark"}:
            parts = [
                TexturedPart(part.shape, tuple(_made_of(material, each) for each in part.pictures)) for part in parts
            ]
        solids = [part.shape for part in parts]
        self._toy = [_textured_solid(part.shape, part.pictures, solids, bounced) for part in parts]
        top = _lit_table(table[0], solids, bounced)
        edges = [mip_pyramid(edge) for edge in table[1:5]]
        self._table = _TexturedSolid(_TABLE, (*edges, mip_pyramid(top), mip_pyramid(table[5])), 1.3 / 1400)
        self._bare_table = _TexturedSolid(_TABLE, (*edges, mip_pyramid(table[0]), mip_pyramid(table[5])), 1.3 / 1400)
        self._room = [mip_pyramid(wall) for wall in room]
        if material == "mirror":
            self._toy = [replace(solid, reflects=tuple(self._room)) for solid in self._toy]

    @property
    def bounds_m(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Lowest and highest corner of a box around the object on the table."""
        corners = np.concatenate([thing.shape.corners() for thing in self._toy])
        (x, y, z), (far_x, far_y, far_z) = corners.min(0).tolist(), corners.max(0).tolist()
        return (x, y, z), (far_x, far_y, far_z)

    def picture(self, camera: PosedCamera) -> Picture:
        """Return the image of a camera: RGB [H, W, 3]."""
        fine = _rays(camera, _FINE)
        picture = self._behind(camera, fine, [self._table, *self._toy])
        return _coarse(picture, camera)

    def silhouette(self, camera: PosedCamera) -> Picture:
        """Return the coverage of each pixel by the toy: [H, W], 0 to 255."""
        return _coarse(np.where(self._covered(camera, 4), np.uint8(255), np.uint8(0)), camera)

    def cutout(self, camera: PosedCamera) -> Picture:
        """Return the toy alone, with straight alpha: RGBA [H, W, 4]."""
        fine = _rays(camera, _FINE)
        picture = np.zeros((*fine[1].shape[:2], 3), np.uint8)
        depth = np.full(fine[1].shape[:2], FARTHEST_M, np.float32)
        _cast(self._toy, camera, fine, picture, depth)
        alpha = (depth < FARTHEST_M).astype(np.float32)
        share = cv2.resize(alpha, (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA)
        colour = cv2.resize(picture.astype(np.float32), share.shape[::-1], interpolation=cv2.INTER_AREA)
        straight = np.where(share[..., None] > 0, colour / np.maximum(share, 1e-6)[..., None], 0)
        return np.concatenate([straight.round(), 255 * share[..., None].round(6)], -1).round().astype(np.uint8)

    def turned(self, camera: PosedCamera, still: PosedCamera) -> Picture:
        """Return the toy as ``camera`` sees it in front of table and room as ``still`` sees them: a turntable."""
        picture = self._behind(still, _rays(still, _FINE), [self._bare_table])
        fine = _rays(camera, _FINE)
        depth = np.full(picture.shape[:2], FARTHEST_M, np.float32)
        _cast(self._toy, camera, fine, picture, depth)
        return _coarse(picture, camera)

    def _behind(self, camera: PosedCamera, fine: tuple[Singles, Singles], things: Sequence[_TexturedSolid]) -> Picture:
        origin, rays = fine
        picture = np.empty(rays.shape, np.uint8)
        depth = np.full(rays.shape[:2], FARTHEST_M, np.float32)
        _cast(things, camera, fine, picture, depth)
        _paint_room(self._room, origin, rays, picture, depth == FARTHEST_M)
        return picture

    def _covered(self, camera: PosedCamera, fine: int) -> Masks:
        covered = np.zeros((camera.height_px * fine, camera.width_px * fine), bool)
        for thing in self._toy:
            window = _window(thing.shape, camera, fine)
            if window is not None:
                covered[window] |= thing.shape.depth(*_rays(camera, fine, window)) < FARTHEST_M
        return covered


def _cast(
    things: Sequence[_TexturedSolid],
    camera: PosedCamera,
    fine: tuple[Singles, Singles],
    picture: Picture,
    depth: Singles,
) -> None:
    """Draw solids into an image where they are nearer than what is there, and update the depth."""
    origin, rays = fine
    for thing in things:
        window = _window(thing.shape, camera, _FINE)
        if window is None:
            continue
        near = thing.shape.depth(origin, rays[window])
        hit = near < depth[window]
        if not hit.any():
            continue
        np.copyto(depth[window], near, where=hit)
        points = points_at(origin, rays[window], np.where(hit, near, np.float32(0)))
        level = np.log2(float(np.median(near[hit])) / (camera.focal_px * _FINE * thing.texel_m))
        for face, on_face, u, v in thing.shape.faces(points):
            seen = on_face & hit
            part = window_of(seen)
            if part is not None:
                colours = _sample(thing.pyramids[face], u[part], v[part], level)
                if thing.reflects:
                    normals = thing.shape.face_points(
                        face, np.asarray(u[part], np.float64), np.asarray(v[part], np.float64)
                    )[1]
                    colours = _mirrored(thing.reflects, colours, points[part], rays[window][part], normals)
                draw_where(seen[part], picture[window][part], colours)


def _made_of(material: Material, picture: Picture) -> Picture:
    return paint.plain(picture) if material == "plain" else (picture * _DARK).astype(np.uint8)


def _mirrored(
    room: Sequence[tuple[Picture, ...]], colours: Picture, points: Singles, rays: Singles, normals: Floats
) -> Picture:
    """Blend colours [H, W, 3] with the walls that are seen in a mirror at points [H, W, 3]; nothing else is."""
    onto = (rays * normals).sum(-1, keepdims=True)
    away = (rays - 2 * onto * normals).astype(np.float32)
    reflected = np.zeros_like(colours)
    _paint_room(room, points, away, reflected, np.ones(colours.shape[:2], bool))
    return np.asarray((_REFLECTED * reflected + (1 - _REFLECTED) * colours).round(), np.uint8)


def _paint_room(
    room: Sequence[tuple[Picture, ...]], origin: Singles, rays: Singles, picture: Picture, open_: Masks
) -> None:
    """Draw the walls, seen from inside, where nothing is in front of them."""
    rows = np.flatnonzero(open_.any(1))
    if not len(rows):
        return
    part = slice(int(rows[0]), int(rows[-1]) + 1)
    along = np.where(np.abs(rays[part]) < 1e-9, np.float32(1e-9), rays[part])
    half, centre = np.asarray(_ROOM.size, np.float32) / 2, np.asarray(_ROOM.centre, np.float32)
    walls = (np.sign(along) * half + centre - origin) / along
    away = np.minimum(np.minimum(walls[..., 0], walls[..., 1]), walls[..., 2])
    for face, on_face, u, v in _ROOM.faces(points_at(origin, along, away)):
        seen = on_face & open_[part]
        window = window_of(seen)
        if window is not None:
            draw_where(seen[window], picture[part][window], _sample(room[face], u[window], v[window], 0.0))


def _rays(
    camera: PosedCamera, fine: int, window: tuple[slice, slice] = (slice(None), slice(None))
) -> tuple[Singles, Singles]:
    """Return the rays' origin [3] and directions [H, W, 3], z = 1 in the camera; ``fine`` rays per pixel side.

    ``window``: the rows and columns of rays to return.
    """
    pose = camera.world_from_camera
    to_world = (pose[:3, :3] @ np.linalg.inv(camera.matrix)).astype(np.float32)
    across = ((np.arange(camera.width_px * fine)[window[1]] + 0.5) / fine).astype(np.float32)
    down = ((np.arange(camera.height_px * fine)[window[0]] + 0.5) / fine).astype(np.float32)
    rays = (across[None, :, None] * to_world[:, 0] + down[:, None, None] * to_world[:, 1]) + to_world[:, 2]
    return pose[:3, 3].astype(np.float32), rays


def _window(shape: Shape, camera: PosedCamera, fine: int) -> tuple[slice, slice] | None:
    """Return the rows and columns of rays that can hit a shape; None if nowhere."""
    pose = camera.world_from_camera
    local = (shape.corners() - pose[:3, 3]) @ pose[:3, :3]
    height, width = camera.height_px * fine, camera.width_px * fine
    if local[:, 2].min() < _NEAR_M:
        return (slice(0, height), slice(0, width)) if local[:, 2].max() > _NEAR_M else None
    places = local @ camera.matrix.T
    places = places[:, :2] / places[:, 2:] * fine
    low, high = np.floor(places.min(0)) - 1, np.ceil(places.max(0)) + 1
    columns = slice(max(0, int(low[0])), min(width, max(0, int(high[0]))))
    rows = slice(max(0, int(low[1])), min(height, max(0, int(high[1]))))
    return (rows, columns) if columns.start < columns.stop and rows.start < rows.stop else None


def _sample(pyramid: tuple[Picture, ...], u: Singles, v: Singles, level: float) -> Picture:
    """Sample pictures bilinearly, on the level whose texels are about as wide as the rays are apart."""
    texture = pyramid[int(np.clip(np.round(level), 0, len(pyramid) - 1))]
    height, width = texture.shape[:2]
    x, y = u * np.float32(width) - np.float32(0.5), v * np.float32(height) - np.float32(0.5)
    found = cv2.remap(
        texture, x.astype(np.float32), y.astype(np.float32), cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT
    )
    return np.asarray(found, np.uint8)


def _coarse(picture: NDArray[np.uint8], camera: PosedCamera) -> Picture:
    return np.asarray(cv2.resize(picture, (camera.width_px, camera.height_px), interpolation=cv2.INTER_AREA), np.uint8)


def _textured_solid(
    shape: Shape, pictures: Sequence[Picture], solids: Sequence[Shape], bounced: float
) -> _TexturedSolid:
    others = [solid for solid in solids if solid is not shape]
    lit = [_lit(picture, face_grid(shape, face, 14), others, bounced) for face, picture in enumerate(pictures)]
    return _TexturedSolid(shape, tuple(mip_pyramid(picture) for picture in lit), 1 / 2600)


def _lit(picture: Picture, surface: tuple[Floats, Floats], others: Sequence[Shape], bounced: float) -> Picture:
    """Shade a picture by the light at its points and normals [n, n, 3], shadowed by other solids."""
    points, normals = surface
    start = (points + 1e-4 * normals).astype(np.float32)
    falling = [np.maximum(normals @ towards, 0).astype(np.float32) for towards, _ in _LIGHTS]
    reaching = [number for number, strength in enumerate(falling) if strength.any()]
    light = np.zeros(points.shape[:2], np.float32)
    if reaching:
        # All lights at once: the pictures are small, and most of the time would go into calls.
        towards = np.array([_LIGHTS[number][0] for number in reaching], np.float32)
        rays = np.broadcast_to(towards[:, None, None], (len(reaching), *start.shape))
        free = np.ones(rays.shape[:3], bool)
        for solid in (*others, _TABLE):
            free &= solid.depth(start, rays) == FARTHEST_M
        for number, unshadowed in zip(reaching, free, strict=True):
            light += np.float32(_LIGHTS[number][1]) * falling[number] * unshadowed
    size = (picture.shape[1], picture.shape[0])
    shade = cv2.resize(bounced + light, size, interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(picture * shade[..., None], 0, 255).round().astype(np.uint8))


def _lit_table(top: Picture, solids: Sequence[Shape], bounced: float) -> Picture:
    """Shade the middle of the table, where the toy's shadow is."""
    size, half_m = top.shape[0], 0.26
    part = slice(round((0.5 - half_m / 1.3) * size), round((0.5 + half_m / 1.3) * size))
    surface = face_grid(Box((0.0, 0.0, -0.0005), (2 * half_m, 2 * half_m, 0.001)), 4, 110)
    bright = bounced + float(sum(strength * max(0.0, towards[2]) for towards, strength in _LIGHTS))
    lit = np.clip(top * bright, 0, 255).round().astype(np.uint8)
    lit[part, part] = _lit(top[part, part], surface, solids, bounced)
    return np.asarray(lit)


def _lights() -> list[tuple[Floats, float]]:
    """Return directions and strengths: a window of sun, and a uniform sky."""
    random = np.random.default_rng(11)
    sun = _SUN / np.linalg.norm(_SUN)
    lights = []
    for _ in range(8):
        towards = sun + random.normal(0, 0.12, 3)
        lights.append((towards / np.linalg.norm(towards), _SUN_SHARE / 8))
    for step in range(14):  # a spiral: uniform over the upper hemisphere
        z = (step + 0.5) / 14
        angle = step * np.pi * (3 - 5**0.5)
        flat = np.sqrt(1 - z * z)
        lights.append((np.array([flat * np.cos(angle), flat * np.sin(angle), z]), 0.95 / 14))
    return lights


_LIGHTS: Final = _lights()
