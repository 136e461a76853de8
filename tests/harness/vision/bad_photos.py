"""Bad and unusual input for ``nerf``, with the expected outcome of each.

One list for the system test that sends all of it and for the table in docs/nerf.md, which
``python -m tests.harness.vision.bad_photos`` writes.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal

import cv2
import numpy as np
from PIL import Image

from tests.harness.vision.hostile_archives import HOSTILE, zipped
from tests.harness.vision.simulated_captures import take
from tests.harness.vision.textured_boxes import box_textures, camera_pose, photograph

DOCS: Final = Path(__file__).parents[3] / "docs" / "nerf.md"
BEGIN, END = "<!-- bad input: written by tests/harness/vision/bad_photos.py -->\n", "<!-- end of bad input -->\n"
#: Step that rejects the input: upload, submission or a stage; or a result.
Where = Literal["upload", "submit", "capture", "poses", "result"]
Files = Mapping[str, bytes]
JUDGE: Final = {"preflight_only": True}
FORCE: Final = {"ignore_verdict": True}
_PANORAMA_PX: Final = (12_000, 2000)


class PhotoSamples:
    """Eighteen good photos, 320 x 240 px, and inputs derived from them; created on first use."""

    def __init__(self, folder: Path) -> None:
        """Store the photos in ``folder``."""
        self._folder = folder

    @cached_property
    def good(self) -> dict[str, bytes]:
        """Return a capture that the pre-flight accepts: file names and JPEG data."""
        paths = take("good", self._folder / "good", 40, count=18, size_px=(320, 240))
        return {path.name: path.read_bytes() for path in paths}

    @cached_property
    def one(self) -> bytes:
        """Return the first good photo."""
        return next(iter(self.good.values()))

    @cached_property
    def two_things(self) -> dict[str, bytes]:
        """Return photos of two different boxes, 9 of each along a quarter of a circle."""
        return {
            f"box_{box}_{number:02d}.jpg": jpeg(
                photograph(textures, "", camera_pose(np.radians(10 * number), 0.25 + 0.2 * (number % 2))).picture, 95
            )
            for box, textures in enumerate((box_textures(3), box_textures(4)))
            for number in range(9)
        }

    def picture(self, name: str) -> np.ndarray:
        """Return a good photo as a BGR array."""
        return np.asarray(cv2.imdecode(np.frombuffer(self.good[name], np.uint8), cv2.IMREAD_COLOR))


def jpeg(picture: np.ndarray, quality: int = 92) -> bytes:
    return cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def _blurred(shelf: PhotoSamples) -> Files:
    names = list(shelf.good)[:5]
    return {name: jpeg(cv2.GaussianBlur(shelf.picture(name), (0, 0), 4.0)) for name in names}


def _identical(shelf: PhotoSamples) -> Files:
    return {f"copy_{number:02d}.jpg": shelf.one for number in range(20)}


def panorama(width: int = _PANORAMA_PX[0]) -> bytes:
    """Return a JPEG with the size of a panorama and random content."""
    small = np.random.default_rng(1).integers(0, 256, (50, width // 40, 3), dtype=np.uint8)
    return jpeg(cv2.resize(small, (width, _PANORAMA_PX[1]), interpolation=cv2.INTER_LINEAR), 80)


def _odd_colours(shelf: PhotoSamples) -> Files:
    names = list(shelf.good)
    cmyk = saved(Image.open(io.BytesIO(shelf.good[names[3]])).convert("CMYK"), "JPEG", quality=95)
    deep = cv2.imencode(".png", shelf.picture(names[4]).astype(np.uint16) * 257)[1].tobytes()
    good = {name: data for name, data in shelf.good.items() if name != names[4]}
    return good | {names[3]: cmyk, names[4].replace(".jpg", ".png"): deep}


def _with_a_cut_one(shelf: PhotoSamples) -> Files:
    """Add a truncated JPEG to the good photos; video decoders open such a file without an error."""
    return shelf.good | {"photo_0008b.jpg": shelf.one[: len(shelf.one) // 2]}


def _tiffs(shelf: PhotoSamples) -> Files:
    image = Image.fromarray(shelf.picture(next(iter(shelf.good)))[:, :, ::-1])
    return {"IMG_1.tif": saved(image, "TIFF"), "IMG_2.tif": saved(image, "TIFF")}


def _hostile(name: str) -> Callable[[PhotoSamples], Files]:
    return lambda _shelf: {"photos.zip": HOSTILE[name][0]()}


def _in_zip(make: Callable[[PhotoSamples], Files]) -> Callable[[PhotoSamples], Files]:
    return lambda shelf: {"photos.zip": zipped(dict(make(shelf)))}


@dataclass(frozen=True)
class Row:
    """One input. ``code`` is that of the error or, if there is a result, that of the reason in the verdict."""

    sent: str
    files: Callable[[PhotoSamples], Files]
    where: Where
    code: str
    happens: str
    #: Required words of the error message and its hint, or of the verdict's reason and fix.
    says: tuple[str, ...] = ()
    fix: tuple[str, ...] = ()
    params: Mapping[str, Any] = field(default_factory=dict)
    #: Files that a result must name as skipped.
    skipped: tuple[str, ...] = ()


ROWS: Final = (
    Row("one image", lambda shelf: {"only.jpg": shelf.one}, "capture", "capture_refused",
        "pre-flight: `too_few_photos`", ("one photo", "At least 10", "too_few_photos"), ("about 40 photos",)),
    Row("one image, verdict ignored", lambda shelf: {"only.jpg": shelf.one}, "poses", "poses_not_found",
        "at least 8 are needed for cameras", ("One photo", "at least 8"), ("30 to 60 photos",), FORCE),
    Row("5 blurred", _in_zip(_blurred), "capture", "capture_refused", "pre-flight: `too_few_photos`, `blurred`",
        ("There are 5 photos, 5 blurred", "5 of 5 photos are blurred"), ("tripod",)),
    Row("5 blurred, verdict ignored", _in_zip(_blurred), "poses", "poses_not_found",
        "at least 8 are needed for cameras", ("5 photos", "at least 8"), ("30 to 60 photos",), FORCE),
    Row("20 times the same", _in_zip(_identical), "capture", "capture_refused", "pre-flight: `too_few_photos`",
        ("There are 20 photos, 19 taken from the same place as another one",), ("each showing most of what",)),
    Row("20 times the same, verdict ignored", _in_zip(_identical), "poses", "poses_not_found",
        "nothing moves from photo to photo", ("same picture",), ("Walk around the object",), FORCE),
    Row("two things, 9 photos of each", _in_zip(lambda shelf: shelf.two_things), "capture", "capture_refused",
        "pre-flight: `in_pieces`, with their sizes", ("pieces of 9 and 9", "in_pieces"), ("one object",)),
    Row("two things, verdict ignored", _in_zip(lambda shelf: shelf.two_things), "poses", "poses_split",
        "two models, of which neither is passed off as the whole", ("groups of 9 and 9",), ("one object",), FORCE),
    Row("a panorama of 12,500 px", lambda _: {"panorama.jpg": panorama(12_500)}, "upload", "media_too_large",
        "not taken", ("12500 x 2000", "12,000 on a side"), ("photo to at most 12,000",)),
    Row("12,000 px panoramas only", _in_zip(lambda _: {f"pano_{n}.jpg": panorama() for n in (1, 2)}), "capture",
        "capture_refused", "pre-flight: `too_few_photos`, each named with its size",
        ("no photos", "pano_1.jpg: 12000 x 2000 pixels are a panorama", "pano_2.jpg"), ("about 40 photos",)),
    Row("a 12,000 px panorama among good ones", _in_zip(lambda shelf: shelf.good | {"photo_0005b.jpg": panorama()}),
        "result", "files_skipped", "left out by name, the others go on", ("photo_0005b.jpg", "panorama"),
        ("leave them out",), JUDGE, skipped=("photo_0005b.jpg",)),
    Row("CMYK and 16 bits among good ones", _in_zip(_odd_colours), "result", "",
        "read like any other, nothing is lost", params=JUDGE),
    Row("a corrupt JPEG in the middle", _with_a_cut_one, "result", "files_skipped",
        "left out by name, the others go on", ("photo_0008b.jpg: it is damaged",), ("whole JPEG",), JUDGE,
        skipped=("photo_0008b.jpg",)),
    Row("a corrupt JPEG in the middle of a ZIP", _in_zip(_with_a_cut_one), "result", "files_skipped",
        "left out by name, the others go on", ("photo_0008b.jpg: it is damaged",), ("whole JPEG",), JUDGE,
        skipped=("photo_0008b.jpg",)),
    Row("two TIFF files", _tiffs, "capture", "capture_refused", "pre-flight: `too_few_photos`, each named",
        ("no photos", "IMG_1.tif: it is not a JPEG, PNG, WebP or HEIC photo"), ("Send whole JPEG",)),
    Row("an empty file", lambda _: {"empty.jpg": b""}, "upload", "upload_empty", "not taken", ("empty",), ("written",)),
    Row("text called a JPEG", lambda _: {"text.jpg": b"Dear Sir or Madam, " * 30}, "upload", "media_undecodable",
        "not taken", ("No decoder",), ("viewer",)),
    Row("a ZIP of damaged photos", _in_zip(lambda shelf: {"1.jpg": shelf.one[:40], "2.jpg": b"none"}), "upload",
        "media_undecodable", "not taken, each named", ("1.jpg", "2.jpg"), ("viewer",)),
    Row("a ZIP bomb", _hostile("a bomb"), "upload", "archive_unsafe", "not taken, nothing is unpacked",
        ("photo.jpg", "ZIP bomb"), ("only the photos",)),
    Row("a ZIP bomb of overlapping files", _hostile("overlapping files"), "upload", "archive_unsafe",
        "not taken, nothing is unpacked", ("photo_2.jpg", "ZIP bomb"), ("only the photos",)),
    Row("a ZIP whose names climb", _hostile("a name that climbs"), "upload", "archive_unsafe", "not taken",
        ("cron.d", "leaves the folder"), ("only the photos",)),
    Row("an empty ZIP", _hostile("empty"), "upload", "archive_empty", "not taken", ("nothing",), ("photos to it",)),
    Row("a ZIP without photos", _hostile("no photo"), "upload", "archive_empty", "not taken",
        ("1 other file and no photo",), ("photos to it",)),
    Row("a nested ZIP", _hostile("a ZIP in the ZIP"), "upload", "archive_nested", "not taken", ("a/photos.zip",),
        ("Unpack the inner archive",)),
    Row("an encrypted ZIP", _hostile("encrypted"), "upload", "archive_encrypted", "not taken", ("photo.jpg",),
        ("without a password",)),
    Row("a ZIP that breaks off", _hostile("cut off"), "upload", "archive_unreadable", "not taken", ("incomplete",),
        ("complete file",)),
    Row("nothing", lambda _: {}, "submit", "missing_input", "no job begins", ("photos, archive, video",), ("inputs",)),
    Row("photos and a ZIP at once", lambda shelf: {"1.jpg": shelf.one, "photos.zip": zipped({"1.jpg": shelf.one})},
        "submit", "invalid_parameter", "no job begins", ("exactly one of", "photos, archive"), ("GET /v1/workloads",)),
)  # fmt: skip


def table() -> str:
    """Return the rows as the Markdown table of docs/nerf.md."""
    lines = ["| sent | what happens | code |", "|---|---|---|"]
    for row in ROWS:
        told = {"upload": "at the upload", "submit": "at the submission", "result": "a result"}.get(row.where)
        code = f"`{row.code}`" if row.code else ""
        lines.append(f"| {row.sent} | {f'{told}: ' if told else ''}{row.happens} | {code} |")
    return "\n".join(lines) + "\n"


def written(text: str) -> str:
    """Return the document with the current table between its markers."""
    before, rest = text.split(BEGIN)
    return before + BEGIN + table() + END + rest.split(END)[1]


if __name__ == "__main__":
    DOCS.write_text(written(DOCS.read_text()))
