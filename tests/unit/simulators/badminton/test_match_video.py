"""The pictures of a match show what the ground truth says, and a file has the truth's times."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from modal_workers.badminton.court.dimensions import line_segments_m
from simulators.badminton.match_options import CameraName, MatchOptions, Scene
from simulators.badminton.match_renderer import MatchRenderer, frames
from simulators.badminton.match_video import render_match
from simulators.badminton.picture.hall_design import design_hall, line_corners_m
from simulators.badminton.picture.hall_renderer import render_view
from simulators.badminton.picture.match_camera import play_camera
from simulators.badminton.truth_from_world import make_match

SMALL = MatchOptions(seed=5, duration_s=2, width_px=320, height_px=180, rate_hz=30)


@pytest.mark.parametrize("camera", ["broadcast_high", "phone_back"])
def test_lines_are_where_the_homography_says(camera: CameraName) -> None:
    options = MatchOptions(seed=8, camera=camera)
    pose = play_camera(options)
    grey = cv2.cvtColor(render_view(design_hall(options), pose).background, cv2.COLOR_BGR2GRAY).astype(np.float64)
    errors = []
    for segment in line_segments_m():
        corners = line_corners_m(*segment)
        start, end = (corners[0] + corners[3]) / 2, (corners[1] + corners[2]) / 2
        if segment[0][0] == segment[1][0]:
            start, end = (corners[0] + corners[1]) / 2, (corners[2] + corners[3]) / 2
        shares = np.linspace(0.08, 0.92, 12)
        errors += [_offset_px(grey, pose, start + share * (end - start), end - start) for share in shares]
    measured = np.array([error for error in errors if error is not None])
    assert len(measured) > 40
    assert abs(np.median(measured)) < 0.1
    assert np.median(np.abs(measured)) < 0.2


def _offset_px(grey, pose, point, along) -> float | None:
    """Return the distance of a painted line's centre from where it should be, across the line."""
    (at, further), depth = pose.project(np.array([[*point, 0.0], [*(point + 0.01 * along), 0.0]]))
    across = np.array([-(further - at)[1], (further - at)[0]]) / np.linalg.norm(further - at)
    reach = 3.5 + 0.06 * pose.focal_px / depth[0]
    ways = np.arange(-reach, reach + 0.01, 0.25)
    places = (at + ways[:, None] * across).astype(np.float32)
    if not ((places > 1) & (places < (grey.shape[1] - 2, grey.shape[0] - 2))).all():
        return None
    profile = cv2.remap(grey, places[:, :1], places[:, 1:], cv2.INTER_LINEAR)[:, 0]
    profile = np.clip(profile - np.percentile(profile, 40) - 6, 0, None)
    bright = profile[np.abs(ways) > reach - 1.5].max(initial=0) > 0.15 * profile.max()
    return None if bright or profile.max() < 30 else float((profile * ways).sum() / profile.sum())


def test_the_shuttle_is_bright_where_the_truth_says() -> None:
    options = MatchOptions(seed=5, duration_s=8, width_px=640, height_px=360, noise=0, exposure_variation=0)
    renderer = MatchRenderer(make_match(options))
    truth, background = renderer.match.truth, render_view(design_hall(options), renderer.match.camera).background
    seen = np.flatnonzero(truth.shuttle_visible & (truth.shuttle_state == 1) & (truth.shuttle_speeds_mps < 15))[::2]
    assert len(seen) > 8
    brighter = []
    for index in seen:
        x, y = np.round(truth.shuttle_px[index]).astype(int)
        window = (slice(max(y - 1, 0), y + 2), slice(max(x - 1, 0), x + 2))
        brighter.append(int(renderer.draw(int(index))[window].max()) - int(background[window].max()))
    assert np.median(brighter) > 40
    assert np.mean(np.array(brighter) > 10) > 0.8


def test_a_player_is_drawn_inside_the_box_and_nowhere_else() -> None:
    options = replace(SMALL, duration_s=0.1, noise=0, exposure_variation=0)
    renderer = MatchRenderer(make_match(options))
    picture = renderer.draw(0)
    background = render_view(design_hall(options), renderer.match.camera, with_net=False).background
    changed = np.abs(picture.astype(int) - background).max(axis=2) > 40
    box = np.round(renderer.match.truth.boxes_px[1, 0]).astype(int)
    inside = changed[box[1] : box[3], box[0] : box[2]]
    assert inside.mean() > 0.3
    assert changed[box[3] + 4 :].sum() == 0


def test_frames_are_the_same_each_time() -> None:
    options = replace(SMALL, duration_s=0.2)
    first, second = ([picture for picture, _ in frames(options)] for _ in range(2))
    assert len(first) == 6
    assert all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


def test_a_file_with_a_variable_rate_has_the_times_of_the_truth(tmp_path: Path) -> None:
    options = replace(SMALL, rate_jitter=0.3, dropped=0.1, rotation_deg=90)
    truth = render_match(tmp_path / "match.mp4", options)
    assert np.diff(truth.time_s).std() > 0.002
    with av.open(str(tmp_path / "match.mp4")) as container:
        times, sizes = [], set()
        for frame in container.decode(video=0):
            times.append(float(frame.pts * frame.time_base))
            sizes.add((frame.width, frame.height, frame.rotation % 360))
    assert np.array(times) - times[0] == pytest.approx(truth.time_s, abs=1e-6)
    assert [size[:2] for size in sizes] == [(180, 320)]
    assert sizes.pop()[2] in (90, 270)
    assert (tmp_path / "match.json").exists()
    assert (tmp_path / "match.npz").exists()


def test_a_camera_that_turns_and_shakes_shows_the_lines_where_its_truth_says() -> None:
    options = MatchOptions(seed=8, duration_s=3, rate_hz=5, pan_deg=6, shake_px=3, noise=0, exposure_variation=0)
    renderer = MatchRenderer(make_match(options))
    match = renderer.match
    measured: list[float | None] = []
    for index in (2, 8, 13):
        grey = cv2.cvtColor(renderer.draw(index), cv2.COLOR_BGR2GRAY).astype(np.float64)
        pose = match.motion.pose(match.camera, index)
        assert np.allclose(match.truth.image_from_world[index], pose.image_from_world)
        points = [np.array([x, y]) for y in (0.02, 4.70, 8.70, 12.62) for x in (0.9, 1.5, 4.2, 5.2)]
        measured += [_offset_px(grey, pose, point, np.array([1.0, 0.0])) for point in points]
    offsets = np.array([offset for offset in measured if offset is not None])
    assert len(offsets) > 25
    assert np.median(np.abs(offsets)) < 0.25
    turned = np.linalg.norm(np.diff(match.truth.image_from_court[:, :2, 2], axis=0), axis=1)
    assert turned.min() > 0, "the camera never stands still"


def test_cuts_and_black_are_known_and_have_no_camera() -> None:
    options = replace(SMALL, duration_s=40, rate_hz=5, cuts=True, black_s=(1, 2), quick_service=True)
    renderer = MatchRenderer(make_match(options))
    truth = renderer.match.truth
    assert {segment.kind for segment in truth.segments} == {"play", "replay", "close-up", "crowd", "black"}
    assert truth.segments[0].start_s == 0
    assert truth.segments[-1].end_s == 40
    assert all(first.end_s == second.start_s for first, second in pairwise(truth.segments))
    for index in range(len(truth.time_s)):
        frame = truth.frame(index)
        filmed = frame.segment == "play"
        assert (frame.image_from_court is not None) == filmed
        assert np.isfinite(frame.boxes_px).any() == filmed
        assert filmed or not (frame.keypoints_visible.any() or frame.shuttle_visible)
    usual = renderer.draw(0).astype(int)
    for kind in ("replay", "close-up", "crowd", "black"):
        segment = next(segment for segment in truth.segments if segment.kind == kind)
        picture = renderer.draw(int(np.searchsorted(truth.time_s, segment.start_s + 0.3))).astype(int)
        assert np.abs(picture - usual).mean() > 15
        assert (picture.mean() < 8) == (kind == "black")


def test_bystanders_are_in_their_boxes_and_some_of_them_move() -> None:
    options = replace(SMALL, duration_s=3, bystanders=True, persons="none", width_px=640, height_px=360)
    with_them, without = make_match(options), make_match(replace(options, bystanders=False))
    assert with_them.truth.keypoints_px.shape == (0, 90, 17, 2)
    assert with_them.truth.hits == ()
    pictures = [MatchRenderer(match).draw(60).astype(int) for match in (with_them, without)]
    changed = np.abs(pictures[0] - pictures[1]).max(axis=2) > 60
    boxes = with_them.truth.bystander_boxes_px[:, 60]
    seen = boxes[np.isfinite(boxes).all(axis=1)]
    assert len(seen) >= 6
    shares = []
    for left, top, right, bottom in np.round(seen).astype(int):
        shares.append(changed[top : bottom + 1, left : right + 1].mean())
        changed[max(top - 3, 0) : bottom + 8, max(left - 6, 0) : right + 7] = False
    assert np.median(shares) > 0.25
    assert changed.mean() < 0.012, "the umpire's chair and shadows only"
    moved = np.nanmax(np.ptp(with_them.truth.bystander_boxes_px, axis=1), axis=1)
    assert (moved > 2).any()
    assert (moved == 0).any()


@pytest.mark.parametrize("scene", ["tennis", "plain"])
def test_a_scene_without_a_badminton_court_has_no_homography(scene: Scene) -> None:
    picture, truth = next(frames(replace(SMALL, scene=scene, persons="one")))
    assert truth.image_from_court is None
    assert truth.image_from_world is not None
    assert truth.keypoints_px.shape == (1, 17, 2)
    assert np.isnan(truth.shuttle_m).all()
    assert picture.shape == (180, 320, 3)
