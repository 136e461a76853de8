"""Rallies: from the hit of the service to the end of the flight after the last hit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from modal_workers.badminton.players.player_tracks import PlayerTracks
from modal_workers.badminton.rallies.flights import FlightPiece, find_flights
from modal_workers.badminton.rallies.movement import find_active_periods
from modal_workers.badminton.rallies.rally import Hit, Rally
from modal_workers.badminton.rallies.winner import Ending, decide_winner
from modal_workers.badminton.shuttle.linking import SegmentFrames
from modal_workers.badminton.shuttle.shuttle_track import ShuttleTrack

Floats = NDArray[np.float64]

#: Between two hits of one rally a shuttle is never out of view for longer, and never flies longer.
_LONGEST_UNSEEN_S: Final = 1.2
_LONGEST_FLIGHT_S: Final = 3.2
#: The flight after the last hit goes on over shorter gaps.
_END_GAP_S: Final = 0.35
#: A rally of one hit needs a flight at least this long after it: a service into the net, and not a false hit.
_SHORTEST_SERVICE_S: Final = 0.35


@dataclass(frozen=True)
class _Span:
    hits: tuple[Hit, ...]
    end_s: float
    cut: bool


def find_rallies(
    hits: Sequence[Hit],
    track: ShuttleTrack,
    players: PlayerTracks | None,
    times_s: Floats,
    segments: SegmentFrames,
    *,
    mode: Literal["full", "rally_only"],
    picture_size: tuple[int, int],
) -> list[Rally]:
    """Return the rallies in order of time: by the shuttle, or by the players' movement where no shuttle was tracked."""
    tracked = bool(np.isfinite(track.position_px[:, 0]).any())
    if mode == "rally_only" or not tracked:
        return _by_movement(players, times_s, segments)
    flights = find_flights(track, times_s, segments, picture_size[1])
    spans = [
        span
        for first, last, _court in segments
        for span in _spans([hit for hit in hits if first <= hit.frame <= last], flights, track, times_s, last)
    ]
    rallies: list[Rally] = []
    for index, span in enumerate(spans):
        ending = Ending(
            span.hits,
            _flight_after(flights, span.hits[-1].time_s),
            next((court for first, last, court in segments if first <= span.hits[-1].frame <= last), None),
            spans[index + 1].hits[0] if index + 1 < len(spans) else None,
            picture_size,
        )
        verdict = decide_winner(ending, players)
        last_frame = int(np.abs(times_s - span.end_s).argmin())
        confidence = float(np.mean([hit.confidence for hit in span.hits])) * (0.5 if span.cut else 1.0)
        rallies.append(
            Rally(
                number=index + 1,
                first_frame=span.hits[0].frame,
                last_frame=last_frame,
                start_s=span.hits[0].time_s,
                end_s=span.end_s,
                hits=span.hits,
                winner=verdict.winner,
                winner_confidence=verdict.confidence,
                winner_evidence=verdict.evidence,
                confidence=confidence,
                evidence="shuttle",
            )
        )
    return rallies


def _spans(
    hits: Sequence[Hit], flights: Sequence[FlightPiece], track: ShuttleTrack, times_s: Floats, last_frame: int
) -> list[_Span]:
    """Return the hits of each rally within one camera's frames, with the end of its last flight."""
    tracked_s = times_s[np.isfinite(track.position_px[:, 0])]
    groups: list[list[Hit]] = []
    for hit in hits:
        if groups and not _separate(groups[-1][-1], hit, tracked_s):
            groups[-1].append(hit)
        else:
            groups.append([hit])
    spans: list[_Span] = []
    for group in groups:
        end_s = _end_of_flight(group[-1], flights, float(times_s[last_frame]))
        if len(group) > 1 or end_s - group[0].time_s >= _SHORTEST_SERVICE_S:
            # Play that goes on until the cut was not seen to its end.
            spans.append(_Span(tuple(group), end_s, bool(times_s[last_frame] - end_s < 0.1)))
    return spans


def _separate(before: Hit, after: Hit, tracked_s: Floats) -> bool:
    """Return whether two hits that follow each other belong to two rallies."""
    if after.time_s - before.time_s > _LONGEST_FLIGHT_S:
        return True
    between = tracked_s[(tracked_s > before.time_s) & (tracked_s < after.time_s)]
    gaps = np.diff(np.concatenate([[before.time_s], between, [after.time_s]]))
    return bool(gaps.max() > _LONGEST_UNSEEN_S)


def _flight_after(flights: Sequence[FlightPiece], time_s: float) -> FlightPiece | None:
    """Return the flight that begins with a hit."""
    near = [flight for flight in flights if abs(flight.start_s - time_s) < 0.25 and flight.end_s > time_s]
    return min(near, key=lambda flight: abs(flight.start_s - time_s), default=None)


def _end_of_flight(hit: Hit, flights: Sequence[FlightPiece], last_s: float) -> float:
    """Return when the flight after the last hit ends: where the track stops, or the shuttle comes to rest."""
    end_s = hit.time_s
    for flight in flights:
        if flight.end_s <= hit.time_s:
            continue
        if flight.start_s - end_s > _END_GAP_S or end_s - hit.time_s > _LONGEST_FLIGHT_S:
            break
        end_s = flight.end_s
    return min(end_s, last_s)


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
