"""The exhibit stage: self-contained pages, previews of the frames, correct figures."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import re
from html import unescape
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from contracts.errors import ErrorCode, SaccadeError
from modal_workers.gaussians.ply import decode_ply, encode_ply
from modal_workers.nerf.found_object import ObjectHint
from modal_workers.nerf.params import NerfParams
from modal_workers.nerf.report import splat_page
from modal_workers.nerf.report.frame_archive import FrameArchive, downscale
from modal_workers.nerf.report.held_out_comparison import compare_held_out
from modal_workers.nerf.report.html_page import json_text, viewer_script
from modal_workers.nerf.report.job import run
from modal_workers.nerf.report.spin_page import PAGE_BYTES, select_frames
from modal_workers.nerf.report.stage_costs import read_paid_costs
from modal_workers.nerf.result import NerfResult
from tests.harness.vision.stage_context import FolderContext
from tests.harness.vision.stage_outputs import (
    HOSTILE,
    capture_report,
    open_the_circle,
    red_ball,
    write_capture,
    write_everything,
)

PARAMS = NerfParams(frames=24, elevations=2, frame_size_px=64)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NerfResult]:
    home = tmp_path_factory.mktemp("exhibit")
    write_everything(home, PARAMS)
    return home / "saved", run(PARAMS, FolderContext(home, name="exhibit"))


def page(made: tuple[Path, NerfResult], name: str) -> str:
    return (made[0] / name).read_text()


def held(html: str, name: str) -> dict[str, object]:
    found = re.search(rf'<script type="[a-z/-]+" id="{name}">(.*?)</script>', html, re.DOTALL)
    assert found
    return dict(json.loads(found[1]))


def test_the_result_has_the_figures_of_all_stages(made: tuple[Path, NerfResult]) -> None:
    result = made[1]
    assert (result.verdict, result.reasons, result.photos_sent) == ("usable", ("blurred",), 17)
    assert result.poses
    assert result.poses.photos_registered == 16
    assert result.model
    assert result.model.psnr_db == 24.0
    assert result.frames
    assert (result.frames.verified, result.frames.azimuths, result.frames.batches) == (24, 12, 1)
    took = {one.stage: one.actual_s for one in result.stages}
    assert {name: took[name] for name in ("capture", "poses", "training", "rendering")} == {
        "capture": 3.5,
        "poses": 12.5,
        "training": 30.0,
        "rendering": 4.0,
    }
    assert result.actual_s == pytest.approx(sum(seconds or 0 for seconds in took.values()))
    assert len(result.model_dump_json()) < 4000


def test_a_run_that_is_begun_anew_leaves_the_same(made: tuple[Path, NerfResult], tmp_path: Path) -> None:
    again = run(PARAMS, FolderContext(made[0].parent, name="again"))
    assert again.frames == made[1].frames
    assert again.model == made[1].model


def test_the_pages_load_nothing_and_run_only_their_own_script(made: tuple[Path, NerfResult]) -> None:
    for name in ("spin.html", "splat.html", "report.html"):
        html = page(made, name)
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)
        assert policy
        assert "default-src 'none'" in policy[1]
        for script in re.findall(r"<script(?: type=\"module\")?>(.*?)</script>", html, re.DOTALL):
            digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            assert f"'sha256-{digest}'" in policy[1]
        markup = re.sub(r"<(script|style).*?</\1>", "", html, flags=re.DOTALL)
        assert not re.search(r'(?:src|href)="(?:https?:)?//', markup)


def test_names_are_text(made: tuple[Path, NerfResult]) -> None:
    html = page(made, "report.html")
    assert HOSTILE not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;&amp;.jpg" in html
    assert "</script>" not in json_text({"a": "</script>"})


def test_the_report_says_what_was_found(made: tuple[Path, NerfResult]) -> None:
    html = page(made, "report.html")
    for words in ("17 photos, 24 transparent frames", "9 of 16 photos are blurred.", "Hold still", "PSNR 24.0 dB"):
        assert words in html
    assert html.count('class="dot') == 2 * 16, "each camera from above and unrolled"
    assert html.count("<figure>") == 6, "two unseen photos, three pictures each"
    assert "48 hours" in html


@pytest.mark.parametrize(
    ("masks", "agreement", "doubtful", "words"),
    [
        ("found", 0.97, False, "97% of the outline of alpha"),
        ("found", 0.6, True, "The outline is doubtful: 40% of it"),
        ("found", None, False, "was not checked"),
        ("given", None, False, "by your masks"),
    ],
)
def test_it_is_said_how_far_an_outline_that_was_found_is_backed(
    tmp_path: Path, masks: str, agreement: float | None, doubtful: bool, words: str
) -> None:
    write_everything(tmp_path, PARAMS)
    training = tmp_path / "kept" / "training.json"
    told = json.loads(training.read_text()) | {"masks": masks, "outline_agreement": agreement}
    training.write_text(json.dumps(told))
    result = run(PARAMS, FolderContext(tmp_path, name="exhibit"))
    assert result.model
    assert (result.model.outline_agreement, result.model.outline_doubtful) == (agreement, doubtful)
    report = (tmp_path / "saved" / "report.html").read_text().replace("'", "&#x27;")
    assert words in report
    assert ("is doubtful" in report) is doubtful
    assert ("checked" in report) is (masks == "found")


def test_where_it_is_not_sure_what_the_object_is_the_report_shows_the_choices(tmp_path: Path) -> None:
    write_everything(tmp_path, PARAMS)
    choices = [
        {"name": name, "centre": (1.0, -1.0, 0.5), "size": (0.8, side, 0.8), "points": 90, "standing": 0.5}
        for name, side in (("both", 0.8), ("first", 0.3), ("second", 0.3))
    ]
    evidence = dict.fromkeys(("aim", "depth", "foreground", "separation", "alone", "points"), 0.5)
    found = {"source": "cameras", "confidence": 0.2, "doubt": "several_objects", "evidence": evidence}
    poses = tmp_path / "kept" / "poses.json"
    poses.write_text(json.dumps(json.loads(poses.read_text()) | {"object": found | {"choices": choices}}))
    result = run(PARAMS, FolderContext(tmp_path, name="exhibit"))
    assert result.object is not None
    assert (result.object.doubt, result.object.choices) == ("several_objects", ("both", "first", "second"))
    assert "object_doubtful" in result.reasons
    html = (tmp_path / "saved" / "report.html").read_text()
    assert "It is not sure what the object is." in html
    assert html.count(": a box on ") == 9, "each choice on three photos"
    hints = re.findall(r"object_hint='(.*?)'", html)
    assert len(hints) == 3
    for hint in hints:
        ObjectHint.model_validate_json(unescape(hint))


def test_the_spin_page_holds_every_frame_in_order(made: tuple[Path, NerfResult]) -> None:
    told = held(page(made, "spin.html"), "spin")
    offsets, blob = told["offsets"], base64.b64decode(str(told["frames"]))
    assert isinstance(offsets, list)
    assert told["azimuths"] == 12
    assert told["rings"] == [15.0, 40.0]
    assert len(offsets) == 25
    assert offsets[-1] == len(blob)
    frames = FrameArchive(PARAMS, FolderContext(made[0].parent, name="look").artifact)
    for frame in (0, 7, 23):
        with Image.open(io.BytesIO(blob[offsets[frame] : offsets[frame + 1]])) as picture:
            shown = np.asarray(picture.convert("RGBA")).astype(int)
        true = frames.image(frame).astype(int)
        assert np.abs(shown[..., 3] - true[..., 3]).mean() < 4
        solid = true[..., 3] == 255
        assert np.abs(shown - true)[solid].mean() < 12


@pytest.mark.parametrize(
    ("frames", "rings", "size_px", "weight"),
    [
        (1440, 4, 512, 0.08),
        (1440, 4, 2048, 0.3),
        (1440, 1, 128, 0.05),
        (7, 1, 64, 1.0),
        (14_400, 4, 512, 0.5),
        (2, 2, 32, 9.0),
    ],
)
def test_what_is_shown_fits_into_the_page(frames: int, rings: int, size_px: int, weight: float) -> None:
    def bytes_at(size: int) -> float:
        return weight * size * size

    choice = select_frames(frames, rings, size_px, bytes_at)
    azimuths = frames // rings
    shown = rings * azimuths // choice.stride
    assert azimuths % choice.stride == 0
    assert choice.size_px <= size_px
    assert shown * bytes_at(choice.size_px) * 4 / 3 < PAGE_BYTES
    assert shown <= 720


def test_shrinking_does_not_let_what_is_clear_bleed_into_colours() -> None:
    picture = np.zeros((64, 64, 4), np.uint8)
    picture[:, :33] = (200, 100, 50, 255)
    picture[:, 33:, :3] = 255  # transparent white
    small = downscale(picture, 16)
    edge = small[(small[..., 3] > 0) & (small[..., 3] < 255)]
    assert len(edge)
    assert np.abs(edge[:, :3].astype(int) - [200, 100, 50]).max() <= 1


def test_the_pictures_are_as_they_should(made: tuple[Path, NerfResult]) -> None:
    with Image.open(made[0] / "contact_sheet.png") as sheet:
        assert sheet.size == (8 * 70 + 6, 2 * 70 + 6)
        assert np.asarray(sheet.convert("RGB")).std() > 20
    with av.open(str(made[0] / "turntable.mp4")) as video:
        stream = video.streams.video[0]
        assert (stream.codec_context.name, stream.width, stream.pix_fmt) == ("h264", 64, "yuv420p")
        assert sum(1 for _ in video.decode(video=0)) == 36, "three turns of twelve frames: six seconds"
    with Image.open(made[0] / "turntable.webp") as animation:
        assert animation.n_frames == 12
        alpha = np.asarray(animation.convert("RGBA"))[..., 3]
        assert alpha.min() == 0
        assert alpha.max() == 255


def test_a_photo_and_the_model_show_the_same(made: tuple[Path, NerfResult]) -> None:
    kept = made[0].parent / "kept"
    found = compare_held_out(kept / "dataset.zip", kept / "scene.npz")
    assert [pair.name for pair in found] == ["0000_photo", "0008_photo"]
    for pair in found:
        photo, model = (one[..., 1].astype(int) < 128 for one in (pair.photo, pair.model))
        assert photo.sum() > 50
        assert (photo & ~model).sum() < 0.02 * photo.sum()
        middles = [np.argwhere(one).mean(0) for one in (photo, model)]
        assert np.abs(middles[0] - middles[1]).max() < 1.5, "the ball is drawn where it was photographed"


def test_no_photo_is_shown_as_held_out_where_training_held_out_none(
    made: tuple[Path, NerfResult], tmp_path: Path
) -> None:
    """With fewer than eight photos training uses all; the first was shown as if it had not."""
    write_everything(tmp_path, PARAMS)
    told = tmp_path / "kept" / "training.json"
    without = {"held_out": 0, "psnr_db": None, "ssim": None}
    told.write_text(json.dumps(json.loads(told.read_text()) | without))
    run(PARAMS, FolderContext(tmp_path, name="exhibit"))
    title = "Held-out photos and the model"
    assert title in page(made, "report.html")
    assert title not in (tmp_path / "saved" / "report.html").read_text()


def test_a_large_model_is_cut_to_its_most_important_splats(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splat_page, "_PLY_BYTES", 69 * 40)
    ply = tmp_path / "splat.ply"
    encode_ply(red_ball(100)).write(ply)
    shown = splat_page.write_splat_page(
        tmp_path / "splat.html", ply, title="x", description="", radius=0.2, elevation_deg=20
    )
    assert shown == 40
    html = (tmp_path / "splat.html").read_text()
    assert "40 most important of 100" in html
    assert len(decode_ply(base64.b64decode(str(held(html, "ply")["ply"])))) == 40
    (tmp_path / "no.ply").write_bytes(b"ply of nothing")
    with pytest.raises(ValueError, match="not a PLY"):
        splat_page.write_splat_page(
            tmp_path / "x.html", tmp_path / "no.ply", title="", description="", radius=1, elevation_deg=0
        )


def test_the_viewer_is_one_module_that_exports_nothing() -> None:
    script = viewer_script("const own = 1;\n")
    assert "export{" not in script
    assert "SplatMesh:" in script
    assert script.endswith("const own = 1;\n")


@pytest.mark.parametrize("refused", [False, True])
def test_a_verdict_alone_is_shown_alone(tmp_path: Path, refused: bool) -> None:
    params = NerfParams(preflight_only=True)
    write_capture(tmp_path, capture_report(refused=refused))
    result = run(params, FolderContext(tmp_path, name="exhibit"))
    assert result.poses is None
    assert result.frames is None
    assert result.spared_usd == (0.2754 if refused else 0.0)
    assert {path.name for path in (tmp_path / "saved").iterdir()} == {"report.html"}
    html = (tmp_path / "saved" / "report.html").read_text()
    assert ("17 photos: not yet a model" in html) == refused
    assert html.count("not run") == 3
    assert ("were not spent" in html) == refused


def test_what_a_stage_has_not_left_is_said(tmp_path: Path) -> None:
    write_everything(tmp_path, PARAMS)
    (tmp_path / "kept" / "training.json").unlink()
    with pytest.raises(SaccadeError, match=r"training\.json of an earlier stage") as raised:
        run(PARAMS, FolderContext(tmp_path, name="exhibit"))
    assert raised.value.code is ErrorCode.INTERNAL


def test_costs_are_those_of_the_ledger(made: tuple[Path, NerfResult], tmp_path: Path) -> None:
    path = tmp_path / "progress.json"
    assert read_paid_costs(None) is None
    path.write_text("{")
    assert read_paid_costs(path) is None
    stages = [{"name": "training", "cost_usd": 0.25}, {"name": "rendering", "cost_usd": 0.05}]
    path.write_text(json.dumps({"stages": stages}))
    assert read_paid_costs(path) == {"training": 0.25, "rendering": 0.05}
    (made[0] / "progress.json").write_text(path.read_text())
    result = run(PARAMS, FolderContext(made[0].parent, name="paid"))
    (made[0] / "progress.json").unlink()
    own = next(one for one in result.stages if one.stage == "exhibit")
    assert result.actual_usd == pytest.approx(0.30 + (own.actual_usd or 0), abs=1e-5)
    assert own.actual_usd is not None
    assert own.actual_usd > 0


@pytest.fixture(scope="module", params=["seen", "full"])
def half(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NerfResult]:
    """Return the exhibit of photos of half the circle."""
    home, params = tmp_path_factory.mktemp("half"), PARAMS.model_copy(update={"orbit": request.param})
    write_everything(home, params)
    open_the_circle(home, params, full=request.param == "full")
    return home / "saved", run(params, FolderContext(home, name="exhibit"))


def test_a_side_without_photos_counts_in_the_verdict_and_is_hatched(half: tuple[Path, NerfResult]) -> None:
    frames = half[1].frames
    assert frames
    assert frames.open_deg == pytest.approx(180.0)
    full = frames.arcs_deg == ((0.0, 360.0),)
    assert half[1].verdict == "usable"
    assert half[1].reasons == ("blurred", "open_round", *(["frames_not_seen"] if full else []))
    assert (frames.frames, frames.verified) == (24, 24)
    assert frames.seen == (18 if full else 24)
    report = page(half, "report.html")
    assert "180° of the circle around the object are in no photo." in report
    assert ("6 of 24 frames show what photos do not" in report) is full
    assert report.count('class="unseen-cell"') == (6 if full else 0)
    assert 'class="open"' in report
    spin = page(half, "spin.html")
    assert 'class="not-photographed"' in spin
    told = held(spin, "spin")
    assert told["closed"] is full
    angles = told["angles"]
    assert isinstance(angles, list)
    assert (angles[0], angles[-1]) == ((0.0, 330.0) if full else (355.0, 185.0))


def test_the_table_of_frames_has_a_row_for_each(half: tuple[Path, NerfResult]) -> None:
    with (half[0] / "frames.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["file"] for row in rows] == [f"frame_{index:04d}.png" for index in range(24)]
    assert half[1].frames
    assert sum(row["seen"] == "true" for row in rows) == half[1].frames.seen
    for row in rows:
        assert (float(row["nearest_photo_deg"]) <= 30) == (row["seen"] == "true")


def test_where_nothing_is_known_of_the_photos_nothing_is_claimed(made: tuple[Path, NerfResult]) -> None:
    assert made[1].frames
    assert (made[1].frames.seen, made[1].frames.open_deg) == (None, None)
    with (made[0] / "frames.csv").open(newline="") as file:
        assert {row["seen"] for row in csv.DictReader(file)} == {""}
    assert "Frames seen" not in page(made, "report.html")
    assert "not-photographed" not in re.sub(r"<style>.*?</style>", "", page(made, "spin.html"), flags=re.DOTALL)
