"""The report is one safe, self-contained page; tables and figure agree with the comparison."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from modal_workers.lap_compare import wording
from modal_workers.lap_compare.headline import format_signed
from modal_workers.lap_compare.report.figure import AHEAD, BEHIND, draw_delta_figure
from modal_workers.lap_compare.report.report import write_report
from modal_workers.lap_compare.report.tables import delta_units, metrics, write_delta, write_metrics
from tests.harness.vision.lap_comparisons import clip, comparison, write_grey_clip

HOSTILE = '<img src=x onerror="window.xss=1">\'&amp;</script><script>window.xss=2</script>${title}$$.mp4'
TIMES_S = np.arange(1.0, 9.0, 0.04)
SLOWER = TIMES_S * 1.05 + 2
VOID = {"meta", "link", "img", "br", "line", "rect", "path", "input", "hr"}


class Page(HTMLParser):
    """Collects elements, and complains about an end tag without its start."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs)))

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop()[0] == tag

    def handle_data(self, data):
        tag, attributes = self._open[-1] if self._open else ("", {})
        if tag in {"script", "style"}:
            self.scripts.append((attributes | {"tag": tag}, data))
        else:
            self.text.append(data)


def hostile():
    return comparison(
        TIMES_S,
        SLOWER,
        clips=(clip(HOSTILE), clip("b\u202e\n.mp4")),
        stretches=((2.0, 4.0), (5.0, 8.0)),
        sector_names=(HOSTILE, "S2"),
        warnings=(HOSTILE,),
        flow=(np.sin(TIMES_S), np.cos(TIMES_S)),
    )


@pytest.fixture
def page(tmp_path):
    """A report of a comparison whose names are an attack, with its overlay and one clip; and the bytes of both."""
    write_grey_clip(tmp_path / "overlay.mp4", np.arange(5) / 25, [np.full((64, 96), 90.0)] * 5)
    write_grey_clip(tmp_path / "clip.mp4", np.arange(5) / 25, [np.full((64, 96), 190.0)] * 5)
    draw_delta_figure(hostile(), tmp_path / "delta.png")
    out = tmp_path / "report.html"
    write_report(
        hostile(),
        out,
        overlay=tmp_path / "overlay.mp4",
        clips={1: tmp_path / "clip.mp4"},
        scratch=tmp_path,
        figure=tmp_path / "delta.png",
    )
    videos = {"overlay": (tmp_path / "overlay.mp4").read_bytes(), "clip-1": (tmp_path / "clip.mp4").read_bytes()}
    return out.read_text(encoding="utf-8"), videos


def test_user_chosen_names_are_escaped(page):
    parsed = Page(page[0])
    assert not [name for name, attributes in parsed.elements if any(key.startswith("on") for key in attributes)]
    images = [attributes for name, attributes in parsed.elements if name == "img"]
    assert [image["src"][:22] for image in images] == ["data:image/png;base64,"]
    shown = "".join(parsed.text)
    assert shown.count("window.xss=1") >= 4  # the title, the heading, the sector and the warning, as text
    assert "${title}" in shown
    assert "\u202e" not in page[0]
    kinds = [attributes.get("type") for attributes, _ in parsed.scripts if attributes["tag"] == "script"]
    assert kinds == ["application/json", "application/base64", "application/base64", None]


def test_the_data_in_the_page_is_the_comparison(page):
    parsed = Page(page[0])
    data = next(json.loads(text) for attributes, text in parsed.scripts if attributes.get("id") == "comparison")
    truth = hostile()
    assert data["sectors"][0]["name"] == HOSTILE
    assert data["lap"] == pytest.approx(TIMES_S - 1.0, abs=1e-4)
    assert data["delta"] == pytest.approx(truth.delta_s, abs=1e-4)
    assert len({len(data[key]) for key in ("lap", "delta", "error", "speed", "confidence", "flow_a", "flow_b")}) == 1
    assert data["opportunities"][0]["start"] == pytest.approx(1.0)  # lap time starts with the common stretch


def test_nothing_is_loaded_and_the_policy_fits_the_page(page):
    text, _ = page
    assert set(re.findall(r"https?://[^\"'\s<)]*", text)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|\bfetch\(|XMLHttpRequest|WebSocket", text.replace("url(#${", "url(#"))
    parsed = Page(text)
    policy = next(attributes["content"] for _, attributes in parsed.elements if "http-equiv" in attributes)
    assert policy.startswith("default-src 'none'")
    for attributes, body in parsed.scripts:
        if attributes["tag"] == "style" or "type" not in attributes:
            digest = base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()
            assert f"{attributes['tag']}-src 'sha256-{digest}'" in policy
    assert not [attributes for _, attributes in parsed.elements if "style" in attributes]


def test_the_videos_are_inside(page):
    text, videos = page
    parsed = Page(text)
    inside = {
        attributes["data-video"]: base64.b64decode(body)
        for attributes, body in parsed.scripts
        if "data-video" in attributes
    }
    assert inside == videos
    players = {attributes["id"]: attributes for name, attributes in parsed.elements if name == "video"}
    assert set(players) == set(videos)
    ids = [attributes["id"] for _, attributes in parsed.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    labelled = [a for name, a in parsed.elements if name == "button" and "aria-label" in a]
    assert any("lost between 1.0 s and 3.0 s" in a["aria-label"] for a in labelled)


def test_a_report_without_videos_says_where_they_are(tmp_path):
    write_report(hostile(), tmp_path / "r.html", overlay=None, clips={}, scratch=tmp_path)
    parsed = Page((tmp_path / "r.html").read_text(encoding="utf-8"))
    assert "overlay.mp4" in "".join(parsed.text)
    assert "video" not in [name for name, _ in parsed.elements]


def test_a_long_comparison_is_downsampled_in_the_page_only(tmp_path):
    times_s = np.arange(0, 900, 0.05)
    long = comparison(times_s, times_s + np.sin(times_s / 60))
    write_report(long, tmp_path / "r.html", overlay=None, clips={}, scratch=tmp_path)
    assert (tmp_path / "r.html").stat().st_size < 300_000
    write_delta(long, tmp_path / "delta.csv")
    assert len((tmp_path / "delta.csv").read_text().splitlines()) == len(times_s) + 1


def test_delta_csv_round_trip(tmp_path):
    truth = hostile()
    truth.flow_a[3] = np.nan
    write_delta(truth, tmp_path / "delta.csv")
    with (tmp_path / "delta.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == list(delta_units(truth))
    assert [float(row["delta_s"]) for row in rows] == pytest.approx(truth.delta_s, abs=1e-5)
    assert [float(row["time_b_s"]) for row in rows] == pytest.approx(SLOWER, abs=1e-5)
    assert [float(row["lap_s"]) + 1.0 for row in rows] == pytest.approx(TIMES_S, abs=1e-5)
    assert rows[3]["flow_a_uncalibrated"] == ""
    without = comparison(TIMES_S, SLOWER)
    assert not [name for name in delta_units(without) if "flow" in name]


def test_metrics_have_provenance(tmp_path):
    truth = hostile()
    write_metrics(truth, tmp_path / "metrics.json")
    read = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert read == metrics(truth)
    assert read["clips"]["a"]["filename"] == HOSTILE
    assert read["headline"]["delta_s"] == pytest.approx(0.05 * np.ptp(TIMES_S), abs=1e-3)
    assert read["headline"]["faster"] == "a"
    lost = read["opportunities"][0]
    assert lost["loser"] == "b"
    assert lost["provenance"]["a"] == {"start_s": 2.0, "end_s": 4.0, "frames": [50, 100]}
    assert lost["provenance"]["b"]["start_s"] == pytest.approx(2.0 * 1.05 + 2)
    assert lost["provenance"]["start_lap_s"] == 1.0


def test_an_unknown_figure_is_null_not_nan(tmp_path):
    truth = comparison(TIMES_S, SLOWER)
    object.__setattr__(truth.alignment, "piecewise_s", float("nan"))
    write_metrics(truth, tmp_path / "metrics.json")
    assert json.loads((tmp_path / "metrics.json").read_text())["confidence"]["piecewise_s"] is None


@pytest.mark.parametrize("name", [HOSTILE, "鈴鹿 🏎.mp4", "$x^2$_{.mp4", "n" * 300])
def test_the_figure_accepts_any_name(tmp_path, name):
    odd = comparison(TIMES_S, SLOWER, clips=(clip(name), clip("b.mp4")), sector_names=(name, "S2"))
    draw_delta_figure(odd, tmp_path / "delta.png")  # a glyph that the font lacks would warn, and warnings are errors
    with Image.open(tmp_path / "delta.png") as image:
        assert image.size == (1600, 1000)


def test_two_equal_laps(tmp_path):
    same = comparison(TIMES_S, TIMES_S)
    draw_delta_figure(same, tmp_path / "delta.png")
    write_report(same, tmp_path / "r.html", overlay=None, clips={}, scratch=tmp_path)
    assert wording.headline(same).startswith("No clear difference")
    assert metrics(same)["headline"]["faster"] is None
    assert "No stretch in which more time is lost" in (tmp_path / "r.html").read_text()


@pytest.mark.parametrize(("of_error", "colours"), [(0.9, set()), (1.3, {BEHIND}), (-1.3, {AHEAD})])
def test_a_delta_within_its_error_has_no_colour(tmp_path, of_error, colours):
    """It was red or green, and the page said beside it that it is not."""
    shown = comparison(TIMES_S, TIMES_S + 0.03 * of_error * np.linspace(0, 1, len(TIMES_S)))
    draw_delta_figure(shown, tmp_path / "delta.png")
    with Image.open(tmp_path / "delta.png") as image:
        curve = image.convert("RGB").crop((500, 0, *image.size))  # without the words that say what the colours mean
    pixels = {"#" + bytes(pixel).hex() for pixel in np.asarray(curve).reshape(-1, 3)}
    assert pixels & {AHEAD, BEHIND} == colours


def test_wording():
    assert [format_signed(value) for value in (0.414, -0.414, -0.004, 0.0)] == [
        "+0.41",
        "−0.41",
        "0.00",
        "0.00",
    ]
    assert [wording.format_lap_time(value) for value in (0, 59.999, 62.345, 3600)] == [
        "0:00.00",
        "1:00.00",
        "1:02.34",
        "60:00.00",
    ]
    assert wording.headline(hostile()).startswith("A is 0.40 s faster ± 0.04 s")
    swapped = comparison(SLOWER, TIMES_S)
    assert wording.headline(swapped).startswith("B is 0.40 s faster")
    first = hostile().opportunities[0]
    assert wording.opportunity_sentence(hostile(), first) == "B: 0.10 s lost between 1.0 s and 3.0 s"
