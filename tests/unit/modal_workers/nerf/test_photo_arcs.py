"""From where photos were taken: open gaps, arcs between them, and even steps over the arcs."""

from __future__ import annotations

import numpy as np
import pytest

from modal_workers.nerf.photo_arcs import (
    FULL_CIRCLE,
    arc_azimuth_deg,
    frame_is_seen,
    nearest_photo_deg,
    open_arcs,
    open_deg,
    photographed_arcs,
    widest_gap_deg,
)


def cameras(*azimuths_deg: float, elevation_deg: float = 20.0) -> np.ndarray:
    azimuths, elevation = np.radians(azimuths_deg), np.radians(elevation_deg)
    level = np.cos(elevation) * np.stack([np.cos(azimuths), np.sin(azimuths)], 1)
    return np.column_stack([level, np.full(len(azimuths), np.sin(elevation))])


@pytest.mark.parametrize(
    ("azimuths_deg", "arcs", "missing_deg"),
    [
        (range(0, 360, 20), FULL_CIRCLE, 0.0),
        (range(0, 360, 58), FULL_CIRCLE, 0.0),
        (range(0, 181, 10), ((355.0, 190.0),), 180.0),
        (range(300, 421, 10), ((295.0, 130.0),), 240.0),
        ([*range(0, 61, 10), *range(180, 241, 10)], ((175.0, 70.0), (355.0, 70.0)), 240.0),
        ([30.0], ((25.0, 10.0),), 360.0),
    ],
    ids=["full", "just closed", "half", "over north", "two sides", "one photo"],
)
def test_arcs_lie_between_open_gaps(azimuths_deg: range, arcs: tuple, missing_deg: float) -> None:
    found = photographed_arcs(cameras(*azimuths_deg))
    assert np.allclose(found, arcs)
    assert open_deg(found) == pytest.approx(missing_deg)
    lengths = sum(length for _, length in found) + sum(length for _, length in open_arcs(found))
    assert lengths == pytest.approx(360.0)


def test_photos_from_above_have_no_azimuth() -> None:
    above = cameras(0, 10, 20, elevation_deg=85.0)
    assert photographed_arcs(above) == FULL_CIRCLE
    assert widest_gap_deg(above) == 0.0
    half = np.concatenate([above, cameras(*range(90, 271, 10))])
    assert widest_gap_deg(half) == pytest.approx(180.0)


def test_frames_are_spread_over_the_arcs_with_both_ends() -> None:
    assert [arc_azimuth_deg(FULL_CIRCLE, step, 4) for step in range(4)] == [0.0, 90.0, 180.0, 270.0]
    one = ((350.0, 40.0),)
    assert [arc_azimuth_deg(one, step, 5) for step in range(5)] == [350.0, 0.0, 10.0, 20.0, 30.0]
    two = ((0.0, 20.0), (180.0, 40.0))
    assert [arc_azimuth_deg(two, step, 7) for step in range(7)] == [0.0, 10.0, 20.0, 190.0, 200.0, 210.0, 220.0]
    assert arc_azimuth_deg(one, 0, 1) == 10.0


def test_a_frame_is_seen_from_nearby_only() -> None:
    photos = cameras(0, 20, 40)
    assert nearest_photo_deg(cameras(20)[0], photos) == pytest.approx(0.0, abs=1e-3)
    assert nearest_photo_deg(cameras(20, elevation_deg=60.0)[0], photos) == pytest.approx(40.0)
    assert frame_is_seen(None, None) is None
    assert frame_is_seen(29.0, None) is True
    assert frame_is_seen(31.0, 1.0) is False
    assert frame_is_seen(5.0, 0.5) is False
