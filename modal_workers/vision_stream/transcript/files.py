"""The files of a transcript, ready to be stored as artifacts."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modal_workers.vision_stream.transcript.page import write_page
from modal_workers.vision_stream.transcript.transcript import JSON_LINES, PAGE, WEBVTT, Transcript, write_json_lines
from modal_workers.vision_stream.transcript.webvtt import write_webvtt


@dataclass(frozen=True)
class TranscriptFile:
    """One file, with what an artifact needs."""

    path: Path
    name: str
    media_type: str
    title: str


def write_transcript(transcript: Transcript, folder: Path) -> Iterator[TranscriptFile]:
    """Write the files into a folder and yield each when it is complete."""
    json_lines, webvtt, page = (folder / name for name in (JSON_LINES, WEBVTT, PAGE))
    write_page(transcript, page)
    yield TranscriptFile(page, PAGE, "text/html", "Transcript with frames")
    write_json_lines(transcript, json_lines)
    yield TranscriptFile(json_lines, JSON_LINES, "application/x-ndjson", "Transcript, one JSON object a line")
    write_webvtt(transcript, webvtt)
    yield TranscriptFile(webvtt, WEBVTT, "text/vtt", "Transcript as subtitles")
