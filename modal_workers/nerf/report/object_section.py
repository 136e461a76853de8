"""The object in report.html: how sure it is, and what may be meant, as boxes on photos."""

from __future__ import annotations

import itertools
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.nerf.found_object import DOUBTS, FoundObject, ObjectChoice
from modal_workers.nerf.training.dataset import TrainingPhoto, read_dataset

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]

_SIZE_PX: Final = 320
_PHOTOS: Final = 3
_COLOUR: Final = (255, 64, 160)
_NAMES: Final = {
    "object": "The object",
    "both": "All of it",
    "first": "Only the first",
    "second": "Only the second",
    "all_around": "All that stands in the middle",
}
_EVIDENCE: Final = {
    "aim": "the crossing of the optical axes is in it",
    "depth": "points in the middle of the photos are as far away",
    "foreground": "share of the foreground in the middle of the photos",
    "separation": "it stands apart from everything else",
    "alone": "nothing else fits as well",
    "points": "enough points show it",
}


@dataclass(frozen=True)
class ShownChoice:
    """A choice as a box on some photos (RGB), and the hint that settles on it."""

    name: str
    pictures: tuple[tuple[str, Image], ...]
    hint: str


def show_choices(dataset: Path, found: FoundObject) -> list[ShownChoice]:
    """Draw every choice on photos from different sides."""
    photos = _spread(read_dataset(dataset, _SIZE_PX).photos)
    names = _original_names(dataset)
    return [_shown(choice, photos, names) for choice in found.choices]


def object_section(found: FoundObject | None, shown: Sequence[ShownChoice], encoded: Sequence[Sequence[str]]) -> str:
    """Return the section; empty where masks tell what the object is. ``encoded``: URLs of the pictures."""
    if found is None:
        return ""
    warned = ""
    if found.doubt is not None:
        warned = (
            f'<div class="reason warning"><p><b>It is not sure what the object is.</b> {DOUBTS[found.doubt]} '
            f"({found.doubt})</p><p>The frames show the first of the following. Another job with object_hint shows "
            "another one: a point on it, or a box around it, in one photo.</p></div>"
        )
    evidence = ""
    if found.evidence is not None:
        items = found.evidence.model_dump().items()
        parts = ", ".join(f"{_EVIDENCE[name]} {value:.0%}" for name, value in items)
        evidence = f" What it rests on: {parts}."
    source = "object_hint tells what it is" if found.source == "hint" else "It was found where the photos look"
    cards = "".join(
        _card(choice, urls, doubtful=found.doubt is not None) for choice, urls in zip(shown, encoded, strict=True)
    )
    return (
        f'<section id="object"><h2>The object</h2>{warned}<p class="lead">{source}; confidence '
        f'{found.confidence:.0%}.{evidence}</p><div class="cards">{cards}</div></section>'
    )


def _card(choice: ShownChoice, urls: Sequence[str], *, doubtful: bool) -> str:
    figures = "".join(
        f'<figure><img src="{url}" alt="{_NAMES[choice.name]}: a box on {escape(name)}">'
        f"<figcaption>{escape(name)}</figcaption></figure>"
        for (name, _), url in zip(choice.pictures, urls, strict=True)
    )
    settles = f"<p><code>-p object_hint='{escape(choice.hint)}'</code></p>" if doubtful and choice.hint else ""
    return f'<div class="card wide"><h3>{_NAMES[choice.name]}</h3><div class="pairs">{figures}</div>{settles}</div>'


def _spread(photos: Sequence[TrainingPhoto]) -> list[TrainingPhoto]:
    count = min(_PHOTOS, len(photos))
    return [photos[(2 * index + 1) * len(photos) // (2 * count)] for index in range(count)]


def _original_names(dataset: Path) -> dict[str, str]:
    """Return the names in the dataset by their stems: those of images.zip, which object_hint takes too."""
    with zipfile.ZipFile(dataset) as archive:
        frames = json.loads(archive.read("transforms.json"))["frames"]
    return {Path(frame["file_path"]).stem: Path(frame["file_path"]).name for frame in frames}


def _shown(choice: ObjectChoice, photos: Sequence[TrainingPhoto], names: dict[str, str]) -> ShownChoice:
    pictures = tuple((names[photo.name], _drawn(choice, photo)) for photo in photos)
    hint = ""
    if choice.name != "all_around":
        middle = photos[len(photos) // 2]
        sides = _bounds(choice, middle)
        if sides is not None:
            hint = json.dumps({"photo": names[middle.name], "box": [round(side, 3) for side in sides]})
    return ShownChoice(choice.name, pictures, hint)


def _corners(choice: ObjectChoice) -> Floats:
    signs = np.array(list(itertools.product((-0.5, 0.5), repeat=3)))
    local = signs * np.array(choice.size)
    cosine, sine = np.cos(choice.yaw_rad), np.sin(choice.yaw_rad)
    x, y = cosine * local[:, 0] - sine * local[:, 1], sine * local[:, 0] + cosine * local[:, 1]
    return np.asarray(np.stack([x, y, local[:, 2]], 1) + np.array(choice.centre))


def _projected(choice: ObjectChoice, photo: TrainingPhoto) -> Floats | None:
    """Return the pixels [8, 2] of the corners; None where one is behind the camera."""
    local = (_corners(choice) - photo.world_from_camera[:3, 3]) @ photo.world_from_camera[:3, :3]
    if local[:, 2].min() < 1e-3:
        return None
    camera = photo.camera
    u = local[:, 0] / local[:, 2] * camera.fx_px + camera.cx_px
    v = local[:, 1] / local[:, 2] * camera.fy_px + camera.cy_px
    return np.stack([u, v], 1)


def _bounds(choice: ObjectChoice, photo: TrainingPhoto) -> tuple[float, ...] | None:
    pixels = _projected(choice, photo)
    if pixels is None:
        return None
    size = np.array([photo.camera.width_px, photo.camera.height_px])
    low, high = (np.clip(side / size, 0.0, 1.0) for side in (pixels.min(0), pixels.max(0)))
    if (high - low).min() <= 0:
        return None
    return float(low[0]), float(low[1]), float(high[0]), float(high[1])


def _drawn(choice: ObjectChoice, photo: TrainingPhoto) -> Image:
    image = photo.image.copy()
    pixels = _projected(choice, photo)
    if pixels is None:
        return image
    # Neighbouring corners differ in one sign.
    for first, second in itertools.combinations(range(8), 2):
        if (first ^ second) in {1, 2, 4}:
            ends = [(round(float(x)), round(float(y))) for x, y in np.clip(pixels[[first, second]], -9999, 9999)]
            cv2.line(image, ends[0], ends[1], _COLOUR, 2, cv2.LINE_AA)
    return image
