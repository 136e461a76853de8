"""An upload as a client makes it."""

from __future__ import annotations

import aiohttp

from tests.harness.servers.gateway import video


async def uploaded(client: aiohttp.ClientSession, gateway: str) -> str:
    """Upload a video to the gateway and return the upload's id.

    The bucket gets the bytes without the client's credentials: it refuses a presigned request that has others too.
    """
    body = video()
    wanted = {"filename": "a.mp4", "content_type": "video/mp4", "size_bytes": len(body)}
    async with client.post(f"{gateway}/v1/uploads", json=wanted) as answer:
        upload = await answer.json()
    async with aiohttp.ClientSession() as bare, bare.put(upload["url"], data=body, headers=upload["headers"]) as sent:
        assert sent.status < 300, await sent.text()
    async with client.post(f"{gateway}/v1/uploads/{upload['id']}/complete") as answer:
        assert answer.status == 200, await answer.text()
    return str(upload["id"])
