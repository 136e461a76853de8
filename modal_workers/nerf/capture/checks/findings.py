"""Problems of a capture, per photo and per pair; ``verdict.py`` decides which of them matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from modal_workers.nerf.capture.checks.image_quality import MATCHING_SIDE_PX, SHARPNESS_SIDE_PX, ImageQuality
from modal_workers.nerf.capture.checks.matching import PhotoPair
from modal_workers.nerf.capture.checks.view_graph import (
    USUAL_FOCAL,
    ViewDirections,
    connected_components,
    estimate_view_directions,
)

#: Blurred: edges wider than this, or wider than this multiple of the median of the sharper half.
_BLURRED_PX: Final = 1.7
_SURELY_SHARP_PX: Final = 1.3
_BLURRED_TIMES: Final = 1.6
#: Too few features; and few enough to blame them when a photo has hardly any links.
_FEW_POINTS: Final = 40
_RATHER_FEW_POINTS: Final = 160
#: Repetitions: almost all matches do not move, or the thumbnails do not differ (grey levels).
_STILL_SHARE: Final = 0.85
_SAME_LEVELS: Final = 1.2
#: A turntable's background: this many matches do not move, far apart, while others clearly move.
_STILL_MATCHES: Final = 10
_STILL_EXTENT: Final = 0.45
_WELL_MOVED: Final = 0.02


@dataclass(frozen=True)
class MeasuredPhoto:
    """One photo of the capture: name, quality, size and camera."""

    name: str
    quality: ImageQuality
    original_px: tuple[int, int]
    focal_px: float | None  # at the size in which ``quality`` has its points
    camera: str

    @property
    def format(self) -> tuple[str, int, int]:
        """Camera and size; portrait and landscape are the same format."""
        return (self.camera, max(self.original_px), min(self.original_px))


@dataclass(frozen=True)
class Findings:
    """All findings. Lists hold photo numbers."""

    photos: Sequence[MeasuredPhoto]
    pairs: Sequence[PhotoPair]
    components: list[list[int]]
    blurred: list[int]
    plain: list[int]
    black: list[int]
    burnt: list[int]
    uneven: list[int]
    #: Each group shows the same from the same place; its first photo is kept.
    repeated: list[list[int]]
    #: Photos of the largest component with hardly any links.
    loose: list[int]
    formats: list[list[int]]
    #: Share of the pairs in which the background stood still while the object moved.
    still_background: float
    directions: ViewDirections | None

    @property
    def repetitions(self) -> list[int]:
        """Photos that show nothing new."""
        return sorted(number for group in self.repeated for number in group[1:])


def find_problems(photos: Sequence[MeasuredPhoto], pairs: Sequence[PhotoPair]) -> Findings:
    """Search the photos and pairs for every known problem of a capture."""
    components = connected_components(len(photos), pairs)
    repeated = _repeated(photos, pairs)
    qualities = [photo.quality for photo in photos]
    brightness = [quality.luminance for quality in qualities]
    usual = float(np.median(brightness)) if brightness else 0.0
    largest = components[0] if components else []
    blurred = _blurred(qualities)
    return Findings(
        photos=photos,
        pairs=pairs,
        components=components,
        blurred=blurred,
        # A blurred photo has few features too; it needs light, not a pattern.
        plain=[number for number in _plain(qualities, pairs) if number not in blurred],
        black=[number for number, quality in enumerate(qualities) if quality.luminance < 20 or quality.dark > 0.85],
        burnt=[number for number, quality in enumerate(qualities) if quality.burnt > 0.9],
        uneven=[number for number, level in enumerate(brightness) if level > 2.5 * usual or 2.5 * level < usual],
        repeated=repeated,
        loose=_loose(largest, pairs),
        formats=_formats(photos),
        still_background=_still_background(pairs),
        directions=_view_directions(photos, largest, pairs),
    )


def _blurred(qualities: Sequence[ImageQuality]) -> list[int]:
    widths = [quality.blur_px for quality in qualities]
    known = sorted(width for width in widths if width is not None)
    if not known:
        return []
    usual = float(np.median(known[: max(1, (len(known) + 1) // 2)]))
    limit = min(_BLURRED_PX, max(_SURELY_SHARP_PX, _BLURRED_TIMES * usual))
    return [number for number, width in enumerate(widths) if width is not None and width > limit]


def _plain(qualities: Sequence[ImageQuality], pairs: Sequence[PhotoPair]) -> list[int]:
    links = [0] * len(qualities)
    for pair in pairs:
        links[pair.first] += pair.tied
        links[pair.second] += pair.tied
    counts = [len(quality.points_px) for quality in qualities]
    return [
        number
        for number, (points, tied) in enumerate(zip(counts, links, strict=True))
        if points < _FEW_POINTS or (points < _RATHER_FEW_POINTS and tied < 3)
    ]


def _repeated(photos: Sequence[MeasuredPhoto], pairs: Sequence[PhotoPair]) -> list[list[int]]:
    """Group photos taken from the same place: matches that do not move, or thumbnails without a difference."""
    group = list(range(len(photos)))

    def join(number: int, second: int) -> None:
        low, high = sorted((group[number], group[second]))
        for member, label in enumerate(group):
            if label == high:
                group[member] = low

    for pair in pairs:
        points = min(len(photos[number].quality.points_px) for number in (pair.first, pair.second))
        if pair.still >= _STILL_SHARE * pair.matches and pair.still >= 0.5 * points and not _differ(photos, pair, 4.0):
            join(pair.first, pair.second)
    thumbnails = np.stack([photo.quality.thumbnail.ravel() for photo in photos]) if photos else np.zeros((0, 1))
    for number in range(len(photos)):
        differences = np.abs(thumbnails[number + 1 :] - thumbnails[number]).mean(axis=1)
        for other in np.flatnonzero(differences < _SAME_LEVELS):
            join(number, number + 1 + int(other))
    found: dict[int, list[int]] = {}
    for number, label in enumerate(group):
        found.setdefault(label, []).append(number)
    return [members for members in found.values() if len(members) > 1]


def _differ(photos: Sequence[MeasuredPhoto], pair: PhotoPair, levels: float) -> bool:
    """Return whether two thumbnails differ locally, as with an object that turns before a wall."""
    differences = np.abs(photos[pair.first].quality.thumbnail - photos[pair.second].quality.thumbnail)
    return bool(np.percentile(differences, 95) > 2 * levels)


def _loose(component: Sequence[int], pairs: Sequence[PhotoPair]) -> list[int]:
    links: dict[int, int] = dict.fromkeys(component, 0)
    for pair in pairs:
        if pair.tied and pair.first in links and pair.second in links:
            links[pair.first] += 1
            links[pair.second] += 1
    return [number for number, count in links.items() if count < 2] if len(component) > 2 else []


def _formats(photos: Sequence[MeasuredPhoto]) -> list[list[int]]:
    found: dict[tuple[str, int, int], list[int]] = {}
    for number, photo in enumerate(photos):
        found.setdefault(photo.format, []).append(number)
    return sorted(found.values(), key=lambda group: (-len(group), group[0]))


def _still_background(pairs: Sequence[PhotoPair]) -> float:
    """Return the share of the informative pairs whose background did not move."""
    static = informative = 0
    for pair in pairs:
        still = pair.still >= _STILL_MATCHES and pair.still_extent > _STILL_EXTENT
        moves = pair.agreeing >= 10 and pair.moved > _WELL_MOVED
        if still and pair.still < 0.97 * pair.matches:
            static += 1
        informative += still or moves
    return static / informative if informative else 0.0


def _view_directions(
    photos: Sequence[MeasuredPhoto], component: Sequence[int], pairs: Sequence[PhotoPair]
) -> ViewDirections | None:
    if len(component) < 6:
        return None
    sizes = [photo.quality.size_px for photo in photos]
    focal = [photo.focal_px or USUAL_FOCAL * max(size) for photo, size in zip(photos, sizes, strict=True)]
    return estimate_view_directions(component, pairs, sizes, focal)


def scales() -> dict[str, int]:
    """Return the sizes at which photos are checked, px on the long side."""
    return {"sharpness_side_px": SHARPNESS_SIDE_PX, "matching_side_px": MATCHING_SIDE_PX}
