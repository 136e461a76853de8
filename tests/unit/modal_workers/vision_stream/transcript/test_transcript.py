"""Files of a transcript: nothing lost, valid WebVTT, and a page in which foreign text stays text."""

import base64
import hashlib
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest

from contracts.errors import ErrorBody
from contracts.events.session import FrameTotals, SessionAlert, SessionText, ShownFrame, TextLatency
from modal_workers.vision_stream.transcript import page as page_of_transcript
from modal_workers.vision_stream.transcript.files import write_transcript
from modal_workers.vision_stream.transcript.page import clock, write_page
from modal_workers.vision_stream.transcript.transcript import Transcript, write_json_lines
from modal_workers.vision_stream.transcript.webvtt import timestamp, write_webvtt

HOSTILE = 'the <b>red</b> cube & "ball"\n--> </script><img src=x onerror=alert(1)>'


def _text(chunk: int, text: str = "", **fields: object) -> SessionText:
    return SessionText(
        run_id="run_1",
        chunk=chunk,
        text=text,
        first_seq=6 * chunk,
        last_seq=6 * chunk + 5,
        frames=[ShownFrame(seq=6 * chunk + 5, captured_at_s=1e9 + chunk)],
        start_s=chunk - 1.0,
        end_s=float(chunk),
        latency=TextLatency(queue_ms=10, prefill_ms=50, decode_ms=100, first_token_ms=60, total_ms=150),
        **fields,
    )


def _jpeg(value: int) -> bytes:
    return cv2.imencode(".jpg", np.full((60, 80, 3), value, np.uint8))[1].tobytes()


@pytest.fixture
def transcript() -> Transcript:
    texts = [
        _text(1, "A red cube is on the table."),
        _text(2, HOSTILE),
        _text(3, finish_reason="error", error=ErrorBody(code="out_of_memory", message="no <memory>", hint="less")),
        _text(4, "yes", prompt_id="prm_1"),
    ]
    alert = SessionAlert(
        run_id="run_1",
        alert=1,
        rule="dropped",
        condition="the gripper drops <it>",
        chunk=2,
        confidence=0.93,
        text=HOSTILE,
        frames=[ShownFrame(seq=17, captured_at_s=1e9)],
    )
    return Transcript(
        session_id="ses_1",
        opened_at=datetime(2026, 11, 23, tzinfo=UTC),
        model="tiny",
        instruction="Describe <what> happens.",
        texts=texts,
        alerts=[alert],
        totals=FrameTotals(sent=30, accepted=24, dropped=5, rejected=1),
        key_frames={1: _jpeg(10), 2: _jpeg(90), 4: _jpeg(200)},
        questions={"prm_1": "Is it <red>?"},
    )


def test_json_lines_hold_every_text_and_alert_in_order(transcript, tmp_path):
    write_json_lines(transcript, tmp_path / "t.jsonl")
    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]

    assert [(line["type"], line.get("chunk")) for line in lines] == [
        ("session", None),
        ("text", 1),
        ("text", 2),
        ("alert", 2),
        ("text", 3),
        ("text", 4),
    ]
    assert lines[2]["text"] == HOSTILE
    assert lines[5]["question"] == "Is it <red>?"
    assert [
        SessionText.model_validate({"run_id": "run_1", **line}) for line in lines if line["type"] == "text"
    ] == list(transcript.texts)


def test_an_alert_of_a_chunk_without_text_is_not_lost(transcript, tmp_path):
    stray = transcript.alerts[0].model_copy(update={"alert": 2, "chunk": 99})
    with_stray = Transcript(**{**transcript.__dict__, "alerts": [transcript.alerts[0], stray]})
    write_json_lines(with_stray, tmp_path / "t.jsonl")

    lines = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert [line["alert"] for line in lines if line["type"] == "alert"] == [1, 2]


def test_webvtt_has_a_cue_for_each_text_and_alert(transcript, tmp_path):
    write_webvtt(transcript, tmp_path / "t.vtt")
    blocks = (tmp_path / "t.vtt").read_text().strip().split("\n\n")

    assert blocks[0] == "WEBVTT"
    cues = {}
    for block in blocks[1:]:
        identifier, times, payload = block.split("\n")  # three lines: a blank line or a new line would end the cue
        start, end = times.split(" --> ")
        assert re.fullmatch(r"\d\d:\d\d:\d\d\.\d{3}", start)
        assert start < end
        cues[identifier] = payload
    assert list(cues) == ["chunk-1", "chunk-2", "alert-1", "chunk-4"]
    assert "-->" not in cues["chunk-2"]
    assert "<img" not in cues["chunk-2"]


@pytest.mark.parametrize(
    ("time_s", "text"), [(0.0, "00:00:00.000"), (59.9996, "00:01:00.000"), (3723.5, "01:02:03.500")]
)
def test_timestamps_carry_over(time_s, text):
    assert timestamp(time_s) == text


def test_clock_of_the_page_carries_over():
    assert [clock(0), clock(59.97), clock(125.04)] == ["0:00.0", "1:00.0", "2:05.0"]


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_shows_foreign_text_as_text_and_loads_nothing(transcript, tmp_path):
    write_page(transcript, tmp_path / "t.html")
    html = (tmp_path / "t.html").read_text()
    page = _Page()
    page.feed(html)

    images = [attributes for tag, attributes in page.tags if tag == "img"]
    assert all(
        (image.get("src") or "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,") for image in images
    )
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert any(HOSTILE in text for text in page.text)
    assert any("no <memory>" in text for text in page.text)
    script = html.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#x27;sha256-{digest}" in html or f"script-src 'sha256-{digest}'" in html


def test_each_text_and_alert_links_to_its_frame(transcript, tmp_path):
    write_page(transcript, tmp_path / "t.html")
    page = _Page()
    page.feed((tmp_path / "t.html").read_text())

    ids = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {attributes["href"] for tag, attributes in page.tags if tag == "a" and attributes["href"] != "#words"}
    assert {f"#chunk-{chunk}" for chunk in (1, 2, 3, 4)} == links
    assert {link[1:] for link in links} <= ids


def test_a_long_session_keeps_the_page_small_and_says_so(transcript, tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3), dtype=np.uint8)
    frame = cv2.imencode(".jpg", noise, [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()
    chunks = range(1, (60 << 20) // len(frame) + 2)
    long = Transcript(
        **{
            **transcript.__dict__,
            "texts": [_text(chunk, "words") for chunk in chunks],
            "key_frames": dict.fromkeys(chunks, frame),
        }
    )
    write_page(long, tmp_path / "t.html")

    html = (tmp_path / "t.html").read_text()
    assert len(html) < 72 << 20
    assert "chunks are without a picture here" in html
    alert_row = html.partition('id="chunk-2"')[2].partition("</li>")[0]
    assert "data:image/jpeg" in alert_row  # the frame of an alert is always in it


def test_alerts_of_every_chunk_do_not_fill_the_page(transcript, tmp_path, monkeypatch):
    texts = [_text(chunk, "The cube falls.") for chunk in range(1, 101)]
    alerts = [transcript.alerts[0].model_copy(update={"alert": text.chunk, "chunk": text.chunk}) for text in texts]
    jpeg = _jpeg(90)
    long = replace(transcript, texts=texts, alerts=alerts, key_frames={text.chunk: jpeg for text in texts})
    monkeypatch.setattr(page_of_transcript, "_FRAMES_BYTES", 10 * len(jpeg))
    write_page(long, tmp_path / "page.html")
    written = (tmp_path / "page.html").read_text()
    assert 5 <= written.count("data:image/jpeg") <= 20
    assert written.count('<strong class="mark">') == 100


def test_all_files_are_written(transcript, tmp_path):
    files = list(write_transcript(transcript, tmp_path))

    assert [file.name for file in files] == ["transcript.html", "transcript.jsonl", "transcript.vtt"]
    assert all(file.path.stat().st_size > 200 for file in files)
