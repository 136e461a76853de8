"""Makes one row of upright JPEGs of everything sent, few in memory at a time, and keeps what a killed run has made."""

from __future__ import annotations

import json
import re
import time
import zipfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, Final

import cv2
import numpy as np

from modal_workers.nerf.capture.checks.findings import MeasuredPhoto
from modal_workers.nerf.capture.checks.image_quality import load_quality, measure_quality, save_quality
from modal_workers.nerf.capture.inputs.photo import Picture, UnreadablePhoto, open_mask, open_photo
from modal_workers.nerf.capture.inputs.sources import CaptureInput, SourceFile, stem_of
from modal_workers.nerf.capture.spec import Skipped
from modal_workers.nerf.stored_zip import write_zip
from modal_workers.runtime.context import Context

QUALITY: Final = 95
#: Photos that are decoded at the same time; each takes up to half a gigabyte while it is.
_AT_ONCE: Final = 2
#: A killed run begins again at most this long before where it was.
_KEPT_EVERY_S: Final = 30.0
_STEM_CHARS: Final = 60
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class WorkingCopy:
    """One photo as it goes on: ``images/<name>.jpg`` and perhaps ``masks/<name>.png``."""

    name: str
    original_name: str
    width_px: int
    height_px: int
    original_width_px: int
    original_height_px: int
    focal_px: float | None  # at width_px x height_px
    camera: str
    mask: bool


@dataclass
class WorkingCopies:
    """All of them, with what they look like."""

    photos: list[WorkingCopy] = field(default_factory=list)
    shots: list[MeasuredPhoto] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def masks(self) -> int:
        """Count those of which is known what the object is."""
        return sum(one.mask for one in self.photos)


@dataclass(frozen=True)
class _Developed:
    photo: WorkingCopy | None
    shot: MeasuredPhoto | None
    skipped: list[Skipped]


def make_working_copies(intake: CaptureInput, context: Context, folder: Path, *, share: float) -> WorkingCopies:
    """Decode every photo once and write it to ``folder``; ``share`` is what this is of the stage's progress.

    Raises:
        Stopped: the job was asked to stop.
        SaccadeError: a ZIP gave more than it promised.
    """
    for name in ("images", "masks", "looks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    made = WorkingCopies(skipped=list(intake.skipped))
    done, part = _resumed(context, folder, made)
    fresh: list[_Developed] = []
    kept_s = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running: deque[tuple[int, Future[_Developed]]] = deque()
        following = done
        while following < len(intake.photos) or running:
            while following < len(intake.photos) and len(running) < _AT_ONCE + 1:
                sent = intake.photos[following]
                running.append((following, pool.submit(_develop, sent, intake, following, folder, _read(sent))))
                following += 1
            number, future = running.popleft()
            one = future.result()
            _add(made, one)
            fresh.append(one)
            context.progress(share * (number + 1) / len(intake.photos), f"Photo {number + 1} of {len(intake.photos)}")
            if time.monotonic() - kept_s > _KEPT_EVERY_S:
                _keep(context, folder, part, number + 1, fresh)
                part, fresh, kept_s = part + 1, [], time.monotonic()
    return made


def _read(sent: SourceFile) -> bytes | UnreadablePhoto:
    """Read on the job's own thread: a ZIP is no friend of two readers."""
    try:
        return sent.read()
    except UnreadablePhoto as error:
        return error


def _develop(
    sent: SourceFile, intake: CaptureInput, number: int, folder: Path, data: bytes | UnreadablePhoto
) -> _Developed:
    skipped: list[Skipped] = []
    try:
        if isinstance(data, UnreadablePhoto):
            raise data
        opened = open_photo(data)
    except UnreadablePhoto as error:
        return _Developed(None, None, [Skipped(name=sent.name, reason=str(error))])
    height, width = opened.rgb.shape[:2]
    name = f"{number:04d}_{_plain(sent.name)}"
    mask = opened.mask
    given = intake.masks.get(stem_of(sent.name))
    if given is not None:
        try:
            mask = _fitting(open_mask(given.read()), width, height)
        except UnreadablePhoto as error:
            skipped.append(Skipped(name=given.name, reason=str(error)))
    seen = measure_quality(opened.rgb, mask)
    focal_small = opened.focal_px * max(seen.size_px) / max(width, height) if opened.focal_px else None
    _write(folder / "images" / f"{name}.jpg", np.asarray(cv2.cvtColor(opened.rgb, cv2.COLOR_RGB2BGR), np.uint8))
    if mask is not None:
        _write(folder / "masks" / f"{name}.png", mask)
    original_width, original_height = opened.original_px
    photo = WorkingCopy(
        name,
        sent.name,
        width,
        height,
        original_width,
        original_height,
        opened.focal_px,
        opened.camera,
        mask is not None,
    )
    return _Developed(photo, MeasuredPhoto(sent.name, seen, opened.original_px, focal_small, opened.camera), skipped)


def _fitting(mask: Picture, width: int, height: int) -> Picture:
    """Bring a mask to its photo's size.

    Raises:
        Unreadable: it has another shape, so it must be another photo's.
    """
    if abs(mask.shape[1] / mask.shape[0] - width / height) > 0.02 * width / height:
        raise UnreadablePhoto("the mask has another shape than its photo")
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _write(path: Path, picture: Picture) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    if not cv2.imwrite(str(path), picture, options):
        raise OSError(f"{path.name} could not be written")


def _plain(name: str) -> str:
    stem = PurePosixPath(name.replace("\\", "/")).stem if "." in name[-6:] else name
    return _UNSAFE.sub("-", stem).strip("-")[:_STEM_CHARS] or "photo"


def _add(made: WorkingCopies, one: _Developed) -> None:
    made.skipped += one.skipped
    if one.photo and one.shot:
        made.photos.append(one.photo)
        made.shots.append(one.shot)


def _keep(context: Context, folder: Path, part: int, done: int, fresh: list[_Developed]) -> None:
    """Keep what was made since the last part, so that another run begins after it."""
    photos = [one.photo for one in fresh if one.photo]
    told: dict[str, Any] = {
        "done": done,
        "photos": [asdict(one) for one in photos],
        "skipped": [skipped.model_dump() for one in fresh for skipped in one.skipped],
    }
    index = folder / "part.json"
    index.write_text(json.dumps(told))
    path = folder / "part.zip"
    looks: list[tuple[str, Path]] = []
    for one in fresh:
        if one.photo and one.shot:
            name = f"looks/{one.photo.name}.npz"
            save_quality(one.shot.look, folder / name)
            looks.append((name, folder / name))
    write_zip(path, [("part.json", index), *looks, *zip_entries(folder, photos)])
    context.keep(path, f"capture_part_{part:03d}.zip")


def zip_entries(folder: Path, photos: list[WorkingCopy]) -> list[tuple[str, Path]]:
    """Name the files of photos, as they are called in a ZIP and where they lie."""
    found = [(f"images/{one.name}.jpg", folder / "images" / f"{one.name}.jpg") for one in photos]
    found += [(f"masks/{one.name}.png", folder / "masks" / f"{one.name}.png") for one in photos if one.mask]
    return found


def _resumed(context: Context, folder: Path, made: WorkingCopies) -> tuple[int, int]:
    """Take over what an earlier run kept; gives how many were done, and the number of the next part."""
    done = part = 0
    while (path := context.checkpoint(f"capture_part_{part:03d}.zip")) is not None:
        with zipfile.ZipFile(path) as kept:
            told = json.loads(kept.read("part.json"))
            kept.extractall(folder, [name for name in kept.namelist() if name != "part.json"])
        for written in told["photos"]:
            photo = WorkingCopy(**written)
            _add(made, _Developed(photo, _shot_again(photo, folder), []))
        made.skipped += [Skipped(**one) for one in told["skipped"]]
        done, part = told["done"], part + 1
        context.check()
    return done, part


def _shot_again(photo: WorkingCopy, folder: Path) -> MeasuredPhoto:
    """Give what an earlier run saw in a photo, to the last bit: a kill must not change the verdict."""
    seen = load_quality(folder / "looks" / f"{photo.name}.npz")
    focal = photo.focal_px * max(seen.size_px) / max(photo.width_px, photo.height_px) if photo.focal_px else None
    original = (photo.original_width_px, photo.original_height_px)
    return MeasuredPhoto(photo.original_name, seen, original, focal, photo.camera)
