"""The photos of the capture stage, laid out for pycolmap: safe file names, grouped by camera."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

#: Relative difference of two focal lengths below which they are the same lens.
_SAME_FOCAL = 0.02


@dataclass(frozen=True)
class Photo:
    """One photo."""

    #: Name in the archive, without the folder; results use it.
    name: str
    #: Name of the uploaded file.
    original_name: str
    #: Name in ``ImageSet.images``.
    file: str
    width_px: int
    height_px: int
    focal_px: float | None
    #: Camera model from EXIF; empty where it is missing.
    camera: str = ""


@dataclass(frozen=True)
class ImageSet:
    """All photos, in the order of their names."""

    photos: tuple[Photo, ...]
    #: Whether the order means something: a video, or consecutive numbers.
    ordered: bool
    images: Path
    #: Masks by ``Photo.file``, for the photos that have one.
    masks: dict[str, Path]
    #: Original names of the photos that show nothing new and are not used.
    repeated: tuple[str, ...] = ()
    #: Where the user says that the object is: name of the photo in the archive, and fractions of it.
    hint: tuple[str, tuple[float, ...]] | None = None

    @property
    def all_masked(self) -> bool:
        """Whether every photo has a mask."""
        return bool(self.photos) and len(self.masks) == len(self.photos)

    def cameras(self) -> list[dict[str, Any]]:
        """Group the photos by camera: same size, model and focal length."""
        groups: dict[tuple[int, int, str, int], list[Photo]] = defaultdict(list)
        known: list[tuple[int, int, float]] = []
        for photo in self.photos:
            groups[photo.width_px, photo.height_px, photo.camera, _focal_number(photo, known)].append(photo)
        return [
            {
                "names": [photo.file for photo in group],
                "width_px": group[0].width_px,
                "height_px": group[0].height_px,
                "focal_px": group[0].focal_px,
                "shared": True,
            }
            for group in groups.values()
        ]


def _focal_number(photo: Photo, known: list[tuple[int, int, float]]) -> int:
    """Return the group number of a focal length at one image size; -1 where it is unknown."""
    if photo.focal_px is None:
        return -1
    for number, (width_px, height_px, focal_px) in enumerate(known):
        same_size = (width_px, height_px) == (photo.width_px, photo.height_px)
        if same_size and abs(focal_px / photo.focal_px - 1) < _SAME_FOCAL:
            return number
    known.append((photo.width_px, photo.height_px, photo.focal_px))
    return len(known) - 1


def unpack(archive: Path, folder: Path) -> ImageSet:
    """Unpack the archive of the capture stage into a folder.

    Raises:
        KeyError, ValueError, zipfile.BadZipFile: the archive is not what that stage writes.
    """
    images, masks_folder = folder / "photos", folder / "masks"
    for made in (images, masks_folder):
        made.mkdir(parents=True)
    photos, masks = [], {}
    with zipfile.ZipFile(archive) as zip_file:
        index = json.loads(zip_file.read("capture.json"))
        members = set(zip_file.namelist())
        entries, repeated = _without_repetitions(sorted(index["photos"], key=lambda entry: str(entry["name"])))
        for number, entry in enumerate(entries):
            member = _member(entry["name"], members)
            file = f"{number:04d}{PurePosixPath(member).suffix}"
            (images / file).write_bytes(zip_file.read(member))
            photos.append(
                Photo(
                    name=PurePosixPath(member).name,
                    original_name=str(entry.get("original_name") or PurePosixPath(member).name),
                    file=file,
                    width_px=int(entry["width_px"]),
                    height_px=int(entry["height_px"]),
                    focal_px=_focal(entry.get("focal_px")),
                    camera=str(entry.get("camera") or ""),
                )
            )
            mask = f"masks/{PurePosixPath(member).stem}.png"
            if mask in members:
                # pycolmap expects this name.
                masks[file] = masks_folder / f"{file}.png"
                masks[file].write_bytes(zip_file.read(mask))
    given = index.get("object_hint")
    hint = None if given is None else (str(given["photo"]), tuple(float(value) for value in given["values"]))
    return ImageSet(tuple(photos), bool(index.get("ordered")), images, masks, repeated, hint)


def _without_repetitions(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Drop the repeated photos, unless they are the majority: then the error message must mention them."""
    copies = [entry for entry in entries if "repeated" in entry.get("flags", ())]
    if 2 * len(copies) > len(entries):
        return entries, ()
    left = [entry for entry in entries if entry not in copies]
    return left, tuple(str(entry.get("original_name") or entry["name"]) for entry in copies)


def _member(name: str, members: set[str]) -> str:
    for candidate in (name, f"images/{name}", f"images/{name}.jpg"):
        if candidate in members:
            return candidate
    raise ValueError(f"the archive of the capture has no photo {name}")


def _focal(value: Any) -> float | None:
    return float(value) if value is not None and float(value) > 0 else None


def original_names(photos: Sequence[Photo], files: Sequence[str]) -> list[str]:
    """Return the original names of some photos."""
    known = {photo.file: photo.original_name for photo in photos}
    return [known[file] for file in files]
