"""What is wrong with a capture, photo by photo and pair by pair; which of it matters is for ``verdict.py``."""

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

#: Blurred: wider edges than this whatever the others have, or than so many times the sharper half of the others'.
_BLURRED_PX: Final = 1.7
_SURELY_SHARP_PX: Final = 1.3
_BLURRED_TIMES: Final = 1.6
#: Too few points to find again; and few enough to blame them when a photo is tied to hardly another one.
_FEW_POINTS: Final = 40
_RATHER_FEW_POINTS: Final = 160
#: Repetitions: almost all that is found again stands still, or nothing at all differs (grey levels).
_STILL_SHARE: Final = 0.85
_SAME_LEVELS: Final = 1.2
#: A turntable's background: this many matches stand still, far apart, while others move well.
_STILL_MATCHES: Final = 10
_STILL_EXTENT: Final = 0.45
_WELL_MOVED: Final = 0.02


@dataclass(frozen=True)
class MeasuredPhoto:
    """One photo of the capture: how it was called, what it looks like, what took it."""

    name: str
    look: ImageQuality
    original_px: tuple[int, int]
    focal_px: float | None  # at the size of ``look``'s points
    camera: str

    @property
    def format(self) -> tuple[str, int, int]:
        """Which camera and size it is of; lying or standing is the same."""
        return (self.camera, max(self.original_px), min(self.original_px))


@dataclass(frozen=True)
class Findings:
    """Everything found. Lists hold numbers of photos."""

    shots: Sequence[MeasuredPhoto]
    pairs: Sequence[PhotoPair]
    components: list[list[int]]
    blurred: list[int]
    plain: list[int]
    black: list[int]
    burnt: list[int]
    uneven: list[int]
    #: Each group shows the same from the same place; its first photo is kept.
    repeated: list[list[int]]
    #: Photos tied to hardly another one, of the largest piece.
    loose: list[int]
    formats: list[list[int]]
    #: Share of the pairs in which the background stood still while the object moved.
    still_background: float
    around: ViewDirections | None

    @property
    def repetitions(self) -> list[int]:
        """Photos that show nothing new."""
        return sorted(one for group in self.repeated for one in group[1:])


def find_problems(shots: Sequence[MeasuredPhoto], pairs: Sequence[PhotoPair]) -> Findings:
    """Look for everything that is known to spoil a capture."""
    together = connected_components(len(shots), pairs)
    repeated = _repeated(shots, pairs)
    looks = [shot.look for shot in shots]
    brightness = [one.luminance for one in looks]
    usual = float(np.median(brightness)) if brightness else 0.0
    largest = together[0] if together else []
    blurred = _blurred(looks)
    return Findings(
        shots=shots,
        pairs=pairs,
        components=together,
        blurred=blurred,
        # a blurred photo has few points too, and light helps it, not a pattern
        plain=[one for one in _plain(looks, pairs) if one not in blurred],
        black=[number for number, one in enumerate(looks) if one.luminance < 20 or one.dark > 0.85],
        burnt=[number for number, one in enumerate(looks) if one.burnt > 0.9],
        uneven=[number for number, one in enumerate(brightness) if one > 2.5 * usual or 2.5 * one < usual],
        repeated=repeated,
        loose=_loose(largest, pairs),
        formats=_formats(shots),
        still_background=_still_background(pairs),
        around=_around(shots, largest, pairs),
    )


def _blurred(looks: Sequence[ImageQuality]) -> list[int]:
    widths = [one.blur_px for one in looks]
    known = sorted(width for width in widths if width is not None)
    if not known:
        return []
    usual = float(np.median(known[: max(1, (len(known) + 1) // 2)]))
    limit = min(_BLURRED_PX, max(_SURELY_SHARP_PX, _BLURRED_TIMES * usual))
    return [number for number, width in enumerate(widths) if width is not None and width > limit]


def _plain(looks: Sequence[ImageQuality], pairs: Sequence[PhotoPair]) -> list[int]:
    ties = [0] * len(looks)
    for pair in pairs:
        ties[pair.first] += pair.tied
        ties[pair.second] += pair.tied
    counts = [len(one.points_px) for one in looks]
    return [
        number
        for number, (points, tied) in enumerate(zip(counts, ties, strict=True))
        if points < _FEW_POINTS or (points < _RATHER_FEW_POINTS and tied < 3)
    ]


def _repeated(shots: Sequence[MeasuredPhoto], pairs: Sequence[PhotoPair]) -> list[list[int]]:
    """Group photos from the same place: matches that stand still, or small pictures without any difference."""
    group = list(range(len(shots)))

    def join(one: int, other: int) -> None:
        low, high = sorted((group[one], group[other]))
        for number, now in enumerate(group):
            if now == high:
                group[number] = low

    for pair in pairs:
        points = min(len(shots[one].look.points_px) for one in (pair.first, pair.second))
        if pair.still >= _STILL_SHARE * pair.matches and pair.still >= 0.5 * points and not _differ(shots, pair, 4.0):
            join(pair.first, pair.second)
    tiny = np.stack([shot.look.tiny.ravel() for shot in shots]) if shots else np.zeros((0, 1))
    for number in range(len(shots)):
        apart = np.abs(tiny[number + 1 :] - tiny[number]).mean(axis=1)
        for other in np.flatnonzero(apart < _SAME_LEVELS):
            join(number, number + 1 + int(other))
    found: dict[int, list[int]] = {}
    for number, now in enumerate(group):
        found.setdefault(now, []).append(number)
    return [members for members in found.values() if len(members) > 1]


def _differ(shots: Sequence[MeasuredPhoto], pair: PhotoPair, levels: float) -> bool:
    """Tell whether two small pictures differ somewhere, not only on the whole: a turning object before a wall does."""
    apart = np.abs(shots[pair.first].look.tiny - shots[pair.second].look.tiny)
    return bool(np.percentile(apart, 95) > 2 * levels)


def _loose(piece: Sequence[int], pairs: Sequence[PhotoPair]) -> list[int]:
    ties: dict[int, int] = dict.fromkeys(piece, 0)
    for pair in pairs:
        if pair.tied and pair.first in ties and pair.second in ties:
            ties[pair.first] += 1
            ties[pair.second] += 1
    return [one for one, count in ties.items() if count < 2] if len(piece) > 2 else []


def _formats(shots: Sequence[MeasuredPhoto]) -> list[list[int]]:
    found: dict[tuple[str, int, int], list[int]] = {}
    for number, shot in enumerate(shots):
        found.setdefault(shot.format, []).append(number)
    return sorted(found.values(), key=lambda one: (-len(one), one[0]))


def _still_background(pairs: Sequence[PhotoPair]) -> float:
    """Give the share of pairs with an unmoved background among those that say anything about it."""
    unmoved = telling = 0
    for pair in pairs:
        still = pair.still >= _STILL_MATCHES and pair.still_extent > _STILL_EXTENT
        moves = pair.agreeing >= 10 and pair.moved > _WELL_MOVED
        if still and pair.still < 0.97 * pair.matches:
            unmoved += 1
        telling += still or moves
    return unmoved / telling if telling else 0.0


def _around(shots: Sequence[MeasuredPhoto], piece: Sequence[int], pairs: Sequence[PhotoPair]) -> ViewDirections | None:
    if len(piece) < 6:
        return None
    sizes = [shot.look.size_px for shot in shots]
    focal = [shot.focal_px or USUAL_FOCAL * max(size) for shot, size in zip(shots, sizes, strict=True)]
    return estimate_view_directions(piece, pairs, sizes, focal)


def scales() -> dict[str, int]:
    """Give the sizes at which photos are judged, px on the long side."""
    return {"sharpness_side_px": SHARPNESS_SIDE_PX, "matching_side_px": MATCHING_SIDE_PX}
