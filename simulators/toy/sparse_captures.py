"""Simulated captures after structure from motion: cameras and sparse points with known labels, without any picture.

Points lie on the surfaces of solids, where a camera sees them. As in COLMAP's models, a surface has many points or
hardly any, a track covers neighbouring photos only and misses some of them, depths are less exact than directions, and
a few points are wrong altogether. Lengths are in metres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.poses.colmap.model_files import ColmapCamera, RegisteredImage, SparseModel
from simulators.shapes import Box, Frustum, Shape, Sphere, rotated_about_z
from simulators.toy.ring_camera import look_at

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
Random = np.random.Generator

#: Labels of points that are on no object.
BACKGROUND: Final = -1
OUTLIER: Final = -2
#: How many objects of equal standing there are, and where the photos look.
Neighbour = Literal["none", "beside", "equal"]
ARCS_DEG: Final = (136.0, 180.0, 360.0)
_SIZE_PX: Final = (1600, 1200)
_SURFACE_POINTS: Final = 9000
#: Points of the even sample, per m².
_EVEN_PER_M2: Final = 1200.0
#: Background further from the object than this is in no box around it.
_NEAR_M: Final = 0.9
#: Fewer would be refused by the checks of the poses stage.
_MEDIAN_SEEN: Final = 50
_ATTEMPTS: Final = 4
_NEIGHBOUR_DEG: Final = 28.0
_OCCLUDED: Final = 0.995


@dataclass(frozen=True)
class SceneKind:
    """The things of a scene, and how far around them the photos go."""

    arc_deg: float
    #: Distance of the wall behind the object, from the object's back, over the object's radius; None: no wall.
    wall: float | None = None
    neighbour: Neighbour = "none"
    clutter: int = 0

    @property
    def name(self) -> str:
        """Name in tables."""
        parts = [f"{self.arc_deg:.0f}°"]
        parts += [] if self.wall is None else ["wall touching" if self.wall < 0.05 else "wall behind"]
        parts += {"none": [], "beside": ["another beside it"], "equal": ["two, aimed between"]}[self.neighbour]
        return ", ".join(parts + ["cluttered"] * (self.clutter > 0))


@dataclass(frozen=True)
class SparseCapture:
    """One capture with its truth."""

    seed: int
    kind: SceneKind
    model: SparseModel
    #: Label of each point: the index of its object, BACKGROUND or OUTLIER.
    labels: Integers
    #: Objects that may be meant.
    objects: int
    #: Points [M, 3] evenly over all surfaces that photos show, textured or not, and their labels.
    surface: Floats
    surface_labels: Integers

    @property
    def equal(self) -> bool:
        """Whether no photo tells which of the objects is meant."""
        return self.kind.neighbour == "equal"


@dataclass
class _Surfaces:
    """Solids, and points on them: positions, normals, labels."""

    solids: list[Shape] = field(default_factory=list)
    solid_labels: list[int] = field(default_factory=list)
    points: list[Floats] = field(default_factory=list)
    normals: list[Floats] = field(default_factory=list)
    labels: list[Integers] = field(default_factory=list)
    #: The same without texture: as many points everywhere.
    even: list[tuple[Floats, Floats, Integers]] = field(default_factory=list)

    def add(self, random: Random, shape: Shape, per_m2: float, label: int) -> None:
        """Add a solid with its points; some of its faces have much more texture than others."""
        self.solids.append(shape)
        self.solid_labels.append(label)
        for face in range(shape.face_count):
            area = _area_m2(shape, face)
            even = int(np.ceil(area * _EVEN_PER_M2))
            points, normals = shape.face_points(face, random.uniform(size=even), random.uniform(size=even))
            near = np.linalg.norm(points, axis=-1) < (_NEAR_M if label == BACKGROUND else np.inf)
            points, normals, even = points[near], np.array(normals)[near], int(near.sum())
            self.even.append((points, normals, np.full(even, label)))
            count = random.poisson(per_m2 * area * random.lognormal(0, 0.7))
            if not count:
                continue
            points, normals = shape.face_points(face, random.uniform(size=count), random.uniform(size=count))
            self.points.append(points)
            self.normals.append(np.array(normals))
            self.labels.append(np.full(count, label))


def scene_kind(random: Random) -> SceneKind:
    """Draw a kind: open and closed arcs, walls close behind, a second object, things on the floor."""
    arc = float(random.choice(ARCS_DEG))
    wall = None
    if arc < 360 and random.uniform() < 0.65:
        wall = 0.0 if random.uniform() < 0.3 else float(random.uniform(0.05, 1.5))
    neighbour: Neighbour = random.choice(["none", "beside", "equal"], p=[0.6, 0.25, 0.15])
    return SceneKind(arc, wall, neighbour, int(random.integers(8, 26)) if random.uniform() < 0.4 else 0)


def sparse_capture(seed: int, kind: SceneKind | None = None) -> SparseCapture:
    """Simulate a capture; the same arguments give the same capture."""
    random = np.random.default_rng([seed, 4019])
    kind = kind or scene_kind(random)
    density = float(random.lognormal(np.log(3.0), 0.5))
    for _ in range(_ATTEMPTS):
        capture = _simulated(random, seed, kind, density)
        if np.median(capture.model.points_seen) >= _MEDIAN_SEEN:
            break
        density *= 2
    return capture


@dataclass(frozen=True)
class SolidScene:
    """The solids of a capture with the label of each, and its cameras; without the room far away."""

    solids: tuple[Shape, ...]
    labels: tuple[int, ...]
    images: tuple[RegisteredImage, ...]


def solid_scene(seed: int, kind: SceneKind) -> SolidScene:
    """Return the solids and cameras of a capture; the same arguments give the same scene."""
    surfaces, images = _built(np.random.default_rng([seed, 4019]), kind, 1.0)
    near = len(surfaces.solids) - (4 if kind.wall is None else 3)
    return SolidScene(tuple(surfaces.solids[:near]), tuple(surfaces.solid_labels[:near]), tuple(images))


def _simulated(random: Random, seed: int, kind: SceneKind, density: float) -> SparseCapture:
    surfaces, images = _built(random, kind, density)
    return _observed(random, seed, kind, surfaces, images)


def _built(random: Random, kind: SceneKind, density: float) -> tuple[_Surfaces, list[RegisteredImage]]:
    surfaces = _Surfaces()
    radius = float(random.uniform(0.12, 0.34))  # the cameras are about 1 m away
    _floor(random, surfaces, density)
    _add_object(random, surfaces, np.zeros(2), radius, density, 0)
    extents = [_extent(surfaces, 0)]
    other = np.zeros(2)
    if kind.neighbour != "none":
        size = radius * float(random.uniform(0.85, 1.18) if kind.neighbour == "equal" else random.uniform(0.5, 1.2))
        # Beside the object as the photos of an open arc see it, or anywhere around it.
        angle = float(random.uniform(-0.6, 0.6) + np.pi * random.integers(2) + np.pi / 2)
        angle = angle if kind.arc_deg < 360 else random.uniform(0, 2 * np.pi)
        gap = float(random.uniform(0.15, 0.8) if kind.neighbour == "equal" else random.uniform(0.2, 1.5))
        other = (radius + size + gap * radius) * np.array([np.cos(angle), np.sin(angle)])
        _add_object(random, surfaces, other, size, density, 1)
        extents.append(_extent(surfaces, 1))
    if kind.wall is not None:
        _wall(random, surfaces, min(float(extent[0, 0]) for extent in extents) - kind.wall * radius, density)
    for _ in range(kind.clutter):
        _clutter(random, surfaces, radius, other, kind)
    _room(random, surfaces, kind)
    meant = np.concatenate(extents if kind.neighbour == "equal" else extents[:1])
    low, high = meant.min(0), meant.max(0)
    distance = max(0.85, 1.5 * float((high - low).max()))
    return surfaces, _cameras(random, kind, (low + high) / 2, radius, distance=distance)


def _area_m2(shape: Shape, face: int) -> float:
    if isinstance(shape, Box):
        return float(np.prod([size for axis, size in enumerate(shape.size) if axis != face // 2]))
    if isinstance(shape, Frustum):
        low, high = shape.radii
        return float(np.pi * ((low + high) * shape.length if face == 0 else (high if face == 1 else low) ** 2))
    assert isinstance(shape, Sphere)
    return float(4 * np.pi * shape.radius**2)


def _floor(random: Random, surfaces: _Surfaces, density: float) -> None:
    """Add a floor, or a table with its edge in the pictures, with or without something printed on it."""
    half = float(random.choice([0.55, 0.9, 2.5]))
    printed = float(random.lognormal(np.log(200), 0.9)) * density
    surfaces.add(random, Box((0.0, 0.0, -0.02), (2 * half, 2 * half, 0.04)), printed, BACKGROUND)
    if half < 2:
        surfaces.add(random, Box((0.0, 0.0, -0.75), (6.0, 6.0, 0.02)), 20 * density, BACKGROUND)


def _add_object(  # noqa: PLR0917 - one line per object
    random: Random, surfaces: _Surfaces, at: Floats, radius: float, density: float, label: int
) -> None:
    """Add one to five touching parts within about ``radius`` of the axis; one of them may have hardly any texture."""
    parts = int(random.integers(1, 6))
    base = float(random.lognormal(np.log(1800), 0.6)) * density * (0.22 / radius) ** 2
    plain = int(random.integers(parts)) if parts > 1 and random.uniform() < 0.35 else -1
    height, yaw = 0.0, float(random.uniform(0, 2 * np.pi))
    tall = float(random.uniform(0.6, 1.7))
    for part in range(parts):
        per_m2 = base * (0.08 if part == plain else 1.0)
        width = radius * float(random.uniform(0.45, 0.9))
        size = tall * radius * 1.6 / parts * float(random.uniform(0.7, 1.2))
        axes = rotated_about_z(yaw + float(random.normal(0, 0.3)))
        shift = at + random.normal(0, 0.08 * radius, 2) * (part > 0)
        centre = (float(shift[0]), float(shift[1]), height + size / 2)
        form = int(random.integers(3))
        if form == 0:
            sides = (1.3 * width, float(random.uniform(0.5, 1.3)) * width, size)
            surfaces.add(random, Box(centre, sides, axes), per_m2, label)
        elif form == 1:
            surfaces.add(
                random, Frustum(centre, (0.8 * width, 0.8 * width * random.uniform(0.4, 1.0)), size), per_m2, label
            )
        else:
            ball = min(0.5 * size + 0.2 * width, 0.9 * width)
            surfaces.add(random, Sphere((centre[0], centre[1], height + 0.95 * ball), ball), per_m2, label)
            size = 1.8 * ball
        height += 0.97 * size


def _wall(random: Random, surfaces: _Surfaces, x: float, density: float) -> None:
    """Add a wall at right angles to the middle of the arc."""
    per_m2 = float(random.lognormal(np.log(120), 0.9)) * density
    surfaces.add(random, Box((x - 0.05, 0.0, 1.0), (0.1, 4.4, 2.6)), per_m2, BACKGROUND)


def _clutter(random: Random, surfaces: _Surfaces, radius: float, other: Floats, kind: SceneKind) -> None:
    """Add a small thing on the floor, clear of the objects and in front of the wall."""
    for _ in range(20):
        at = random.uniform(-4.5, 4.5, 2) * radius
        size = radius * float(random.uniform(0.12, 0.45))
        clear = min(np.linalg.norm(at), np.linalg.norm(at - other) if other.any() else np.inf)
        if clear < 1.15 * radius + size or np.linalg.norm(at) > 0.8:
            continue
        if kind.wall is not None and at[0] < -radius * (1 + kind.wall):
            continue
        per_m2 = float(random.lognormal(np.log(2500), 0.6))
        axes = rotated_about_z(float(random.uniform(0, np.pi)))
        height = float(random.uniform(0.4, 1.4)) * size
        centre = (float(at[0]), float(at[1]), height / 2)
        surfaces.add(random, Box(centre, (size, 0.7 * size, height), axes), per_m2, BACKGROUND)
        return


def _room(random: Random, surfaces: _Surfaces, kind: SceneKind) -> None:
    """Add a room far away: shelves and pictures on walls."""
    per_m2 = float(random.lognormal(np.log(12), 0.6))
    far = float(random.uniform(2.2, 5.0))
    for side in range(4):
        if side == 0 and kind.wall is not None:
            continue
        axis = np.array([[-1, 0], [1, 0], [0, -1], [0, 1]])[side] * far
        size = (0.1, 2 * far, 3.0) if side < 2 else (2 * far, 0.1, 3.0)
        surfaces.add(random, Box((float(axis[0]), float(axis[1]), 0.7), size), per_m2, BACKGROUND)


def _extent(surfaces: _Surfaces, label: int) -> Floats:
    """Return the corners [2, 3] of an object's points."""
    points = np.concatenate([points for points, _, labels in surfaces.even if len(labels) and labels[0] == label])
    return np.stack([points.min(0), points.max(0)])


def _cameras(random: Random, kind: SceneKind, middle: Floats, radius: float, distance: float) -> list[RegisteredImage]:
    """Return handheld cameras on one to three rings; people aim roughly, and some of them always a bit too high."""
    count = int(random.integers(20, 56))
    rings = int(random.integers(1, 4))
    lowest, highest = random.uniform(8, 25), random.uniform(30, 55)
    view = np.radians(random.uniform(42, 68))
    focal = _SIZE_PX[0] / 2 / np.tan(view / 2)
    camera = ColmapCamera("PINHOLE", *_SIZE_PX, (focal, focal, _SIZE_PX[0] / 2, _SIZE_PX[1] / 2))
    systematic = random.normal(0, 0.12 * radius, 3)
    images = []
    for index in range(count):
        ring = index * rings // count
        elevation = np.radians(lowest + (highest - lowest) * ring / max(1, rings - 1) + random.normal(0, 2.5))
        along = (index * rings / count) % 1
        azimuth = np.radians(kind.arc_deg * (along - 0.5) + random.normal(0, 2.0))
        away = distance * random.normal(1.0, 0.07)
        direction = [np.cos(elevation) * np.cos(azimuth), np.cos(elevation) * np.sin(azimuth), np.sin(elevation)]
        eye = middle + away * np.array(direction)
        target = middle + systematic + random.normal(0, 0.18 * radius, 3)
        pose = look_at(eye, target, float(random.normal(0, np.radians(2))))
        images.append(RegisteredImage(index + 1, f"photo_{index:04d}.jpg", camera, pose))
    return images


def _observed(
    random: Random, seed: int, kind: SceneKind, surfaces: _Surfaces, images: Sequence[RegisteredImage]
) -> SparseCapture:
    points, normals = np.concatenate(surfaces.points), np.concatenate(surfaces.normals)
    labels = np.concatenate(surfaces.labels)
    chosen = random.permutation(len(points))[:_SURFACE_POINTS]
    points, normals, labels = points[chosen], normals[chosen], labels[chosen]
    visible = np.stack([_visible(points, normals, surfaces.solids, image) for image in images])
    seen, anchors = _tracks(random, points, visible, images)
    kept = seen.sum(0) >= 2
    points, labels, seen, anchors, visible = points[kept], labels[kept], seen[:, kept], anchors[kept], visible[:, kept]
    noisy, error_px = _triangulated(random, points, seen, images)
    wrong = random.uniform(size=len(noisy)) < random.uniform(0.01, 0.05)
    wrong &= seen.sum(0) <= 4
    eyes = np.array([image.centre for image in images])[anchors[wrong]]
    noisy[wrong] = eyes + (noisy[wrong] - eyes) * random.uniform(0.4, 2.5, (int(wrong.sum()), 1))
    labels = np.where(wrong, OUTLIER, labels)
    observations = np.stack(np.nonzero(seen.T)[::-1]).astype(np.int32)
    model = SparseModel(
        tuple(images),
        noisy,
        np.full((len(noisy), 3), 128, np.uint8),
        error_px,
        seen.sum(0).astype(np.int32),
        observations,
    )
    even, even_normals, even_labels = (np.concatenate(parts) for parts in zip(*surfaces.even, strict=True))
    shown = np.stack([_visible(even, even_normals, surfaces.solids, image) for image in images[::2]]).sum(0) >= 1
    objects = 2 if kind.neighbour == "equal" else 1
    return SparseCapture(seed, kind, model, labels, objects, even[shown], even_labels[shown])


def _visible(points: Floats, normals: Floats, solids: Sequence[Shape], image: RegisteredImage) -> Bools:
    """Return which points [N] are inside the picture, face the camera and are not behind a solid."""
    rays = points - image.centre
    local = rays @ image.world_from_camera[:3, :3]
    with np.errstate(divide="ignore", invalid="ignore"):
        u, v = (local[:, axis] / local[:, 2] * image.camera.focal_px[0] for axis in (0, 1))
    inside = (local[:, 2] > 0.05) & (np.abs(u) < _SIZE_PX[0] / 2) & (np.abs(v) < _SIZE_PX[1] / 2)
    facing = (normals * rays).sum(1) < -0.2 * np.linalg.norm(rays, axis=1)
    found = np.flatnonzero(inside & facing)
    free = np.ones(len(found), bool)
    origin, towards = image.centre.astype(np.float32), rays[found].astype(np.float32)
    for solid in solids:
        free &= solid.depth(origin, towards) > _OCCLUDED
    visible = np.zeros(len(points), bool)
    visible[found[free]] = True
    return visible


def _tracks(
    random: Random, points: Floats, visible: Bools, images: Sequence[RegisteredImage]
) -> tuple[Bools, Integers]:
    """Return which photos observe which points [V, N], and the photo in the middle of each track."""
    anchors = np.argmax(visible * random.uniform(0.01, 1, visible.shape), axis=0)
    eyes = np.array([image.centre for image in images])
    towards = eyes[:, None] - points[None]
    towards /= np.linalg.norm(towards, axis=2, keepdims=True)
    cosines = (towards * towards[anchors, np.arange(len(points))][None]).sum(2)
    angles = np.degrees(np.arccos(np.clip(cosines, -1, 1)))
    chance = random.uniform(0.35, 0.95, len(points)) * np.exp(-0.5 * (angles / (0.6 * _NEIGHBOUR_DEG)) ** 2)
    matched = visible & (angles < _NEIGHBOUR_DEG) & (random.uniform(size=visible.shape) < chance)
    return matched, anchors


def _triangulated(
    random: Random, points: Floats, seen: Bools, images: Sequence[RegisteredImage]
) -> tuple[Floats, Floats]:
    """Return the points with the noise of their triangulation, and their reprojection errors in px."""
    eyes = np.array([image.centre for image in images])
    weights = seen / seen.sum(0)
    middle = weights.T @ eyes
    rays = points - middle
    distances = np.linalg.norm(rays, axis=1, keepdims=True)
    rays = rays / distances
    baseline = np.sqrt((weights[:, :, None] * (eyes[:, None] - middle) ** 2).sum((0, 2)))[:, None]
    across = 0.6 / images[0].camera.focal_px[0] * distances
    depth = across * np.minimum(distances / np.maximum(baseline, 1e-3), 60.0)
    noise = random.normal(0, 1, points.shape) * across + rays * random.normal(0, 1, (len(points), 1)) * depth
    return points + noise, np.abs(random.normal(0.6, 0.2, len(points)))
