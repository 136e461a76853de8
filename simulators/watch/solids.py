"""Pictures of the objects on the table, each standing on a point."""

from __future__ import annotations

from typing import Final

from simulators.watch.canvas import Canvas, Point, shaded
from simulators.watch.names import Colour

#: Height of each shape in half widths.
HEIGHTS: Final = {"cube": 1.9, "ball": 2.0, "cone": 2.3, "cylinder": 2.1, "ring": 2.0, "bottle": 3.0}


def draw_solid(canvas: Canvas, shape: str, foot: Point, half: float, colour: Colour) -> None:
    """Draw an object that stands on ``foot`` and is two ``half`` wide."""
    _DRAW[shape](canvas, *foot, half, colour)


def _cube(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    top, back = bottom - 1.5 * half, bottom - 1.9 * half
    left, right = x - half, x + 0.7 * half
    canvas.box(left, top, right, bottom, colour)
    canvas.polygon(((left, top), (right, top), (x + half, back), (left + 0.3 * half, back)), shaded(colour, 1.3))
    canvas.polygon(
        ((right, top), (right, bottom), (x + half, bottom - 0.4 * half), (x + half, back)), shaded(colour, 0.7)
    )


def _ball(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    canvas.ellipse((x, bottom - half), (half, half), shaded(colour, 0.9))
    canvas.ellipse((x - 0.15 * half, bottom - 1.15 * half), (0.72 * half, 0.72 * half), shaded(colour, 1.05))
    canvas.ellipse((x - 0.3 * half, bottom - 1.4 * half), (0.22 * half, 0.22 * half), shaded(colour, 1.5))


def _cone(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    base = bottom - 0.25 * half
    canvas.ellipse((x, base), (half, 0.25 * half), shaded(colour, 0.8))
    canvas.polygon(((x, bottom - 2.3 * half), (x + half, base), (x - half, base)), colour)
    canvas.polygon(((x, bottom - 2.3 * half), (x + half, base), (x + 0.3 * half, bottom)), shaded(colour, 0.75))


def _cylinder(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    wide, base, top = 0.85 * half, bottom - 0.25 * half, bottom - 1.85 * half
    canvas.ellipse((x, base), (wide, 0.25 * half), shaded(colour, 0.85))
    canvas.box(x - wide, top, x + wide, base, shaded(colour, 0.9))
    canvas.ellipse((x, top), (wide, 0.27 * half), shaded(colour, 1.3))


def _ring(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    canvas.ellipse((x, bottom - half), (0.78 * half, 0.78 * half), colour, width=0.42 * half)


def _bottle(canvas: Canvas, x: float, bottom: float, half: float, colour: Colour) -> None:
    wide, neck, shoulder = 0.58 * half, 0.2 * half, bottom - 1.8 * half
    canvas.box(x - wide, shoulder, x + wide, bottom, colour)
    canvas.ellipse((x, shoulder), (wide, 0.35 * half), colour)
    canvas.box(x - neck, bottom - 2.8 * half, x + neck, shoulder, shaded(colour, 0.9))
    canvas.box(x - 1.3 * neck, bottom - 3 * half, x + 1.3 * neck, bottom - 2.7 * half, shaded(colour, 0.6))
    canvas.box(x - wide, bottom - 1.2 * half, x + wide, bottom - 0.7 * half, shaded(colour, 1.35))


_DRAW: Final = {"cube": _cube, "ball": _ball, "cone": _cone, "cylinder": _cylinder, "ring": _ring, "bottle": _bottle}
