"""The input of a capture as one ordered list of files: single uploads, the files of a ZIP, or frames of a video."""

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
    """One file or frame; ``read`` returns its bytes and raises ``UnreadablePhoto``. It is read on demand."""

    name: str
    read: Callable[[], bytes] = field(repr=False)


@dataclass(frozen=True)
class CaptureInput:
    """All photos and masks of a capture."""

    source: Source
    photos: list[SourceFile]
    #: Masks by the stem of their photo, in lower case.
    masks: dict[str, SourceFile]
    #: Whether neighbours in the list were taken one after the other.
    ordered: bool
    skipped: list[Skipped]


@contextmanager
def open_input(context: Context) -> Iterator[CaptureInput]:
    """Open the inputs of the job; the files stay readable inside the context.

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
            hint = "Send fewer: leave out every second photo, for example."
            raise SaccadeError(ErrorCode.INVALID_PARAMETER, message, hint=hint)
        intake.masks.update({stem_of(mask.name): mask for mask in _uploaded(context, "masks")})
        yield intake


def stem_of(name: str) -> str:
    """Return the key that a photo and its mask share: the name without folder, extension and ``_mask``."""
    stem = PurePosixPath(name.replace("\\", "/")).stem.lower()
    # COLMAP names a mask after its photo with a second extension: photo.jpg.png
    inner = PurePosixPath(stem)
    stem = inner.stem if inner.suffix in PICTURE_SUFFIXES else stem
    return stem.removesuffix("_mask").removesuffix("-mask")


def _uploads(context: Context) -> CaptureInput:
    photos = sorted(_uploaded(context, "photos"), key=lambda photo: natural_order(photo.name))
    return CaptureInput("photos", photos, {}, ordered=True, skipped=[])


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
    source = stack.enter_context(context.input("archive").open("rb"))
    archive = stack.enter_context(open_archive(source))
    listing = list_archive(archive)
    files = [(member, SourceFile(member.name, _member_reader(archive, member))) for member in listing.pictures]
    photos = [file for member, file in files if not member.mask]
    masks = {stem_of(member.name): file for member, file in files if member.mask}
    if not photos:  # the photos themselves may lie in a folder that is called masks
        photos, masks = [file for _, file in files], {}
    skipped = [Skipped(name=name, reason="it is not a JPEG, PNG, WebP or HEIC photo") for name in listing.skipped]
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
    photos = [SourceFile(f"{Path(name).stem} {frame.time_s:07.2f} s", frame.path.read_bytes) for frame in frames]
    return CaptureInput("video", photos, {}, ordered=True, skipped=[])
