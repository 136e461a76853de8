"""What was sent, as one row of pictures in their order: single uploads, the files of a ZIP, or a video's frames."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from contracts.archive import (
    MEMBER_BYTES,
    PICTURE_SUFFIXES,
    ArchiveMember,
    list_archive,
    natural_order,
    open_archive,
    read_member,
)
from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import MIB
from modal_workers.nerf.capture.inputs.photo import UnreadablePhoto
from modal_workers.nerf.capture.inputs.video import choose_frames
from modal_workers.nerf.capture.spec import MOST_PHOTOS, Skipped, Source
from modal_workers.runtime.context import Context


@dataclass(frozen=True)
class SourceFile:
    """One file or frame; ``read`` gives its bytes and raises ``Unreadable``. Nothing is held before it is asked for."""

    name: str
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class CaptureInput:
    """Everything that was sent."""

    source: Source
    photos: list[SourceFile]
    #: Masks by the stem of the photo they belong to, in lower case.
    masks: dict[str, SourceFile]
    #: Whether photos that stand beside each other here were taken after each other.
    ordered: bool
    skipped: list[Skipped]


@contextmanager
def open_input(context: Context) -> Iterator[CaptureInput]:
    """Open what the job was given; the files stay readable inside.

    Raises:
        SaccadeError: MISSING_INPUT, INVALID_PARAMETER for two sources or too many photos, INPUT_UNREADABLE,
            MEDIA_NO_VIDEO, or why a ZIP is refused (``contracts.archive``).
    """
    counts = {name: context.input_count(name) for name in ("photos", "archive", "video")}
    given = [name for name, count in counts.items() if count]
    if not given:
        raise SaccadeError(ErrorCode.MISSING_INPUT, "No photos were sent: neither photos, nor an archive, nor a video.")
    if len(given) > 1:
        message = f"{' and '.join(given)} were sent at once."
        hint = "Send the photos one by one, or one archive, or one video."
        raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
    with ExitStack() as stack:
        if counts["photos"]:
            intake = _uploads(context)
        elif counts["archive"]:
            intake = _archive(context, stack)
        else:
            intake = _video(context)
        if len(intake.photos) > MOST_PHOTOS:
            message = f"{len(intake.photos)} photos were sent; at most {MOST_PHOTOS} are taken."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint="Leave out every second one, or more.")
        intake.masks.update({stem_of(one.name): one for one in _uploaded(context, "masks")})
        yield intake


def stem_of(name: str) -> str:
    """Give what a photo and its mask have in common: the name without folder and extension, and without ``_mask``."""
    stem = PurePosixPath(name.replace("\\", "/")).stem.lower()
    # COLMAP's masks are called as the photo with its extension and another one: photo.jpg.png
    inner = PurePosixPath(stem)
    stem = inner.stem if inner.suffix in PICTURE_SUFFIXES else stem
    return stem.removesuffix("_mask").removesuffix("-mask")


def _uploads(context: Context) -> CaptureInput:
    photos = _uploaded(context, "photos")
    return CaptureInput("photos", sorted(photos, key=lambda one: natural_order(one.name)), {}, ordered=True, skipped=[])


def _uploaded(context: Context, name: str) -> list[SourceFile]:
    def reader(index: int) -> Callable[[], bytes]:
        def read() -> bytes:
            path = context.input(name, index)
            if path.stat().st_size > MEMBER_BYTES:
                raise UnreadablePhoto(f"it is larger than {MEMBER_BYTES // MIB} MiB")
            return path.read_bytes()

        return read

    return [SourceFile(context.input_name(name, index), reader(index)) for index in range(context.input_count(name))]


def _archive(context: Context, stack: ExitStack) -> CaptureInput:
    file = stack.enter_context(context.input("archive").open("rb"))
    archive = stack.enter_context(open_archive(file))
    listing = list_archive(archive)
    sent = [(one, SourceFile(one.name, _member_reader(archive, one))) for one in listing.pictures]
    photos = [given for member, given in sent if not member.mask]
    masks = {stem_of(member.name): given for member, given in sent if member.mask}
    if not photos:  # a folder that is called so may well hold the photos
        photos, masks = [given for _, given in sent], {}
    skipped = [Skipped(name=name, reason="it is no JPEG, PNG, WebP or HEIC photo") for name in listing.skipped]
    return CaptureInput("archive", photos, masks, ordered=True, skipped=skipped)


def _member_reader(archive: zipfile.ZipFile, member: ArchiveMember) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return read_member(archive, member)
        except SaccadeError as error:
            if error.code is not ErrorCode.ARCHIVE_UNREADABLE:
                raise
            raise UnreadablePhoto("it is damaged inside the ZIP") from error

    return read


def _video(context: Context) -> CaptureInput:
    name = context.input_name("video")
    frames = choose_frames(context.input("video"), name, context.scratch / "frames", tick=context.check)
    photos = [SourceFile(f"{Path(name).stem} {one.time_s:07.2f} s", one.path.read_bytes) for one in frames]
    return CaptureInput("video", photos, {}, ordered=True, skipped=[])
