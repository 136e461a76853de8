"""Blob store for arguments, results and files that are too large for a message."""

from __future__ import annotations

import hashlib
import itertools

from aiohttp import web
from modal_proto import api_pb2


class BlobStore:
    """Blobs by their id, over HTTP on 127.0.0.1."""

    def __init__(self) -> None:
        """Create an empty store; `start` serves it."""
        self.blobs: dict[str, bytes] = {}
        self._numbers = itertools.count(1)
        self._runner: web.AppRunner | None = None
        self._url = ""

    async def start(self) -> None:
        """Serve on a free port."""
        site = web.Application(client_max_size=1 << 30)
        site.add_routes([web.put("/{blob}", self._put), web.get("/{blob}", self._get)])
        self._runner = web.AppRunner(site, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner:
            await self._runner.cleanup()

    async def _put(self, request: web.Request) -> web.Response:
        content = await request.read()
        self.blobs[request.match_info["blob"]] = content
        # The client compares it with its own.
        return web.Response(headers={"ETag": f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'})

    async def _get(self, request: web.Request) -> web.Response:
        content = self.blobs.get(request.match_info["blob"])
        return web.Response(status=404) if content is None else web.Response(body=content)

    async def blob_create(self, _: api_pb2.BlobCreateRequest) -> api_pb2.BlobCreateResponse:
        """Return a URL to put a blob to."""
        blob = f"bl-{next(self._numbers):06d}"
        address = f"{self._url}/{blob}"
        return api_pb2.BlobCreateResponse(
            blob_id=blob, upload_url=address, blob_ids=[blob], upload_urls=api_pb2.UploadUrlList(items=[address])
        )

    async def blob_get(self, request: api_pb2.BlobGetRequest) -> api_pb2.BlobGetResponse:
        """Return the URL to get a blob from."""
        return api_pb2.BlobGetResponse(download_url=f"{self._url}/{request.blob_id}")
