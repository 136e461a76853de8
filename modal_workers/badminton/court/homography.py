"""A court's place in the picture: the homography from its plane to pixels, and how well it was measured.

Court coordinates are those of ``dimensions``: metres, origin at the far left corner as the camera sees it, x to the
right, y towards the camera. A camera at the long side sees the court across: the axis of y is then the one of the two
directions along the court that points more towards the camera. Pixels: (0, 0) is the centre of the top left pixel of
the upright full-size picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from modal_workers.badminton.court.dimensions import CORNERS_M

Floats = NDArray[np.float64]

#: A point nearer to the horizon than this share of the court centre's depth has no place on the court.
_HORIZON_SHARE: Final = 1e-3


def project(homography: Floats, points: ArrayLike) -> Floats:
    """Return points (…, 2) mapped by a 3x3 homography; NaN where a point maps to infinity."""
    places = np.asarray(points, float)
    mapped = places @ homography[:, :2].T + homography[:, 2]
    depth = np.where(np.abs(mapped[..., 2:]) > 1e-12, mapped[..., 2:], np.nan)
    return np.asarray(mapped[..., :2] / depth)


@dataclass(frozen=True, eq=False)
class CourtView:
    """One court as a camera sees it that stands still."""

    #: 3x3, metres on the court to pixels, with a positive third coordinate in front of the camera.
    image_from_court: Floats
    #: Median distance from the lines of the model to the centres of the detected lines; NaN where no line was measured.
    residual_m: float
    residual_px: float
    #: Share of such detections that are right, 0 to 1 (bench/badminton_court.py measures it); 1 for keypoints, which
    #: are taken as given.
    confidence: float
    #: "lines": found in the picture. "keypoints": given by the user, whether refined on the lines or not.
    source: Literal["lines", "keypoints"]
    #: Share of the model's visible lines at which a line was detected; NaN where none was measured.
    inlier_share: float
    #: Share of the model's lines that lie inside the picture.
    visible_share: float

    def to_court(self, points_px: ArrayLike) -> Floats:
        """Return places on the floor in metres for pixels (…, 2); NaN for pixels at or above the horizon."""
        court_from_image: Floats = np.linalg.inv(self.image_from_court).astype(np.float64)
        points = np.asarray(points_px, float)
        # The inverse's third coordinate is the reciprocal of the depth, up to the common scale of both.
        depth = 1.0 / (points @ court_from_image[2, :2] + court_from_image[2, 2])
        centre_m = np.asarray(CORNERS_M).mean(axis=0)
        centre_depth = float(self.image_from_court[2, :2] @ centre_m + self.image_from_court[2, 2])
        in_front = (depth > 0) & (depth < centre_depth / _HORIZON_SHARE)
        places = project(court_from_image, points)
        return np.asarray(np.where(in_front[..., None], places, np.nan))

    def to_image(self, points_m: ArrayLike) -> Floats:
        """Return pixels for places on the floor in metres (…, 2); NaN for places behind the camera."""
        points = np.asarray(points_m, float)
        in_front = points @ self.image_from_court[2, :2] + self.image_from_court[2, 2] > 0
        return np.asarray(np.where(in_front[..., None], project(self.image_from_court, points), np.nan))

    @property
    def corners_px(self) -> Floats:
        """The corners in the picture (4, 2): far left, far right, near right, near left."""
        return self.to_image(CORNERS_M)


class CourtRefusal(StrEnum):
    """Reasons why no court is reported."""

    NO_PICTURE = "no_picture"
    NO_LINES = "no_lines"
    FEW_LINES_FIT = "few_lines_fit"
    OTHER_LINES = "other_lines"
    CAMERA_IMPLAUSIBLE = "camera_implausible"
    AMBIGUOUS = "ambiguous"
    DOUBTFUL = "doubtful"
    TOO_LITTLE_VISIBLE = "too_little_visible"
    CAMERA_MOVES = "camera_moves"
    OTHER_CAMERA = "other_camera"
    BLACK = "black"


@dataclass(frozen=True)
class CourtNotFound:
    """A scene without a court that can be trusted, and the reason."""

    code: CourtRefusal
    #: One sentence for the user.
    text: str
