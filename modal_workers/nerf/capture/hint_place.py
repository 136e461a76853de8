"""Placement of a hint in the photos of a capture. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.nerf.capture.working_copies import WorkingCopy
from modal_workers.nerf.found_object import ObjectHint, find_named, unknown_photo


def place_hint(hint: ObjectHint, photos: Sequence[WorkingCopy]) -> dict[str, Any]:
    """Return the name of the working copy and the hint as fractions of it, for ``capture.json``.

    Raises:
        SaccadeError: INVALID_PARAMETER, there is no such photo, or the hint is outside of it.
    """
    names = [photo.original_name for photo in photos]
    index = find_named(hint.photo, names)
    if index is None:  # the names in the results
        index = find_named(hint.photo, [f"{photo.name}.jpg" for photo in photos])
    if index is None:
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"object_hint: {unknown_photo(hint.photo, names)}.",
            hint="Name one of the photos as it was sent, or as it is called in images.zip.",
        )
    photo = photos[index]
    width_px, height_px = photo.original_width_px, photo.original_height_px
    fractions = hint.fractions(width_px, height_px)
    if max(fractions) > 1:
        raise SaccadeError(
            ErrorCode.INVALID_PARAMETER,
            f"object_hint is outside of {photo.original_name}, which has {width_px} x {height_px} px.",
            hint="Give fractions of the upright photo, from 0 to 1, or px inside of it.",
        )
    return {"photo": photo.name, "values": list(fractions)}
