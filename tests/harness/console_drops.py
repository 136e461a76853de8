"""Generated drops of files, as people drop them on the console's Start page, with what is meant by them."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

File = dict[str, Any]
#: Extension and the media type that browsers report; empty where many report none.
_VIDEOS: Final = (
    ("mp4", "video/mp4"),
    ("mov", "video/quicktime"),
    ("mkv", ""),
    ("MP4", "video/mp4"),
    ("webm", "video/webm"),
)
_PHOTOS: Final = (
    ("jpg", "image/jpeg"),
    ("JPG", "image/jpeg"),
    ("png", "image/png"),
    ("heic", ""),
    ("webp", "image/webp"),
)
_ZIPS: Final = (("zip", "application/zip"), ("zip", "application/x-zip-compressed"), ("zip", ""))
_UNSUITABLE: Final = (
    ("notes.txt", "text/plain", 5),
    ("report.pdf", "application/pdf", 999),
    ("Makefile", "", 70),
    ("logo.svg", "image/svg+xml", 400),
    ("empty.mp4", "video/mp4", 0),
    ("model.ply", "", 10_000),
    ("sound.mp3", "audio/mpeg", 10_000),
    ("film.mp4", "video/mp4", 21 * 1024**3),
)
_STEMS: Final = (
    "lap_a",
    "IMG_0042",
    "video",
    "GOPR0003",
    "<b>x</b>",
    "Strecke 1 – früh",
    "photo",
    "clip (2)",
    "a.b",
    "运动",
)


@dataclass
class Drop:
    """Files that are dropped together; ``wanted`` is the workload that they are for, or None if one must ask."""

    kind: str
    files: list[File]
    wanted: str | None
    offered: frozenset[str]
    unsuitable: frozenset[int] = field(default_factory=frozenset)


def _files(chance: random.Random, kinds: tuple[tuple[str, str], ...], count: int, folder: str = "") -> list[File]:
    extension, media_type = chance.choice(kinds)
    stem = chance.choice(_STEMS)
    name = f"{folder}{stem}_{{:03d}}.{extension}"
    return [{"name": name.format(n), "type": media_type, "size": chance.randint(1, 10**9)} for n in range(count)]


def _photos(chance: random.Random) -> list[File]:
    return _files(chance, _PHOTOS, chance.randint(3, 200))


def _photos_with_masks(chance: random.Random) -> list[File]:
    count = chance.randint(3, 60)
    return [*_files(chance, _PHOTOS, count, "shoe/images/"), *_files(chance, _PHOTOS, count, "shoe/masks/")]


_Make = Callable[[random.Random], list[File]]
_NERF: Final = frozenset({"nerf"})
_KINDS: Final[dict[str, tuple[_Make, str | None, frozenset[str]]]] = {
    "two videos": (lambda chance: _files(chance, _VIDEOS, 2), "lap_compare", frozenset({"lap_compare"})),
    "photos": (_photos, "nerf", _NERF),
    "photos and masks": (_photos_with_masks, "nerf", _NERF),
    "archive": (lambda chance: _files(chance, _ZIPS, 1), "nerf", _NERF),
    "one video": (
        lambda chance: _files(chance, _VIDEOS, 1),
        None,
        frozenset({"badminton", "nerf", "lap_compare", "lap_detection"}),
    ),
    "one or two photos": (lambda chance: _files(chance, _PHOTOS, chance.randint(1, 2)), None, _NERF),
    "more videos": (
        lambda chance: _files(chance, _VIDEOS, chance.randint(3, 6)),
        None,
        frozenset({"badminton", "nerf", "lap_compare", "lap_detection"}),
    ),
    "videos and photos": (
        lambda chance: [*_files(chance, _VIDEOS, 2), *_files(chance, _PHOTOS, chance.randint(1, 9))],
        None,
        frozenset({"lap_compare", "nerf"}),
    ),
    "two archives": (lambda chance: _files(chance, _ZIPS, 2), None, _NERF),
    "nothing usable": (lambda _: [], None, frozenset()),
}
DROPS: Final = tuple(_KINDS)


def generated_drop(chance: random.Random, kind: str) -> Drop:
    """Return a drop of a kind, often with files among it that nothing takes, in any order."""
    make, wanted, offered = _KINDS[kind]
    files = make(chance)
    junk = chance.sample(_UNSUITABLE, chance.randint(1, 3)) if not files or chance.random() < 0.4 else []
    unsuitable = [{"name": name, "type": media_type, "size": size} for name, media_type, size in junk]
    mixed = [*files, *unsuitable]
    if kind != "photos and masks":
        chance.shuffle(mixed)
    refused = frozenset(index for index, file in enumerate(mixed) if file in unsuitable)
    return Drop(kind, mixed, wanted, offered, refused)
