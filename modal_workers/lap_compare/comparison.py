"""Data passed between the stages of a lap comparison: clips, their alignment, the comparison.

A is the reference clip, B the other. Times are seconds on each clip's own clock, from its first frame.
``delta_s`` is B's elapsed time minus A's at the same place: above zero, B is behind A.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.footage.video_reader import VideoFacts

Floats = NDArray[np.float64]

AdviceCode = Literal[
    "low_resolution",
    "low_frame_rate",
    "dark",
    "overexposed",
    "little_texture",
    "blurred",
    "mount_differs",
    "cause_not_found",
]
AdvisedClip = Literal["reference", "other", "both"]


@dataclass(frozen=True)
class Alignment:
    """Times at which both cars were at the same place: one sample per moment of A that B saw too.

    Shapes: every array is [N], ordered by place.
    """

    time_a_s: Floats
    time_b_s: Floats
    error_s: Floats  # half-width of the 95 % band of time_b_s
    confidence: Floats  # 0..1
    path_cost: float  # mean cost along the path; 0 means identical pictures
    overlap: float  # share of the shorter clip that was matched, 0..1
    mount_corrected: bool
    piecewise_s: float  # median disagreement of parts of the picture aligned separately
    mount_shift: float = 0.0  # largest shift of a corner by the mount correction, in widths


@dataclass(frozen=True)
class Sector:
    """A part of the lap between two places, timed in both clips."""

    name: str
    start_a_s: float
    end_a_s: float
    time_a_s: float
    time_b_s: float
    delta_s: float  # time_b_s - time_a_s
    error_s: float
    confidence: float


@dataclass(frozen=True)
class Opportunity:
    """A stretch in which one driver loses time to the other."""

    rank: int
    loser: Literal["a", "b"]
    start_a_s: float
    end_a_s: float
    start_b_s: float
    end_b_s: float
    lost_s: float
    error_s: float
    confidence: float


@dataclass(frozen=True)
class Advice:
    """Advice on filming, for a more certain alignment next time. Codes stay; the text may change."""

    code: AdviceCode
    clip: AdvisedClip
    text: str


@dataclass(frozen=True)
class Comparison:
    """All figures of a comparison; ``delta_s`` and ``relative_speed`` are sampled as the alignment is."""

    clip_a: VideoFacts
    clip_b: VideoFacts
    alignment: Alignment
    delta_s: Floats  # [N], 0 at the first sample
    relative_speed: Floats  # [N], speed of B over speed of A at the same place, from the alignment's slope
    total_a_s: float  # time over the common stretch
    total_b_s: float
    sectors: tuple[Sector, ...]
    opportunities: tuple[Opportunity, ...]
    confidence: float  # 0..1, of the comparison as a whole
    warnings: tuple[str, ...]
    advice: tuple[Advice, ...] = ()
    flow_a: Floats | None = (
        None  # [N] uncalibrated motion proxy: median flow in picture widths per second; None when off
    )
    flow_b: Floats | None = None
