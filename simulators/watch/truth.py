"""Truth of a clip: exactly what its frames show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from simulators.watch.names import Kind

#: Left, top, right and bottom, each as a share of the picture.
Region = tuple[float, float, float, float]


@dataclass(frozen=True)
class Entity:
    """A thing in one frame.

    ``x`` and ``y`` are the middle of its picture as shares of width and height, without the camera's shake; ``depth``
    is 0 far away and 1 near; ``height`` is how far it is above the ground, as a share of the picture's height.
    ``state`` is a value of its own: the curve of a road (negative is left), the opening of the gripper, 1 of a shuttle
    in the air and of a car that brakes. ``lane`` is 0 for our lane, -1 for the one on its left.
    """

    noun: str
    colour: str
    x: float
    y: float
    depth: float
    height: float
    region: Region
    state: float = 0.0
    lane: float = 0.0


@dataclass(frozen=True)
class MomentTruth:
    """One frame. ``held`` is the index of the entity in the gripper; ``gripping`` says that it opens or closes now."""

    time_s: float
    entities: tuple[Entity, ...]
    held: int | None = None
    gripping: bool = False


@dataclass(frozen=True)
class WatchEvent:
    """Something that happened between two times: picked_up, put_down, dropped, hit, landed, turned, braked."""

    name: str
    entity: int
    start_s: float
    end_s: float


@dataclass(frozen=True)
class ClipTruth:
    """The frames of a clip and the events at the time of the clip, also those between frames."""

    kind: Kind
    frames: tuple[MomentTruth, ...]
    events: tuple[WatchEvent, ...]

    @property
    def last(self) -> MomentTruth:
        """The last frame: places are told of it."""
        return self.frames[-1]

    def of(self, indices: Sequence[int]) -> ClipTruth:
        """Return the truth of some of the frames: what a model knows that is shown only these."""
        return ClipTruth(self.kind, tuple(self.frames[i] for i in indices), self.events)
