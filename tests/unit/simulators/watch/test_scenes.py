"""Scenes of a model that watches: the same for a seed, and the truth is what the picture shows."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from simulators.watch.names import COLOURS, KINDS, Kind
from simulators.watch.scene import arm_episode, clip, scene
from simulators.watch.truth import ClipTruth, Entity


def nearest_colour(pixel: np.ndarray) -> str:
    """Return the name of the colour that a pixel is of, whatever the light."""

    def plain(colour: np.ndarray) -> np.ndarray:
        brightest = colour.max()
        return np.array([*(colour / max(1.0, brightest)), brightest / 400])

    return min(COLOURS, key=lambda name: float(np.abs(plain(np.array(COLOURS[name], float)) - plain(pixel)).sum()))


def seen_at(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    height, width = picture.shape[:2]
    column, row = round(x * width), round(y * height)
    return np.median(picture[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3).astype(float), axis=0)


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_clip_and_another_seed_another_one(kind: Kind) -> None:
    one, again, other = clip(3, kind, width_px=160), clip(3, kind, width_px=160), clip(4, kind, width_px=160)
    assert one.truth == again.truth
    assert one.times_s == again.times_s
    assert all(np.array_equal(a, b) for a, b in zip(one.frames, again.frames, strict=True))
    assert one.truth != other.truth


def test_the_small_picture_is_the_large_one_made_small() -> None:
    """A model is trained on the one and watches the other."""
    for seed in range(12):
        time_s = scene(seed).chunk_times_s[0][0]
        small = scene(seed).small_frame(time_s, 96)
        large = cv2.resize(scene(seed).frame(time_s), (96, 96), interpolation=cv2.INTER_AREA)
        assert np.abs(cv2.blur(small, (3, 3)).astype(int) - cv2.blur(large, (3, 3)).astype(int)).mean() < 5, seed


def test_objects_have_the_colour_of_the_truth_where_the_truth_says() -> None:
    right, found = 0, 0
    for seed in range(40):
        shown = clip(seed, "arm", frames=1)
        entities = shown.truth.last.entities
        for entity in entities[:-1]:
            if entity.noun in {"ring", "bottle"} or _covered(entity, entities):
                continue  # through a ring one sees the table, a bottle has a label
            found += 1
            right += nearest_colour(seen_at(shown.frames[0], entity.x, entity.y)) == entity.colour
    assert found > 30
    assert right / found > 0.9


def _covered(entity: Entity, entities: tuple[Entity, ...]) -> bool:
    left, top, right, bottom = entity.region
    return any(
        other.depth >= entity.depth - 0.05 and other.region[0] < right and left < other.region[2]
        and other.region[1] < bottom and top < other.region[3]
        for other in entities if other is not entity
    )  # fmt: skip


def test_the_light_is_lit_where_and_as_the_truth_says() -> None:
    lit = 0
    for seed in range(30):
        shown = clip(seed, "road", frames=1)
        for light in (entity for entity in shown.truth.last.entities if entity.noun == "light"):
            offset = {"red": -1, "yellow": 0, "green": 1}[light.colour]
            size = (light.region[2] - light.region[0]) / 2 / 0.75
            lamps = [seen_at(shown.frames[0], light.x, light.y + row * 1.85 * size).max() for row in (-1, 0, 1)]
            assert int(np.argmax(lamps)) == offset + 1, seed
            lit += 1
    assert lit > 5


def _heights(truth: ClipTruth, entity: int) -> list[float]:
    return [frame.entities[entity].height for frame in truth.frames]


def test_what_is_dropped_falls_and_what_is_put_down_is_lowered() -> None:
    episode = arm_episode(5, 90)
    assert {"dropped", "put_down", "picked_up"} <= {event.name for event in episode.events}
    for event in episode.events:
        times = np.arange(event.start_s - 0.2, event.end_s + 0.2, 1 / 60)
        frames = episode.truth(list(times)).frames
        heights = np.array([frame.entities[event.entity].height for frame in frames])
        held = np.array([frame.held == event.entity for frame in frames])
        free = heights[~held]
        if event.name == "dropped":
            assert free.max() > 0.1
            assert free[-1] == pytest.approx(0, abs=0.01)
        if event.name == "put_down":
            assert held[0]
            assert not held[-1]
            assert free.max() < 0.02, "it stands on the table when the jaws open"


def test_an_episode_drops_some_objects_and_lasts_as_long_as_asked() -> None:
    episode = arm_episode(1, 60)
    dropped = [event for event in episode.events if event.name == "dropped"]
    assert 1 <= len(dropped) < len([event for event in episode.events if event.name == "picked_up"])
    assert all(0 <= event.start_s < 60 for event in episode.events)
    assert episode.frame(30.0).shape == (480, 640, 3)


def test_nothing_moves_by_itself() -> None:
    """An object that is neither held, pushed, rolled nor dropped stays where it is."""
    for seed in range(10):
        truth = scene(seed, "arm", frames=6).truth()
        moved = {event.entity for event in truth.events}
        for index in range(len(truth.last.entities) - 1):
            if index not in moved and truth.frames[0].held != index:
                assert np.ptp(_heights(truth, index)) < 1e-9
