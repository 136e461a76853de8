"""Contacts: where one flight ends and another begins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.rallies.flight_piece import FlightPiece
from modal_workers.badminton.rallies.space_flights import contact_time

Floats = NDArray[np.float64]

#: After a longer gap between two flights the time of the contact is not known from their paths in the picture.
LONGEST_CONTACT_GAP_S: Final = 0.2


@dataclass(frozen=True)
class Contact:
    """A place where a flight begins, whatever made it begin."""

    time_s: float
    frame: int
    place_px: Floats
    before: FlightPiece | None
    after: FlightPiece

    @property
    def time_known(self) -> bool:
        """Whether the flights on both sides say when it was."""
        return self.before is not None and self.after.start_s - self.before.end_s <= LONGEST_CONTACT_GAP_S


def find_contacts(flights: Sequence[FlightPiece], times_s: Floats) -> list[Contact]:
    """Return where flights begin; times are those at which the paths before and after meet best."""
    contacts: list[Contact] = []
    for index, flight in enumerate(flights):
        before = flights[index - 1] if index and flights[index - 1].chain == flight.chain else None
        if before is None:
            time_s, place = flight.start_s, flight.position_px(flight.start_s)
        else:
            time_s = contact_time(before, flight)
            place = (before.position_px(time_s) + flight.position_px(time_s)) / 2
        contacts.append(Contact(time_s, int(np.abs(times_s - time_s).argmin()), place, before, flight))
    return contacts
