"""WebVTT of a transcript: a cue for each text, and one for each alert.

Source: WebVTT, https://www.w3.org/TR/webvtt1/ (sections 4.1 to 4.3: timestamps, cue identifiers, cue text).
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from modal_workers.vision_stream.transcript.transcript import Transcript

#: A cue must end after it starts.
_SHORTEST_S: Final = 0.1
_NEW_LINE: Final = str.maketrans("\r\n", "  ")


def write_webvtt(transcript: Transcript, path: Path) -> None:
    """Write the texts and alerts as cues; times are seconds since the session's first frame."""
    path.write_text("\n\n".join(("WEBVTT", *_cues(transcript))) + "\n", encoding="utf-8")


def _cues(transcript: Transcript) -> Iterator[str]:
    for text in transcript.said:
        start_s = text.start_s or 0.0
        end_s = max(text.end_s or 0.0, start_s + _SHORTEST_S)
        times = f"{timestamp(start_s)} --> {timestamp(end_s)}"
        yield f"chunk-{text.chunk}\n{times}\n{escape(text.text)}"
        for alert in transcript.alerts_of(text.chunk):
            voice = escape(f"Alert {alert.rule}: {alert.condition}")
            yield f"alert-{alert.alert}\n{times}\n<c.alert>{voice}</c>"


def timestamp(time_s: float) -> str:
    """Return a time as WebVTT writes it, ``00:01:02.345``."""
    total_ms = round(time_s * 1000)
    hours, rest_ms = divmod(total_ms, 3_600_000)
    minutes, rest_ms = divmod(rest_ms, 60_000)
    seconds, milliseconds = divmod(rest_ms, 1000)
    return f"{hours:02d}:{minutes:02d}:{seconds:02d}.{milliseconds:03d}"


def escape(text: str) -> str:
    """Return cue text: one line, without markup and without the arrow that separates times."""
    line = " ".join(text.translate(_NEW_LINE).split())
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
