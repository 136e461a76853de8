"""``transcript.html``: the words beside their frames in one file, which loads nothing.

Text that a model or a user wrote is escaped everywhere, and a content security policy with the hashes of the page's own
script and style forbids everything else.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Final

from contracts.events.session import SessionText
from modal_workers.footage.report_page import content_security_policy
from modal_workers.vision_stream.transcript.transcript import Transcript

#: Bytes of frames in the page; of a longer session every second, third … frame is in it.
_FRAMES_BYTES: Final = 48 << 20


def write_page(transcript: Transcript, path: Path) -> None:
    """Write the page: each text with its time and frame, searchable, and the alerts."""
    style, script = _asset("transcript.css"), _asset("transcript.js")
    shown = _frames_within(transcript, _FRAMES_BYTES)
    rows = "\n".join(_row(transcript, text, shown) for text in transcript.texts)
    page = Template(_asset("transcript.html")).substitute(
        policy=content_security_policy(style, script),
        style=style,
        script=script,
        title=f"Transcript {escape(transcript.session_id)}",
        headline=escape(_headline(transcript)),
        source=escape(f"{transcript.session_id} · {transcript.opened_at:%Y-%m-%d %H:%M} UTC · {transcript.model}"),
        instruction=escape(transcript.instruction),
        tiles="".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in _tiles(transcript)),
        alerts=_alerts(transcript),
        notes="".join(f"<p>{escape(note)}</p>" for note in transcript.notes),
        rows=rows or '<li class="empty">No chunk was described.</li>',
        omitted=_omitted(transcript, shown),
    )
    path.write_text(page, encoding="utf-8")


def clock(time_s: float) -> str:
    """Return a time of the session as ``1:02.3``."""
    minutes, seconds = divmod(round(time_s, 1), 60)
    return f"{int(minutes)}:{seconds:04.1f}"


def _headline(transcript: Transcript) -> str:
    said, alerts = len(transcript.said), len(transcript.alerts)
    ending = {0: "no alert", 1: "1 alert"}.get(alerts, f"{alerts} alerts")
    return f"{said} text{'' if said == 1 else 's'} in {clock(transcript.length_s)}, {ending}"


def _tiles(transcript: Transcript) -> Iterator[tuple[str, str]]:
    totals = transcript.totals
    yield "Frames shown", f"{totals.accepted:,} <small>of {totals.sent:,}</small>"
    yield (
        "Dropped",
        f"{totals.dropped:,}" + (f" <small>+ {totals.rejected:,} rejected</small>" if totals.rejected else ""),
    )
    waits_ms = sorted(text.latency.queue_ms + text.latency.total_ms for text in transcript.said if text.latency)
    if waits_ms:
        median_ms, p95_ms = waits_ms[len(waits_ms) // 2], waits_ms[min(len(waits_ms) - 1, int(0.95 * len(waits_ms)))]
        yield "Delay of the words", f"{median_ms / 1000:.2f} s <small>median, p95 {p95_ms / 1000:.2f} s</small>"
    failed = len(transcript.texts) - len(transcript.said)
    if failed:
        yield "Chunks without text", f"{failed:,}"
    yield "Alerts", str(len(transcript.alerts))


def _row(transcript: Transcript, text: SessionText, shown: frozenset[int]) -> str:
    at = clock(text.start_s or 0.0)
    picture = ""
    if text.chunk in shown:
        data = base64.b64encode(transcript.key_frames[text.chunk]).decode()
        label = escape(f"Frame {text.last_seq}, chunk {text.chunk}", quote=True)
        picture = f'<img loading="lazy" decoding="async" alt="{label}" src="data:image/jpeg;base64,{data}">'
    alerts = transcript.alerts_of(text.chunk)
    marks = "".join(f'<strong class="mark">{escape(alert.rule)}</strong>' for alert in alerts)
    return (
        f'<li id="chunk-{text.chunk}" data-start="{text.start_s or 0.0:.3f}"{" class=has-alert" if alerts else ""}>'
        f'<a class="time" href="#chunk-{text.chunk}">{at}</a>'
        f'<button type="button" class="frame" aria-label="Show the frame of {at}">{picture}</button>'
        f'<div class="words">{_words(transcript, text)}{marks}<p class="facts">{escape(_facts(text))}</p></div></li>'
    )


def _words(transcript: Transcript, text: SessionText) -> str:
    question = ""
    if text.prompt_id is not None:
        question = f'<p class="question">{escape(transcript.questions.get(text.prompt_id) or "A question")}</p>'
    if text.error is not None:
        return f'{question}<p class="error">No text: {escape(text.error.message)}</p>'
    ending = {"length": " …", "cancelled": " (cancelled)"}.get(text.finish_reason, "")
    return f'{question}<p class="said" dir="auto">{escape(text.text + ending)}</p>'


def _facts(text: SessionText) -> str:
    facts = [f"chunk {text.chunk}"]
    if text.first_seq is not None and text.last_seq is not None:
        one = text.first_seq == text.last_seq
        facts.append(
            f"frame {text.last_seq}" if one else f"{len(text.frames)} of frames {text.first_seq} to {text.last_seq}"
        )
    if text.latency is not None:
        facts.append(f"{text.latency.queue_ms + text.latency.total_ms:.0f} ms")
    if text.dropped:
        facts.append(f"{text.dropped} dropped")
    return " · ".join(facts)


def _alerts(transcript: Transcript) -> str:
    """Return the list of alerts, each a link to its chunk."""
    starts = {text.chunk: text.start_s or 0.0 for text in transcript.texts}
    items = [
        f'<li><a href="#chunk-{alert.chunk}"><b>{escape(alert.rule)}</b> '
        f"{escape(alert.condition)}</a> <small>{clock(starts.get(alert.chunk, 0.0))}, "
        f"probability {alert.confidence:.2f}, frames {', '.join(str(frame.seq) for frame in alert.frames)}</small></li>"
        for alert in transcript.alerts
    ]
    return f'<section class="alerts"><h2>Alerts</h2><ol>{"".join(items)}</ol></section>' if items else ""


def _frames_within(transcript: Transcript, limit_bytes: int) -> frozenset[int]:
    """Return the chunks whose frames are in the page: all, or every n-th, and of those with an alert too."""
    chunks = [text.chunk for text in transcript.texts if text.chunk in transcript.key_frames]
    sizes = {chunk: len(transcript.key_frames[chunk]) for chunk in chunks}
    shown = frozenset(chunks[:: _every(sizes.values(), limit_bytes)])
    alerted = [chunk for chunk in chunks if chunk in transcript.alerts_by_chunk]
    return shown | frozenset(alerted[:: _every([sizes[chunk] for chunk in alerted], limit_bytes)])


def _every(sizes: Collection[int], limit_bytes: int) -> int:
    return max(1, -(-sum(sizes) // limit_bytes))


def _omitted(transcript: Transcript, shown: frozenset[int]) -> str:
    missing = len(transcript.texts) - len(shown)
    if not missing or not shown:
        return ""
    return f'<p class="omitted">{missing:,} of {len(transcript.texts):,} chunks are without a picture here.</p>'


def _asset(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
