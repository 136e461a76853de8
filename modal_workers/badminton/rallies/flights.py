"""Cuts the shuttle's track into flights: stretches in which only gravity and drag act on it.

A flight's path in the picture is a smooth function of the logarithm of the time since it began, because drag slows a
shuttle the more the faster it is. Pieces are chosen by dynamic programming: the sum of the squared residuals and of a
cost for each piece is least. Where the court is known, the same is done once more with flights in space, which tell a
hit from a bend that no shuttle can fly, and join both sides of a gap above the picture. No point is added to the track.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.camera import camera_of
from modal_workers.badminton.court.homography import CourtView
from modal_workers.badminton.rallies.flight_model import SpaceCamera
from modal_workers.badminton.rallies.flight_piece import FlightPiece, fit_piece
from modal_workers.badminton.rallies.picture_cuts import FEWEST_POINTS, LONGEST_FLIGHT_S, cut_in_picture
from modal_workers.badminton.rallies.space_flights import ChainPoints, find_space_flights
from modal_workers.badminton.shuttle.linking import REFERENCE_HEIGHT_PX, SegmentFrames
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Floats = NDArray[np.float64]
Indices = NDArray[np.int64]

#: A flight may leave the picture at the top for this long; after a longer gap nothing joins the two sides.
LONGEST_GAP_S: Final = 1.0
#: Cost of one more flight in units of squared standard deviations.
_FLIGHT_COST: Final = 22.0
#: Points closer in time than this are thinned out: they cost time and add little.
_FASTEST_HZ: Final = 36.0


def find_flights(
    track: ShuttleTrack,
    times_s: Floats,
    segments: SegmentFrames,
    picture_size: tuple[int, int],
    progress: Callable[[float], None] | None = None,
) -> list[FlightPiece]:
    """Return the flights in order of time.

    ``progress`` is called with the share done (0 to 1) between them; what it raises stops the work.
    """
    scale = picture_size[1] / REFERENCE_HEIGHT_PX
    pieces: list[FlightPiece] = []
    chain = 0
    for first, last, court in segments:
        camera = _space_camera(court, picture_size)
        longest_gap_s = LONGEST_GAP_S if camera is None else LONGEST_FLIGHT_S
        for frames in _chains(track, times_s, (first, last), longest_gap_s):
            position = track.position_px[frames].astype(float)
            if len(frames) < FEWEST_POINTS:
                continue
            if progress is not None:
                progress(int(frames[0]) / len(times_s))
            if camera is None:
                cuts = cut_in_picture(times_s[frames], position, scale, _FLIGHT_COST)
                found = [fit_piece(frames[low:high], times_s, position[low:high], chain) for low, high in cuts]
            else:
                found = find_space_flights(ChainPoints(frames, times_s[frames], position, chain), times_s, camera)
            pieces.extend(found)
            chain += 1
    return pieces


def _space_camera(court: CourtView | None, picture_size: tuple[int, int]) -> SpaceCamera | None:
    camera = camera_of(court.image_from_court, picture_size) if court is not None else None
    return None if camera is None else SpaceCamera(camera.image_from_space, picture_size)


def _chains(track: ShuttleTrack, times_s: Floats, segment: tuple[int, int], longest_gap_s: float) -> Iterator[Indices]:
    """Yield the frames with a position, cut at long gaps."""
    first, last = segment
    frames = first + np.flatnonzero(np.isfinite(track.position_px[first : last + 1, 0]))
    if not len(frames):
        return
    step = float(np.median(np.diff(times_s[first : last + 1]))) if last > first else 1.0
    stride = max(1, round(1 / max(step, 1e-6) / _FASTEST_HZ))
    frames = frames[np.unique(frames // stride, return_index=True)[1]]
    yield from np.split(frames, np.flatnonzero(np.diff(times_s[frames]) > longest_gap_s) + 1)
