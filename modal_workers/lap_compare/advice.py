"""Advice on filming: what made the alignment uncertain, from measured properties of both clips."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import VideoFacts
from modal_workers.lap_compare.alignment.camera_mount import frames_at
from modal_workers.lap_compare.clips.feature_extraction import ClipFeatures
from modal_workers.lap_compare.comparison import Advice, AdvisedClip, Alignment
from modal_workers.lap_compare.lap_delta import low_confidence_share
from modal_workers.road_video.descriptors import CELLS, LOWER_EDGE, THUMBNAIL_PX

Picture = NDArray[np.uint8]

SAMPLED_FRAMES: Final = 24
#: Nothing is advised if at most this share of the lap has low confidence.
MAX_LOW_CONFIDENCE: Final = 0.2
MIN_RATE_HZ: Final = 24.0
MIN_BRIGHTNESS: Final = 45.0
MAX_WHITE_SHARE: Final = 0.3
#: Generated laps and two real clips have 0.66 and more; blurred by 1.5 px of a thumbnail they have 0.57 to 0.59.
MIN_SHARPNESS: Final = 0.59
MIN_TEXTURED_SHARE: Final = 0.45
#: Standard deviation of grey levels from which a cell shows something that can be matched.
MIN_CELL_DEVIATION: Final = 5.0
#: A correction that moves a corner by more than this share of the width is a clearly different mount or zoom.
MAX_MOUNT_SHIFT: Final = 0.04


@dataclass(frozen=True)
class PictureQuality:
    """Measured quality of the pictures of a clip: medians over its sampled frames."""

    brightness: float  # mean grey level, 0 to 255
    white_share: float  # share of pixels at 250 and above
    #: Mean gradient at full size over that at half size: 0.5 without fine detail, higher with it.
    sharpness: float
    textured_share: float  # share of cells that show something that can be matched


def measure_quality(pictures: Sequence[Picture]) -> PictureQuality:
    """Measure frames [H, W] of a clip, without the lower part, which shows the car itself."""
    rows = []
    for picture in pictures:
        upper = picture[: int(picture.shape[0] * LOWER_EDGE)]
        half = cv2.resize(upper, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        coarse = _mean_gradient(np.asarray(half, np.uint8))
        sharpness = _mean_gradient(upper) / coarse if coarse > 0 else 0.5
        rows.append((upper.mean(), np.mean(upper >= 250), sharpness, np.mean(_deviations(upper) > MIN_CELL_DEVIATION)))
    return PictureQuality(*(float(value) for value in np.median(np.asarray(rows), axis=0)))


def _mean_gradient(picture: Picture) -> float:
    # smoothed first: noise of single pixels is not detail
    smooth = cv2.GaussianBlur(picture, (3, 3), 0).astype(np.float32)
    return float(np.abs(np.diff(smooth, axis=1)).mean() + np.abs(np.diff(smooth, axis=0)).mean())


def _deviations(picture: Picture) -> NDArray[np.float32]:
    """Return the standard deviation of grey levels in each cell of the descriptors' grid."""
    grey = picture.astype(np.float32)
    mean, square = (cv2.resize(values, CELLS, interpolation=cv2.INTER_AREA) for values in (grey, grey * grey))
    return np.asarray(np.sqrt(np.maximum(np.asarray(square) - np.asarray(mean) ** 2, 0)))


def advise(pair: tuple[ClipFeatures, ClipFeatures], alignment: Alignment, check: Callable[[], None]) -> list[Advice]:
    """Return what would make the alignment more certain; nothing if it is certain for most of the lap.

    ``check`` is called while frames are read and may raise to stop.
    """
    if low_confidence_share(alignment) <= MAX_LOW_CONFIDENCE:
        return []
    qualities = []
    for features, time_s in zip(pair, (alignment.time_a_s, alignment.time_b_s), strict=True):
        times_s = np.linspace(time_s[0], time_s[-1], SAMPLED_FRAMES).tolist()
        qualities.append(measure_quality(frames_at(features, times_s, check)))
    return find_advice((pair[0].clip, pair[1].clip), (qualities[0], qualities[1]), alignment)


def find_advice(
    clips: tuple[VideoFacts, VideoFacts], qualities: tuple[PictureQuality, PictureQuality], alignment: Alignment
) -> list[Advice]:
    """Return the advice that measured properties of the clips give, each at most once for a clip."""
    found: list[Advice] = []
    sides: tuple[AdvisedClip, AdvisedClip] = ("reference", "other")
    for side, clip, quality in zip(sides, clips, qualities, strict=True):
        found += _about_recording(side, clip)
        found += _about_pictures(side, clip.filename, quality)
    if alignment.mount_shift > MAX_MOUNT_SHIFT:
        text = (
            f"Both cameras look at the road differently: their pictures are shifted by {alignment.mount_shift:.0%} of "
            "their width. Mount the camera at the same place and height, with the same direction and zoom."
        )
        found.append(Advice("mount_differs", "both", text))
    if not found:
        text = (
            "Resolution, frame rate, light, sharpness and mount are within limits. What was not measured can be the "
            "cause: other vehicles in view, another driving line, rain, or other shadows."
        )
        found.append(Advice("cause_not_found", "both", text))
    return found


def _about_recording(side: AdvisedClip, clip: VideoFacts) -> list[Advice]:
    found = []
    width, height = THUMBNAIL_PX
    if clip.width_px < width or clip.height_px < height:
        text = (
            f"{clip.filename} has {clip.width_px} x {clip.height_px} pixels. Film with at least {width} x {height}; "
            "the alignment uses no more than that."
        )
        found.append(Advice("low_resolution", side, text))
    if clip.mean_rate_hz < MIN_RATE_HZ:
        text = f"{clip.filename} has {clip.mean_rate_hz:.1f} frames per second. Film with 30 or more."
        found.append(Advice("low_frame_rate", side, text))
    return found


def _about_pictures(side: AdvisedClip, name: str, quality: PictureQuality) -> list[Advice]:
    found = []
    if quality.brightness < MIN_BRIGHTNESS:
        text = f"{name} is dark: mean grey level {quality.brightness:.0f} of 255. Film in more light."
        found.append(Advice("dark", side, text))
    if quality.white_share > MAX_WHITE_SHARE:
        text = f"{name} is overexposed: {quality.white_share:.0%} of the picture is white. Lower the exposure."
        found.append(Advice("overexposed", side, text))
    if quality.textured_share < MIN_TEXTURED_SHARE:
        text = (
            f"{name} shows little that can be matched: {quality.textured_share:.0%} of the picture has texture. Point "
            "the camera so that the road and what stands beside it fill the picture; fog, rain and darkness hide both."
        )
        found.append(Advice("little_texture", side, text))
    elif quality.sharpness < MIN_SHARPNESS:
        text = (
            f"{name} is blurred: sharpness {quality.sharpness:.2f}, {MIN_SHARPNESS:.2f} is needed. Clean the lens and "
            "the windscreen, use a shorter exposure time, less compression, and a mount that does not shake."
        )
        found.append(Advice("blurred", side, text))
    return found
