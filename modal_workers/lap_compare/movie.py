"""Writes H.264 that browsers play: yuv420p, constant rate, index first; and makes a movie smaller to fit a page."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import av
import av.error

from modal_workers.lap_compare.picture import BT709, Matrix, Pixels

SMALLEST_BIT_RATE = 60_000
SHRUNK_SHARE = 0.92  # of the budget: rate control and the container overshoot


class Movie:
    """One MP4 being written; a ``with`` block that ends in an error leaves no file behind."""

    def __init__(
        self,
        path: Path,
        size: tuple[int, int],
        rate_hz: Fraction,
        *,
        matrix: Matrix = BT709,
        quality: int = 25,
        bit_rate: int = 0,
    ) -> None:
        """Open ``path`` for pictures of ``size`` (width, height; even).

        ``quality`` is x264's constant rate factor; a ``bit_rate`` (bits a second) replaces it.
        """
        self.path, self._rate, self._count = path, rate_hz, 0
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        stream: Any = self._container.add_stream("libx264", rate=rate_hz)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        # a keyframe a second, so that a seek from the delta curve lands at once
        options = {"preset": "veryfast", "g": str(max(1, round(rate_hz)))}
        if bit_rate:
            stream.bit_rate = bit_rate
            options |= {"maxrate": str(bit_rate), "bufsize": str(2 * bit_rate)}
        else:
            options["crf"] = str(quality)
        stream.options = options
        context = stream.codec_context
        context.colorspace, context.color_range = matrix.tag, 1
        context.color_primaries = context.color_trc = matrix.tag
        self._stream = stream

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        whole = False
        try:
            if kind is None and self._count:
                self._container.mux(self._stream.encode(None))
                whole = True
        finally:
            try:
                self._container.close()
            except av.error.FFmpegError:
                if whole:  # the index was not written: the disk is full, or gone
                    whole = False
                    raise
            finally:
                if not whole:
                    self.path.unlink(missing_ok=True)

    def write(self, pixels: Pixels) -> None:
        """Add a picture, [height * 3 / 2, width] planar 4:2:0."""
        self.write_frame(av.VideoFrame.from_ndarray(pixels, format="yuv420p"))

    def write_frame(self, frame: Any) -> None:
        """Add a frame that is yuv420p of the movie's size already; only its time is changed."""
        frame.pts, frame.time_base = self._count, 1 / self._rate
        frame.pict_type = 0
        self._count += 1
        self._container.mux(self._stream.encode(frame))


def shrink(path: Path, out_path: Path, limit_bytes: int, *, check: Callable[[], None] | None = None) -> Path:
    """Encode a movie again so that it takes at most ``limit_bytes``; gives ``path`` itself when it fits already.

    The picture gets smaller with the bit rate that is left, and every second frame goes below 500 kbit/s. ``check``
    is called for every frame; whatever it raises stops the work.

    Raises:
        ValueError: even 60 kbit/s would not fit.
    """
    if path.stat().st_size <= limit_bytes:
        return path
    share = SHRUNK_SHARE
    for _ in range(4):
        _encode_again(path, out_path, limit_bytes * share, check)
        if out_path.stat().st_size <= limit_bytes:
            return out_path
        share *= 0.95 * limit_bytes / out_path.stat().st_size
    out_path.unlink(missing_ok=True)
    raise ValueError(f"The movie does not fit in {limit_bytes} bytes.")


def _encode_again(path: Path, out_path: Path, target_bytes: float, check: Callable[[], None] | None) -> None:
    with av.open(str(path)) as source:
        stream = source.streams.video[0]
        duration_s = float((stream.duration or 0) * (stream.time_base or 0)) or 1.0
        bit_rate = int(target_bytes * 8 / duration_s)
        if bit_rate < SMALLEST_BIT_RATE:
            raise ValueError(f"{duration_s:.0f} s of video do not fit in {target_bytes:.0f} bytes.")
        every = 2 if bit_rate < 500_000 else 1
        rate = Fraction(stream.average_rate or 30) / every
        # about 0.08 bit a pixel keeps lettering legible
        scale = min(1.0, (bit_rate / (0.08 * stream.width * stream.height * float(rate))) ** 0.5)
        size = (max(64, 2 * int(stream.width * scale / 2)), max(36, 2 * int(stream.height * scale / 2)))
        with Movie(out_path, size, rate, bit_rate=bit_rate) as movie:
            for index, frame in enumerate(source.decode(stream)):
                if check is not None:
                    check()
                if index % every == 0:
                    movie.write_frame(frame.reformat(*size, format="yuv420p", interpolation="AREA"))
