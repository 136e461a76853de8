"""The object is found where the cameras look, doubt is stated where it must be, and a hint settles it."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from modal_workers.nerf.found_object import ObjectHint, find_named
from modal_workers.nerf.poses.colmap.model_files import RegisteredImage
from modal_workers.nerf.poses.object_finding.finding import DOUBTFUL_BELOW, find_object
from modal_workers.nerf.poses.object_finding.hinted import PlacedHint, find_hinted_object
from simulators.toy.sparse_captures import SceneKind, SparseCapture, sparse_capture
from tests.harness.vision.object_truth import agreement, is_right, posed, shows_the_truth


@functools.cache
def capture_of(seed: int, kind: SceneKind) -> SparseCapture:
    return posed(sparse_capture(seed, kind))


PAIR = SceneKind(180.0, neighbour="equal")


@pytest.mark.parametrize(
    "kind",
    [SceneKind(360.0), SceneKind(136.0, wall=0.3), SceneKind(180.0, neighbour="beside"), SceneKind(360.0, clutter=10)],
    ids=lambda kind: kind.name,
)
def test_the_object_that_the_photos_look_at_is_found(kind: SceneKind) -> None:
    capture = capture_of(7, kind)
    found = find_object(capture.model)
    assert is_right(capture, found), found
    assert found.source == "cameras"
    assert (found.doubt is None) == (found.confidence >= DOUBTFUL_BELOW)
    assert find_object(capture.model) == found


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(10590, id="the lower part is plain and has no points, the rest seems to float"),
        pytest.param(10360, id="the upper part reaches out further than the lower one and is no thing beside it"),
        pytest.param(10704, id="the dense top of the lower part is no table"),
        pytest.param(10406, id="the back of an object is deeper than its points where nothing is close behind"),
        pytest.param(10139, id="a wall that the object touches, beside dense objects"),
        pytest.param(10076, id="a floor with few points among clutter"),
    ],
)
def test_the_object_is_found_without_doubt_although_points_are_missing(seed: int) -> None:
    capture = posed(sparse_capture(seed))
    found = find_object(capture.model)
    assert is_right(capture, found), found
    assert found.doubt is None


def test_two_things_of_which_one_has_few_points_are_doubted() -> None:
    assert find_object(posed(sparse_capture(10736)).model).doubt == "several_objects"


def test_few_points_are_a_doubt() -> None:
    capture = capture_of(7, SceneKind(360.0))
    own = np.flatnonzero(capture.labels == 0)
    model = capture.model
    kept = np.ones(len(model.xyz), bool)
    kept[own[25:]] = False
    photos, points = model.observations
    observed = kept[points]
    thin = replace(
        model,
        xyz=model.xyz[kept],
        rgb=model.rgb[kept],
        error_px=model.error_px[kept],
        track_length=model.track_length[kept],
        observations=np.stack([photos[observed], (np.cumsum(kept) - 1)[points[observed]]]).astype(np.int32),
    )
    found = find_object(thin)
    assert found.doubt is not None, found


def test_of_two_things_of_equal_standing_both_are_shown_and_neither_is_passed_off_as_the_object() -> None:
    capture = capture_of(3, PAIR)
    found = find_object(capture.model)
    assert found.doubt == "several_objects"
    assert found.confidence < DOUBTFUL_BELOW
    assert [choice.name for choice in found.choices] == ["both", "first", "second"]
    assert shows_the_truth(capture, found)
    assert agreement(capture, found, found.chosen, [0, 1]).right


@pytest.mark.parametrize("label", [0, 1])
@pytest.mark.parametrize("form", ["point", "box"])
def test_a_hint_in_one_photo_settles_which_of_two_is_meant(label: int, form: str) -> None:
    capture = capture_of(3, PAIR)
    found = find_hinted_object(capture.model, _hint_on(capture, _beside_each_other(capture), label, form))
    assert (found.source, found.doubt) == ("hint", None)
    assert found.confidence >= DOUBTFUL_BELOW
    assert agreement(capture, found, found.chosen, [label]).right


def test_a_hint_that_points_at_nothing_is_told_and_changes_nothing_else() -> None:
    capture = capture_of(7, SceneKind(360.0))
    alone, name = find_object(capture.model), capture.model.images[0].name
    for values in ((0.01, 0.01), (0.0, 0.0, 0.02, 0.02)):
        found = find_hinted_object(capture.model, PlacedHint(name, values))
        assert found.doubt == "hint_without_points"
        assert found.confidence < DOUBTFUL_BELOW
        assert alone.chosen in found.choices
    left_out = find_hinted_object(capture.model, PlacedHint("elsewhere.jpg", (0.5, 0.5)))
    assert left_out.doubt == "hint_photo_left_out"
    assert left_out.choices == alone.choices


def test_without_anything_in_front_of_the_background_there_is_no_object() -> None:
    capture = capture_of(7, SceneKind(360.0))
    flat = capture.model.xyz.copy()
    flat[:, 2] = -0.2
    found = find_object(replace(capture.model, xyz=flat))
    assert (found.doubt, found.confidence) == ("no_object", 0.0)
    assert found.chosen.name == "all_around"
    assert np.allclose(found.chosen.centre, 0)


def test_a_hint_is_a_point_or_a_box_in_fractions_or_pixels() -> None:
    assert ObjectHint(photo="a.jpg", x=0.5, y=0.25).fractions(400, 200) == (0.5, 0.25)
    assert ObjectHint(photo="a.jpg", x=200, y=50).fractions(400, 200) == (0.5, 0.25)
    assert ObjectHint(photo="a.jpg", box=(40, 20, 200, 100)).fractions(400, 200) == (0.1, 0.1, 0.5, 0.5)
    for wrong in (
        {},
        {"x": 0.5},
        {"x": 0.5, "y": 0.5, "box": (0, 0, 1, 1)},
        {"box": (0.5, 0.2, 0.1, 0.9)},
        {"box": (-0.1, 0, 1, 1)},
        {"x": -1, "y": 0.5},
    ):
        with pytest.raises(ValidationError):
            ObjectHint.model_validate({"photo": "a.jpg", **wrong})


def test_a_photo_is_named_as_it_was_sent_with_or_without_its_folder_and_extension() -> None:
    names = ["in/IMG_1.JPG", "IMG_2.heic", "img_1.png"]
    found = [find_named(name, names) for name in ("img_1.jpg", "IMG_2.heic", "img_2", "img_1.png", "img_3", "")]
    assert found == [0, 1, 1, 2, None, None]


def _beside_each_other(capture: SparseCapture) -> int:
    """Return the photo in which the two objects are furthest apart, so that none hides the other."""
    middles = [capture.surface[capture.surface_labels == label].mean(0) for label in (0, 1)]
    apart = [np.ptp([_fractions(image, middle[None])[0, 0] for middle in middles]) for image in capture.model.images]
    return int(np.argmax(apart))


def _fractions(image: RegisteredImage, points: np.ndarray) -> np.ndarray:
    local = (points - image.centre) @ image.world_from_camera[:3, :3]
    pixels = local[:, :2] / local[:, 2:] * image.camera.focal_px[0] + np.array(image.camera.centre_px)
    return np.asarray(pixels / (image.camera.width_px, image.camera.height_px))


def _hint_on(capture: SparseCapture, place: int, label: int, form: str) -> PlacedHint:
    """Return a hint as a person would give it: on the middle of what is visible of the object."""
    image, points = capture.model.images[place], capture.surface[capture.surface_labels == label]
    fractions = _fractions(image, points)
    if form == "box":
        low, high = fractions.min(0).clip(0, 1), fractions.max(0).clip(0, 1)
        return PlacedHint(image.name, (*low.tolist(), *high.tolist()))
    middle = np.median(fractions, axis=0)
    return PlacedHint(image.name, tuple(fractions[np.argmin(np.abs(fractions - middle).sum(1))].tolist()))
