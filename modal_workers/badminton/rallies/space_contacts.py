"""Contacts in space: who of the players could have sent the shuttle on its flight, and when.

Every explanation of a flight is fitted: a hit by each player from where the player stood, at each possible time; a
bounce where the flight before ended; and a flight from anywhere. Explanations are compared by their evidence in
Laplace's approximation: the fit, and how much of what was possible before fits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.court.dimensions import COURT_WIDTH_M, NET_Y_M
from modal_workers.badminton.rallies.chained_flights import FlightEnd, linked
from modal_workers.badminton.rallies.contacts import Contact
from modal_workers.badminton.rallies.flight_model import Prior, fly
from modal_workers.badminton.rallies.flight_piece import SpacePath
from modal_workers.badminton.rallies.net_ends import NetEnd, find_net_ends, joined
from modal_workers.badminton.rallies.reach import RacketReach
from modal_workers.badminton.rallies.space_flights import refit

Floats = NDArray[np.float64]

#: Kinds of hits: mean of the height, of the speed away from the own half and of the speed upwards; and the spreads of
#: the height and the three speeds. Any shot; a high service or lift from below, which
#: leaves the racket faster than any other shot that rises; and a soft shot at the net, which is as slow as what falls
#: off the net, and would lose against that if it had to share the spread of all shots.
_HITS: Final = (
    (np.array([1.4, 12.0, 3.0]), np.array([0.75, 5.0, 12.0, 11.0])),
    (np.array([0.9, 18.0, 28.0]), np.array([0.35, 5.0, 9.0, 14.0])),
    (np.array([1.2, 3.0, 3.0]), np.array([0.4, 1.5, 1.5, 1.5])),
)
#: Spread of the place of a hit around the player, and around the middle of a half, at this distance from the net, on
#: which no player is seen.
_REACH_M: Final = (0.7, 0.7)
_ANYWHERE_M: Final = (1.5, 2.2)
_MIDDLE_M: Final = 3.4
#: A bounce: it begins at the floor, slowly.
_BOUNCE_SPREAD: Final = np.array([0.5, 0.5, 0.15, 1.2, 1.2, 1.2])
#: The same at the net: the flight before ends near its plane and not above it, and the shuttle falls down there. Its
#: end may be so many standard deviations away.
_NET_SEEN_M: Final = 1.0
_NET_DEVIATIONS: Final = 3.0
_NET_TOP_M: Final = 1.9
_NET_SPREAD: Final = np.array([0.5, 0.3, 0.4, 1.0, 1.5, 1.5])
#: A start that was not seen is looked for at these times before the flight was first seen: first in small steps, as a
#: fast shuttle is metres away after one frame. Most starts are in the picture, so most are seen soon.
_UNSEEN_S: Final = np.concatenate([np.arange(4) * 0.02, 0.08 + np.arange(27) * 0.08])
_SEEN_SOON: Final = 0.7
_SOON_S: Final = 0.1
#: Each frame in which the shuttle would have been in the picture and was not tracked costs this, up to a limit.
_UNSEEN_COST: Final = 1.2
_MOST_UNSEEN_COST: Final = 12.0
#: After a flight that ends at the net nothing is hit for this long.
_QUIET_S: Final = 0.6
#: Log probability of a hit after which the shuttle comes down on the hitter's own side without the net, beside others,
#: and the distance from the net from which on that is sure.
_SHORT: Final = -4.0
_SHORT_M: Final = 0.4
#: Log probabilities before: of a bounce, of a flight from anywhere.
_BOUNCE: Final = -1.0
_ANYWHERE: Final = -3.0
#: Explanations fitted between two checks whether the job is to stop: some batches of space_flights.py.
_FITTED_AT_ONCE: Final = 1024
#: Log odds of a hit by a player whose place is not known.
_NO_HIT: Final = -20.0
#: In place of a player's number.
_BOUNCES: Final = -1
_FROM_ANYWHERE: Final = -2


@dataclass(frozen=True)
class SpaceContact:
    """A contact with its best explanation.

    ``by_player``: log odds of a hit by each player against no hit; ``by_unseen`` of one by a player who is not known to
    be anywhere.
    """

    contact: Contact
    by_player: Floats
    by_unseen: float


@dataclass(frozen=True)
class _Explanation:
    contact: int
    player: int  # one more than the last for somebody who is not seen; or _BOUNCES, _FROM_ANYWHERE
    time_s: float
    path: SpacePath
    mean: Floats
    spread: Floats
    log_prior: float


def explain_contacts(
    contacts: Sequence[Contact],
    reach: RacketReach,
    times_s: Floats,
    check: Callable[[], None] = lambda: None,
) -> list[SpaceContact]:
    """Return the contacts whose flights are known in space with the players who may have made them.

    A contact whose time the flights do not say gets the time of its best explanation. ``check`` is called every second
    or so; what it raises stops the work.
    """
    hits = [
        explanation
        for number, contact in enumerate(contacts)
        for explanation in (*_hits(number, contact, reach, times_s), _anywhere(number, contact))
    ]
    fitted = _fit(hits, contacts, times_s, check)
    best = _best(_chained(fitted, contacts))
    # Where a flight ended is known best once it is known who hit it.
    others = [
        explanation
        for number, contact in enumerate(contacts)
        for explanation in _no_hits(number, contact, best.get(number - 1))
    ]
    fitted = _chained(fitted + _fit(others, contacts, times_s, check), contacts)
    best = _best(fitted)
    judged = _Judged.of(fitted, best, contacts, reach.player_count, times_s)
    # From the last on: whether a flight ended at the net depends on what can be said of the next piece without that.
    of_contact: dict[int, list[_Fitted]] = {number: [] for number in range(len(contacts))}
    for each in fitted:
        of_contact[each.explanation.contact].append(each)
    for number in reversed(range(len(contacts))):
        check()
        judged.end_at_net(number, contacts, of_contact[number])
    return judged.contacts()


@dataclass
class _Judged:
    """Log evidence of a hit by each player and of no hit, of each contact, and its best explanation."""

    by_player: Floats  # [contacts, players and one who is not seen]
    none: Floats
    explained: list[Contact]
    times_s: Floats

    @classmethod
    def of(
        cls,
        fitted: Sequence[_Fitted],
        best: Mapping[int, _Fitted],
        contacts: Sequence[Contact],
        player_count: int,
        times_s: Floats,
    ) -> _Judged:
        by_player = np.full((len(contacts), player_count + 1), -np.inf)
        none = np.full(len(contacts), -np.inf)
        for each in fitted:
            number, player = each.explanation.contact, each.explanation.player
            if player >= 0:
                by_player[number, player] = np.logaddexp(by_player[number, player], each.evidence)
            else:
                none[number] = np.logaddexp(none[number], each.evidence)
        explained = [_explained(contact, best[number], times_s) for number, contact in enumerate(contacts)]
        return cls(by_player, none, explained, times_s)

    def contacts(self) -> list[SpaceContact]:
        odds = np.where(np.isfinite(self.by_player), self.by_player - self.none[:, None], _NO_HIT)
        return [SpaceContact(each, row[:-1], float(row[-1])) for each, row in zip(self.explained, odds, strict=True)]

    def end_at_net(self, number: int, contacts: Sequence[Contact], fitted: Sequence[_Fitted]) -> None:
        """Consider that a flight after which nothing is hit ended at the net, with the fall there or the next piece."""
        contact, pieces = contacts[number], _until_quiet(number, contacts)
        hits = [each.explanation for each in fitted if each.explanation.player >= 0]
        if not contact.time_known or not hits or not pieces:
            return
        path, following, next_piece = hits[0].path, None, 0.0
        if len(pieces) > 1:
            following = pieces[1]
            fallen = contacts[following].after.space
            assert fallen is not None
            path, next_piece = joined(path, fallen), self._all(following)
        ends = find_net_ends(path, contact.time_s, [(each.mean, each.spread, each.log_prior) for each in hits])
        if not ends:
            return
        end_s = contact.after.end_s
        without = np.logaddexp.reduce([each.evidence + _SHORT * _falls_short(each, end_s) for each in fitted])
        joins = [each.joins for each in fitted if each.explanation.player >= 0]
        ends = [replace(end, evidence=end.evidence + joins[end.hit]) for end in ends]
        for end in ends:
            player = hits[end.hit].player
            self.by_player[number, player] = np.logaddexp(self.by_player[number, player], end.evidence - next_piece)
        at_net = float(np.logaddexp.reduce([end.evidence for end in ends]))
        if following is not None:
            self.none[following] = np.logaddexp(self.none[following], at_net - without)
        if at_net > without + next_piece:
            best = max(ends, key=lambda end: end.evidence)
            self.explained[number] = _ended_at_net(contact, best, self.times_s)
            if following is not None:
                self.explained[following] = _met_net(contacts[following], best, self.times_s)

    def _all(self, number: int) -> float:
        return float(np.logaddexp.reduce([self.none[number], *self.by_player[number]]))


def _falls_short(fitted: _Fitted, end_s: float) -> bool:
    """Return whether a flight is that of a hit which ends on the hitter's own side."""
    if fitted.explanation.player < 0:
        return False
    beyond_m = float(fitted.path.place_m(end_s)[1] - NET_Y_M) * np.sign(fitted.explanation.mean[4])
    return bool(beyond_m < -_SHORT_M)


def _until_quiet(number: int, contacts: Sequence[Contact]) -> list[int]:
    """Return a contact, with the next one if that belongs to it, if nothing follows them soon; else nothing."""
    pieces = [number]
    if number + 1 < len(contacts) and not _quiet_after(number, contacts):
        pieces.append(number + 1)
        if not contacts[number + 1].time_known:
            return []
    return pieces if _quiet_after(pieces[-1], contacts) else []


def _quiet_after(number: int, contacts: Sequence[Contact]) -> bool:
    following = contacts[number + 1] if number + 1 < len(contacts) else None
    return following is None or following.after.start_s - contacts[number].after.end_s >= _QUIET_S


def _ended_at_net(contact: Contact, end: NetEnd, times_s: Floats) -> Contact:
    last = int(np.searchsorted(times_s, end.end_s)) - 1
    return replace(contact, after=replace(contact.after, end_s=end.end_s, last_frame=last, space=end.path))


def _met_net(contact: Contact, end: NetEnd, times_s: Floats) -> Contact:
    """Return the contact with which the fall at the net begins."""
    place = end.fall.camera.project(end.fall.place_m(end.end_s)[None])[0]
    frame = int(np.abs(times_s - end.end_s).argmin())
    return replace(contact, time_s=end.end_s, frame=frame, place_px=place, after=replace(contact.after, space=end.fall))


@dataclass(frozen=True)
class _Fitted:
    explanation: _Explanation
    path: SpacePath
    evidence: float
    #: Part of the evidence: how well the flight joins the one before.
    joins: float = 0.0


def _chained(fitted: Sequence[_Fitted], contacts: Sequence[Contact]) -> list[_Fitted]:
    """Return the explanations with what the best one of the contact before says of where their flights began."""
    of_contact: dict[int, list[_Fitted]] = {number: [] for number in range(len(contacts))}
    for each in fitted:
        of_contact[each.explanation.contact].append(each)
    before: _Fitted | None = None
    for number, contact in enumerate(contacts):
        found = of_contact[number]
        if before is not None and contact.before is not None and _follows(contacts[number - 1], contact):
            end = FlightEnd.of(before.path, contact.time_s)
            found = of_contact[number] = [_linked(each, end) for each in found]
        before = max(found, key=lambda each: each.evidence, default=None)
    return [each for found in of_contact.values() for each in found]


def _follows(before: Contact, contact: Contact) -> bool:
    return contact.time_known and contact.before is not None and contact.before.start_s == before.after.start_s


def _linked(fitted: _Fitted, before: FlightEnd) -> _Fitted:
    if fitted.explanation.player == _BOUNCES:  # begins where the flight before ended anyway
        return fitted
    path, joins = linked(fitted.path, before)
    return replace(fitted, path=path, evidence=fitted.evidence + joins, joins=joins)


def _fit(
    explanations: Sequence[_Explanation], contacts: Sequence[Contact], times_s: Floats, check: Callable[[], None]
) -> list[_Fitted]:
    found: list[_Fitted] = []
    for low in range(0, len(explanations), _FITTED_AT_ONCE):
        check()
        some = explanations[low : low + _FITTED_AT_ONCE]
        prior = Prior(np.array([each.mean for each in some]), np.array([each.spread for each in some]))
        paths, costs = refit([each.path for each in some], [each.time_s for each in some], prior)
        firsts_s = [contacts[each.contact].after.start_s for each in some]
        unseen = _unseen_costs(paths, firsts_s, times_s)
        for each, path, cost, missed in zip(some, paths, costs, unseen, strict=True):
            possible = -float(np.log(each.spread).sum()) + 0.5 * float(np.linalg.slogdet(path.covariance)[1])
            found.append(_Fitted(each, path, each.log_prior - float(cost) / 2 + possible - missed))
    return found


def _best(fitted: Sequence[_Fitted]) -> dict[int, _Fitted]:
    """Return the best explanation of each contact."""
    best: dict[int, _Fitted] = {}
    for each in fitted:
        number = each.explanation.contact
        if number not in best or each.evidence > best[number].evidence:
            best[number] = each
    return best


def _unseen_costs(paths: Sequence[SpacePath], firsts_s: Sequence[float], times_s: Floats) -> list[float]:
    """Return what the frames say in which the shuttle would have been in the picture before it was first seen."""
    origins_s = np.array([path.origin_s for path in paths])
    low, high = np.searchsorted(times_s, [origins_s + 1e-6, np.array(firsts_s) - 1e-6])
    costs = [0.0] * len(paths)
    early = np.flatnonzero(high > low)
    if not len(early):
        return costs
    frames = np.minimum(low[early, None] + np.arange((high - low)[early].max()), high[early, None] - 1)
    missed = np.arange(frames.shape[1]) < (high - low)[early, None]
    places = fly(np.array([paths[row].state for row in early.tolist()]), times_s[frames] - origins_s[early, None])
    for row, place, counted in zip(early.tolist(), places, missed, strict=True):
        camera = paths[row].camera
        pixels = camera.project(place)
        inside = counted & ((pixels > 0) & (pixels < np.array(camera.picture_size))).all(1)
        costs[row] = float(min(_UNSEEN_COST * inside.sum(), _MOST_UNSEEN_COST))
    return costs


def _hits(number: int, contact: Contact, reach: RacketReach, times_s: Floats) -> list[_Explanation]:
    path = contact.after.space
    assert path is not None
    found: list[_Explanation] = []
    for time_s, likely in _possible_times(contact):
        frame = int(np.abs(times_s - time_s).argmin())
        for player, place, side, place_spread in _hitters(reach, frame):
            for (height, away, up), spread in _HITS:
                mean = np.array([*place, height, 0.0, -side * away, up])
                spreads = np.array([*place_spread, *spread])
                log_prior = float(np.log(likely / len(_HITS)))
                found.append(_Explanation(number, player, time_s, path, mean, spreads, log_prior))
    return found


def _hitters(reach: RacketReach, frame: int) -> list[tuple[int, Floats, int, tuple[float, float]]]:
    """Return number, place, half and spread of the place of everybody who may hit: also who is not seen on a half."""
    places, sides = reach.places_m(frame), reach.sides(frame)
    known = np.isfinite(places).all(axis=1)
    found = [(player, places[player], sides[player], _REACH_M) for player in np.flatnonzero(known).tolist()]
    halves = np.where(known, np.sign(places[:, 1] - NET_Y_M), 0)
    for half in (-1, 1):
        if half not in halves:
            middle = np.array([COURT_WIDTH_M / 2, NET_Y_M + half * _MIDDLE_M])
            found.append((reach.player_count, middle, half, _ANYWHERE_M))
    return found


def _anywhere(number: int, contact: Contact) -> _Explanation:
    assert contact.after.space is not None
    anyhow = Prior.of_any(1)
    return _Explanation(
        number, _FROM_ANYWHERE, contact.time_s, contact.after.space, anyhow.mean[0], anyhow.spread[0], _ANYWHERE
    )


def _no_hits(number: int, contact: Contact, before: _Fitted | None) -> list[_Explanation]:
    """Return the bounces on floor and net that could have ended the flight before."""
    path, time_s = contact.after.space, contact.time_s
    if before is None or contact.before is None or not contact.time_known:
        return []
    assert path is not None
    place, covariance = before.path.place_m(time_s), before.path.place_covariance(time_s)
    error = np.minimum(np.sqrt(np.diag(covariance)[:2]), 6.0)
    spread = _BOUNCE_SPREAD.copy()
    spread[:2] = np.hypot(spread[:2], error)
    mean = np.array([place[0], place[1], 0.05, 0.0, 0.0, 0.5])
    found = [_Explanation(number, _BOUNCES, time_s, path, mean, spread, _BOUNCE)]
    # How far away from the camera a short flight ended is hardly known: where it would have met the net.
    away_m, expected_m = NET_Y_M - place[1], float(np.hypot(error[1], _NET_SEEN_M))
    met = place + covariance[:, 1] / max(covariance[1, 1], 1e-9) * away_m
    if abs(away_m) < _NET_DEVIATIONS * expected_m and 0 < met[2] < _NET_TOP_M:
        mean = np.array([met[0], NET_Y_M, met[2], 0.0, 0.0, -0.5])
        log_prior = _BOUNCE - (away_m / expected_m) ** 2 / 2
        found.append(_Explanation(number, _BOUNCES, time_s, path, mean, _NET_SPREAD, log_prior))
    return found


def _possible_times(contact: Contact) -> list[tuple[float, float]]:
    """Return times at which a flight may have begun, and how likely each is before."""
    if contact.time_known:
        return [(contact.time_s, 1.0)]
    latest = contact.after.start_s
    earliest = -np.inf if contact.before is None else contact.before.end_s
    before_s = _UNSEEN_S[latest - _UNSEEN_S >= earliest]
    width_s = np.gradient(before_s) if len(before_s) > 1 else np.ones(1)
    likely = width_s * (_SEEN_SOON * np.exp(-before_s / _SOON_S) / _SOON_S + (1 - _SEEN_SOON) / _UNSEEN_S[-1])
    return [(latest - float(early), float(share)) for early, share in zip(before_s, likely / likely.sum(), strict=True)]


def _explained(contact: Contact, best: _Fitted, times_s: Floats) -> Contact:
    time_s, path = best.explanation.time_s, best.path
    place = path.camera.project(path.place_m(time_s)[None])[0] if not contact.time_known else contact.place_px
    frame = int(np.abs(times_s - time_s).argmin())
    return replace(contact, time_s=time_s, frame=frame, place_px=place, after=replace(contact.after, space=path))
