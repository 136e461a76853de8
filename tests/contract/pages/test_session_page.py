"""The page of a live session in Chromium without a GPU, over the real routes and a scripted session."""

from __future__ import annotations

import asyncio
import io
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable
from itertools import pairwise
from pathlib import Path

import httpx
import pytest
from PIL import Image

from contracts.events.session import (
    FrameRejection,
    FrameTotals,
    SessionChunkExported,
    SessionFrameAcked,
    SessionStopped,
)
from contracts.ids import new_id
from contracts.manifest import Artifact
from contracts.telemetry import FrameAck
from modal_workers.live_splat.kinematics import SO101
from services.gateway.sessions.page import page_files as session_page
from tests.harness.clients.session_page_browser import WEBCAM, SessionTab, session_tab
from tests.harness.clients.session_page_server import CLOCK_AHEAD_S, KEY, ScriptedSession, page_app, serving
from tests.harness.clients.session_page_splat import BALLS, BLUE, GREEN, RED, Ball, scene
from tests.harness.vision.so101_reference import chain_description, link_poses

pytestmark = pytest.mark.anyio

#: A camera 20 cm above the red ball that looks down, x to the robot's right.
LOOKING_DOWN = [0, -1, 0, 0.3, -1, 0, 0, 0, 0, 0, -1, 0.3, 0, 0, 0, 1]
CLOSE = 26


@pytest.fixture
async def pages() -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=page_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def far(colour: tuple[int, int, int], ball: Ball) -> float:
    """Return the largest difference of a channel, of 255."""
    return max(abs(got - 255 * wanted) for got, wanted in zip(colour, ball.colour, strict=True))


async def until(holds: Callable[[], bool]) -> None:
    """Wait until something has happened at the server."""
    async with asyncio.timeout(30):
        while not holds():
            await asyncio.sleep(0.02)


async def test_the_page_and_its_files_are_sent_as_they_should(pages: httpx.AsyncClient) -> None:
    answer = await pages.get(f"/sessions/{new_id('ses')}")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers["cache-control"] == "no-cache"
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe-inline" not in policy
    again = await pages.get(f"/sessions/{new_id('ses')}", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assets = answer.text.split('src="')[1].split("/page.js")[0]
    kinds = {"page.js": "text/javascript; charset=utf-8", "page.css": "text/css; charset=utf-8"}
    kinds |= {"so101_chain.json": "application/json", "vendor/splat_viewer.js": kinds["page.js"]}
    for name, kind in kinds.items():
        file = await pages.get(f"{assets}/{name}")
        assert (file.status_code, file.headers["content-type"]) == (200, kind)
        assert file.headers["x-content-type-options"] == "nosniff"
        assert "immutable" in file.headers["cache-control"]
        assert file.headers["content-encoding"] == "gzip"
        plain = await pages.get(f"{assets}/{name}", headers={"Accept-Encoding": "identity"})
        assert "content-encoding" not in plain.headers
        assert plain.content == file.content
    head = await pages.head(f"{assets}/page.js")
    assert (head.status_code, head.content) == (200, b"")


@pytest.mark.parametrize("path", ["page.html", "__init__.py", "..%2f__init__.py", "%2e%2e/app.py", ""])
async def test_what_is_no_file_of_the_page_is_not_sent(pages: httpx.AsyncClient, path: str) -> None:
    digest = session_page.session_page("/").digest
    answer = await pages.get(f"/session-page/{digest}/{path}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"


async def test_another_version_is_told_to_reload(pages: httpx.AsyncClient) -> None:
    answer = await pages.get("/session-page/0123456789abcdef/page.js")
    assert answer.status_code == 404
    assert "Reload the page" in answer.json()["hint"]
    answer = await pages.get("/sessions/ses_of-nobody")
    assert (answer.status_code, answer.json()["code"]) == (404, "session_not_found")


def test_the_arm_of_the_page_is_that_of_the_worker() -> None:
    described = Path(session_page.__file__).parent / "so101_chain.json"
    assert json.loads(described.read_text()) == json.loads(json.dumps(chain_description()))


async def test_splat_arm_and_cameras_are_seen_where_they_are() -> None:
    session = ScriptedSession()
    session.ply = scene()
    async with serving(session) as origin, session_tab(origin, session.id) as page:
        await page.until("document.getElementById('link').innerText", "live")
        assert all(far(colour, ball) > CLOSE for colour, ball in zip(await _seen(page), BALLS, strict=True))
        assert "being computed" in await page.text("overlay") or "Waiting" in await page.text("overlay")
        await session.progress(version=1, splats=1956)
        await page.until("document.getElementById('overlay').innerText", "")
        await _until_seen(page, BALLS)
        assert session.plies == [(200, {})], "one that can be drawn is asked for once, and whole"
        await _check_swap(page, session)
        await _check_arm(page, session)
        await _check_cameras(page, session)
        assert page.complaints() == []
        page.check_alone()


async def _seen(page: SessionTab) -> list[tuple[int, int, int]]:
    return await page.colours_at(ball.centre for ball in BALLS)


async def _until_seen(page: SessionTab, balls: tuple[Ball, ...]) -> None:
    colours: list[tuple[int, int, int]] = []
    for _ in range(100):
        colours = await _seen(page)
        if all(far(colour, ball) <= CLOSE for colour, ball in zip(colours, balls, strict=True)):
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"the balls are {colours}, not {[ball.colour for ball in balls]}; {page.complaints()}")


async def _check_swap(page: SessionTab, session: ScriptedSession) -> None:
    """A new version takes the place of the old one, and in no picture between them there is none."""
    sampling = f"""new Promise(done => {{
      const gl = scene.renderer.getContext(), colours = [];
      const [x, y] = scene.project({list(RED.centre)}), height = gl.drawingBufferHeight;
      const scale = scene.renderer.getPixelRatio();
      const sample = () => {{
        scene.renderer.render(scene.scene, scene.camera);
        const place = [Math.round(x * scale), height - Math.round(y * scale)];
        const pixel = new Uint8Array(4);
        gl.bindBuffer(gl.PIXEL_PACK_BUFFER, null); // three.js leaves one bound while it waits for what it reads
        gl.readPixels(...place, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, pixel);
        colours.push([...pixel.slice(0, 3)]);
        const last = colours.slice(-3).every(([red, , blue]) => blue > 150 && red < 90);
        if (colours.length < 400 && !last) requestAnimationFrame(sample); else done(colours);
      }};
      sample();
    }})"""
    session.plies.clear()
    changed = (Ball(RED.centre, BLUE.colour), GREEN, BLUE)
    session.ply = scene(floor=20, per_ball=330, balls=changed)
    colours, _ = await asyncio.gather(page.in_scene(sampling), session.progress(version=2, splats=60_000))
    assert session.plies == [(200, {"max_splats": "12000"})], "of a larger one no more than can be drawn"
    assert far(tuple(colours[0]), RED) <= CLOSE
    assert far(tuple(colours[-1]), changed[0]) <= CLOSE
    between = [colour for colour in colours if min(far(tuple(colour), RED), far(tuple(colour), changed[0])) > CLOSE]
    assert between == [], "the model is seen in every picture"
    await _until_seen(page, changed)


async def _check_arm(page: SessionTab, session: ScriptedSession) -> None:
    """Each link is where the worker's kinematics has it, and the arm is on the screen."""
    seed = random.randrange(1 << 30)
    chance = random.Random(seed)
    for _ in range(3):
        angles = {name: chance.uniform(*SO101.limits_rad[name]) for name in SO101.joint_names}
        await session.joints(list(angles), list(angles.values()))
        wanted = {link: pose[:3, 3].tolist() for link, pose in link_poses(angles).items()}
        tip = json.dumps(wanted["gripper_frame_link"])
        await page.until(
            f"{_SCENE}.then(s => Math.hypot(...s.arm.place('gripper_frame_link').map((v, i) => v - {tip}[i])) < 1e-5)"
        )
        got = await page.in_scene(f"{json.dumps(list(wanted))}.map(link => scene.arm.place(link))")
        assert max(math.dist(*both) for both in zip(got, wanted.values(), strict=True)) < 1e-5, f"seed {seed}"
    await session.joints(list(SO101.joint_names), [0.0] * 6)
    elbow = link_poses(dict.fromkeys(SO101.joint_names, 0.0))["wrist_link"][:3, 3]
    await page.click("[data-view=home]")
    await asyncio.sleep(1.5)
    (with_arm,) = await page.colours_at([elbow])
    await page.click("[data-layer=arm]")
    await asyncio.sleep(1.5)
    (without,) = await page.colours_at([elbow])
    await page.click("[data-layer=arm]")
    assert max(abs(a - b) for a, b in zip(with_arm, without, strict=True)) > CLOSE


_SCENE = "import(document.querySelector('script[type=module]').src).then(page => page.scene)"


async def _check_cameras(page: SessionTab, session: ScriptedSession) -> None:
    """The newest camera is drawn, and its view shows what it looks at in the middle."""
    await session.progress(world_from_camera=LOOKING_DOWN, cameras=[LOOKING_DOWN] * 3)
    await page.until(f"{_SCENE}.then(s => s.cameras.newest.visible && s.cameras.past.visible)")
    await page.click("[data-view=camera]")
    middle = await page.in_scene("[scene.canvas.clientWidth / 2, scene.canvas.clientHeight / 2]")
    over = await page.in_scene(f"scene.project({list(RED.centre)})")
    assert math.dist(middle, over) < 2
    assert await page.in_scene("scene.body.visible || scene.cameras.visible") is False, "nothing stands in the way"
    await page.click("[data-view=home]")
    assert await page.in_scene("scene.body.visible && scene.cameras.visible") is True


async def test_figures_follow_the_stream_over_a_cut() -> None:
    session = ScriptedSession()
    session.totals = FrameTotals(sent=10, accepted=7, dropped=2, rejected=1)
    async with serving(session) as origin, session_tab(origin, session.id, size=(360, 780)) as page:
        await page.until_text("link", "live")
        assert await page.text("accepted") == "7", "what was there before the page is read"
        await _check_curve(page, session)
        ack = FrameAck(source="camera", seq=41, status="dropped", reason="superseded", age_s=0.2, queue_depth=3)
        detail = "The frames came without positions of these joints: shoulder_pan."
        rejection = FrameRejection(source="camera", seq=40, reason="joints_invalid", detail=detail)
        reasons = {"superseded": 6, "joints_invalid": 2}
        totals = FrameTotals(sent=60, accepted=50, dropped=6, rejected=2, waiting=2, reasons=reasons)
        totals = totals.model_copy(update={"last_rejection": rejection})
        await session.say(SessionFrameAcked(run_id="run_1", acks=[ack], totals=totals))
        await page.until_text("dropped", "6")
        counts = [int(await page.text(name)) for name in ("accepted", "dropped", "rejected", "waiting")]
        assert sum(counts) == int(await page.text("sent")) == 60
        assert "frame 41 of camera, a newer frame was processed first" in await page.text("rejection")
        why = await page.text("reasons")
        assert "6 × a newer frame was processed first; 2 × the joint angles were invalid" in why
        assert f"frame 40 of camera: {detail}" in why
        assert "Queue depth\n3" in await page.text("rows")
        await _check_chunk(page, session, totals)
        cursor = f"e.{session.sequence}"
        await session.cut()
        await until(lambda: len(session.opened) == 2)
        await page.until_text("link", "live")
        await page.until("document.querySelectorAll('#chunks li').length", 1)
        assert session.opened[-1]["after"] == cursor, "it goes on where it was"
        await session.progress(psnr_db=23.4)
        await page.until_text("psnr", "23.4 dB")
        assert await page.tab.evaluate("document.documentElement.scrollWidth <= innerWidth"), "it fits 360 pixels"
        await page.click("#webcam")
        await page.until_text("webcam-status", "This computer has no camera. Connect one, then press the button again.")
        await _check_actions(page, session)
        page.check_alone()
        assert page.complaints() == [], page.complaints()


async def _check_curve(page: SessionTab, session: ScriptedSession) -> None:
    for step in range(6):
        session.totals = session.totals.model_copy(update={"accepted": 8 + step, "sent": 11 + step})
        await session.progress(psnr_db=10.0 + step, train_psnr_db=11.0 + step, splats=1234, step_ms=40.0, steps=200)
    points = "document.querySelector('#curve polyline.heldOut')?.getAttribute('points').split(' ').length ?? 0"
    await page.until(points, 6)
    assert await page.text("splats") == "1,234"
    words = await page.tab.evaluate("document.querySelector('#curve svg').getAttribute('aria-label')")
    assert words == "PSNR after 13 accepted frames: held-out 15.0 decibels, train 16.0 decibels."
    labels = await page.tab.evaluate("document.querySelector('#curve').textContent")
    assert "PSNR in dB" in labels
    assert "accepted frames" in labels


async def export_chunk(session: ScriptedSession, totals: FrameTotals | None = None) -> None:
    artifact = Artifact(
        name="chunk_0001.ply", key="k", bytes=140_000, sha256="0" * 64, media_type="application/octet-stream"
    )  # fmt: skip
    figures = {"psnr_db": 16.0, "train_psnr_db": 17.0}
    totals = totals or FrameTotals(sent=50, accepted=50)
    await session.say(SessionChunkExported(run_id="run_1", chunk=1, artifact=artifact, totals=totals, figures=figures))


async def _check_chunk(page: SessionTab, session: ScriptedSession, totals: FrameTotals) -> None:
    await export_chunk(session, totals)
    await page.until("document.querySelectorAll('#chunks li').length", 1)
    assert (await page.text("chunks")).split() == ["chunk_0001.ply", "137", "KiB"]
    link = await page.tab.evaluate("document.querySelector('#chunks a').pathname")
    assert link == f"/v1/jobs/job_{session.id.removeprefix('ses_')}/artifacts/chunk_0001.ply"


async def _check_actions(page: SessionTab, session: ScriptedSession) -> None:
    """Nothing is done before it is confirmed."""
    await page.click("#reset")
    await page.until("document.getElementById('confirm').open")
    await page.click("#confirm button[value=no]")
    await page.until("document.getElementById('confirm').open", False)
    assert session.posts == []
    await page.click("#reset")
    await page.until("document.getElementById('confirm').open")
    await page.click("#confirm-yes")
    await page.until_text("psnr", "–")
    await page.until("document.querySelectorAll('#curve polyline').length", 0)
    await page.click("#stop")
    await page.until("document.getElementById('confirm').open")
    await page.click("#confirm-yes")
    await page.until_text("state", "Stopping")
    assert session.posts == ["reset", "stop"]
    await session.say(
        SessionStopped(reason="asked", chunks=1, totals=FrameTotals(sent=1, accepted=1), result={}, cost_usd=0.02)
    )
    await page.until_text("state", "Stopped: as requested")
    assert "$0.02 of at most $0.50" in await page.text("rows")
    assert await page.tab.evaluate("document.getElementById('stop').disabled")


async def test_the_webcam_is_a_source_of_frames() -> None:
    session = ScriptedSession()
    begun_s = time.time()
    async with serving(session) as origin, session_tab(origin, session.id, *WEBCAM) as page:
        await page.until_text("link", "live")
        await page.until("document.getElementById('webcam').disabled", False)
        rate = "document.getElementById('webcam-rate')"
        await page.tab.evaluate(f"{rate}.value = '5'; {rate}.dispatchEvent(new Event('change'))")
        await page.tab.evaluate(
            "(() => { const devices = navigator.mediaDevices, open = devices.getUserMedia.bind(devices);"
            " window.opened = []; devices.getUserMedia = async (asked) => {"
            " const stream = await open(asked); window.opened.push(stream); return stream; }; })()"
        )
        button = "document.getElementById('webcam')"
        await page.tab.evaluate(f"{button}.click(); {button}.click()")  # impatient, while the browser asks
        await until(lambda: len(session.pictures) >= 4)
        await page.click("#webcam")
        await page.until_text("webcam", "Use the webcam")
        tracks = "window.opened.flatMap((stream) => stream.getTracks()).map((track) => track.readyState).join()"
        assert await page.tab.evaluate(tracks) == "ended", "one camera was opened, and it is off"
        headers, pictures = zip(*session.pictures, strict=True)
        assert len(headers) >= 4
        for header, picture in zip(headers, pictures, strict=True):
            assert header.keys() == {"seq", "captured_at_s", "source", "content_type", "clock_offset_s"}
            assert (header["source"], header["content_type"]) == ("webcam", "image/jpeg")
            assert begun_s < header["captured_at_s"] < time.time() + 0.1
            assert abs(header["clock_offset_s"] - CLOCK_AHEAD_S) < 1.0
            with Image.open(io.BytesIO(picture)) as opened:
                opened.load()
                assert (opened.format, opened.width) == ("JPEG", 640)
        numbers = [header["seq"] for header in headers]
        assert all(a < b for a, b in pairwise(numbers)), numbers
        times = [header["captured_at_s"] for header in headers]
        assert (len(times) - 1) / (times[-1] - times[0]) < 6.0, "at most five a second"
        count = len(session.pictures)
        await asyncio.sleep(0.5)
        assert len(session.pictures) <= count + 1, "it has stopped"
        camera = "document.getElementById('webcam-camera')"
        asked = "window.opened.map((stream) => stream.getVideoTracks()[0].getSettings().deviceId)"
        devices = await page.tab.evaluate(f"[...{camera}.options].slice(2).map((option) => option.value)")
        assert await page.tab.evaluate(f"{camera}.options[2].textContent") != "", "cameras have their names now"
        for chosen in ("user", devices[0]):
            await page.tab.evaluate(f"{camera}.value = '{chosen}'; {camera}.dispatchEvent(new Event('change'))")
        assert await page.tab.evaluate("window.opened.length") == 1, "a choice alone turns no camera on"
        await page.click("#webcam")
        await until(lambda: len(session.pictures) >= count + 2)
        assert (await page.tab.evaluate(asked))[-1] == devices[0]
        await page.tab.evaluate(f"{camera}.value = 'user'; {camera}.dispatchEvent(new Event('change'))")
        await page.until("window.opened.length", 3)
        count = len(session.pictures)
        await until(lambda: len(session.pictures) >= count + 2)
        assert await page.tab.evaluate(tracks) == "ended,ended,live", "the camera before it is off"
        assert page.complaints() == []


async def test_a_key_is_asked_for_and_errors_are_told_in_words() -> None:
    session = ScriptedSession(key=KEY)
    await export_chunk(session)
    async with serving(session) as origin, session_tab(origin, session.id, "--disable-3d-apis") as page:
        await page.until("document.getElementById('key').hidden", False)
        assert session.opened == []
        assert await page.text("key-error") == ""
        await _type_key(page, "reader.wrong")
        await page.until_text("key-error", "The request has no API key.")
        await _type_key(page, KEY)
        await page.until_text("link", "live")
        assert session.opened == [{"joints": "1", "ticket": f"for {session.path}/stream"}]
        assert "no WebGL 2" in await page.text("overlay"), "a browser that cannot show the splat shows the figures"
        kept = "[location.href, document.cookie, JSON.stringify({...localStorage, ...sessionStorage})].join()"
        assert KEY not in await page.tab.evaluate(kept)
        assert await page.tab.evaluate("document.querySelectorAll('#chunks button').length") == 1, "no link without key"
        session.problems.append(
            {"status": 503, "code": "bus_unavailable", "detail": "The bus is away.", "hint": "Wait a little."}
        )  # fmt: skip
        await session.cut()
        await page.until("document.getElementById('problem').innerText.includes('Wait a little.')")
        await page.until_text("link", "live")
        assert await page.text("problem") == "", "what is over is not told any more"
        await page.tab.send("Page.navigate", url=f"{origin}/sessions/{new_id('ses')}")
        await page.until("document.getElementById('key')?.hidden", False)
        await _type_key(page, KEY)
        await page.until("document.getElementById('problem').innerText.includes('There is no such session.')")
        assert (await page.text("state")).lower() == "no such session"


async def _type_key(page: SessionTab, key: str) -> None:
    await page.tab.evaluate("document.getElementById('key-value').value = ''")
    await page.click("#key-value")
    await page.tab.send("Input.insertText", text=key)
    await page.click("#key button")
