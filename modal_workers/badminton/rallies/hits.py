"""Hits: contacts of racket and shuttle, each with its hitter where the evidence says who it was.

A contact is where one flight ends and another begins. Whether it was a racket's follows from the change of velocity and
from a player in reach; who it was follows from the reach and from the rule that the two sides hit in turn. All contacts
of a rally are judged together (forward-backward over the side that hit last).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.contacts import Contact, find_contacts
from modal_workers.badminton.rallies.flights import find_flights
from modal_workers.badminton.rallies.rally import Hit
from modal_workers.badminton.rallies.reach import RacketReach, reach_likelihood
from modal_workers.badminton.rallies.space_contacts import explain_contacts
from modal_workers.badminton.shuttle.linking import REFERENCE_HEIGHT_PX, SegmentFrames
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Floats = NDArray[np.float64]

#: A hit is reported from this probability on, and a hitter from that one.
_LEAST_CONFIDENCE: Final = 0.5
_LEAST_PLAYER_CONFIDENCE: Final = 0.7
#: Probability that the same side hits again in the track: a hit between was not seen.
_SAME_SIDE: Final = 0.03
#: The same within this time: nobody hits twice so quickly.
_SAME_SIDE_SOON: Final = 0.01
_SOON_S: Final = 0.6
#: After this time without a contact, either side may be the next.
_FORGOTTEN_S: Final = 2.5
#: Scale of the picture where no player says it: pixels of a picture 720 high in a metre.
_PIXELS_PER_METRE: Final = 70.0
#: Change of velocity at which a contact is as likely a racket's as not, its slope, and the limits of its evidence.
_EVEN_CHANGE_M_S: Final = 3.0
_CHANGE_LIMITS: Final = (-4.0, 2.5)
#: Log odds: of a contact in reach of a player, of one by a player not seen, of the first of a rally.
_IN_REACH: Final = 2.2
_UNSEEN: Final = -1.5
_FIRST: Final = 0.5
#: What leaves a racket is faster than this.
_SLOWEST_M_S: Final = 1.5
#: Log odds of a hit by somebody who was not seen, where flights in space are compared with the players' places.
_UNSEEN_IN_SPACE: Final = -3.0
_SPACE_LIMITS: Final = (-12.0, 6.0)


@dataclass(frozen=True)
class JudgedContact:
    """A contact, and the hit that it is, if it is one."""

    contact: Contact
    hit: Hit | None


def judge_contacts(
    track: ShuttleTrack,
    players: PlayerTracks | None,
    times_s: Floats,
    courts: SegmentFrames,
    *,
    picture_size: tuple[int, int],
    progress: Callable[[float], None] | None = None,
) -> list[JudgedContact]:
    """Return all contacts in order of time, with those that are hits; ``progress`` as in ``find_flights``."""
    contacts = find_contacts(find_flights(track, times_s, courts, picture_size, progress), times_s)
    reach = RacketReach(players, times_s) if players is not None and players.player_count else None
    pixels = _PIXELS_PER_METRE * picture_size[1] / REFERENCE_HEIGHT_PX
    evidence = [_evidence(contact, reach, pixels) for contact in contacts]
    if reach is not None:
        contacts, evidence = _in_space(contacts, evidence, reach, times_s, progress)
    sides = [reach.sides(contact.frame) if reach else [] for contact in contacts]
    probability = _probabilities([contact.time_s for contact in contacts], evidence, sides)
    judged = [
        # A flight that comes in after a cut began with a contact that nobody saw.
        JudgedContact(each, _hit(each, shares) if _is_filmed(each.frame, courts) else None)
        for each, shares in zip(contacts, probability, strict=True)
    ]
    return sorted(judged, key=lambda each: each.contact.time_s)


def _is_filmed(frame: int, courts: SegmentFrames) -> bool:
    return any(first <= frame <= last for first, last, _ in courts)


def _hit(contact: Contact, shares: Floats) -> Hit | None:
    """Return the hit, if it is probable, from the probabilities of what it may be."""
    confidence = float(shares[1:].sum())
    if confidence < _LEAST_CONFIDENCE:
        return None
    player, player_confidence = None, 0.0
    if len(shares) > 2:
        best = int(shares[2:].argmax())
        player_confidence = float(shares[2 + best] / confidence)
        player = best if player_confidence >= _LEAST_PLAYER_CONFIDENCE else None
    place = (float(contact.place_px[0]), float(contact.place_px[1]))
    return Hit(contact.frame, contact.time_s, player, player_confidence, confidence, place)


def _in_space(
    contacts: list[Contact],
    evidence: list[Floats],
    reach: RacketReach,
    times_s: Floats,
    progress: Callable[[float], None] | None,
) -> tuple[list[Contact], list[Floats]]:
    """Return contacts and evidence with those replaced whose flights are known in space."""
    known = [index for index, contact in enumerate(contacts) if contact.after.space is not None]

    def check() -> None:
        if progress is not None:
            progress(1.0)

    explained = explain_contacts([contacts[index] for index in known], reach, times_s, check) if known else []
    contacts, evidence = list(contacts), list(evidence)
    for index, better in zip(known, explained, strict=True):
        contacts[index] = better.contact
        unseen = max(_UNSEEN_IN_SPACE, min(better.by_unseen, _SPACE_LIMITS[1]))
        evidence[index] = np.array([unseen, *np.clip(better.by_player, *_SPACE_LIMITS)])
    return contacts, evidence


def _evidence(contact: Contact, reach: RacketReach | None, pixels_per_metre: float) -> Floats:
    """Return log odds against "no hit": of a hit by somebody not seen, then of one by each player."""
    place = contact.place_px
    by_player, scale = np.zeros(0), pixels_per_metre
    if reach is not None:
        distance = reach.distances(place, contact.frame)
        by_player = np.log(np.maximum(reach_likelihood(distance), 1e-6))
        scales = reach.pixels_per_metre(contact.frame)
        if np.isfinite(distance).any():
            scale = float(scales[int(distance.argmin())])
    outgoing = contact.after.velocity_px_s(contact.time_s) / scale
    if contact.before is None:
        change = _FIRST
    else:
        incoming = contact.before.velocity_px_s(contact.time_s) / scale
        change = 2.0 * float(np.log(max(np.hypot(*(outgoing - incoming)), 0.1) / _EVEN_CHANGE_M_S))
    change = float(np.clip(change, *_CHANGE_LIMITS))
    if np.hypot(*outgoing) < _SLOWEST_M_S:
        change -= 3.0
    unseen = change + (_UNSEEN if reach is not None else 0.5)
    return np.array([unseen, *(change + _IN_REACH + by_player)])


def _probabilities(times_s: Sequence[float], evidence: Sequence[Floats], sides: Sequence[list[int]]) -> list[Floats]:
    """Return for each contact the probabilities of no hit, a hit by somebody not seen, a hit by each player.

    The state between contacts is the side that hit last: unknown, far, near.
    """
    forward = [np.array([1.0, 0.0, 0.0])]
    gaps = np.diff(times_s, prepend=-np.inf)
    steps = [
        _steps(odds, side, _SAME_SIDE_SOON if gap < _SOON_S else _SAME_SIDE)
        for odds, side, gap in zip(evidence, sides, gaps, strict=True)
    ]
    forget = [_forgetting(float(gap)) for gap in gaps]
    for step, forgetting in zip(steps, forget, strict=True):
        state = forward[-1] @ forgetting @ step.sum(0)
        forward.append(state / state.sum())
    backward = np.ones(3)
    found: list[Floats] = []
    for index in range(len(steps) - 1, -1, -1):
        start = forward[index] @ forget[index]
        joint = np.einsum("s,ost,t->o", start, steps[index], backward)
        found.append(joint / joint.sum())
        backward = forget[index] @ steps[index].sum(0) @ backward
        backward /= backward.sum()
    return found[::-1]


def _steps(odds: Floats, sides: list[int], same_side: float) -> Floats:
    """Return the weights [option, side before, side after]; options as in ``_probabilities``."""
    weight = np.zeros((len(odds) + 1, 3, 3))
    weight[0] = np.eye(3)
    weight[1, :, 0] = 0.5 * np.exp(odds[0])
    for player, side in enumerate(sides):
        after = {-1: 1, 1: 2}.get(side, 0)
        share = np.full(3, 0.5)
        if after:
            share[after], share[3 - after] = same_side, 1 - same_side
        weight[2 + player, :, after] = share * np.exp(odds[1 + player])
    return weight


def _forgetting(gap_s: float) -> Floats:
    """Return the transition of the state over a time without contacts."""
    if gap_s <= _FORGOTTEN_S:
        return np.eye(3)
    return np.array([[1.0, 0, 0]] * 3)
