"""All videos of a match in one pass over the source: processed, rallies, play only, and the report's plain copy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av
import cv2
import numpy as np

from modal_workers.badminton.analytics.analysis import Analysis
from modal_workers.badminton.match import Match
from modal_workers.badminton.rendering.labels import Pixels
from modal_workers.badminton.rendering.overlay import Overlay
from modal_workers.badminton.rendering.picture_source import PictureSource, encodable, output_size
from modal_workers.footage.h264_writer import H264Writer, plan_encoding
from modal_workers.footage.yuv_image import ColourMatrix

Progress = Callable[[float, str], None]

#: Rate for the encoder's own decisions; the frames keep their times.
MAX_RATE_HZ: Final = 60.0
#: Before and after a rally, in its clip and in the play-only video.
CLIP_MARGIN_S: Final = 1.0
QUALITY: Final = 25
#: The report embeds its copy: base64 adds a third to this.
PLAIN_LIMIT_BYTES: Final = 24 << 20
PLAIN_HEIGHT_PX: Final = 360
PLAIN_RATE_HZ: Final = 30.0
PLAIN_QUALITY: Final = 28
#: Of a picture of 640 x 360 at that quality, also where all of it moves.
PLAIN_ROOMY_BIT_RATE: Final = 2_000_000


@dataclass(frozen=True)
class RenderedVideos:
    """Files that were written; None where one was not wanted, or where there was nothing to show."""

    processed: Path
    size: tuple[int, int]
    rally_clips: Mapping[int, Path]
    play: Path | None
    #: Small copy without an overlay, on the same times, for the report; None where none is small enough.
    plain: Path | None
    plain_size: tuple[int, int]
    #: A picture with its overlay, of the middle of the longest rally.
    still: Path | None


def render(
    match: Match,
    analysis: Analysis,
    video_path: Path,
    out_dir: Path,
    *,
    height_px: int = 720,
    rally_clips: bool = False,
    play_video: bool = False,
    progress: Progress | None = None,
) -> RenderedVideos:
    """Write ``processed.mp4``, and on request ``rallies/rally_001.mp4`` … and ``play.mp4``, into ``out_dir``.

    ``progress`` is called for every frame with the share done (0 to 1) and a text; what it raises stops the work, and
    leaves no unfinished file behind.

    Raises:
        SaccadeError: the video no longer decodes.
        av.error.FFmpegError: the encoder fails, for example because the disk is full.
    """
    facts = match.facts
    size = output_size(facts.width_px, facts.height_px, height_px)
    overlay, source = Overlay(match, analysis, size), PictureSource(video_path, facts.filename, size)
    out_dir.mkdir(parents=True, exist_ok=True)
    spans, shown = _spans(match), _telling_frame(match)
    with ExitStack() as stack:
        outputs: _Outputs | None = None
        pictures = stack.enter_context(closing(source.pictures()))
        for index, (time_s, picture) in enumerate(_analysed(pictures, match)):
            if outputs is None:
                outputs = stack.enter_context(
                    _Outputs(match, out_dir, size, source.matrix, spans, clips=rally_clips, play=play_video)
                )
            outputs.write_plain(picture, time_s)
            overlay.draw(picture, index)
            outputs.write(picture, time_s)
            if index == shown:
                outputs.write_still(picture)
            if progress is not None:
                progress((index + 1) / match.frame_count, f"frame {index + 1} of {match.frame_count}")
        assert outputs is not None, "a video without a frame has no match"
    return outputs.rendered()


def _telling_frame(match: Match) -> int:
    """Return the frame in the middle of the longest rally, or of the video."""
    longest = max(match.rallies, key=lambda rally: rally.end_s - rally.start_s, default=None)
    return match.frame_count // 2 if longest is None else (longest.first_frame + longest.last_frame) // 2


def _analysed(pictures: Iterator[tuple[int, float, Pixels]], match: Match) -> Iterator[tuple[float, Pixels]]:
    """Yield the analysed frames: all of them up to 60 Hz."""
    wanted = iter(match.source_frame.tolist())
    due = next(wanted, None)
    for number, time_s, picture in pictures:
        if due is None:
            return
        if number == due:
            due = next(wanted, None)
            yield time_s, picture


@dataclass(frozen=True)
class _Span:
    """Part of the video that goes into a file."""

    start_s: float
    end_s: float


def _spans(match: Match) -> dict[int, _Span]:
    return {rally.number: _Span(rally.start_s - CLIP_MARGIN_S, rally.end_s + CLIP_MARGIN_S) for rally in match.rallies}


class _Outputs:
    """Writers of all files; a ``with`` block that ends in an error leaves no file behind."""

    def __init__(
        self,
        match: Match,
        out_dir: Path,
        size: tuple[int, int],
        matrix: ColourMatrix,
        spans: Mapping[int, _Span],
        *,
        clips: bool,
        play: bool,
    ) -> None:
        rate = min(MAX_RATE_HZ, max(1.0, match.facts.mean_rate_hz))
        self._rate_hz = Fraction(rate).limit_denominator(1001)
        self._size, self._matrix, self._spans = size, matrix, spans
        self._processed = self._writer(out_dir / "processed.mp4")
        self._play = self._writer(out_dir / "play.mp4") if play and spans else None
        self._play_offset_s, self._play_last_s = 0.0, -1 / float(self._rate_hz)
        self._plain = _PlainCopy(out_dir / "plain.mp4", (size, match.facts.duration_s), self._rate_hz, matrix)
        self._still = out_dir / "still.jpg"
        self._clips: dict[int, Path] = {}
        self._open: dict[int, H264Writer] = {}
        self._waiting: list[int] = sorted(spans, key=lambda number: spans[number].start_s) if clips else []
        self._folder = out_dir / "rallies"
        if self._waiting:
            self._folder.mkdir(exist_ok=True)

    def _writer(self, path: Path) -> H264Writer:
        return H264Writer(path, self._size, self._rate_hz, matrix=self._matrix, quality=QUALITY, timed=True)

    def __enter__(self) -> _Outputs:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: Any) -> None:
        with_all = ExitStack()
        for writer in (self._processed, self._play, self._plain.writer, *self._open.values()):
            if writer is not None:
                with_all.push(writer)
        with_all.__exit__(kind, error, trace)

    def write_plain(self, picture: Pixels, time_s: float) -> None:
        """Add a picture without overlay to the report's copy."""
        self._plain.write(picture, time_s)

    def write(self, picture: Pixels, time_s: float) -> None:
        """Add a picture with its overlay wherever it belongs."""
        frame = av.VideoFrame.from_ndarray(encodable(picture), format="yuv420p")
        self._processed.write_frame(frame, time_s)
        self._write_clips(frame, time_s)
        if self._play is not None and any(span.start_s <= time_s <= span.end_s for span in self._spans.values()):
            if time_s - self._play_last_s > CLIP_MARGIN_S / 2:
                # After a cut the next frame follows as if no time had passed.
                self._play_offset_s += time_s - self._play_last_s - 1 / float(self._rate_hz)
            self._play_last_s = time_s
            self._play.write_frame(frame, time_s - self._play_offset_s)

    def write_still(self, picture: Pixels) -> None:
        """Keep a picture as JPEG."""
        if not cv2.imwrite(str(self._still), picture, [cv2.IMWRITE_JPEG_QUALITY, 88]):
            raise OSError(f"{self._still} cannot be written.")

    def _write_clips(self, frame: Any, time_s: float) -> None:
        while self._waiting and self._spans[self._waiting[0]].start_s <= time_s:
            number = self._waiting.pop(0)
            self._clips[number] = self._folder / f"rally_{number:03d}.mp4"
            self._open[number] = self._writer(self._clips[number])
        for number, writer in list(self._open.items()):
            span = self._spans[number]
            if time_s > span.end_s:
                self._open.pop(number).__exit__(None, None, None)
            else:
                writer.write_frame(frame, time_s - max(0.0, span.start_s))

    def rendered(self) -> RenderedVideos:
        """Return what was written, after the files were closed."""
        plain = self._plain.path
        fits = plain.exists() and plain.stat().st_size <= PLAIN_LIMIT_BYTES
        return RenderedVideos(
            processed=self._processed.path,
            size=self._size,
            rally_clips=dict(self._clips),
            play=self._play.path if self._play is not None and self._play.path.exists() else None,
            plain=plain if fits else None,
            plain_size=self._plain.size,
            still=self._still if self._still.exists() else None,
        )


class _PlainCopy:
    """Small copy of the pictures without an overlay, planned to fit into the report; no file where that is too long."""

    def __init__(
        self, path: Path, shown: tuple[tuple[int, int], float], rate_hz: Fraction, matrix: ColourMatrix
    ) -> None:
        """Plan the copy of pictures of a size, over a duration in s."""
        size, duration_s = shown
        self.path, self.writer = path, None
        self.size = output_size(*size, PLAIN_HEIGHT_PX)
        self._interval_s, self._due_s = 1 / PLAIN_RATE_HZ, 0.0
        slow_hz = min(rate_hz, Fraction(PLAIN_RATE_HZ))
        try:
            plan = plan_encoding(self.size, slow_hz, max(1.0, duration_s), PLAIN_LIMIT_BYTES)
        except ValueError:
            return
        self.size = plan.size
        if plan.every > 1:
            self._interval_s = 1 / float(plan.rate_hz)
        # Where there is room enough a constant quality takes less of it than a rate.
        bit_rate = 0 if plan.bit_rate > PLAIN_ROOMY_BIT_RATE else plan.bit_rate
        self.writer = H264Writer(
            path, plan.size, plan.rate_hz, matrix=matrix, quality=PLAIN_QUALITY, bit_rate=bit_rate, timed=True
        )

    def write(self, picture: Pixels, time_s: float) -> None:
        """Add a picture if one is due."""
        if self.writer is None or time_s < self._due_s - 0.25 * self._interval_s:
            return
        self._due_s = max(self._due_s, time_s - self._interval_s) + self._interval_s
        smaller = cv2.resize(picture, self.size, interpolation=cv2.INTER_AREA)
        self.writer.write(encodable(np.asarray(smaller, np.uint8)), time_s)
