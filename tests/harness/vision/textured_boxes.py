"""Photos of textured boxes with known poses, in the format of the capture stage, and a context of the poses stage."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from contracts.manifest import Artifact
from modal_workers.runtime.context import Stopped

Picture = NDArray[np.uint8]
DISTANCE = 4.2
_SIZE = np.array([1.0, 0.8, 0.6])
_CORNERS = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * _SIZE
_FACES = [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
_FINER = 2


@dataclass(frozen=True)
class Shot:
    """One photo with its true mask and pose."""

    name: str
    picture: Picture
    mask: Picture
    #: [4, 4] with OpenCV axes.
    world_from_camera: NDArray[np.float64]


def box_textures(seed: int, pixels: int = 256) -> list[Picture]:
    """Return six random textures, one per face."""
    rng = np.random.default_rng(seed)
    faces = []
    for _ in range(6):
        face = np.zeros((pixels, pixels, 3), np.float32)
        for cells in (4, 8, 16, 32, 64, 128):
            noise = rng.random((cells, cells, 3)).astype(np.float32)
            face += cv2.resize(noise, (pixels, pixels), interpolation=cv2.INTER_CUBIC) * (8 / cells) ** 0.35
        faces.append(((face - face.min()) / np.ptp(face) * 255).astype(np.uint8))
    return faces


def camera_pose(azimuth_rad: float, elevation_rad: float, distance: float = DISTANCE) -> NDArray[np.float64]:
    """Return ``world_from_camera`` of a camera aimed at the origin."""
    centre = distance * np.array(
        [
            np.cos(elevation_rad) * np.cos(azimuth_rad),
            np.cos(elevation_rad) * np.sin(azimuth_rad),
            np.sin(elevation_rad),
        ]
    )
    ahead = -centre / np.linalg.norm(centre)
    right = np.cross(ahead, [0, 0, 1])
    right /= np.linalg.norm(right)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, np.cross(ahead, right), ahead], axis=1)
    matrix[:3, 3] = centre
    return matrix


def photograph(
    textures: Sequence[Picture], name: str, pose: NDArray[np.float64], size: tuple[int, int] = (320, 240)
) -> Shot:
    """Render a box with 2 x 2 supersampling; the focal length is 1.1875 times the width."""
    width, height = size
    fine = (width * _FINER, height * _FINER)
    focal = 1.1875 * fine[0]
    matrix = np.array([[focal, 0, fine[0] / 2], [0, focal, fine[1] / 2], [0, 0, 1]])
    camera_from_world = np.linalg.inv(pose)
    picture = np.full((fine[1], fine[0], 3), 235, np.uint8)
    mask = np.zeros((fine[1], fine[0]), np.uint8)
    centre = pose[:3, 3]
    for face, texture in sorted(
        zip(_FACES, textures, strict=True), key=lambda one: -float(np.linalg.norm(_CORNERS[one[0]].mean(0) - centre))
    ):
        corners = _CORNERS[face]
        normal = np.cross(corners[1] - corners[0], corners[3] - corners[0])
        if (normal * np.sign(normal @ corners.mean(0))) @ (centre - corners.mean(0)) <= 0:
            continue
        seen = (corners @ camera_from_world[:3, :3].T + camera_from_world[:3, 3]) @ matrix.T
        # OpenCV has pixel centres at integer coordinates.
        flat = (seen[:, :2] / seen[:, 2:] - 0.5).astype(np.float32)
        side = len(texture)
        home = np.array([[0, 0], [side, 0], [side, side], [0, side]], np.float32) - 0.5
        to_picture = cv2.getPerspectiveTransform(home, flat)
        drawn = cv2.warpPerspective(texture, to_picture, fine, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        inside = np.zeros_like(mask)
        cv2.fillConvexPoly(inside, np.rint(flat * 16).astype(np.int32), 255, shift=4)
        picture[inside > 0] = drawn[inside > 0]
        mask |= inside
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    return Shot(name, np.asarray(small), np.asarray(cv2.resize(mask, size, interpolation=cv2.INTER_AREA)), pose)


def ring(
    seed: int, photos: int = 36, *, rings: Sequence[float] = (0.45, 0.15), size: tuple[int, int] = (320, 240)
) -> list[Shot]:
    """Render photos from rings around a box, one ring per elevation."""
    textures, each = box_textures(seed, 256 * size[0] // 320), photos // len(rings)
    poses = [camera_pose(2 * np.pi * step / each, elevation) for elevation in rings for step in range(each)]
    return [photograph(textures, f"{number:04d}_box.jpg", pose, size) for number, pose in enumerate(poses)]


def write_capture(
    path: Path, shots: Sequence[Shot], *, masks: bool = False, ordered: bool = True, focal_px: float | None = None
) -> Path:
    """Write ``capture.zip`` in the format of the capture stage."""
    told = [
        {
            "name": shot.name,
            "original_name": f"IMG_{number}.jpg",
            "width_px": shot.picture.shape[1],
            "height_px": shot.picture.shape[0],
            "focal_px": focal_px,
            "sharpness": 1.0,
        }
        for number, shot in enumerate(shots)
    ]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("capture.json", json.dumps({"photos": told, "ordered": ordered, "skipped": []}))
        for shot in shots:
            jpeg = cv2.imencode(".jpg", shot.picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
            archive.writestr(f"images/{shot.name}", jpeg.tobytes())
            if masks:
                archive.writestr(f"masks/{Path(shot.name).stem}.png", cv2.imencode(".png", shot.mask)[1].tobytes())
    return path


@dataclass
class PosesContext:
    """Context that stores everything in a folder."""

    folder: Path
    kept: dict[str, Path] = field(default_factory=dict)
    saved: dict[str, bytes] = field(default_factory=dict)
    told: list[tuple[float, str]] = field(default_factory=list)
    #: Called at every check for a stop request; it may raise ``Stopped``.
    at_check: Callable[[], None] = lambda: None
    job_id = "stg_0198c0de-0000-7000-8000-000000000000-poses-000"
    device = "cpu"
    shard = (0, 1)
    runs = 0

    def begin(self) -> None:
        """Begin another run of the same job."""
        self.runs += 1
        self.scratch.mkdir(parents=True)
        self.told.clear()

    @property
    def scratch(self) -> Path:
        return self.folder / f"run{self.runs}"

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        assert name == "poses"
        yield

    def progress(
        self,
        fraction: float,
        message: str = "",
        *,
        frame: int | None = None,  # noqa: ARG002
        frame_count: int | None = None,  # noqa: ARG002
    ) -> None:
        self.told.append((fraction, message))
        self.check()

    def check(self) -> None:
        self.at_check()

    def save(
        self, path: Path, name: str, media_type: str, *, title: str = "", units: Mapping[str, str] | None = None
    ) -> Artifact:
        assert units is None
        data = path.read_bytes()
        self.saved[name] = data
        return Artifact(name=name, key=name, bytes=len(data), sha256="0" * 64, media_type=media_type, title=title)

    def checkpoint(self, name: str) -> Path | None:
        return self.kept.get(name)

    def keep(self, path: Path, name: str) -> None:
        kept = self.folder / f"kept_{name}"
        kept.write_bytes(path.read_bytes())
        self.kept[name] = kept

    def input(self, name: str, index: int = 0) -> Path:
        raise ValueError(f"{name} {index}: the stage has no inputs")

    def input_count(self, name: str) -> int:  # noqa: ARG002
        return 0

    def input_name(self, name: str, index: int = 0) -> str:
        raise ValueError(f"{name} {index}: the stage has no inputs")


def context_with(folder: Path, shots: Sequence[Shot], **how: object) -> PosesContext:
    """Return a context that holds the output of the capture stage."""
    folder.mkdir(parents=True, exist_ok=True)
    desk = PosesContext(folder)
    desk.kept["capture.zip"] = write_capture(folder / "capture.zip", shots, **how)  # type: ignore[arg-type]
    desk.begin()
    return desk


def dataset_of(desk: PosesContext) -> zipfile.ZipFile:
    """Open ``dataset.zip``, the output of the poses stage."""
    return zipfile.ZipFile(io.BytesIO(desk.kept["dataset.zip"].read_bytes()))


def stop() -> None:
    """Request a stop; used as ``PosesContext.at_check``."""
    raise Stopped
