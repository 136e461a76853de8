"""The report: one page that loads nothing, a PDF to print, and the list of files."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from modal_workers.badminton.analytics.analysis import analyse
from modal_workers.badminton.court.homography_track import HomographyTrack
from modal_workers.badminton.match import Match, Missing
from modal_workers.badminton.rendering.videos import RenderedVideos, render
from modal_workers.badminton.report.page_sections import method_html, tiles_html
from modal_workers.badminton.report.report import write_report
from tests.harness.clients.chromium import chromium, find_browser
from tests.harness.vision.badminton_matches import film, known_match, without_court

HOSTILE = 'a</script><script>alert(1)</script><img src="x">\u202e.mp4'


def _without_videos(folder: Path) -> RenderedVideos:
    return RenderedVideos(folder / "processed.mp4", (640, 360), {}, None, None, (640, 360), None)


def _variants() -> dict[str, Match]:
    singles = known_match(duration_s=12, rate_hz=10).match
    assert singles.tracks is not None
    position_m = singles.tracks.position_m.copy()
    position_m[1] = np.nan
    return {
        "one unseen": replace(
            singles,
            tracks=replace(singles.tracks, position_m=position_m),
            shuttle=None,
            rallies=(),
            hits=(),
            missing=(Missing("shuttle", "It is too small."),),
        ),
        "doubles": known_match(duration_s=12, rate_hz=10, players=4).match,
        "rally only": replace(singles, tracks=None, mode="rally_only"),
        "nothing": replace(
            without_court(singles, 1, "The picture shows <no> lines."), tracks=None, shuttle=None, rallies=(), hits=()
        ),
    }


@pytest.mark.parametrize("name", list(_variants()))
def test_every_file_is_written_whatever_is_missing(name: str, tmp_path: Path) -> None:
    match = _variants()[name]
    outputs = write_report(match, analyse(match), _without_videos(tmp_path), tmp_path, video_id="v")
    assert [output.name for output in outputs] == [
        *("report.html", "report.pdf", "results.json", "players.csv", "rallies.csv"),
        *(f"compat/{view}.json" for view in ("results", "summary", "speed", "zones", "heatmap")),
    ]
    assert all(output.path.stat().st_size > 0 for output in outputs)
    page = (tmp_path / "report.html").read_text()
    assert ('class="card' in page) == (name in ("doubles", "one unseen"))
    assert ("No rally was found." in page) == (name in ("nothing", "one unseen"))
    assert ("<dt>Hits</dt><dd>–</dd>" in page) == (name == "one unseen")
    assert ('<td data-share="0">–</td>' in page) == (name == "one unseen")
    if name == "nothing":
        assert "The picture shows &lt;no&gt; lines." in page


def test_the_report_says_of_which_point_speeds_are_and_counts_hits_in_rallies() -> None:
    match = known_match(duration_s=12, rate_hz=10).match
    assert match.tracks is not None
    assert "the middle between the feet" in method_html(match)
    assert "raised" in method_html(match)
    tracks = replace(match.tracks, body_m=match.tracks.position_m, body_error_m=match.tracks.position_error_m)
    of_body = method_html(replace(match, tracks=tracks))
    assert "body&#x27;s centre" in of_body
    assert "raised" not in of_body, "only speeds of the feet are"
    passed = replace(match, hits=(replace(match.hits[0], frame=0, time_s=0.0), *match.hits))
    hits = sum(len(rally.hits) for rally in match.rallies)
    assert f"{hits} hits" in tiles_html(passed, analyse(passed))


def test_text_of_others_is_escaped_and_nothing_is_loaded(tmp_path: Path) -> None:
    match = known_match(duration_s=12, rate_hz=10, name=HOSTILE).match
    match = replace(match, missing=(Missing("<b>", "<i>why</i>"),), warnings=("<u>",), shuttle_backend="<s>")
    write_report(match, analyse(match), _without_videos(tmp_path), tmp_path)
    page = (tmp_path / "report.html").read_text()
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"<(img|b>|i>why|u>|s>)[^a-z]?", page.replace("<i class", "").split("<main>")[0])
    assert "&lt;i&gt;why&lt;/i&gt;" in page
    assert "\u202e" not in page
    assert not re.search(r"(?:src|href)=[\"'](?!#|data:)", page)
    assert "default-src 'none'" in page
    assert " style=" not in page, "the policy forbids it"


def test_the_pdf_has_landscape_pages_in_a4(tmp_path: Path) -> None:
    match = known_match(duration_s=12, rate_hz=10).match
    write_report(match, analyse(match), _without_videos(tmp_path), tmp_path)
    pdf = (tmp_path / "report.pdf").read_bytes()
    assert len(re.findall(rb"/Type /Page\b", pdf)) == 4
    boxes = [[float(side) for side in box.split()] for box in re.findall(rb"/MediaBox \[([^\]]*)\]", pdf)]
    assert boxes
    assert all(box == pytest.approx([0, 0, 842, 595], abs=1) for box in boxes)


def test_the_page_plays_the_match_with_and_without_the_overlay(tmp_path: Path) -> None:
    find_browser()
    known = known_match(duration_s=12, rate_hz=20, size=(320, 180))
    film(known, tmp_path / "match.mp4")
    (segment,) = known.match.segments
    assert segment.court is not None
    views = np.tile(segment.court.image_from_court, (known.match.frame_count, 1, 1))
    match = replace(known.match, segments=(replace(segment, track=HomographyTrack(0, views)),))
    analysis = analyse(match)
    rendered = render(match, analysis, tmp_path / "match.mp4", tmp_path, height_px=180)
    write_report(match, analysis, rendered, tmp_path)
    asyncio.run(_play(known.match, tmp_path))


async def _play(match: Match, folder: Path) -> None:
    drawn = (
        "(() => { const c = document.getElementById('overlay');"
        " return c.getContext('2d').getImageData(0, 0, c.width, c.height).data.some((x) => x > 0); })()"
    )
    async with chromium(folder / "profile") as browser:
        tab = await browser.open((folder / "report.html").as_uri())
        await tab.send("Runtime.enable")
        await tab.send("Log.enable")
        for width in (360, 1280):
            await tab.send(
                "Emulation.setDeviceMetricsOverride", width=width, height=800, deviceScaleFactor=1, mobile=False
            )
            assert await tab.evaluate("document.documentElement.scrollWidth") <= width
        rally = match.rallies[1]
        # The page looks at each frame itself: on a busy machine the rally is over before a question from here is
        # answered. If it missed the whole rally, it plays it again.
        await tab.evaluate(
            "new Promise((done) => {"
            " const video = document.getElementById('video'), readout = document.getElementById('readout');"
            " const mark = document.querySelectorAll('.timeline .rally')[1];"
            " const play = () => mark.dispatchEvent(new MouseEvent('click'));"
            " const look = (_, { mediaTime }) => {"
            f"  if (mediaTime > {rally.start_s} && readout.textContent.includes('Rally 2'))"
            "   { video.pause(); done(true); return; }"
            f"  if (mediaTime > {rally.end_s}) play();"
            "  video.requestVideoFrameCallback(look);"
            " };"
            " video.requestVideoFrameCallback(look);"
            " play();"
            "})",
            timeout_s=120,
        )
        assert await tab.evaluate(drawn)
        await tab.evaluate("document.getElementById('switch').click()")
        assert not await tab.evaluate(drawn)
        complaints = [
            told
            for told in browser.told
            if told["method"] == "Runtime.exceptionThrown"
            or (told["method"] == "Log.entryAdded" and told["params"]["entry"]["level"] == "error")
        ]
        assert complaints == []
