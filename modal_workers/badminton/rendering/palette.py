"""Colours of players and overlay: distinct on green, blue and wooden floors."""

from __future__ import annotations

from typing import Final

Colour = tuple[int, int, int]  # red, green, blue

PLAYERS: Final[tuple[Colour, ...]] = ((77, 184, 255), (255, 138, 76), (178, 240, 92), (224, 150, 255))
SHUTTLE: Final[Colour] = (255, 226, 64)
WHITE: Final[Colour] = (244, 247, 251)
QUIET: Final[Colour] = (168, 178, 194)
PANEL: Final[Colour] = (13, 17, 24)
OUTLINE: Final[Colour] = (10, 12, 16)
FLOOR: Final[Colour] = (24, 58, 52)
LINE: Final[Colour] = (190, 205, 205)
PLAY: Final[Colour] = (61, 214, 140)


def player_colour(player: int) -> Colour:
    """Return the colour of a player by id."""
    return PLAYERS[player % len(PLAYERS)]


def bgr(colour: Colour) -> Colour:
    """Return a colour in OpenCV's order."""
    return colour[2], colour[1], colour[0]


def hexadecimal(colour: Colour) -> str:
    """Return a colour as CSS and matplotlib write it."""
    return "#{:02x}{:02x}{:02x}".format(*colour)
