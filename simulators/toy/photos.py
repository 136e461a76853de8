"""Takes the photos: from rings around the toy, as a hand and a telephone do, or badly in ways that can be chosen."""

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
from simulators.toy.room_scene import BOUNCED, room_scene
from simulators.toy.textures import Picture

ELEVATIONS_DEG: Final = (14.0, 38.0)
RADIUS_M: Final = 0.52
_JPEG_QUALITY: Final = 93
_NOISE: Final = 1.2  # grey levels, one standard deviation


@dataclass(frozen=True)
class Flaws:
    """What is wrong with a capture. As it stands: nothing."""

    #: Length of the smear, px; and which share of the photos has it.
    blur_px: float = 0.0
    blurred: float = 1.0
    textureless: bool = False
    #: The toy turns before a camera, table and room that stand still.
    turntable: bool = False
    #: So many of the photos are the first one once more.
    duplicates: int = 0
    #: Every third photo is upright, every fourth smaller.
    mixed_sizes: bool = False
    #: So many files are cut off in the middle; their names are not in the truth.
    corrupt: int = 0
    #: So many photos are of other things altogether.
    strangers: int = 0
    #: The second half of the photos is of another toy on another table.
    two_scenes: bool = False
    #: Exposure of all photos, in stops; below -3 they are black, above 3 white.
    exposure_stops: float = 0.0


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
    progress: Callable[[float], None] = lambda _share: None,
) -> ToyGroundTruth:
    """Take photos of the toy into ``folder/photo_0000.jpg`` onwards, and write ``folder/truth.json``.

    The same arguments give the same bytes. ``size_px``: width and height; ``arc_deg``: how far around the toy each
    ring goes; ``bounced``: light in the shadows; ``thing``: another one of ``THINGS``; ``progress`` hears how far it
    is (0..1). With ``masks`` the true silhouettes are left in ``folder/masks/photo_0000.png``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng([seed, 911])
    poses = ring_poses(random, photos, elevations_deg, radius_m=radius_m, arc_deg=arc_deg)
    wrong = _wrong(photos, flaws)
    shots: dict[str, PosedCamera] = {}
    for index, pose in enumerate(poses):
        name = f"photo_{index:04d}.jpg"
        size = _size(size_px, index, flaws)
        camera = PosedCamera(*size, focal_px(size), pose)
        progress(index / photos)
        other = 7919 if flaws.two_scenes and index >= photos // 2 else 0
        scene = room_scene(seed + other, textured=not flaws.textureless, bounced=bounced, thing=thing)
        if index in wrong["stranger"] and not flaws.two_scenes:
            picture = _elsewhere(seed, index, size)
        elif flaws.turntable:
            picture = scene.turned(camera, PosedCamera(*size, camera.focal_px, poses[0]))
        else:
            picture = scene.picture(camera)
        _write(folder / name, _developed(random, picture, flaws), camera)
        if index in wrong["corrupt"]:
            data = (folder / name).read_bytes()
            (folder / name).write_bytes(data[: len(data) // 2])
            continue
        shots[name] = camera
        if index in wrong["duplicate"]:
            (folder / name).write_bytes((folder / "photo_0000.jpg").read_bytes())
            shots[name] = shots["photo_0000.jpg"]
        if masks:
            (folder / "masks").mkdir(exist_ok=True)
            mask = scene.silhouette(shots[name])
            Image.fromarray(mask).save(folder / "masks" / f"photo_{index:04d}.png")
    strangers = tuple(f"photo_{index:04d}.jpg" for index in sorted(wrong["stranger"]))
    truth = ToyGroundTruth(seed, radius_m, shots, not flaws.textureless, strangers, bounced, thing)
    truth.save(folder / "truth.json")
    return truth


def _wrong(photos: int, flaws: Flaws) -> dict[str, set[int]]:
    """Spread what is wrong over the photos; the first one is always whole."""

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


def _elsewhere(seed: int, index: int, size_px: tuple[int, int]) -> Picture:
    """Give a photo of something else altogether."""
    return paint.wall(np.random.default_rng([seed, index, 13]), max(size_px))[: size_px[1], : size_px[0]]


def _developed(random: np.random.Generator, picture: Picture, flaws: Flaws) -> Picture:
    """Smear, expose and grain a picture as a camera does."""
    values = picture.astype(np.float32)
    if flaws.blur_px > 0 and random.uniform() < flaws.blurred:
        values = _smeared(values, flaws.blur_px, float(random.uniform(0, np.pi)))
    values *= 2 ** float(flaws.exposure_stops) * float(random.uniform(0.985, 1.015))
    values += random.normal(0, _NOISE, values.shape).astype(np.float32)
    return np.clip(values, 0, 255).round().astype(np.uint8)


def _smeared(values: Singles, length_px: float, angle_rad: float) -> Singles:
    half = int(np.ceil(length_px / 2))
    kernel = np.zeros((2 * half + 1, 2 * half + 1), np.float32)
    reach = (length_px / 2 * np.cos(angle_rad), length_px / 2 * np.sin(angle_rad))
    ends = [(round(half + sign * reach[0]), round(half + sign * reach[1])) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    return np.asarray(cv2.filter2D(values, -1, kernel / kernel.sum()), np.float32)


def _write(path: Path, picture: Picture, camera: PosedCamera) -> None:
    """Write a JPEG that says which lens it was taken with, as telephones do."""
    exif = Image.Exif()
    exif[0x010F], exif[0x0110] = "Saccade", "Simulator"
    lens = exif.get_ifd(0x8769)
    lens[0xA405] = round(36.0 * camera.focal_px / max(camera.width_px, camera.height_px))  # in 35 mm film, mm
    Image.fromarray(picture).save(path, quality=_JPEG_QUALITY, subsampling=0, exif=exif)
