"""Detection of the court in pictures of a camera that stands still; a doubtful court is refused.

False courts are worse than none: every speed and zone of a video is computed from this homography. A candidate has to
have lines where the model has them, explain the lines that are there, be seen by a possible camera, and be clearly
better than every other candidate.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.candidates import Evidence, best_candidate
from modal_workers.badminton.court.homography import CourtNotFound, CourtRefusal, CourtView

#: Pictures of which the median is taken.
_MAX_PICTURES: Final = 9

#: What a court must reach to be reported.
MIN_VISIBLE_SHARE: Final = 0.45
MIN_INLIER_SHARE: Final = 0.5
MIN_LINES_SHARE: Final = 0.65
MIN_EXPLAINED_SHARE: Final = 0.75
MIN_MARGIN: Final = 0.04
MIN_PROMINENCE: Final = 1.2
MIN_AREA_RATIO: Final = 0.5
MIN_CONFIDENCE: Final = 0.9

#: Logistic regression of being right, fitted on the best candidates of 514 halls by chance, 138 of them wrong
#: (bench/badminton_court.py measures it on others): constant, inlier share, share of lines, explained share, square
#: root of the margin, visible share.
_WEIGHTS: Final = np.array([-19.78, -2.65, 3.27, 13.14, 16.05, 5.73])
#: Beyond these a larger margin or more of the court in view says no more.
_MARGIN_LIMIT: Final = 0.3
_VISIBLE_LIMIT: Final = 0.8

Picture = NDArray[np.uint8]


def detect_in(grey: Picture) -> CourtView | CourtNotFound:
    """Return the court in a grey picture of one still camera, or why none can be reported.

    The median of several pictures, seconds apart, is better than one: players move, lines do not.
    """
    evidence = best_candidate(grey)
    if evidence is None:
        text = "There are no four straight bright lines in the picture that can be lines of one court."
        return CourtNotFound(CourtRefusal.NO_LINES, text)
    return refusal_of(evidence) or view_of(evidence)


def median_grey(pictures: Sequence[Picture]) -> Picture:
    """Return the median of at most nine of the pictures (BGR or grey), as grey; what moves is gone from it."""
    chosen = np.unique(np.linspace(0, len(pictures) - 1, min(len(pictures), _MAX_PICTURES)).round().astype(int))
    several = [pictures[number] for number in chosen]
    greys = [each if each.ndim == 2 else cv2.cvtColor(each, cv2.COLOR_BGR2GRAY) for each in several]
    # A sorting network of whole pictures: a tenth of the time of a median over an axis.
    for end in range(len(greys) - 1, len(greys) // 2 - 1, -1):
        for number in range(end):
            lower, upper = greys[number], greys[number + 1]
            greys[number], greys[number + 1] = cv2.min(lower, upper), cv2.max(lower, upper)
    return np.asarray(greys[len(greys) // 2], np.uint8)


def refusal_of(evidence: Evidence) -> CourtNotFound | None:
    """Return why a candidate is not reported; None if it is."""
    fit = evidence.fit
    if fit.visible_share < MIN_VISIBLE_SHARE:
        text = f"Only {fit.visible_share:.0%} of the court's lines are inside the picture."
        return CourtNotFound(CourtRefusal.TOO_LITTLE_VISIBLE, text)
    if not evidence.camera_plausible:
        text = "The best match of the lines could not have been seen by a camera in a hall."
        return CourtNotFound(CourtRefusal.CAMERA_IMPLAUSIBLE, text)
    if fit.inlier_share < MIN_INLIER_SHARE or evidence.lines_share < MIN_LINES_SHARE:
        text = f"Lines were found at {fit.inlier_share:.0%} of the places where a court has them."
        return CourtNotFound(CourtRefusal.FEW_LINES_FIT, text)
    if evidence.explained_share < MIN_EXPLAINED_SHARE:
        text = f"Only {evidence.explained_share:.0%} of the lines inside the best match belong to a badminton court."
        return CourtNotFound(CourtRefusal.OTHER_LINES, text)
    if evidence.prominence < MIN_PROMINENCE:
        return CourtNotFound(CourtRefusal.AMBIGUOUS, "Two courts are in view, and neither is clearly the larger one.")
    if evidence.area_ratio < MIN_AREA_RATIO:
        return CourtNotFound(CourtRefusal.AMBIGUOUS, "A court in front of the one that is in view is cut off.")
    if evidence.margin < MIN_MARGIN:
        return CourtNotFound(CourtRefusal.AMBIGUOUS, "The lines fit a court in more than one place.")
    if (confidence := confidence_of(evidence)) < MIN_CONFIDENCE:
        text = f"The best match of the lines is the court with a probability of {confidence:.0%} only."
        return CourtNotFound(CourtRefusal.DOUBTFUL, text)
    return None


def view_of(evidence: Evidence) -> CourtView:
    """Return the court of an accepted candidate."""
    fit = evidence.fit
    return CourtView(
        image_from_court=fit.image_from_court,
        residual_m=fit.residual_m,
        residual_px=fit.residual_px,
        confidence=confidence_of(evidence),
        source="lines",
        inlier_share=fit.inlier_share,
        visible_share=fit.visible_share,
    )


def confidence_of(evidence: Evidence) -> float:
    """Return the share of candidates with this evidence that are right; 0 where no camera could have seen it."""
    if not evidence.camera_plausible:
        return 0.0
    fit = evidence.fit
    measures = [
        1.0,
        fit.inlier_share,
        evidence.lines_share,
        evidence.explained_share,
        np.sqrt(np.clip(evidence.margin, 0.0, _MARGIN_LIMIT)),
        min(fit.visible_share, _VISIBLE_LIMIT),
    ]
    return float(1.0 / (1.0 + np.exp(-float(_WEIGHTS @ measures))))
