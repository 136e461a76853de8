"""Opens the video track of a file that a user sent, within the limits of what is decoded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

import av.error

from contracts.errors import ErrorCode, SaccadeError
from contracts.limits import PICTURE_SIDE_PX
from modal_workers.footage.media_container import VIDEO_FORMATS, open_media

#: Larger frames are decoded by one thread: every decoder thread holds frames of its own.
_LARGE_FRAME_PX: Final = 4096 * 2304


@contextmanager
def open_video(path: Path, name: str) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield its container and its first video track, which decodes with few threads.

    Raises:
        SaccadeError: INPUT_UNREADABLE, MEDIA_NO_VIDEO, MEDIA_TOO_LARGE, in which the file is called ``name``.
    """
    with ExitStack() as stack:
        try:
            container = stack.enter_context(open_media(path, VIDEO_FORMATS))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"{name} cannot be opened as a video.") from error
        if not container.streams.video:
            raise SaccadeError(ErrorCode.MEDIA_NO_VIDEO, f"{name} has no video track.")
        track: Any = container.streams.video[0]
        context = track.codec_context
        if context is None:
            raise SaccadeError(ErrorCode.INPUT_UNREADABLE, f"No decoder supports the codec of {name}.")
        if max(context.width, context.height) > PICTURE_SIDE_PX:
            raise SaccadeError(ErrorCode.MEDIA_TOO_LARGE, f"{name} is {context.width} x {context.height} pixels.")
        large = context.width * context.height > _LARGE_FRAME_PX
        track.thread_type = "SLICE" if large else "AUTO"
        context.thread_count = 1 if large else 2
        yield container, track
