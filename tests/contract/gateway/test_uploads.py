"""Uploads over HTTP, on a real bus and a real bucket: what is taken, what is refused, and what is left afterwards."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from contracts.events.job import JobCancelled
from contracts.limits import METADATA_BYTES, MIB, PART_BYTES, UPLOAD_BYTES
from kit.auth.api_keys import AuthSettings
from kit.bucket import ObjectMissing
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.gateway import RunningGateway, code_of, picture, running_gateway, sound, video

pytestmark = pytest.mark.anyio
Servers = tuple[NatsSettings, S3Settings]


@pytest.fixture
async def running(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path) as found:
        yield found


async def key_of(running: RunningGateway, upload_id: str) -> str:
    upload = running.view.upload(upload_id)
    assert upload
    return upload.created.key


async def test_a_file_goes_up_by_one_put_and_is_looked_into(running: RunningGateway):
    clip = video()
    answer = await running.http.post(
        "/v1/uploads",
        json={"filename": "Meine Runde #1.MP4", "content_type": "video/mp4", "size_bytes": len(clip)},
    )
    assert answer.status_code == 201
    created = answer.json()
    assert answer.headers["location"] == f"/v1/uploads/{created['id']}"
    assert created["state"] == "created"
    assert created["method"] == "PUT"
    assert created["headers"] == {"Content-Type": "video/mp4"}
    assert re.search(rf"/uploads/local/{created['id']}/Meine_Runde_1.mp4\?", created["url"])

    path = f"/v1/uploads/{created['id']}/complete"
    assert code_of(await running.http.post(path)) == "upload_bytes_missing"
    assert (await running.put(created["url"], clip, created["headers"])).is_success
    done = (await running.http.post(path)).json()
    assert done["state"] == "completed"
    assert done["filename"] == "Meine Runde #1.MP4"
    assert done["sha256"] == hashlib.sha256(clip).hexdigest()
    assert done["media"] | {"duration_s": None} == {
        "media": "video", "container": "mov", "codec": "mpeg4", "width_px": 64, "height_px": 48,
        "duration_s": None, "rate_hz": 10.0,
    }  # fmt: skip
    assert done["media"]["duration_s"] == pytest.approx(0.6, abs=0.01)
    assert (await running.http.post(path)).json() == done
    assert (await running.http.get(f"/v1/uploads/{created['id']}")).json() == done


async def test_what_the_client_says_of_a_file_is_kept_and_returned(running: RunningGateway):
    clip_id = await running.uploaded()
    assert (await running.http.get(f"/v1/uploads/{clip_id}")).json()["metadata"] == {}
    job = await running.submitted(clip_id)
    said = {"metadata": {"lap": "7", "Fahrer": "Jürgen"}, "from_job": job["id"]}
    for more in ({}, {"multipart": True}):
        wanted = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 9} | said | more
        created = (await running.http.post("/v1/uploads", json=wanted)).json()
        assert {name: created[name] for name in said} == said
        read = (await running.http.get(f"/v1/uploads/{created['id']}")).json()
        assert {name: read[name] for name in said} == said
        upload = running.view.upload(created["id"])
        assert upload
        assert (upload.created.metadata, upload.created.from_job) == (said["metadata"], said["from_job"])


@pytest.mark.parametrize(
    ("said", "code", "pointer"),
    [
        ({"metadata": {"lap": 7}}, "invalid_parameter", "#/metadata/lap"),
        ({"metadata": {"lap": "x" * METADATA_BYTES}}, "invalid_parameter", "#/metadata"),
        ({"from_job": "job_1"}, "invalid_parameter", "#/from_job"),
        ({"from_job": "job_0198c0de-0000-7000-8000-000000000001"}, "job_not_found", "#/from_job"),
    ],
)
async def test_what_cannot_be_said_of_a_file_is_refused(running: RunningGateway, said, code: str, pointer: str):
    wanted = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 9} | said
    answer = await running.http.post("/v1/uploads", json=wanted)
    assert code_of(answer) == code
    assert answer.json()["errors"][0]["pointer"] == pointer


async def test_a_picture_is_taken(running: RunningGateway):
    upload_id = await running.uploaded(picture(), "image/png", filename="p.png")
    media = (await running.http.get(f"/v1/uploads/{upload_id}")).json()["media"]
    assert (media["media"], media["width_px"], media["height_px"], media["duration_s"]) == ("image", 32, 24, None)


@pytest.mark.parametrize(
    ("wanted", "status", "code"),
    [
        ({"size_bytes": 0}, 422, "upload_empty"),
        ({"size_bytes": UPLOAD_BYTES + 1}, 413, "upload_too_large"),
        ({"size_bytes": -1}, 422, "invalid_parameter"),
        ({"content_type": "text/plain"}, 415, "unsupported_media_type"),
        ({"content_type": "application/octet-stream"}, 415, "unsupported_media_type"),
        ({"content_type": "video/mp4\r\nX-Evil: 1"}, 415, "unsupported_media_type"),
        ({"sha256": "abc"}, 422, "invalid_parameter"),
        ({"filename": ""}, 422, "invalid_parameter"),
        ({"surprise": 1}, 422, "unknown_parameter"),
    ],
)
async def test_what_cannot_be_taken_is_refused_before_a_byte_is_sent(
    running: RunningGateway, wanted: dict[str, object], status: int, code: str
):
    body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 10} | wanted
    answer = await running.http.post("/v1/uploads", json=body)
    assert (answer.status_code, code_of(answer)) == (status, code)


def _bad_files() -> dict[str, tuple[bytes, dict[str, object], str]]:
    clip = video(frames=20)
    playlist = b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nfile:///etc/hostname\n#EXT-X-ENDLIST\n"
    return {
        "empty": (b"", {"size_bytes": 10}, "upload_empty"),
        "text renamed": (b"Not a video at all.\n" * 50, {}, "media_undecodable"),
        "moov missing": (clip[: len(clip) // 2], {}, "media_undecodable"),
        "sound only": (sound(), {}, "media_no_video"),
        "a picture that is called a video": (picture(), {}, "unsupported_media_type"),
        "a video that is called a picture": (clip, {"content_type": "image/png"}, "unsupported_media_type"),
        "a playlist of local files": (playlist, {}, "media_undecodable"),
        "larger than 12,000 px": (picture(12_002, 2), {"content_type": "image/png"}, "media_too_large"),
        "bigger than declared": (clip, {"size_bytes": len(clip) - 1}, "upload_size_mismatch"),
        "smaller than declared": (clip, {"size_bytes": len(clip) + 1}, "upload_size_mismatch"),
        "another checksum": (clip, {"sha256": "0" * 64}, "upload_checksum_mismatch"),
    }


BAD_FILES = _bad_files()


@pytest.mark.parametrize("name", BAD_FILES)
async def test_a_bad_file_is_refused_for_ever_and_deleted(running: RunningGateway, name: str):
    body, announced, code = BAD_FILES[name]
    upload_id = await running.send(body, **announced)
    first = await running.http.post(f"/v1/uploads/{upload_id}/complete")
    assert code_of(first) == code
    with pytest.raises(ObjectMissing):
        await running.bucket.size(await key_of(running, upload_id))
    upload = (await running.http.get(f"/v1/uploads/{upload_id}")).json()
    assert (upload["state"], upload["reason"], upload["error"]["code"]) == ("failed", "refused", code)
    again = await running.http.post(f"/v1/uploads/{upload_id}/complete")
    assert (again.status_code, code_of(again), again.json()["detail"]) == (
        first.status_code, code, first.json()["detail"],
    )  # fmt: skip
    body = {"workload": "lap_compare", "inputs": {"reference": upload_id, "other": upload_id}}
    assert code_of(await running.http.post("/v1/jobs", json=body)) == "upload_already_ended"


async def test_a_decoder_that_does_not_come_to_an_end_is_ended(servers: Servers, tmp_path: Path):
    async with running_gateway(*servers, tmp_path, probe_timeout_s=0.01) as running:
        upload_id = await running.send(video())
        assert code_of(await running.http.post(f"/v1/uploads/{upload_id}/complete")) == "media_undecodable"


async def test_parts_are_sent_again_only_where_they_are_missing(running: RunningGateway):
    # A "free" box behind the clip makes it large without making it another clip.
    body = video() + b"".join(n.to_bytes(4, "big") for n in [PART_BYTES + 5 * MIB]) + b"free" + bytes(PART_BYTES)
    body += bytes(5 * MIB - 8)
    announced = {"filename": "b.mp4", "content_type": "video/mp4", "size_bytes": len(body), "multipart": True}
    created = (await running.http.post("/v1/uploads", json=announced)).json()
    assert (created["part_size_bytes"], created["part_count"], created["url"]) == (PART_BYTES, 2, None)
    here = f"/v1/uploads/{created['id']}"
    assert code_of(await running.http.post(f"{here}/parts", json={"part_numbers": [3]})) == "invalid_parameter"
    signed = (await running.http.post(f"{here}/parts", json={"part_numbers": [1, 2]})).json()["parts"]
    assert [part["size_bytes"] for part in signed] == [PART_BYTES, len(body) - PART_BYTES]

    assert (await running.put(signed[1]["url"], body[PART_BYTES:])).is_success
    missing = await running.http.post(f"{here}/complete")
    assert (code_of(missing), missing.json()["arrived_parts"]) == ("upload_bytes_missing", 1)
    arrived = (await running.http.get(f"{here}/parts")).json()["parts"]
    assert [(part["part_number"], part["size_bytes"]) for part in arrived] == [(2, len(body) - PART_BYTES)]
    assert (await running.http.get(here)).json()["parts"] == arrived

    assert (await running.put(signed[0]["url"], body[:PART_BYTES])).is_success
    # Who resumes may know only the parts that it has sent itself: the whole file was deleted for that.
    listed = await running.http.post(f"{here}/complete", json={"parts": arrived})
    assert (listed.status_code, code_of(listed)) == (422, "invalid_parameter")
    assert listed.json()["detail"].startswith("parts: part 1 is in the bucket, and is not listed")
    done = (await running.http.post(f"{here}/complete")).json()
    assert (done["state"], done["sha256"]) == ("completed", hashlib.sha256(body).hexdigest())
    assert code_of(await running.http.post(f"{here}/parts", json={"part_numbers": [1]})) == "upload_already_ended"


@pytest.mark.parametrize(
    ("parts", "detail", "pointer"),
    [
        ([(1, '"0123"')], "parts: part 1 has the ETag ", "#/parts/0/etag"),
        ([(1, None), (2, '"0123"')], "parts: part 2 is not in the bucket", "#/parts/1/part_number"),
        ([(1, None), (1, None)], "parts: part 1 is listed twice", "#/parts/1/part_number"),
    ],
)
async def test_a_wrong_list_of_parts_is_refused_and_the_upload_stays_open(
    running: RunningGateway, parts: list[tuple[int, str | None]], detail: str, pointer: str
):
    """The bucket refused it: that was a 503, which clients repeat for ever. None stands for the part's own ETag."""
    clip = video()
    announced = {"filename": "c.mp4", "content_type": "video/mp4", "size_bytes": len(clip), "multipart": True}
    here = f"/v1/uploads/{(await running.http.post('/v1/uploads', json=announced)).json()['id']}"
    signed = (await running.http.post(f"{here}/parts", json={"part_numbers": [1]})).json()["parts"][0]
    own = (await running.put(signed["url"], clip)).headers["etag"]

    async def complete(listed: list[tuple[int, str | None]]) -> httpx.Response:
        found = [{"part_number": number, "etag": etag or own} for number, etag in listed]
        return await running.http.post(f"{here}/complete", json={"parts": found})

    refused = await complete(parts)
    assert (refused.status_code, code_of(refused)) == (422, "invalid_parameter"), refused.text
    assert refused.json()["detail"].startswith(detail)
    assert refused.json()["errors"][0]["pointer"] == pointer
    assert (await complete([(1, own.strip('"'))])).json()["state"] == "completed"


async def test_uppy_signs_every_request_and_none_for_another_key(running: RunningGateway):
    clip = video()
    announced = {"filename": "c.mp4", "content_type": "video/mp4", "size_bytes": len(clip), "multipart": True}
    created = (await running.http.post("/v1/uploads", json=announced)).json()
    here, upload_id = f"/v1/uploads/{created['id']}", created["multipart_id"]

    async def sign(**asked: object) -> dict[str, str]:
        answer = await running.http.post(f"{here}/sign", json={"key": "results/of/others", **asked})
        assert answer.status_code == 200, answer.text
        assert answer.json()["key"] == await key_of(running, created["id"])
        assert "results/of/others" not in answer.json()["url"]
        found: dict[str, str] = answer.json()["url"]
        return found

    async with httpx.AsyncClient() as bucket:
        sent = await bucket.put(await sign(method="PUT", uploadId=upload_id, partNumber=1), content=clip)
        assert sent.is_success
        listed = await bucket.get(await sign(method="GET", uploadId=upload_id))
        assert "<PartNumber>1</PartNumber>" in listed.text
        parts = f"<Part><PartNumber>1</PartNumber><ETag>{sent.headers['etag']}</ETag></Part>"
        joined = await bucket.post(
            await sign(method="POST", uploadId=upload_id),
            content=f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>",
        )
        assert joined.is_success, joined.text
    assert (await running.http.post(f"{here}/complete")).json()["state"] == "completed"
    assert code_of(await running.http.post(f"{here}/sign", json={"method": "PUT"})) == "upload_already_ended"


async def test_no_more_bytes_arrive_than_were_declared(running: RunningGateway):
    """40 MiB stayed where 10 bytes were declared: the size is signed, of a PUT, of a part and of Uppy's PUT."""
    announced = {"filename": "c.mp4", "content_type": "video/mp4", "size_bytes": 10}
    for multipart in (False, True):
        created = (await running.http.post("/v1/uploads", json=announced | {"multipart": multipart})).json()
        here = f"/v1/uploads/{created['id']}"
        if multipart:
            signed = (await running.http.post(f"{here}/parts", json={"part_numbers": [1]})).json()
            urls, headers = [signed["parts"][0]["url"]], {}
        else:
            uppy = (await running.http.post(f"{here}/sign", json={"method": "PUT"})).json()
            urls, headers = [created["url"], uppy["url"]], created["headers"]
        async with httpx.AsyncClient() as bucket:
            for url in urls:
                for size_bytes in (11, 9, 5000):
                    refused = await bucket.put(url, content=bytes(size_bytes), headers=headers)
                    assert refused.status_code == 403, (multipart, size_bytes, refused.text)
                assert (await bucket.put(url, content=bytes(10), headers=headers)).is_success


async def test_a_client_starts_no_multipart_upload_of_its_own(running: RunningGateway):
    """Its parts would be of no upload: nobody would find them."""
    upload_id = await running.send(video())
    asked = {"method": "POST", "contentType": "video/mp4"}
    refused = await running.http.post(f"/v1/uploads/{upload_id}/sign", json=asked)
    assert (refused.status_code, code_of(refused)) == (422, "invalid_parameter")
    for wanted in ({"method": "GET"}, {"method": "PUT", "partNumber": 1}):
        asked = {"uploadId": "another", **wanted}
        assert code_of(await running.http.post(f"/v1/uploads/{upload_id}/sign", json=asked)) == "invalid_parameter"


@pytest.mark.parametrize("asked", [{"method": "GET"}, {"method": "DELETE"}, {"method": "PUT", "partNumber": 1}])
async def test_uppy_requests_that_mean_nothing_are_refused(running: RunningGateway, asked: dict[str, object]):
    upload_id = await running.send(video())
    assert code_of(await running.http.post(f"/v1/uploads/{upload_id}/sign", json=asked)) == "invalid_parameter"


async def test_completing_at_the_same_time_checks_once(running: RunningGateway):
    upload_id = await running.send(video())
    answers = await asyncio.gather(*(running.http.post(f"/v1/uploads/{upload_id}/complete") for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.text for answer in answers}) == 1
    found = [stored async for stored in running.store.history(0, f"saccade.evt.local.upload.{upload_id}.completed")]
    assert len(found) == 1


async def test_the_same_announcement_makes_one_upload(running: RunningGateway):
    body = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 10, "multipart": True}
    headers = {"Idempotency-Key": "announce-1"}
    posts = (running.http.post("/v1/uploads", json=body, headers=headers) for _ in range(6))
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} == {201}
    assert len({(answer.json()["id"], answer.json()["multipart_id"]) for answer in answers}) == 1
    other = await running.http.post("/v1/uploads", json=body | {"size_bytes": 11}, headers=headers)
    assert (other.status_code, code_of(other)) == (409, "idempotency_key_reused")


async def test_an_upload_in_use_stays_until_its_job_has_ended(running: RunningGateway):
    upload_id = await running.uploaded()
    key = await key_of(running, upload_id)
    job = await running.submitted(upload_id)
    refused = await running.http.delete(f"/v1/uploads/{upload_id}")
    assert (refused.status_code, code_of(refused), refused.json()["jobs"]) == (409, "upload_in_use", [job["id"]])
    await running.say(job["id"], JobCancelled(attempt=0))
    assert (await running.http.delete(f"/v1/uploads/{upload_id}")).status_code == 204
    with pytest.raises(ObjectMissing):
        await running.bucket.size(key)
    assert code_of(await running.http.get(f"/v1/uploads/{upload_id}")) == "upload_not_found"
    assert code_of(await running.http.delete(f"/v1/uploads/{upload_id}")) == "upload_not_found"


async def test_what_was_never_completed_is_given_up(running: RunningGateway):
    upload_id = await running.send(video())
    key = await key_of(running, upload_id)
    assert await running.loop.uploads.expire(datetime.now(UTC) + timedelta(hours=23)) == 0
    assert await running.loop.uploads.expire(datetime.now(UTC) + timedelta(hours=25)) >= 1
    with pytest.raises(ObjectMissing):
        await running.bucket.size(key)
    assert (await running.http.get(f"/v1/uploads/{upload_id}")).json()["reason"] == "expired"
    assert code_of(await running.http.post(f"/v1/uploads/{upload_id}/complete")) == "upload_already_ended"


async def test_a_key_that_only_reads_gets_no_url_to_write_to(servers: Servers, tmp_path: Path):
    """It got the presigned PUT of its tenant's open uploads, and could send the file before their owner."""
    secret = hashlib.sha256(b"secret").hexdigest()
    scopes: dict[str, list[str]] = {"writer": ["read", "write"], "dashboard": ["read"]}
    keys = [{"id": name, "tenant": "acme", "sha256": secret, "scopes": scopes[name]} for name in scopes]
    (tmp_path / "keys.json").write_text(json.dumps(keys))
    writer, dashboard = ({"Authorization": f"Bearer {name}.secret"} for name in scopes)
    wanted = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": 9}
    sending = ("method", "url", "headers", "url_expires_at")
    async with running_gateway(*servers, tmp_path, auth=AuthSettings(api_keys_file=tmp_path / "keys.json")) as running:
        created = (await running.http.post("/v1/uploads", json=wanted, headers=writer)).json()
        here = f"/v1/uploads/{created['id']}"
        for headers, may_send in ((writer, True), (dashboard, False)):
            read = (await running.http.get(here, headers=headers)).json()
            assert [read[name] is not None for name in sending] == [may_send] * len(sending)
            assert {name: read[name] for name in read if name not in sending} == {
                name: created[name] for name in created if name not in sending
            }
