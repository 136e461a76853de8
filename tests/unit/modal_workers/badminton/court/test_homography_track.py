"""The court of a moving camera, frame by frame."""

from __future__ import annotations

import numpy as np

from modal_workers.badminton.court.homography_track import HomographyTrack


def test_a_frame_without_a_view_has_that_of_the_nearest_frame() -> None:
    views = np.full((10, 3, 3), np.nan)
    for number in (2, 3, 7):
        views[number] = np.eye(3) * (number + 1)
    track = HomographyTrack(100, views)
    nearest = [round(float(track.nearest(frame)[0, 0])) - 1 for frame in range(98, 112)]
    assert nearest == [2, 2, 2, 2, 2, 3, 3, 3, 7, 7, 7, 7, 7, 7]
