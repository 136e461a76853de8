"""Rendering of photos from rings around the toy, as with a handheld phone, or with selected flaws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from PIL import Image

from simulators.shapes import Singles
from simulators.toy import textures as paint
from simulators.toy.ground_truth import ToyGroundTruth
from simulators.toy.other_objects import TOY
from simulators.toy.ring_camera import PosedCamera, focal_px, ring_poses
from simulators.toy.room_scene import BOUNCED, Material, room_scene
from simulators.toy.textures import Picture

ELEVATIONS_DEG: Final = (14.0, 38.0)
RADIUS_M: Final = 0.52
_JPEG_QUALITY: Final = 93
_GAMMA: Final = 2.2
_NOISE: Final = 1.2  # grey levels, one standard deviation


@dataclass(frozen=True)
class Flaws:
    """Flaws of a capture; none by default."""

    #: Length of the motion blur, px, and the share of the photos that has it.
    blur_px: float = 0.0
    blurred: float = 1.0
    textureless: bool = False
    #: The toy rotates in front of a static camera, table and room.
    turntable: bool = False
    #: Number of photos that are copies of the first one.
    duplicates: int = 0
    #: Every third photo is in portrait format, every fourth is smaller.
    mixed_sizes: bool = False
    #: Number of files that are truncated; they are not in the ground truth.
    corrupt: int = 0
    #: Number of photos that show something else.
    strangers: int = 0
    #: The second half of the photos shows another toy on another table.
    two_scenes: bool = False
    #: Exposure of all photos, in doublings of the pixel values; below -3 they are black, above 3 white.
    exposure_stops: float = 0.0
    #: Standard deviation of the exposure from photo to photo, in stops of light; one is a factor 2 ** (1 / 2.2) of
    #: the pixel values.
    exposure_spread_stops: float = 0.0


NO_FLAWS: Final = Flaws()


def take_photos(
    folder: Path,
    *,
    seed: int = 0,
    photos: int = 40,
    size_px: tuple[int, int] = (320, 240),
    elevations_deg: Sequence[float] = ELEVATIONS_DEG,
    arc_deg: float = 360.0,
    radius_m: float = RADIUS_M,
    bounced: float = BOUNCED,
    flaws: Flaws = NO_FLAWS,
    masks: bool = False,
    thing: str = TOY,
    material: Material = "painted",
    progress: Callable[[float], None] = lambda _share: None,
) -> ToyGroundTruth:
    """Render photos of the toy to ``folder/photo_0000.jpg`` onwards, and write ``folder/truth.json``.

    The same arguments give the same bytes. ``size_px``: width and height; ``arc_deg``: how far around the toy each ring
    goes; ``bounced``: light in the shadows; ``thing``: one of ``OBJECTS``, which is made of ``material``. ``progress``
    is called with the share done (0..1). With ``masks`` the true silhouettes are written to
    ``folder/masks/photo_0000.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, 911])
    poses = ring_poses(random, photos, elevations_deg, radius_m=radius_m, arc_deg=arc_deg)
    flawed = _flawed_photos(photos, flaws)
    cameras: dict[str, PosedCamera] = {}
    for index, pose in enumerate(poses):
        name = f"photo_{index:04d}.jpg"
        size = _size(size_px, index, flaws)
        camera = PosedCamera(*size, focal_px(size), pose)
        progress(index / photos)
        other = 7919 if flaws.two_scenes and index >= photos // 2 else 0
        scene = room_scene(
            seed + other, textured=not flaws.textureless, bounced=bounced, thing=thing, material=material
        )
        if index in flawed["stranger"] and not flaws.two_scenes:
            picture = _unrelated_photo(seed, index, size)
        elif flaws.turntable:
            picture = scene.turned(camera, PosedCamera(*size, camera.focal_px, poses[0]))
        else:
            picture = scene.picture(camera)
        _write(folder / name, _with_camera_effects(random, picture, flaws), camera)
        if index in flawed["corrupt"]:
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: len(data) // 2])
            continue
        cameras[name] = camera
        if index in flawed["duplicate"]:
            (folder / name).write_bytes((folder / "photo_0000.jpg").read_bytes())
            cameras[name] = cameras["photo_0000.jpg"]
        if masks:
            (folder / "masks").mkdir(exist_ok=True)
            mask = scene.silhouette(cameras[name])
            Image.fromarray(mask).save(folder / "masks" / f"photo_{index:04d}.png")
    strangers = tuple(f"photo_{index:04d}.jpg" for index in sorted(flawed["stranger"]))
    truth = ToyGroundTruth(seed, radius_m, cameras, not flaws.textureless, strangers, bounced, thing, material)
    truth.save(folder / "truth.json")
    return truth


def _flawed_photos(photos: int, flaws: Flaws) -> dict[str, set[int]]:
    """Spread the flawed photos over the capture; the first one is always good."""

    def spread(count: int, start: int) -> set[int]:
        count = min(count, photos - 1)
        return {1 + (start + round(step * (photos - 1) / max(1, count))) % (photos - 1) for step in range(count)}

    halves = set(range(photos // 2, photos)) if flaws.two_scenes else set()
    return {
        "corrupt": spread(flaws.corrupt, photos // 2) if photos > 1 else set(),
        "duplicate": spread(flaws.duplicates, 0) if photos > 1 else set(),
        "stranger": (spread(flaws.strangers, 1) if photos > 1 else set()) | halves,
    }


def _size(size_px: tuple[int, int], index: int, flaws: Flaws) -> tuple[int, int]:
    width, height = size_px
    if flaws.mixed_sizes and index % 3 == 2:
        width, height = height, width
    if flaws.mixed_sizes and index % 4 == 3:
        width, height = round(0.75 * width), round(0.75 * height)
    return width, height


def _unrelated_photo(seed: int, index: int, size_px: tuple[int, int]) -> Picture:
    """Return a photo of something else."""
    return paint.wall(np.random.default_rng([seed, index, 13]), max(size_px))[: size_px[1], : size_px[0]]


def _with_camera_effects(random: np.random.Generator, picture: Picture, flaws: Flaws) -> Picture:
    """Blur, expose and add noise to an image."""
    values = picture.astype(np.float32)
    if flaws.blur_px > 0 and random.uniform() < flaws.blurred:
        values = _motion_blurred(values, flaws.blur_px, float(random.uniform(0, np.pi)))
    stops = float(flaws.exposure_stops)
    if flaws.exposure_spread_stops > 0:
        stops += float(random.normal(0, flaws.exposure_spread_stops)) / _GAMMA
    values *= 2**stops * float(random.uniform(0.985, 1.015))
    values += random.normal(0, _NOISE, values.shape).astype(np.float32)
    return np.clip(values, 0, 255).round().astype(np.uint8)


def _motion_blurred(values: Singles, length_px: float, angle_rad: float) -> Singles:
    half = int(np.ceil(length_px / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    reach = (length_px / 2 * np.cos(angle_rad), length_px / 2 * np.sin(angle_rad))
    ends = [(round(half + sign * reach[0]), round(half + sign * reach[1])) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    return np.asarray(cv2.filter2D(values, -1, kernel / kernel.sum()), np.float32)


def _write(path: Path, picture: Picture, camera: PosedCamera) -> None:
    """Write a JPEG with the focal length in its EXIF data, as phones do."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Saccade", "Simulator"
    lens = exif.get_ifd(0x8769)
    lens[0xA405] = round(36.0 * camera.focal_px / max(camera.width_px, camera.height_px))  # in 35 mm film, mm
    Image.fromarray(picture).save(path, quality=_JPEG_QUALITY, subsampling=0, exif=exif)
