"""The WebSocket of a session: frames and joints in, events out, resumed by its cursor, for its own tenant only."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket as sockets
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from contracts.ids import new_id
from contracts.session import telemetry_subject
from contracts.telemetry import JointBatch
from kit.auth.api_keys import Authenticator, AuthSettings
from kit.auth.tickets import Tickets
from kit.settings import NatsSettings, S3Settings
from services.gateway.settings import SessionSettings
from tests.harness.servers.embedded import HOST
from tests.harness.servers.gateway import keys_file
from tests.harness.servers.session_sockets import Served, closed, frame, serving, until
from tests.harness.sessions.scripted_session_worker import jpeg, run_scripted_worker

pytestmark = pytest.mark.anyio

Servers = tuple[NatsSettings, S3Settings]


async def test_a_whole_session_over_one_socket(served: Served):
    session_id = (await served.opened())["id"]
    async with run_scripted_worker(served.running, session_id) as worker, served.stream(session_id) as socket:
        opened = json.loads(await socket.receive_str())
        assert (opened["type"], opened["subject"], opened["specversion"]) == ("session.opened", session_id, "1.0")
        await worker.claim()
        await until(socket, "session.ready")
        sent_at = time.time()
        await socket.send_str(json.dumps({"type": "clock_ping", "sent_at_s": sent_at}))
        pong = await until(socket, "clock_pong")
        assert pong["sent_at_s"] == sent_at
        assert sent_at <= pong["time_s"] <= time.time()
        await socket.send_bytes(frame(5, source="wrist", clock_offset_s=0.5))
        acked = await until(socket, "session.frame_acked")
        (ack,) = acked["data"]["acks"]
        assert (ack["source"], ack["seq"], ack["status"]) == ("wrist", 5, "accepted")
        assert worker.frames[0].data == jpeg()
        assert worker.frames[0].headers["Frame-Clock-Offset"] == "0.5"
        batch = {"names": ["pan", "lift"], "unit": "rad", "samples": [[0, 1e9, [0.1, 0.2]]]}
        await socket.send_str(json.dumps({"type": "joints"} | batch))
        await worker.heard(joints=1)
        assert JointBatch.model_validate_json(worker.joints[0].data) == JointBatch.model_validate(batch)
        await socket.send_str(json.dumps({"type": "reset"}))
        await until(socket, "session.reset_requested")
        await worker.progress(splats=7)
        assert (await until(socket, "session.progressed"))["data"]["figures"] == {"splats": 7}
        await socket.send_str(json.dumps({"type": "stop"}))
        await until(socket, "session.stop_requested")
        await worker.succeed()
        stopped = await until(socket, "session.stopped")
        assert stopped["data"]["reason"] == "asked"
        assert await closed(socket) == 1000


async def test_what_is_wrong_with_a_message_is_said_and_the_socket_stays(served: Served):
    session_id = (await served.opened())["id"]
    degrees = {"type": "joints", "names": ["pan", "lift"], "unit": "rad", "samples": [[0, 1e9, [45, 0]]]}
    async with run_scripted_worker(served.running, session_id) as worker, served.stream(session_id) as socket:
        for sent, code in (
            ("{", "malformed_request"),
            ("[]", "malformed_request"),
            ("[" * 100_000, "malformed_request"),
            ('{"type": "dance"}', "malformed_request"),
            ('{"type": {"a": 1}}', "malformed_request"),
            ('{"type": "clock_ping", "sent_at_s": "now"}', "invalid_parameter"),
            ('{"type": "clock_ping", "sent_at_s": NaN}', "invalid_parameter"),
            (json.dumps(degrees | {"samples": [[0, 1e9, [1, 2, 3]]]}), "joints_invalid"),
            (b"", "malformed_request"),
            (b"\x00\x00", "malformed_request"),
            (b"\xff\xff\xff\xff{}", "malformed_request"),
            (b"\x00\x00\x00\x02[]x", "invalid_parameter"),
            (b"\x00\x00\x00\x02{\xffx", "malformed_request"),
            ('{"type": "\\udfff"}', "malformed_request"),
            ('{"type": "clock_ping", "sent_at_s": true}', "invalid_parameter"),
            (json.dumps(degrees | {"source": "\udfff"}), "invalid_parameter"),
            (json.dumps(degrees | {"samples": [[0, 1e9, [True, 0]]]}), "joints_invalid"),
            (frame(True), "invalid_parameter"),
            (frame(1, captured_at_s=True), "invalid_parameter"),
            (frame(1, clock_offset_s=1e12), "invalid_parameter"),
            (frame(1, source="\ud800"), "invalid_parameter"),
            (frame(-1), "invalid_parameter"),
            (frame(1, captured_at_s=0), "invalid_parameter"),
        ):
            await (socket.send_str(sent) if isinstance(sent, str) else socket.send_bytes(sent))
            error = await until(socket, "error")
            assert (error["code"], sent) == (code, sent)
            assert error["hint"]
        for seq, body, code in (
            (1, b"", "frame_empty"),
            (2, b"x" * (1 << 20), "frame_too_large"),
            (3, b"x", "frame_unreadable"),
        ):
            await socket.send_bytes(frame(seq, body))
            error = await until(socket, "error")
            assert (error["code"], error["seq"], error["source"]) == (code, seq, "camera")
        await worker.heard(frames=3)
        assert [one.headers["Frame-Refused"] for one in worker.frames] == [
            "frame_empty",
            "frame_too_large",
            "frame_unreadable",
        ]
        for _ in range(3):
            await socket.send_str(json.dumps(degrees))
        await socket.send_str(json.dumps({"type": "clock_ping", "sent_at_s": 1}))
        told = []
        while (message := json.loads(await socket.receive_str()))["type"] != "clock_pong":
            told.append(message["type"])
        assert told.count("warning") == 1
        # Whether the close code still arrives depends on how much of it was under way.
        with contextlib.suppress(ConnectionError):
            await socket.send_bytes(bytes(5 << 20))
        assert await closed(socket) in (1009, 1006)


async def test_it_resumes_after_its_cursor_without_a_gap_or_a_repeat(served: Served):
    session_id = (await served.opened())["id"]
    async with run_scripted_worker(served.running, session_id) as worker:
        async with served.stream(session_id) as socket:
            await worker.claim()
            await until(socket, "session.ready")
            cursor = (await until(socket, "cursor"))["cursor"]
        await worker.export()
        async with served.stream(session_id, f"?after={cursor}") as socket:
            assert json.loads(await socket.receive_str())["type"] == "session.chunk_exported"
            later = (await until(socket, "cursor"))["cursor"]
            await worker.export("chunk_0002.ply")
            assert (await until(socket, "session.chunk_exported"))["data"]["chunk"] == 2
        assert int(later.split(".")[1]) > int(cursor.split(".")[1])
        for nowhere in ("otherepoch.7", "otherepoch.007", f"{cursor.split('.')[0]}.{10**15}"):
            async with served.stream(session_id, f"?after={nowhere}") as socket:
                assert json.loads(await socket.receive_str()) == {"type": "gap", "after": nowhere}
                assert json.loads(await socket.receive_str())["type"] == "session.opened"
        await worker.succeed()
        async with served.stream(session_id) as socket:
            types = []
            while (message := await socket.receive()).type is aiohttp.WSMsgType.TEXT:
                types.append(json.loads(message.data)["type"])
            assert types[0] == "session.opened"
            assert types[-2:] == ["session.stopped", "cursor"]
            assert socket.close_code == 1000
            last = json.loads((await served.running.http.get(f"/v1/sessions/{session_id}")).text)["cursor"]
        async with served.stream(session_id, f"?after={last}") as socket:
            assert await closed(socket) == 1000


async def test_joints_are_shown_to_who_asks(served: Served):
    session_id = (await served.opened())["id"]
    sent = {"names": ["pan"], "unit": "rad", "samples": [[3, 1e9, [0.5]]], "source": "arm"}
    async with served.stream(session_id, "?joints=1") as looking, served.stream(session_id) as other:
        await until(looking, "cursor")
        await until(other, "cursor")
        subject = telemetry_subject("local", session_id, "joints")
        async with asyncio.timeout(20):
            message = None
            while message is None:  # the subscription is made after the history was given
                await served.running.store.client.publish(subject, b"no joints")
                await served.running.store.client.publish(subject, json.dumps(sent).encode())
                try:
                    message = json.loads(await looking.receive_str(timeout=0.2))
                except TimeoutError:
                    continue
        assert message == {
            "type": "joints",
            **JointBatch.model_validate(sent).model_dump(mode="json", exclude_none=True),
        }
        await other.send_str(json.dumps({"type": "clock_ping", "sent_at_s": 1}))
        assert json.loads(await other.receive_str())["type"] == "clock_pong"


async def test_a_client_that_reads_nothing_is_closed_and_costs_no_memory(served: Served):
    session_id = (await served.opened())["id"]
    async with run_scripted_worker(served.running, session_id) as worker:
        await worker.claim()
        raw = sockets.create_connection(served.url.removeprefix("http://").split(":"))
        raw.setsockopt(sockets.SOL_SOCKET, sockets.SO_RCVBUF, 4096)
        request = (
            f"GET /v1/sessions/{session_id}/stream HTTP/1.1\r\nHost: {HOST}\r\nUpgrade: websocket\r\n"
            "Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        )
        raw.sendall(request.encode())
        session_readers = served.running.app.state.session_streams.session_readers
        async with asyncio.timeout(20):
            while not len(session_readers):
                await asyncio.sleep(0.01)
        (backlog,) = session_readers._readers[session_id]
        text = "x" * 60_000
        async with asyncio.timeout(20):
            while not backlog.too_slow:
                await worker.progress(note=text[:50_000])
                await worker.say(_text(worker.run_id, text))
                assert len(backlog._durable) <= 1001
        assert len(backlog._durable) == 0
        raw.close()
        async with asyncio.timeout(20):
            while len(session_readers):
                await asyncio.sleep(0.02)


def _text(run_id: str, text: str) -> Any:
    from contracts.events.session import SessionText

    return SessionText(run_id=run_id, chunk=1, text=text)


async def test_who_may_open_it(session_servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NOTIFIER_TICKET_KEY", "shared")
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival", "looker", read_only=("looker",)))
    async with serving(session_servers, tmp_path, auth) as served:
        bearer = {name: {"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival")}
        session_id = (await served.opened(bearer["acme"]))["id"]
        assert await served.refusal(session_id) == 401
        assert await served.refusal(session_id, headers=bearer["rival"]) == 404
        assert await served.refusal(new_id("ses"), headers=bearer["acme"]) == 404
        assert await served.refusal(session_id, "?after=nonsense", headers=bearer["acme"]) == 400
        assert await served.refusal(session_id, headers=bearer["acme"]) == 101
        resource, now = f"/v1/sessions/{session_id}/stream", datetime.now(UTC)
        keys = Authenticator(auth)
        acme, looker = keys.principal("acme"), keys.principal("looker")
        assert acme is not None
        assert looker is not None
        ticket, _ = Tickets("shared").issue(acme, resource, now)
        foreign, _ = Tickets("other").issue(acme, resource, now)
        elsewhere, _ = Tickets("shared").issue(acme, resource.replace("stream", "events"), now)
        older, _ = Tickets("shared").issue(replace(acme, key_version="hash of an earlier secret"), resource, now)
        for text in (ticket[:-3], foreign, elsewhere, older, "e30", "W10.x", "bnVsbA.", "%00"):
            assert await served.refusal(session_id, f"?ticket={text}") == 401, text
        reading, _ = Tickets("shared").issue(replace(looker, tenant="acme"), resource, now)
        assert await served.refusal(session_id, f"?ticket={reading}") == 401  # the key is another tenant's
        async with served.stream(session_id, f"?ticket={ticket}") as socket:
            await until(socket, "cursor")
            await socket.send_bytes(frame(1))
            await socket.send_str('{"type": "stop"}')
            await until(socket, "session.stop_requested")


async def test_a_key_that_may_only_read_sends_nothing(session_servers: Servers, tmp_path: Path):
    path = keys_file(tmp_path, "acme", "looker", read_only=("looker",))
    path.write_text(path.read_text().replace('"tenant": "looker"', '"tenant": "acme"'))
    async with serving(session_servers, tmp_path, AuthSettings(api_keys_file=path)) as served:
        session_id = (await served.opened({"Authorization": "Bearer acme.secret"}))["id"]
        async with served.stream(session_id, headers={"Authorization": "Bearer looker.secret"}) as socket:
            await until(socket, "session.opened")
            for sent in (frame(1), '{"type": "stop"}', '{"type": "reset"}', '{"type": "joints"}'):
                await (socket.send_str(sent) if isinstance(sent, str) else socket.send_bytes(sent))
                assert (await until(socket, "error"))["code"] == "forbidden"


async def test_a_tenants_sockets_are_limited_and_the_next_one_is_told_so(
    session_servers: Servers, tmp_path: Path
) -> None:
    auth = AuthSettings(api_keys_file=keys_file(tmp_path, "acme", "rival"))
    settings = SessionSettings(session_sockets_per_tenant=2)
    async with serving(session_servers, tmp_path, auth, session_settings=settings) as served:
        acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
        session_id, of_rival = (await served.opened(acme))["id"], (await served.opened(rival))["id"]
        for _ in range(3):  # a refused one takes no place
            assert await served.refusal(session_id, "?after=nonsense", headers=acme) == 400
        async with served.stream(session_id, headers=acme) as first, served.stream(session_id, headers=acme) as second:
            for socket in (first, second):
                await until(socket, "session.opened")
            url = f"{served.url}/v1/sessions/{session_id}/stream"
            upgrade = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"}
            handshake = acme | upgrade | {"Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
            async with served.session.get(url, headers=handshake) as answer:
                refused = await answer.json(content_type="application/problem+json")
            assert (answer.status, refused["code"]) == (429, "rate_limited")
            assert refused["detail"] == "Your quota is 2 open WebSockets of sessions and badminton pages; 2 are in use."
            assert refused["quota"]["name"] == "session_sockets"
            assert refused["hint"] == "Close some of them, then connect again."
            assert await served.refusal(of_rival, headers=rival) == 101, "another tenant has places of its own"
            await second.close()
            end = time.monotonic() + 20
            while await served.refusal(session_id, headers=acme) != 101:
                assert time.monotonic() < end, "a closed socket keeps its place"
                await asyncio.sleep(0.05)


async def test_a_revoked_key_neither_writes_nor_reads_on_an_open_socket(
    session_servers: Servers, tmp_path: Path
) -> None:
    keys = keys_file(tmp_path, "acme", "rival")
    async with serving(session_servers, tmp_path, AuthSettings(api_keys_file=keys)) as served:
        acme, rival = ({"Authorization": f"Bearer {name}.secret"} for name in ("acme", "rival"))
        session_id, of_rival = (await served.opened(acme))["id"], (await served.opened(rival))["id"]
        async with (
            served.stream(session_id, headers=acme) as revoked,
            served.stream(of_rival, headers=rival) as other,
        ):
            for socket in (revoked, other):
                await until(socket, "session.opened")
            keys_file(tmp_path, "rival")
            async with asyncio.timeout(10):
                while not (await revoked.receive()).type.name.startswith("CLOS"):
                    await revoked.send_str('{"type": "joints"}')
            assert revoked.close_code == 1008
            await other.send_str('{"type": "stop"}')
            await until(other, "session.stop_requested")
        assert (await served.running.http.get(f"/v1/sessions/{of_rival}", headers=rival)).status_code == 200


async def test_pages_of_others_do_not_get_in(served: Served):
    session_id = (await served.opened())["id"]
    assert await served.refusal(session_id, headers={"Origin": "https://evil.example"}) == 403
    assert await served.refusal(session_id, headers={"Host": "rebound.example"}) == 403
    assert await served.refusal(session_id, headers={"Origin": served.url}) == 101


async def test_clients_write_no_errors_into_the_log(served: Served, caplog: pytest.LogCaptureFixture):
    """Each refused socket was an error of uvicorn's, and text that is not UTF-8 one with a traceback."""
    assert await served.refusal(new_id("ses")) == 404
    async with served.stream((await served.opened())["id"]) as socket:
        await until(socket, "session.opened")
        await socket.send_frame(b"\xff", aiohttp.WSMsgType.TEXT)
        assert await closed(socket) == 1007
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []


async def test_a_body_that_is_cut_off_is_no_fault_of_the_server(served: Served, caplog: pytest.LogCaptureFixture):
    """A robot that lost its network in the middle of a frame was a 500 in the metrics, and a traceback in the log."""
    path, at = f"/v1/sessions/{(await served.opened())['id']}", served.url.removeprefix("http://")
    for name in ("frames", "joints"):
        _, writer = await asyncio.open_connection(*at.split(":"))
        head = f"POST {path}/{name} HTTP/1.1\r\nHost: {at}\r\nContent-Length: 9\r\n\r\n"
        writer.write(head.encode() + b"half")
        await writer.drain()
        writer.close()
        route, counted = f'method="POST",route="/v1/sessions/{{session_id}}/{name}",status=', ""
        async with asyncio.timeout(10):
            while route not in counted:
                await asyncio.sleep(0.02)
                counted = (await served.running.http.get("/metrics")).text
        assert f'{route}"400"' in counted
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == []
