"""Shrinks a picture that is too large for the bus, in a child process: ``python -m …compat.vision.frame_shrink``.

Reads the picture on standard input and writes a JPEG on standard output; the exit code is 1 for what is no picture. The
process is locked down and has no secret, so a hostile picture may crash it, hang it or exhaust its memory without harm.
"""

from __future__ import annotations

import io
import os
import sys
from fractions import Fraction
from importlib import import_module
from typing import Final

from contracts.limits import MIB, PHOTO_PX, PHOTO_SIDE_PX
from modal_workers.footage.decoder_lockdown import limit_resources, lock_down

#: Longest edge of the result: no model is shown more.
MAX_EDGE_PX: Final = 720
_MEMORY_BYTES: Final = 1536 * MIB
_CPU_S: Final = 5
#: Requests to the gateway come first.
_NICENESS: Final = 10


def shrunk(picture: bytes) -> bytes:
    """Return a picture as a JPEG whose longest edge has at most ``MAX_EDGE_PX`` pixels.

    Raises:
        ValueError: no decoder for JPEG or PNG opens it, or it is too large to be decoded.
    """
    import av  # noqa: PLC0415 - only this process may load a decoder

    from modal_workers.footage.media_container import open_media  # noqa: PLC0415 - as above

    try:
        with open_media(io.BytesIO(picture), ("jpeg_pipe", "png_pipe", "mjpeg")) as container:
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if max(width, height) > PHOTO_SIDE_PX or width * height > PHOTO_PX:
                raise ValueError("it has too many pixels")
            stream.codec_context.thread_count = 1
            frame = next(container.decode(stream))
    except (av.error.FFmpegError, StopIteration, IndexError, EOFError) as error:
        raise ValueError("no decoder opens it") from error
    scale = min(1.0, MAX_EDGE_PX / max(frame.width, frame.height))
    size = [max(2, round(side * scale) // 2 * 2) for side in (frame.width, frame.height)]
    codec = av.CodecContext.create("mjpeg", "w")
    codec.width, codec.height, codec.pix_fmt = size[0], size[1], "yuvj420p"
    codec.time_base = Fraction(1)
    codec.thread_count = 1  # a locked process starts no thread
    codec.options = {"qmin": "2", "qmax": "4"}
    small = frame.reformat(width=size[0], height=size[1], format="yuvj420p", threads=1)
    small.pts = 0
    return b"".join(bytes(packet) for packet in [*codec.encode(small), *codec.encode()])


def main() -> int:
    """Read a picture from standard input, write the shrunk one, and return the exit code."""
    picture = sys.stdin.buffer.read()
    os.nice(_NICENESS)
    limit_resources(_MEMORY_BYTES, _CPU_S)
    import_module("modal_workers.footage.media_container")  # nothing can be loaded afterwards
    lock_down(memory_bytes=_MEMORY_BYTES, cpu_s=_CPU_S)
    try:
        sys.stdout.buffer.write(shrunk(picture))
    except (ValueError, MemoryError):
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
