"""One scene by its seed: its frames at any size and time, and their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import cv2
import numpy as np

from simulators.watch.arm_script import ArmScript, random_objects
from simulators.watch.arm_view import ArmView
from simulators.watch.camera_flaws import CameraFlaws
from simulators.watch.canvas import Canvas, Picture, Point
from simulators.watch.court_view import RallyView
from simulators.watch.names import KINDS, Kind
from simulators.watch.road_view import RoadView
from simulators.watch.truth import ClipTruth, MomentTruth, WatchEvent

#: Seeds from here on are for tests and evaluation; no model is trained on them.
HELD_OUT_SEEDS: Final = 900_000_000
CAMERA_WIDTH_PX: Final = 640
_SMALL_PX: Final = 192
_KIND_SHARES: Final = (0.64, 0.18, 0.18)
_ACTIONS: Final = ("rest", "hover", "carry", "pick_up", "put_down", "drop", "push", "roll")
_ACTION_SHARES: Final = (0.07, 0.09, 0.16, 0.15, 0.15, 0.20, 0.09, 0.09)


class View(Protocol):
    """A scene that can be filmed."""

    def draw(self, canvas: Canvas, time_s: float, shake: Point = (0.0, 0.0)) -> None:
        """Draw the frame of a time."""

    def truth(self, time_s: float) -> MomentTruth:
        """Return what the frame of a time shows."""

    def clip_truth(self, times_s: tuple[float, ...]) -> ClipTruth:
        """Return the truth of some frames."""


@dataclass(frozen=True, eq=False)
class WatchScene:
    """A view, and the times at which it is filmed: one tuple of times for each chunk of frames."""

    kind: Kind
    view: View
    flaws: CameraFlaws
    chunk_times_s: tuple[tuple[float, ...], ...]

    def frame(self, time_s: float, width_px: int = CAMERA_WIDTH_PX) -> Picture:
        """Return the camera's picture [height, width, 3] of a time, red first."""
        canvas = Canvas(width_px, smooth=width_px > _SMALL_PX)
        self.view.draw(canvas, time_s, self.flaws.shake())
        return self.flaws.apply(canvas.picture)

    def small_frame(self, time_s: float, side_px: int) -> Picture:
        """Return the picture as a model's image processor makes it: a square, whatever the shape of the frame."""
        return np.asarray(
            cv2.resize(self.frame(time_s, _SMALL_PX), (side_px, side_px), interpolation=cv2.INTER_AREA), np.uint8
        )

    def truth(self, chunk: int = 0) -> ClipTruth:
        """Return the truth of a chunk."""
        return self.view.clip_truth(self.chunk_times_s[chunk])


@dataclass(frozen=True, eq=False)
class WatchClip:
    """Frames, their times and their truth."""

    frames: tuple[Picture, ...]
    times_s: tuple[float, ...]
    truth: ClipTruth


def scene(seed: int, kind: Kind | None = None, *, frames: int | None = None, chunks: int = 1) -> WatchScene:
    """Return the scene of a seed; ``frames`` is how many a chunk has, of 1 to 6 if not given."""
    random = np.random.default_rng([seed, 77])
    drawn = KINDS[int(random.choice(3, p=_KIND_SHARES))]
    kind = kind or drawn
    drawn_frames = int(random.choice((1, 2, 3, 4, 5, 6), p=(0.08, 0.08, 0.12, 0.44, 0.10, 0.18)))
    count = frames or drawn_frames
    span_s = 0.0 if count == 1 else float(random.uniform(0.6, 1.4))
    step_s = span_s / (count - 1) if count > 1 else 0.3
    length_s = chunks * span_s + (chunks - 1) * step_s
    start_s, view = _filmed(random, kind, length_s)
    starts = [start_s + chunk * (span_s + step_s) for chunk in range(chunks)]
    times = tuple(tuple(float(start + i * step_s) for i in range(count)) for start in starts)
    return WatchScene(kind, view, CameraFlaws(random), times)


def clip(
    seed: int, kind: Kind | None = None, *, frames: int | None = None, width_px: int = CAMERA_WIDTH_PX
) -> WatchClip:
    """Return a clip of one chunk with its truth."""
    filmed = scene(seed, kind, frames=frames)
    times_s = filmed.chunk_times_s[0]
    return WatchClip(tuple(filmed.frame(time_s, width_px) for time_s in times_s), times_s, filmed.truth())


def _filmed(random: np.random.Generator, kind: Kind, length_s: float) -> tuple[float, View]:
    if kind == "court":
        return 0.0, RallyView(random, max(1.0, length_s))
    if kind == "road":
        return 0.0, RoadView(random, max(1.0, length_s))
    script = ArmScript(random, random_objects(random, int(random.choice((1, 2, 3, 4), p=(0.15, 0.3, 0.35, 0.2)))))
    action = _ACTIONS[int(random.choice(len(_ACTIONS), p=_ACTION_SHARES))]
    holds = action in {"carry", "put_down", "drop"} or (action == "rest" and random.uniform() < 0.3)
    script.start(int(random.integers(len(script.objects))) if holds else None)
    best_s = script.act(action)
    start_s = max(0.0, best_s - float(random.uniform(0.15, 0.85)) * max(length_s, 0.05))
    while script.end_s < start_s + length_s:
        script.act(_ACTIONS[int(random.choice(len(_ACTIONS), p=_ACTION_SHARES))])
    return start_s, ArmView(script, random)


@dataclass(frozen=True, eq=False)
class ArmEpisode:
    """The arm at work for some time: it moves objects about and drops some."""

    scene: WatchScene
    length_s: float
    events: tuple[WatchEvent, ...]

    def frame(self, time_s: float, width_px: int = CAMERA_WIDTH_PX) -> Picture:
        """Return the camera's picture of a time."""
        return self.scene.frame(time_s, width_px)

    def truth(self, times_s: Sequence[float]) -> ClipTruth:
        """Return the truth of the frames of some times."""
        return self.scene.view.clip_truth(tuple(times_s))


def arm_episode(seed: int, length_s: float) -> ArmEpisode:
    """Return an episode: objects are carried about, pushed and put down, and about every third one is dropped."""
    random = np.random.default_rng([seed, 78])
    script = ArmScript(random, random_objects(random, 3))
    script.start(None)
    round_of = 0
    while script.end_s < length_s:
        script.act("pick_up")
        script.act("carry")
        script.act("drop" if round_of % 3 == 1 else "put_down")
        script.act(("rest", "push", "hover")[round_of % 3])
        round_of += 1
    view = ArmView(script, random)
    filmed = WatchScene("arm", view, CameraFlaws(random), ((0.0,),))
    events = tuple(event for event in script.events if event.start_s < length_s)
    return ArmEpisode(filmed, length_s, events)
