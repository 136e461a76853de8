"""Opens media that users sent: the only place that gives a file to a demuxer (docs/adr/0038).

The format is one of a closed list, none of which names other files. The demuxer gets a stream of bytes without a name:
FFmpeg prefers a format by the suffix of a name, and resolves what a playlist names against it. Whatever a format should
want to open besides is refused.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, NoReturn

# PyAV loads some of its modules when it first needs them: too late for a process that is locked down by then.
import av
import av.audio.codeccontext
import av.container
import av.error
import av.subtitles.codeccontext
import av.subtitles.stream
import av.video.codeccontext

#: Formats as FFmpeg names them. No playlist, manifest, pattern of file names, device or script is among them.
VIDEO_FORMATS: Final = (
    "mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm", "avi", "mpegts", "mpeg", "mpegvideo", "flv", "asf", "ogg", "mxf",
    "h264", "hevc", "m4v", "ivf", "obu", "av1", "mjpeg", "yuv4mpegpipe", "wtv", "nut",
)  # fmt: skip
PICTURE_FORMATS: Final = (
    "jpeg_pipe", "png_pipe", "webp_pipe", "bmp_pipe", "tiff_pipe", "gif", "apng", "jpegxl_pipe", "jpegxl_anim",
    "j2k_pipe", "exr_pipe", "dpx_pipe", "qoi_pipe", "ppm_pipe", "pgm_pipe", "webp",
)  # fmt: skip
#: Opened only to report that a file has no picture.
SOUND_FORMATS: Final = ("mp3", "wav", "aac", "flac", "ac3", "aiff", "caf", "amr", "w64")
ALL_FORMATS: Final = (*VIDEO_FORMATS, *PICTURE_FORMATS, *SOUND_FORMATS)

#: A protocol that does not exist: the bytes come from us.
_NO_PROTOCOL: Final = "none"
_BUFFER_BYTES: Final = 1 << 18


class _Nameless:
    """The bytes of a file, without its name, for a demuxer."""

    def __init__(self, file: IO[bytes] | io.RawIOBase) -> None:
        self.read = file.read
        self.seek = file.seek
        self.tell = file.tell


@contextmanager
def open_media(
    source: Path | IO[bytes] | io.RawIOBase, formats: tuple[str, ...] = ALL_FORMATS
) -> Iterator[av.container.InputContainer]:
    """Open a file, or a stream that can seek, with a demuxer of ``formats``.

    Raises:
        av.error.FFmpegError: it is of no such format, or damaged.
        OSError: it cannot be read.
    """
    if isinstance(source, Path):
        with source.open("rb") as file, open_media(file, formats) as container:
            yield container
        return
    options = {"format_whitelist": ",".join(formats), "protocol_whitelist": _NO_PROTOCOL}
    with av.open(_Nameless(source), "r", options=options, buffer_size=_BUFFER_BYTES, io_open=_refuse) as container:
        yield container


def _refuse(url: str, flags: int, options: dict[str, Any]) -> NoReturn:  # noqa: ARG001 - PyAV's signature
    raise PermissionError("a media file names another one")
