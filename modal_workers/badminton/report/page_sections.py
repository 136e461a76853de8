"""Sections of the report's page, as HTML. Text that others chose is escaped."""

from __future__ import annotations

import math
from html import escape

import numpy as np

from modal_workers.badminton.analytics.analysis import Analysis, PlayerFigures, RallyFigures
from modal_workers.badminton.analytics.motion import KMH_PER_M_S
from modal_workers.badminton.match import Match
from modal_workers.badminton.wording import WINNER_TEXT, clock, figure, percent, player_label, player_name, winner_name
from modal_workers.footage.text_sprites import printable

_THIN = "&thinsp;"


def headline(match: Match, analysis: Analysis) -> str:
    """Return the match in one sentence."""
    count, time = len(match.rallies), analysis.play_time
    parts = []
    if count:
        parts.append(
            f"{count} {'rally' if count == 1 else 'rallies'}, {clock(time.rally_s)} of play in {clock(time.total_s)}"
        )
    known = [figures.motion.distance_m for figures in analysis.players if math.isfinite(figures.motion.distance_m)]
    if known:
        metres = [f"{distance_m:.0f} m" for distance_m in known]
        parts.append(
            "the players ran " + (" and ".join([", ".join(metres[:-1]), metres[-1]]) if metres[1:] else metres[0])
        )
    return "; ".join(parts) or f"A video of {clock(match.facts.duration_s)}, in which no match was found"


def tiles_html(match: Match, analysis: Analysis) -> str:
    """Return the tiles at the head of the page."""
    time = analysis.play_time
    share = time.rally_s / max(1e-9, time.total_s)
    hits = sum(len(rally.hits) for rally in match.rallies)
    tiles = [
        ("Rallies", str(len(match.rallies)) if match.rallies else "–", f"{hits} hits" if hits else ""),
        ("Time in play", clock(time.rally_s) if match.rallies else "–", percent(share) if match.rallies else ""),
        ("Longest rally", f"{figure(time.longest_rally_s)}{_THIN}s" if match.rallies else "–", ""),
    ]
    fastest = max(analysis.players, key=lambda one: _or_zero(one.motion.top_speed_m_s), default=None)
    if fastest is not None and math.isfinite(fastest.motion.top_speed_m_s):
        motion = fastest.motion
        note = f"±{_THIN}{figure(motion.top_speed_error_m_s)} {player_label(fastest.player)}"
        tiles.append(("Top speed", f"{figure(motion.top_speed_m_s)}{_THIN}m/s", note))
    else:
        shown = sum(part.end_s - part.start_s for part in match.segments if part.analysed)
        tiles.append(("Analysed", clock(shown), f"of {clock(time.total_s)}"))
    return "".join(f"<div><dt>{name}</dt><dd>{value} <small>{note}</small></dd></div>" for name, value, note in tiles)


def speed_html(match: Match) -> str:
    """Return the place of the speed curves, if there are any."""
    if match.tracks is None:
        return ""
    keys = "".join(
        f'<span class="key p{player}"><i class="mine"></i>{player_name(player)}</span>'
        for player in range(match.player_count)
    )
    return f'<h2 class="axis">Speed, m/s {keys}<span>dots below: hits</span></h2><div class="chart" id="chart"></div>'


def players_html(match: Match, analysis: Analysis) -> str:
    """Return the cards of the players."""
    if not analysis.players:
        return ""
    cards = "".join(_card_html(match, figures) for figures in analysis.players)
    return f'<section><h2>Players</h2><div class="cards">{cards}</div></section>'


def _card_html(match: Match, figures: PlayerFigures) -> str:
    motion, play = figures.motion, figures.in_rallies
    tracks = match.tracks
    assert tracks is not None
    sides = tracks.side[figures.player]
    known = sides[sides != 0]
    began = "" if not len(known) else f"began on the {'far' if known[0] < 0 else 'near'} half"
    top = f"{figure(motion.top_speed_m_s)}{_THIN}m/s"
    if math.isfinite(motion.top_speed_at_s):
        seek = max(0.0, motion.top_speed_at_s - 1)
        top = f'<button type="button" data-seek="{seek:.2f}" title="Show it">{top}</button>'
    in_play = figure(play.mean_speed_m_s) if play is not None else "–"
    ran = f"{figure(motion.distance_m, 0)}{_THIN}m <small>±{_THIN}{figure(motion.distance_error_m, 0)}</small>"
    top_kmh = figure(motion.top_speed_m_s * KMH_PER_M_S, 0)
    top += f" <small>±{_THIN}{figure(motion.top_speed_error_m_s)} · {top_kmh}{_THIN}km/h</small>"
    entries = [
        ("Distance", ran),
        ("Top speed", top),
        ("Mean speed in rallies", f"{in_play}{_THIN}m/s <small>{figure(motion.mean_speed_m_s)} in all</small>"),
    ]
    won = f"{figures.won_count} of the rallies won, as far as seen"
    entries.append(("Hits", "–" if figures.hit_count is None else f"{figures.hit_count} <small>{won}</small>"))
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in entries)
    return (
        f'<article class="card p{figures.player}"><h3>{player_name(figures.player)} <small>{began}</small></h3>'
        f'<dl class="figures">{listed}</dl>'
        '<div class="half"><h4>Where</h4><h4>Time in the own half, facing the net</h4>'
        f'<canvas class="heat" data-player="{figures.player}" role="img" '
        f'aria-label="Heat map of {player_name(figures.player)} on the court"></canvas>{_zones_html(figures)}</div>'
        f"{_evidence_html(figures)}</article>"
    )


def _zones_html(figures: PlayerFigures) -> str:
    share = figures.zones.share()
    most = max(1e-9, float(np.nan_to_num(share).max()))
    rows = "".join(
        f'<tr><th scope="row">{name}</th>'
        + "".join(
            f'<td data-share="{round(80 * np.nan_to_num(cell) / most)}">{_zone_percent(cell)}</td>' for cell in row
        )
        + "</tr>"
        for name, row in zip(("front", "mid", "back"), share, strict=True)
    )
    footwork = figures.footwork
    return (
        '<table class="zones"><thead><tr><th></th><th scope="col" class="net">left</th>'
        '<th scope="col" class="net">centre</th><th scope="col" class="net">right</th></tr></thead>'
        f"<tbody>{rows}</tbody><caption>Thirds of the half; the thick line is the net. Mean distance from it "
        f"{figure(figures.zones.mean_from_net_m)} m. Used {percent(footwork.covered_share)} of the half, "
        f"{figure(footwork.hull_area_m2, 0)} m².</caption></table>"
    )


def _zone_percent(share: float) -> str:
    return f"{100 * share:.0f}{_THIN}%" if math.isfinite(share) else "–"


def _evidence_html(figures: PlayerFigures) -> str:
    entries = [
        ("Seen in", f"{percent(figures.motion.observed_share)} of the frames"),
        ("Place, std. deviation", f"{figure(figures.position_error_m, 2)} m"),
        ("One person, lowest", figure(figures.identity_confidence_min, 2)),
        ("Rejected detections", str(figures.outlier_count)),
    ]
    return (
        '<dl class="evidence">'
        + "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in entries)
        + "</dl>"
    )


def rallies_html(match: Match, analysis: Analysis) -> str:
    """Return the table of rallies."""
    if not analysis.rallies:
        return '<p class="sheet plain">No rally was found.</p>'
    shots = any(figures.shots for figures in analysis.rallies)
    columns = "".join(f'<th scope="col">{player_label(player)}, m</th>' for player in range(match.player_count))
    ground = '<th scope="col" title="Distance between the hitters over the time">Ground, m/s</th>'
    head = (
        '<tr><th scope="col">Rally</th><th scope="col">Start</th><th scope="col">s</th><th scope="col">Hits</th>'
        f'{columns}{ground if shots else ""}<th scope="col" class="said">Won by</th><th scope="col">Conf.</th></tr>'
    )
    rows = "".join(_rally_html(figures, shots=shots) for figures in analysis.rallies)
    note = (
        '<p class="hint">Ground, m/s: mean of (distance between the hitters on the floor) ÷ (time between their '
        "hits). It is a proxy on the ground plane, no speed of the shuttle in space.</p>"
        if shots
        else ""
    )
    return f'<div class="sheet tall"><table class="list"><thead>{head}</thead><tbody>{rows}</tbody></table></div>{note}'


def _rally_html(figures: RallyFigures, *, shots: bool) -> str:
    rally = figures.rally
    text = WINNER_TEXT[rally.winner_evidence]
    won = f"not known: {text}"
    if rally.winner is not None:
        won = f"{winner_name(rally.winner, len(figures.players))}: {text} ({rally.winner_confidence:.2f})"
    distances = "".join(f"<td>{figure(motion.distance_m)}</td>" for motion in figures.players)
    speeds = [shot.mean_ground_speed_between_hits_m_s for shot in figures.shots]
    ground = f"<td>{figure(sum(speeds) / len(speeds)) if speeds else '–'}</td>" if shots else ""
    return (
        f'<tr data-seek="{rally.start_s:.3f}" data-rally="{rally.number}"><th scope="row">'
        f'<button type="button" data-seek="{rally.start_s:.3f}">{rally.number}</button></th>'
        f"<td>{clock(rally.start_s)}</td><td>{figures.duration_s:.1f}</td><td>{len(rally.hits) or '–'}</td>"
        f"{distances}{ground}"
        f'<td class="said">{escape(won)}</td><td>{rally.confidence:.2f}</td></tr>'
    )


def missing_html(match: Match) -> str:
    """Return the note at the head of the page: the parts that are missing."""
    if not match.missing:
        return ""
    parts = ", ".join(escape(printable(missing.part)) for missing in match.missing)
    return f'<div class="warn" role="note"><p>Missing: {parts}. The reasons are below.</p></div>'


def gaps_html(match: Match) -> str:
    """Return what is missing, with reasons, and the stretches that were left out."""
    lines = [f"<b>{escape(printable(gap.part))}</b>: {escape(printable(gap.reason))}" for gap in match.missing]
    left_out = [part for part in match.segments if not part.analysed]
    lines += [
        f"{clock(part.start_s)} to {clock(part.end_s)}: {escape(printable(part.reason or part.kind))}"
        for part in left_out[:20]
    ]
    if left_out[20:]:
        lines.append(f"and {len(left_out) - 20} more stretches")
    lines += [escape(printable(text)) for text in match.warnings]
    if not lines:
        return '<p class="sheet plain">No part is missing. How much of each was seen stands beside its figures.</p>'
    return '<div class="sheet plain"><ul>' + "".join(f"<li>{line}</li>" for line in lines) + "</ul></div>"


def method_html(match: Match) -> str:
    """Return how the figures were made, with the evidence behind them."""
    courts = [part.court for part in match.segments if part.court is not None]
    court = "No court was found, so nothing was measured in metres."
    if courts:
        best, positions = courts[0], len({id(view) for view in courts})
        how = "lines in the picture" if best.source == "lines" else "points that the user set"
        residual = f"residual {100 * best.residual_m:.1f} cm" if math.isfinite(best.residual_m) else "no residual"
        court = (
            f"Found by {how}: {residual}, confidence {best.confidence:.2f}"
            f"{f'; {positions} camera positions' if positions > 1 else ''}. All places are on the floor, in metres."
        )
    players = (
        f"Backend: {match.pose_backend or 'none'}. Places are smoothed over time by a model of motion; what no person "
        "can do is rejected and counted, and nothing is capped. Short gaps are bridged, longer ones are left open."
    )
    of_body = match.tracks is not None and match.tracks.body_m is not None
    point = "the body's centre over the floor" if of_body else "the middle between the feet"
    raised = "" if of_body else "; speeds are raised by half of what smoothing takes off a short burst"
    speed = (
        f"Of {point}, over the time in which the place is known. Moves within the scatter of the places are not "
        f"counted{raised}. Errors are half-widths of 95 % bands."
    )
    zones = (
        "Thirds of the player's own half on the court: 2.23 m each along it, 2.03 m each across, left and right as "
        "the player sees them."
    )
    shuttle = (
        f"Backend: {match.shuttle_backend or 'none'}. Where the shuttle was not found its track has a gap. A winner "
        "is named only where the picture shows it."
    )
    entries = [
        ("Court", court),
        ("Players", players),
        ("Distance and speed", speed),
        ("Zones", zones),
        ("Shuttle, hits, rallies", shuttle),
    ]
    return "<dl>" + "".join(f"<dt>{name}</dt><dd>{escape(printable(text))}</dd>" for name, text in entries) + "</dl>"


def _or_zero(value: float) -> float:
    return value if math.isfinite(value) else 0.0
