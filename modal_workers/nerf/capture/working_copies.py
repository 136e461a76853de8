"""Working copies of the photos: upright JPEGs, decoded a few at a time, checkpointed every 30 s."""

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
#: Photos decoded at the same time; each takes up to half a gigabyte.
_AT_ONCE: Final = 2
#: A killed run repeats at most this much work.
_CHECKPOINT_EVERY_S: Final = 30.0
_STEM_CHARS: Final = 60
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True)
class WorkingCopy:
    """One prepared photo: ``images/<name>.jpg`` and, with a mask, ``masks/<name>.png``."""

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
    """All prepared photos with their measurements."""

    photos: list[WorkingCopy] = field(default_factory=list)
    measured: list[MeasuredPhoto] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)

    @property
    def masks(self) -> int:
        """Number of photos with a mask."""
        return sum(photo.mask for photo in self.photos)


@dataclass(frozen=True)
class _PreparedPhoto:
    photo: WorkingCopy | None
    measured: MeasuredPhoto | None
    skipped: list[Skipped]


def make_working_copies(intake: CaptureInput, context: Context, folder: Path, *, share: float) -> WorkingCopies:
    """Decode every photo once and write it to ``folder``; ``share`` is this part of the stage's progress.

    Raises:
        Stopped: the job was asked to stop.
        SaccadeError: a ZIP holds more data than it declares.
    """
    for name in ("images", "masks", "looks"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    copies = WorkingCopies(skipped=list(intake.skipped))
    done, part = _restore(context, folder, copies)
    unsaved: list[_PreparedPhoto] = []
    saved_s = time.monotonic()
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        running: deque[tuple[int, Future[_PreparedPhoto]]] = deque()
        next_number = done
        while next_number < len(intake.photos) or running:
            while next_number < len(intake.photos) and len(running) < _AT_ONCE + 1:
                source = intake.photos[next_number]
                data = _read_file(source)
                running.append((next_number, pool.submit(_prepare, source, intake, next_number, folder, data)))
                next_number += 1
            number, future = running.popleft()
            prepared = future.result()
            _add(copies, prepared)
            unsaved.append(prepared)
            context.progress(share * (number + 1) / len(intake.photos), f"Photo {number + 1} of {len(intake.photos)}")
            if time.monotonic() - saved_s > _CHECKPOINT_EVERY_S:
                _checkpoint(context, folder, part, number + 1, unsaved)
                part, unsaved, saved_s = part + 1, [], time.monotonic()
    return copies


def _read_file(source: SourceFile) -> bytes | UnreadablePhoto:
    """Read on the thread of the job: a ZIP file does not support two concurrent readers."""
    try:
        return source.read()
    except UnreadablePhoto as error:
        return error


def _prepare(
    source: SourceFile, intake: CaptureInput, number: int, folder: Path, data: bytes | UnreadablePhoto
) -> _PreparedPhoto:
    skipped: list[Skipped] = []
    try:
        if isinstance(data, UnreadablePhoto):
            raise data
        decoded = open_photo(data)
    except UnreadablePhoto as error:
        return _PreparedPhoto(None, None, [Skipped(name=source.name, reason=str(error))])
    height, width = decoded.rgb.shape[:2]
    name = f"{number:04d}_{_safe_name(source.name)}"
    mask = decoded.mask
    mask_file = intake.masks.get(stem_of(source.name))
    if mask_file is not None:
        try:
            mask = _fit_to_photo(open_mask(mask_file.read()), width, height)
        except UnreadablePhoto as error:
            skipped.append(Skipped(name=mask_file.name, reason=str(error)))
    quality = measure_quality(decoded.rgb, mask)
    focal_small = decoded.focal_px * max(quality.size_px) / max(width, height) if decoded.focal_px else None
    _write(folder / "images" / f"{name}.jpg", np.asarray(cv2.cvtColor(decoded.rgb, cv2.COLOR_RGB2BGR), np.uint8))
    if mask is not None:
        _write(folder / "masks" / f"{name}.png", mask)
    original_width, original_height = decoded.original_px
    photo = WorkingCopy(
        name,
        source.name,
        width,
        height,
        original_width,
        original_height,
        decoded.focal_px,
        decoded.camera,
        mask is not None,
    )
    measured = MeasuredPhoto(source.name, quality, decoded.original_px, focal_small, decoded.camera)
    return _PreparedPhoto(photo, measured, skipped)


def _fit_to_photo(mask: Picture, width: int, height: int) -> Picture:
    """Scale a mask to the size of its photo.

    Raises:
        UnreadablePhoto: its aspect ratio differs, so it belongs to another photo.
    """
    if abs(mask.shape[1] / mask.shape[0] - width / height) > 0.02 * width / height:
        raise UnreadablePhoto("the mask has another shape than its photo")
    return np.asarray(cv2.resize(mask, (width, height), interpolation=cv2.INTER_NEAREST), np.uint8)


def _write(path: Path, picture: Picture) -> None:
    options = [cv2.IMWRITE_JPEG_QUALITY, QUALITY] if path.suffix == ".jpg" else [cv2.IMWRITE_PNG_COMPRESSION, 3]
    if not cv2.imwrite(str(path), picture, options):
        raise OSError(f"{path.name} could not be written")


def _safe_name(name: str) -> str:
    stem = PurePosixPath(name.replace("\\", "/")).stem if "." in name[-6:] else name
    return _UNSAFE.sub("-", stem).strip("-")[:_STEM_CHARS] or "photo"


def _add(copies: WorkingCopies, prepared: _PreparedPhoto) -> None:
    copies.skipped += prepared.skipped
    if prepared.photo and prepared.measured:
        copies.photos.append(prepared.photo)
        copies.measured.append(prepared.measured)


def _checkpoint(context: Context, folder: Path, part: int, done: int, unsaved: list[_PreparedPhoto]) -> None:
    """Save what was prepared since the last part as a checkpoint."""
    photos = [prepared.photo for prepared in unsaved if prepared.photo]
    content: dict[str, Any] = {
        "done": done,
        "photos": [asdict(photo) for photo in photos],
        "skipped": [skipped.model_dump() for prepared in unsaved for skipped in prepared.skipped],
    }
    index = folder / "part.json"
    index.write_text(json.dumps(content))
    path = folder / "part.zip"
    quality_files: list[tuple[str, Path]] = []
    for prepared in unsaved:
        if prepared.photo and prepared.measured:
            name = f"looks/{prepared.photo.name}.npz"
            save_quality(prepared.measured.quality, folder / name)
            quality_files.append((name, folder / name))
    write_zip(path, [("part.json", index), *quality_files, *zip_entries(folder, photos)])
    context.keep(path, f"capture_part_{part:03d}.zip")


def zip_entries(folder: Path, photos: list[WorkingCopy]) -> list[tuple[str, Path]]:
    """Return the files of photos as (name in the ZIP, path)."""
    found = [(f"images/{photo.name}.jpg", folder / "images" / f"{photo.name}.jpg") for photo in photos]
    found += [(f"masks/{photo.name}.png", folder / "masks" / f"{photo.name}.png") for photo in photos if photo.mask]
    return found


def _restore(context: Context, folder: Path, copies: WorkingCopies) -> tuple[int, int]:
    """Restore the checkpoints of an earlier run; return the finished photos and the number of the next part."""
    done = part = 0
    while (path := context.checkpoint(f"capture_part_{part:03d}.zip")) is not None:
        with zipfile.ZipFile(path) as kept:
            index = json.loads(kept.read("part.json"))
            kept.extractall(folder, [name for name in kept.namelist() if name != "part.json"])
        for written in index["photos"]:
            photo = WorkingCopy(**written)
            _add(copies, _PreparedPhoto(photo, _restored_measurements(photo, folder), []))
        copies.skipped += [Skipped(**skipped) for skipped in index["skipped"]]
        done, part = index["done"], part + 1
        context.check()
    return done, part


def _restored_measurements(photo: WorkingCopy, folder: Path) -> MeasuredPhoto:
    """Restore the measurements of a photo bit by bit: a restart must not change the verdict."""
    quality = load_quality(folder / "looks" / f"{photo.name}.npz")
    focal = photo.focal_px * max(quality.size_px) / max(photo.width_px, photo.height_px) if photo.focal_px else None
    original = (photo.original_width_px, photo.original_height_px)
    return MeasuredPhoto(photo.original_name, quality, original, focal, photo.camera)
