"""The gateway as a process of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import ACCESS_KEY_ID, SECRET_ACCESS_KEY
from tests.harness.servers.loopback_tls import ONE_AUTHORITY

Servers = tuple[NatsSettings, S3Settings]
ROOT = Path(__file__).parents[3]


def environment(servers: Servers, folder: Path, port: int, **more: str) -> dict[str, str]:
    """Return the settings of a gateway on two servers, with its view in ``folder``."""
    nats, s3 = servers
    return {
        "PATH": "/usr/bin:/bin",
        "NATS_URL": nats.url,
        "NATS_REPLICAS": str(nats.replicas),
        # As Backblaze B2 calls them.
        "B2_S3_ENDPOINT": s3.endpoint_url,
        "B2_BUCKET": s3.bucket,
        "B2_KEY_ID": ACCESS_KEY_ID,
        "B2_APP_KEY": SECRET_ACCESS_KEY,
        "B2_PREFIX": "/team/",
        "GATEWAY_PORT": str(port),
        "GATEWAY_DATA_DIR": str(folder / "data"),
        **ONE_AUTHORITY,
    } | more


@contextmanager
def process(env: dict[str, str], *, before: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run a gateway and kill it at the end; it executes ``before`` first."""
    run = f"{before}\nimport runpy\nrunpy.run_module('services.gateway', run_name='__main__', alter_sys=True)"
    command = [sys.executable, "-c", run] if before else [sys.executable, "-m", "services.gateway"]
    started = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    try:
        yield started
    finally:
        started.kill()
        started.communicate(timeout=30)
