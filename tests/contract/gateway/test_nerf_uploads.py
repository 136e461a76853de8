"""Upload of photos as a ZIP and as HEIC: what is accepted, and what is refused before any job gets it."""

from __future__ import annotations

from pathlib import Path

import pytest

from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway
from tests.harness.vision.hostile_archives import HOSTILE, JPEG, zipped

pytestmark = pytest.mark.anyio
HEIC = Path(__file__).parents[2] / "pictures" / "telephone.heic"
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def test_a_zip_of_photos_is_taken_as_an_archive(running: RunningGateway):
    body = zipped({"broken.jpg": b"\xff\xd8\xff nothing", "photos/2.heic": HEIC.read_bytes(), "photos/3.jpg": JPEG})
    upload_id = await running.uploaded(body, "application/x-zip-compressed", filename="photos.zip")
    media = (await running.http.get(f"/v1/uploads/{upload_id}")).json()["media"]
    assert {name: media[name] for name in ("media", "container", "width_px", "height_px")} == {
        "media": "archive", "container": "zip", "width_px": 160, "height_px": 120,
    }  # fmt: skip


async def test_heic_is_taken_as_a_picture_and_a_tiled_one_has_the_size_of_the_whole(running: RunningGateway):
    upload_id = await running.uploaded(HEIC.read_bytes(), "image/heic", filename="IMG_0001.HEIC")
    media = (await running.http.get(f"/v1/uploads/{upload_id}")).json()["media"]
    assert (media["media"], media["codec"], media["width_px"], media["height_px"]) == ("image", "hevc", 160, 120)

    data = HEIC.read_bytes()
    at = data.index(b"ispe")
    whole = data[: at + 8] + (4032).to_bytes(4) + (3024).to_bytes(4) + data[at + 16 :]
    upload_id = await running.uploaded(whole, "image/heic", filename="IMG_0002.HEIC")
    media = (await running.http.get(f"/v1/uploads/{upload_id}")).json()["media"]
    assert (media["width_px"], media["height_px"]) == (4032, 3024)


REFUSED_AT_UPLOAD = (
    "a bomb",
    "overlapping files",
    "a name that climbs",
    "a link",
    "encrypted",
    "a ZIP in the ZIP",
    "empty",
)


async def test_what_is_no_zip_of_photos_is_refused_at_upload(running: RunningGateway):
    cases = {name: (HOSTILE[name][0](), "application/zip", HOSTILE[name][1]) for name in REFUSED_AT_UPLOAD} | {
        "a ZIP called a picture": (zipped({"1.jpg": JPEG}), "image/png", "unsupported_media_type"),
        "a picture called a ZIP": (picture(), "application/zip", "unsupported_media_type"),
        "a ZIP of damaged photos": (zipped({"1.jpg": JPEG[:30]}), "application/zip", "media_undecodable"),
        "text called a ZIP": (b"no ZIP at all\n" * 20, "application/zip", "media_undecodable"),
    }
    for name, (body, declared, code) in cases.items():
        upload_id = await running.send(body, declared, filename="photos.zip")
        assert code_of(await running.http.post(f"/v1/uploads/{upload_id}/complete")) == code, name
        upload = (await running.http.get(f"/v1/uploads/{upload_id}")).json()
        assert (upload["state"], upload["error"]["code"]) == ("failed", code), name


async def test_a_hint_in_a_photo_that_was_not_sent_is_refused_at_the_submission(running: RunningGateway):
    upload_id = await running.uploaded(picture(), "image/png", filename="IMG_0001.png")
    body = {"workload": "nerf", "inputs": {"photos": [upload_id]}}
    for hint, pointer in (
        ({"photo": "IMG_0002.png", "x": 0.5, "y": 0.5}, "#/params/object_hint/photo"),
        ({"photo": "IMG_0001.png", "x": 0.5}, "#/params/object_hint"),
    ):
        answer = await running.http.post("/v1/jobs", json=body | {"params": {"object_hint": hint}})
        assert code_of(answer) == "invalid_parameter", hint
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    answer = await running.http.post(
        "/v1/jobs", json=body | {"params": {"object_hint": {"photo": "img_0001", "box": [0.1, 0.2, 0.8, 0.9]}}}
    )
    assert answer.status_code < 300, answer.text
