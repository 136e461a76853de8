"""Rallies: from the hit of the service to the contact with floor or net after the last hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.ending import Ending, ending_of
from modal_workers.badminton.rallies.hits import JudgedContact, judge_contacts
from modal_workers.badminton.rallies.movement import find_active_periods
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.rallies.rally_confidence import rally_confidence
from modal_workers.badminton.rallies.winner import decide_winner
from modal_workers.badminton.shuttle.linking import SegmentFrames
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Floats = NDArray[np.float64]

#: Between two hits of one rally a shuttle is never out of view for longer, unless a flight joins both sides of the gap.
_LONGEST_UNSEEN_S: Final = 1.2
_LONGEST_FLIGHT_S: Final = 3.2
_LONGEST_TWO_FLIGHTS_S: Final = 4.2
#: What is called a flight over the whole time between two hits begins and ends this near to them.
_NEAR_HIT_S: Final = 0.35
#: A rally of one hit has a flight at least this long after it: a service into the net, and not a false hit.
_SHORTEST_SERVICE_S: Final = 0.35
#: A rally that ends so near to a cut was not seen to its end.
_CUT_S: Final = 0.1
_CUT_FACTOR: Final = 0.5
#: Between two rallies players pause for 10 s: a longer time without a court than two pauses may hide a rally, and who
#: serves after it does not say who won the one before.
_LONGEST_UNFILMED_S: Final = 20.0
#: Times that differ by less are the same.
_SAME_S: Final = 1e-6


@dataclass(frozen=True)
class RallySpan:
    """The hits of a rally and its end; ``cut``: the camera's frames end there."""

    hits: tuple[Hit, ...]
    ending: Ending
    cut: bool

    def seen_share(self, track: ShuttleTrack, times_s: Floats) -> float:
        """Return the share of its frames in which the shuttle was tracked."""
        inside = (times_s >= self.hits[0].time_s - _SAME_S) & (times_s <= self.ending.time_s + _SAME_S)
        return float(np.isfinite(track.position_px[inside, 0]).mean()) if inside.any() else 0.0


def find_rallies(
    hits: Sequence[Hit],
    track: ShuttleTrack,
    players: PlayerTracks | None,
    times_s: Floats,
    segments: SegmentFrames,
    *,
    mode: Literal["full", "rally_only"],
    picture_size: tuple[int, int],
    contacts: Sequence[JudgedContact] | None = None,
) -> list[Rally]:
    """Return the rallies in order of time: by the shuttle, or by the players' movement where no shuttle was tracked.

    ``contacts`` are those of ``judge_contacts``, if they are known already.
    """
    tracked = bool(np.isfinite(track.position_px[:, 0]).any())
    if mode == "rally_only" or not tracked:
        return _by_movement(players, times_s, segments)
    if contacts is None:
        contacts = judge_contacts(track, players, times_s, segments, picture_size=picture_size)
    spans = find_spans(hits, contacts, track, times_s, segments)
    rallies: list[Rally] = []
    for index, span in enumerate(spans):
        following = spans[index + 1].hits[0] if index + 1 < len(spans) else None
        if following is not None and _unfilmed_s(span.hits[-1], following, times_s, segments) > _LONGEST_UNFILMED_S:
            following = None
        verdict = decide_winner(span.hits, span.ending, following, players)
        confidence = _confidence(span, track, times_s)
        rallies.append(
            Rally(
                number=index + 1,
                first_frame=span.hits[0].frame,
                last_frame=int(np.abs(times_s - span.ending.time_s).argmin()),
                start_s=span.hits[0].time_s,
                end_s=span.ending.time_s,
                hits=span.hits,
                winner=verdict.winner,
                winner_confidence=verdict.confidence,
                winner_evidence=verdict.evidence,
                confidence=confidence,
                evidence="shuttle",
            )
        )
    return rallies


def find_spans(
    hits: Sequence[Hit],
    contacts: Sequence[JudgedContact],
    track: ShuttleTrack,
    times_s: Floats,
    segments: SegmentFrames,
) -> list[RallySpan]:
    """Return the hits and the end of each rally, in order of time."""
    spans: list[RallySpan] = []
    for first, last, _court in segments:
        own = [hit for hit in hits if first <= hit.frame <= last]
        near = [each for each in contacts if first <= each.contact.after.first_frame <= last]
        spans += _spans(own, near, track, times_s, last)
    return spans


def _unfilmed_s(before: Hit, after: Hit, times_s: Floats, segments: SegmentFrames) -> float:
    """Return the time between two hits in which no segment shows the court."""
    between = [(first, last) for first, last, _ in segments if last >= before.frame and first <= after.frame]
    return sum(float(times_s[following[0]] - times_s[each[1]]) for each, following in pairwise(between))


def _confidence(span: RallySpan, track: ShuttleTrack, times_s: Floats) -> float:
    """Return how probably a rally begins and ends where it says."""
    return rally_confidence(span.ending, span.seen_share(track, times_s)) * (_CUT_FACTOR if span.cut else 1.0)


def _spans(
    hits: Sequence[Hit],
    contacts: Sequence[JudgedContact],
    track: ShuttleTrack,
    times_s: Floats,
    last_frame: int,
) -> list[RallySpan]:
    """Return the hits of each rally within one camera's frames, with its end."""
    tracked_s = times_s[np.isfinite(track.position_px[:, 0])]
    groups: list[list[Hit]] = []
    for hit in hits:
        if groups and not _separate(groups[-1][-1], hit, tracked_s, contacts):
            groups[-1].append(hit)
        else:
            groups.append([hit])
    spans: list[RallySpan] = []
    for group in groups:
        ending = ending_of(group[-1], contacts)
        if ending is None or (len(group) == 1 and not _is_service(group[0], ending)):
            continue
        last_s = float(times_s[last_frame])
        # A fall that the camera does not show to its end ends with what it shows.
        seen = replace(ending, time_s=min(ending.time_s, last_s))
        cut = last_s - seen.time_s < _CUT_S
        if cut and seen.kind == "net":
            # It was last seen at the net: whether it went on over it, the camera does not show.
            seen = Ending(seen.time_s, "in_air")
        spans.append(RallySpan(tuple(group), seen, cut))
    return spans


def _separate(before: Hit, after: Hit, tracked_s: Floats, contacts: Sequence[JudgedContact]) -> bool:
    """Return whether two hits that follow each other belong to two rallies."""
    for each in contacts:
        flight = each.contact.after
        if abs(each.contact.time_s - before.time_s) < _NEAR_HIT_S and flight.end_s > after.time_s - _NEAR_HIT_S:
            return False
    pause_s = after.time_s - before.time_s
    between = tracked_s[(tracked_s > before.time_s) & (tracked_s < after.time_s)]
    unseen_s = float(np.diff(np.concatenate([[before.time_s], between, [after.time_s]])).max())
    if pause_s <= _LONGEST_FLIGHT_S and unseen_s <= _LONGEST_UNSEEN_S:
        return False
    ending = ending_of(before, contacts)
    # A shuttle that was last seen in the air may have been hit once more out of view.
    in_air = ending is not None and ending.kind == "in_air"
    return not (in_air and pause_s <= _LONGEST_TWO_FLIGHTS_S)


def _is_service(hit: Hit, ending: Ending) -> bool:
    """Return whether a single hit is a service, and not a shuttle that is passed on in a pause."""
    if ending.time_s - hit.time_s < _SHORTEST_SERVICE_S:
        return False
    return ending.kind in ("floor", "net", "not_seen")


def _by_movement(players: PlayerTracks | None, times_s: Floats, segments: SegmentFrames) -> list[Rally]:
    if players is None or not players.player_count:
        return []
    periods = [
        period for first, last, _court in segments for period in find_active_periods(players, times_s, first, last)
    ]
    return [
        Rally(
            number=number,
            first_frame=period.first_frame,
            last_frame=period.last_frame,
            start_s=float(times_s[period.first_frame]),
            end_s=float(times_s[period.last_frame]),
            hits=(),
            winner=None,
            winner_confidence=0.0,
            winner_evidence="no_shuttle_track",
            confidence=period.confidence,
            evidence="movement",
        )
        for number, period in enumerate(periods, 1)
    ]
