"""The object of a capture: its place, the confidence in it, and what else could be meant. Pydantic only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Doubt = Literal[
    "no_object",
    "several_objects",
    "background_close",
    "aim_unclear",
    "few_points",
    "hint_without_points",
    "hint_photo_left_out",
]

_NAMED: Final = 5
#: Name in ``dataset.zip``.
OBJECT: Final = "object.json"
#: What each doubt means to a person.
DOUBTS: Final[dict[Doubt, str]] = {
    "no_object": "Nothing stands out from its background where the photos look.",
    "several_objects": "Several things stand where the photos look, and none of them more so than the others.",
    "background_close": "What the photos look at cannot be told from what is behind it.",
    "aim_unclear": "What stands out is not where the photos look.",
    "few_points": "The object has too few points that several photos show.",
    "hint_without_points": "Nothing that several photos show is where object_hint points.",
    "hint_photo_left_out": "The photo of object_hint has no camera pose, so that the hint could not be used.",
}


def find_named(photo: str, names: Sequence[str]) -> int | None:
    """Return the index of the photo that is called so: exactly, without its folder, or without its extension."""
    wanted = photo.lower()
    for key in (
        str.lower,
        lambda name: PurePosixPath(name.lower()).name,
        lambda name: PurePosixPath(name.lower()).stem,
    ):
        for index, name in enumerate(names):
            if key(name) == wanted or key(name) == key(photo):
                return index
    return None


def unknown_photo(photo: str, names: Sequence[str]) -> str:
    """Return the words for a photo that was not sent."""
    known = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"no photo is called {photo!r}; the photos are {known or 'none'}"


_Place = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class ObjectHint(BaseModel):
    """A place of the object in one photo: a point on it, or a box around it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    photo: str = Field(min_length=1, max_length=255, description="Name of the photo, as it was sent.")
    x: _Place | None = Field(
        default=None, description="A point on the object, from the left: a fraction of the width up to 1, or px."
    )
    y: _Place | None = Field(default=None, description="From the top: a fraction of the height up to 1, or px.")
    box: tuple[_Place, _Place, _Place, _Place] | None = Field(
        default=None, description="Instead of a point: left, top, right and bottom, as fractions or in px."
    )

    @model_validator(mode="after")
    def _point_or_box(self) -> Self:
        point = self.x is not None and self.y is not None
        if (self.x is None) != (self.y is None) or point == (self.box is not None):
            raise ValueError("give either x and y, or box")
        if self.box is not None and (self.box[0] >= self.box[2] or self.box[1] >= self.box[3]):
            raise ValueError("box is left, top, right, bottom, and has an area")
        return self

    @property
    def values(self) -> tuple[float, ...]:
        """X and y, or the sides of the box."""
        if self.box is not None:
            return self.box
        assert self.x is not None
        assert self.y is not None
        return self.x, self.y

    def fractions(self, width_px: int, height_px: int) -> tuple[float, ...]:
        """Return the values as fractions of an upright photo; above 1 they are outside."""
        if max(self.values) <= 1:
            return self.values
        return tuple(value / (height_px if axis % 2 else width_px) for axis, value in enumerate(self.values))


class ObjectChoice(BaseModel):
    """One thing that may be meant: a box in the frame of the poses, turned about z."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(description="object, both, first, second, with_background or all_around.")
    centre: tuple[float, float, float]
    size: tuple[float, float, float]
    yaw_rad: float = 0.0
    points: int = Field(description="Points of the sparse model in it.")
    standing: float = Field(ge=0, le=1, description="How well it fits what the photos look at.")
    margin: float = Field(
        default=1.15,
        description="The box is grown by this factor, which adds nothing else: plain parts have no points.",
    )

    @property
    def radius(self) -> float:
        """Radius of the sphere around the box."""
        return math.hypot(*self.size) / 2


class ObjectEvidence(BaseModel):
    """Measures that speak for the object, each in 0..1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    aim: float = Field(ge=0, le=1, description="How near it is to the crossing of the optical axes.")
    depth: float = Field(ge=0, le=1, description="Whether points in the middle of the photos are as far away as it.")
    foreground: float = Field(ge=0, le=1, description="Its share of the points in the middle of the photos.")
    separation: float = Field(ge=0, le=1, description="How far it stands apart from everything else.")
    alone: float = Field(ge=0, le=1, description="How much better it fits than the next thing.")
    points: float = Field(ge=0, le=1, description="Whether enough points and photos show it.")


class BackgroundFigures(BaseModel):
    """A plane behind the object: ``normal @ point > height`` is in front of it.

    Without a gap it is no surface: it is where the back of an open arc begins, which no photo shows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    normal: tuple[float, float, float]
    height: float
    gap: float
    level: bool


class FoundObject(BaseModel):
    """The object, in the frame of the poses. The first choice is the one that is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Literal["cameras", "hint", "masks"]
    confidence: float = Field(ge=0, le=1)
    doubt: Doubt | None = None
    evidence: ObjectEvidence | None = None
    choices: tuple[ObjectChoice, ...]
    background: tuple[BackgroundFigures, ...] = ()

    @property
    def chosen(self) -> ObjectChoice:
        """The choice that is used."""
        return self.choices[0]
