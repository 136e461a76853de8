"""An S3 server behind the bucket proxy, as clients reach it in every mode of operation."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Self

from cli.embedded.ports import listen
from kit.settings import S3Settings
from services.bucket_proxy.proxy import BucketProxy
from tests.harness.servers.embedded import HOST, S3Server, free_port, wait_for_port
from tests.harness.servers.loopback_tls import ONE_AUTHORITY


@dataclass(frozen=True)
class ProxiedS3:
    """Settings of an S3 server whose presigned URLs name the proxy; it runs elsewhere."""

    settings: S3Settings

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        return


@contextlib.contextmanager
def proxied(server: S3Server) -> Iterator[ProxiedS3]:
    """Run the proxy in a process of its own in front of a server that runs."""
    port = free_port()
    environment = {"BUCKET_PROXY_PORT": str(port), "BUCKET_PROXY_UPSTREAM_URL": server.settings.endpoint_url}
    environment |= ONE_AUTHORITY
    process = subprocess.Popen([sys.executable, "-m", "services.bucket_proxy"], env=environment)
    try:
        wait_for_port(port, process)
        yield ProxiedS3(server.settings.model_copy(update={"public_endpoint_url": f"http://{HOST}:{port}"}))
    finally:
        process.terminate()
        assert process.wait(10) == 0


@contextlib.asynccontextmanager
async def bucket_proxy(upstream: str, **limits: float) -> AsyncIterator[str]:
    """Run the proxy in the test's own event loop, with other limits; yield its address."""
    listener = listen(HOST, 0)
    proxy = BucketProxy(upstream, **limits)
    try:
        await proxy.start(listener)
        yield f"http://{HOST}:{listener.getsockname()[1]}"
    finally:
        await proxy.close()
        listener.close()
