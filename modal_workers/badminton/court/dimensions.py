"""Dimensions of a badminton court in metres (BWF Laws of Badminton, section 1 and diagrams A and B).

Court coordinates: the origin is the corner at the far left as the camera sees it, x points to the right (0 to 6.10),
y towards the camera (0 to 13.40), z up from the floor. Positions are those of the outer edges of the lines, as the laws
measure them, except the centre line's, which is measured at its middle.
"""

from __future__ import annotations

from typing import Final

COURT_WIDTH_M: Final = 6.10
COURT_LENGTH_M: Final = 13.40
CENTRE_X_M: Final = COURT_WIDTH_M / 2
NET_Y_M: Final = COURT_LENGTH_M / 2
#: From a side line of doubles to that of singles.
SINGLES_INSET_M: Final = 0.46
SHORT_SERVICE_FROM_NET_M: Final = 1.98
LONG_SERVICE_FROM_BACK_M: Final = 0.76
LINE_WIDTH_M: Final = 0.04
NET_HEIGHT_AT_POSTS_M: Final = 1.55
NET_HEIGHT_AT_CENTRE_M: Final = 1.524

#: Lines across the court, from far to near: y in metres.
CROSS_LINES_Y_M: Final = (
    0.0,
    LONG_SERVICE_FROM_BACK_M,
    NET_Y_M - SHORT_SERVICE_FROM_NET_M,
    NET_Y_M + SHORT_SERVICE_FROM_NET_M,
    COURT_LENGTH_M - LONG_SERVICE_FROM_BACK_M,
    COURT_LENGTH_M,
)
#: Lines along the whole court, from left to right: x in metres.
SIDE_LINES_X_M: Final = (0.0, SINGLES_INSET_M, COURT_WIDTH_M - SINGLES_INSET_M, COURT_WIDTH_M)

#: Far left, far right, near right, near left.
CORNERS_M: Final = ((0.0, 0.0), (COURT_WIDTH_M, 0.0), (COURT_WIDTH_M, COURT_LENGTH_M), (0.0, COURT_LENGTH_M))

Segment = tuple[tuple[float, float], tuple[float, float]]


def line_segments_m() -> tuple[Segment, ...]:
    """Return the twelve painted lines as pairs of end points (x, y); the net is not painted."""
    across = [((0.0, y), (COURT_WIDTH_M, y)) for y in CROSS_LINES_Y_M]
    along = [((x, 0.0), (x, COURT_LENGTH_M)) for x in SIDE_LINES_X_M]
    centre = [
        ((CENTRE_X_M, 0.0), (CENTRE_X_M, CROSS_LINES_Y_M[2])),
        ((CENTRE_X_M, CROSS_LINES_Y_M[3]), (CENTRE_X_M, COURT_LENGTH_M)),
    ]
    return (*across, *along, *centre)
