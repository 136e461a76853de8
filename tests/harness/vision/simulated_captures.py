"""Context of the capture stage, and simulated captures of each kind of flaw."""

from __future__ import annotations

import functools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from contracts.manifest import Artifact
from simulators.toy.photos import Flaws, take_photos
from simulators.toy.ring_camera import TARGET_M, PosedCamera, focal_px, look_at
from simulators.toy.room_scene import room_scene

Picture = np.ndarray
SIZE_PX = (400, 300)


class CaptureContext:
    """Context that stores everything in a folder; call number ``lost_after`` raises KeyboardInterrupt, like a kill."""

    job_id = "job_0198c0de-0000-7000-8000-000000000000"
    device = "cpu"
    shard = (0, 1)

    def __init__(self, folder: Path, **inputs: Sequence[Path]) -> None:
        self.folder, self.inputs = folder, inputs
        self.kept: dict[str, Path] = {}
        self.saved: dict[str, bytes] = {}
        self.opened: list[str] = []
        self.fractions: list[float] = []
        self.lost_after = -1
        self.scratch = folder / "run"
        self.begin()

    def begin(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.scratch.mkdir(parents=True)
        self.opened, self.fractions, self.lost_after = [], [], -1

    def _step(self) -> None:
        self.lost_after -= 1
        if self.lost_after == 0:
            raise KeyboardInterrupt

    def input(self, name: str, index: int = 0) -> Path:
        self.opened.append(self.inputs[name][index].name)
        return self.inputs[name][index]

    def input_count(self, name: str) -> int:
        return len(self.inputs.get(name, ()))

    def input_name(self, name: str, index: int = 0) -> str:
        return self.inputs[name][index].name

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        assert name == "capture"
        yield

    def progress(
        self,
        fraction: float,
        message: str = "",  # noqa: ARG002
        *,
        frame: int | None = None,  # noqa: ARG002
        frame_count: int | None = None,  # noqa: ARG002
    ) -> None:
        self.fractions.append(fraction)
        self._step()

    def check(self) -> None:
        self._step()

    def save(
        self,
        path: Path,
        name: str,
        media_type: str,
        *,
        title: str = "",  # noqa: ARG002
        units: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Artifact:
        self._step()
        self.saved[name] = path.read_bytes()
        return Artifact(name=name, key=name, bytes=path.stat().st_size, sha256="0" * 64, media_type=media_type)

    def checkpoint(self, name: str) -> Path | None:
        return self.kept.get(name)

    def keep(self, path: Path, name: str) -> None:
        self._step()
        place = self.folder / "kept" / name
        place.parent.mkdir(exist_ok=True)
        shutil.copy(path, place)
        self.kept[name] = place


@dataclass(frozen=True)
class Kind:
    """Kind of capture. The verdict must have one of ``codes``; a good capture has none."""

    codes: tuple[str, ...]
    refused: bool | None  # None: refusal or warning, depending on how severe the flaw is


KINDS: dict[str, Kind] = {
    "good": Kind((), refused=False),
    "blurred": Kind(("blurred",), refused=None),
    "textureless": Kind(("textureless",), refused=True),
    "low_overlap": Kind(("low_overlap", "in_pieces"), refused=None),
    "turntable": Kind(("still_background",), refused=True),
    "duplicates": Kind(("repeated",), refused=None),
    "mixed_sizes": Kind(("mixed_cameras",), refused=False),
    "corrupt": Kind(("files_skipped",), refused=False),
    "wrong_subject": Kind(("outliers", "in_pieces"), refused=None),
}


@functools.lru_cache(maxsize=3)
def _clean(seed: int, count: int, size_px: tuple[int, int]) -> tuple[Picture, ...]:
    """Return good RGB photos of a scene; cached, because adding flaws is much cheaper than rendering."""
    with tempfile.TemporaryDirectory() as name:
        take_photos(Path(name), seed=seed, photos=count, size_px=size_px)
        return tuple(np.asarray(Image.open(path)) for path in sorted(Path(name).glob("*.jpg")))


def take(
    kind: str, folder: Path, seed: int, *, scene: int | None = None, count: int = 28, size_px: tuple[int, int] = SIZE_PX
) -> list[Path]:
    """Write a capture of a kind and return its files; ``seed`` selects the variant, ``scene`` the source photos."""
    random = np.random.default_rng([seed, 17])
    scene = seed if scene is None else scene
    folder.mkdir(parents=True, exist_ok=True)
    if kind in ("turntable", "textureless"):
        flaws = Flaws(turntable=kind == "turntable", textureless=kind == "textureless")
        elevations = (random.uniform(8, 20), random.uniform(30, 45))
        take_photos(folder, seed=scene, photos=min(count, 24), size_px=size_px, elevations_deg=elevations, flaws=flaws)
        return sorted(folder.glob("*.jpg"))
    if kind == "low_overlap":
        pictures = _apart(scene, random, size_px)
    else:
        pictures = _spoilt(kind, list(_clean(scene, count, size_px)), random, size_px)
    mirrored = seed % 2 == 1 and kind != "low_overlap"
    exposure = random.uniform(0.8, 1.2)
    for number, picture in enumerate(pictures):
        shown = np.clip((picture[:, ::-1] if mirrored else picture) * exposure, 0, 255).astype(np.uint8)
        Image.fromarray(shown).save(folder / f"photo_{number:04d}.jpg", quality=int(random.integers(85, 96)))
    paths = sorted(folder.glob("*.jpg"))
    if kind == "corrupt":
        for path in random.choice(np.array(paths), int(random.integers(1, 6)), replace=False):
            data = path.read_bytes()
            path.write_bytes(random.choice([data[: len(data) // 2], b"not a photo", data[:40] + bytes(300)]))
    return paths


def _spoilt(kind: str, pictures: list[Picture], random: np.random.Generator, size_px: tuple[int, int]) -> list[Picture]:
    """Return the photos with the flaw of a kind applied."""
    count = len(pictures)

    def some(least: float, most: float) -> list[int]:
        return [int(one) for one in random.permutation(count)[: int(random.uniform(least, most) * count)]]

    if kind == "blurred":
        for number in some(0.3, 0.35) if random.uniform() < 0.4 else some(0.6, 1.01):
            pictures[number] = _smeared(pictures[number], random)
    elif kind == "duplicates":
        kept = int(random.integers(0, count))
        for number in some(0.2, 0.6):
            noise = random.normal(0, 1.5, pictures[kept].shape)
            pictures[number] = np.clip(pictures[kept] + noise, 0, 255).astype(np.uint8)
    elif kind == "mixed_sizes":
        for number in some(0.15, 0.5):
            scale = random.choice([0.6, 0.75])
            pictures[number] = cv2.resize(pictures[number], None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    elif kind == "wrong_subject":
        others = _clean(int(random.integers(90_000, 90_003)), 8, size_px)
        for number in some(0.08, 0.4):
            pictures[number] = others[int(random.integers(0, len(others)))]
    return pictures


def _smeared(picture: Picture, random: np.random.Generator) -> Picture:
    """Apply defocus or motion blur."""
    if random.uniform() < 0.4:
        return cv2.GaussianBlur(picture, (0, 0), random.uniform(2.5, 4.5))
    length, angle = random.uniform(9, 16), random.uniform(0, np.pi)
    kernel = np.zeros((19, 19), np.float32)
    reach = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    ends = [tuple(int(one) for one in np.round(9 + sign * reach)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0, 1, cv2.LINE_AA)
    return cv2.filter2D(picture, -1, kernel / kernel.sum())


def _apart(scene: int, random: np.random.Generator, size_px: tuple[int, int]) -> list[Picture]:
    """Render groups of close-up photos with almost no overlap between groups."""
    groups, each = int(random.integers(4, 6)), 5
    pictures = []
    for group in range(groups):
        azimuth = 360 * group / groups + random.uniform(-5, 5)
        elevation = random.uniform(8, 30) if group % 2 else random.uniform(55, 75)
        for number in range(each):
            pose = pose_at(azimuth + 6 * number, elevation, random.uniform(0.26, 0.32))
            pictures.append(room_scene(scene).picture(PosedCamera(*size_px, focal_px(size_px) * 1.9, pose)))
    return pictures


def pose_at(azimuth_deg: float, elevation_deg: float, distance_m: float) -> np.ndarray:
    """Return ``world_from_camera`` [4, 4] of a camera aimed at the toy."""
    a, e = np.radians([azimuth_deg, elevation_deg])
    back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
    return look_at(np.asarray(TARGET_M) + distance_m * back, TARGET_M)
