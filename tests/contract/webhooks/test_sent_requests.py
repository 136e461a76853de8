"""The request of an attempt, as the API tells it, is byte for byte what the receiver got."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from saccade_client.webhook import verify

from kit.auth.api_keys import AuthSettings
from tests.harness.servers.embedded import EmbeddedNats
from tests.harness.streams.notifier import publisher
from tests.harness.webhooks.callers import callers, create, keys_of_two_tenants
from tests.harness.webhooks.receivers import ok, receiving, request

pytestmark = pytest.mark.anyio


@pytest.fixture
def auth(tmp_path: Path) -> AuthSettings:
    return keys_of_two_tenants(tmp_path)


def _wire(sent: dict[str, Any], **values: str) -> tuple[bytes, bytes]:
    """Return the header block and the body of a request; ``values`` are those of headers that are not shown."""
    lines = [f"{sent['method']} {sent['target']} HTTP/1.1"]
    for header in sent["headers"]:
        value = values[header["name"].replace("-", "_")] if header["value"] is None else header["value"]
        lines.append(f"{header['name']}: {value}")
    return "\r\n".join([*lines, "", ""]).encode(), sent["body"].encode()


async def test_the_request_of_an_attempt_is_shown_as_it_was_sent(nats_server: EmbeddedNats, auth: AuthSettings):
    got: list[tuple[bytes, bytes]] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            got.append(await request(reader))
            writer.write(ok())
            await writer.drain()

    async with (
        callers(nats_server, auth) as who,
        receiving(talk) as receiver,
        publisher(nats_server.settings) as publish,
    ):
        url = f"http://127.0.0.1:{receiver.port}/hook/a%20b?x=1&y=%C3%A9"
        made = await create(who.acme, url, types=["job.*"], headers={"X-Own": "hidden", "X-Second": "also"})
        path = f"/v1/webhooks/{made['id']}"
        await publish.submit("acme")
        async with asyncio.timeout(15):
            while not (found := (await who.acme.get(f"{path}/deliveries?state=delivered")).json()["data"]):
                await asyncio.sleep(0.05)
        attempts = f"{path}/deliveries/{found[0]['id']}/attempts"
        answer = await who.acme_reader.get(f"{attempts}/1/request")
        assert answer.status_code == 200, answer.text
        sent = answer.json()
        assert _wire(sent, x_own="hidden", x_second="also") == got[0]
        assert sent["exact"] is True
        assert "hidden" not in answer.text
        headers = {header["name"]: header["value"] or "" for header in sent["headers"]}
        assert verify(sent["body"].encode(), headers, secrets=made["secret"]).id == found[0]["event_id"]

        assert (await who.acme.get(f"{attempts}/2/request")).json()["code"] == "delivery_not_found"
        assert (await who.acme.get(f"{path}/deliveries/x.1/attempts/1/request")).status_code in (404, 422)
        assert (await who.rival.get(f"{attempts}/1/request")).json()["code"] == "webhook_not_found"
        # The signature is the recorded one after a rotation too; the answer says that the endpoint has changed since.
        await who.acme.post(f"{path}/rotate-secret", json={"overlap_s": 0})
        later = (await who.acme.get(f"{attempts}/1/request")).json()
        assert (later["headers"], later["exact"]) == (sent["headers"], False)
