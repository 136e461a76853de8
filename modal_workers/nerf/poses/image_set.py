"""The photos as the capture stage handed them over, laid out for pycolmap: names without surprises, grouped by lens."""

from __future__ import annotations

import json
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

#: How far two focal lengths may be apart and still be those of one lens.
_SAME_FOCAL = 0.02


@dataclass(frozen=True)
class Photo:
    """One photo."""

    #: As it is named in the archive, without the folder: what results name it.
    name: str
    #: As the user knows it.
    original_name: str
    #: As it lies in ``Captured.images``.
    file: str
    width_px: int
    height_px: int
    focal_px: float | None
    #: What the file says that it was taken with; empty where it says nothing.
    camera: str = ""


@dataclass(frozen=True)
class ImageSet:
    """All photos, in the order of their names."""

    photos: tuple[Photo, ...]
    #: Whether the order means something: a video, or numbered one after the other.
    ordered: bool
    images: Path
    #: Masks by ``Photo.file``, for the photos that have one.
    masks: dict[str, Path]
    #: What users call those that show nothing new, and are not used: a second copy has no place of its own.
    repeated: tuple[str, ...] = ()

    @property
    def all_masked(self) -> bool:
        """Tell whether every photo has a mask."""
        return bool(self.photos) and len(self.masks) == len(self.photos)

    def cameras(self) -> list[dict[str, Any]]:
        """Group photos that one lens took: the same size and focal length, which a phone has for all of them."""
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
    """Number the focal lengths of one picture size; -1 where it is not told."""
    if photo.focal_px is None:
        return -1
    for number, (width_px, height_px, focal_px) in enumerate(known):
        same_size = (width_px, height_px) == (photo.width_px, photo.height_px)
        if same_size and abs(focal_px / photo.focal_px - 1) < _SAME_FOCAL:
            return number
    known.append((photo.width_px, photo.height_px, photo.focal_px))
    return len(known) - 1


def unpack(archive: Path, folder: Path) -> ImageSet:
    """Lay the archive of the capture stage out in a folder.

    Raises:
        KeyError, ValueError, zipfile.BadZipFile: it is not what that stage writes.
    """
    images, masks_folder = folder / "photos", folder / "masks"
    for made in (images, masks_folder):
        made.mkdir(parents=True)
    photos, masks = [], {}
    with zipfile.ZipFile(archive) as opened:
        told = json.loads(opened.read("capture.json"))
        members = set(opened.namelist())
        entries, repeated = _new_ones(sorted(told["photos"], key=lambda one: str(one["name"])))
        for number, entry in enumerate(entries):
            member = _member(entry["name"], members)
            file = f"{number:04d}{PurePosixPath(member).suffix}"
            (images / file).write_bytes(opened.read(member))
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
                # The name that pycolmap looks for.
                masks[file] = masks_folder / f"{file}.png"
                masks[file].write_bytes(opened.read(mask))
    return ImageSet(tuple(photos), bool(told.get("ordered")), images, masks, repeated)


def _new_ones(entries: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Leave out the copies that the capture stage found, unless they are most of all: then the error shall say so."""
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


def _focal(told: Any) -> float | None:
    return float(told) if told is not None and float(told) > 0 else None


def original_names(photos: Sequence[Photo], files: Sequence[str]) -> list[str]:
    """Give what users call some of the photos."""
    known = {photo.file: photo.original_name for photo in photos}
    return [known[file] for file in files]
