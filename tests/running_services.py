"""Gateway and notifier in processes of their own on a real bus and bucket: what a client meets behind one origin."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.contract.sse_harness import NotifierProcess
from tests.servers import HOST, EmbeddedNats, EmbeddedS3, free_port, wait_for_port

#: What the one origin in front sends to the notifier (cli/embedded/origin.py, deploy/origin.conf).
_NOTIFIERS = re.compile(r"^/v1/(events|tickets|(jobs|sessions)/[^/]+/events)$")


@dataclass
class Services:
    """The services that run, and where."""

    nats: EmbeddedNats
    s3: EmbeddedS3
    gateway_port: int
    notifier: NotifierProcess

    @property
    def gateway_url(self) -> str:
        return f"http://{HOST}:{self.gateway_port}"

    def port_of(self, path: str) -> int:
        """Tell who answers a path."""
        return self.notifier.port if _NOTIFIERS.match(path) else self.gateway_port


@contextlib.contextmanager
def running_services(folder: Path, *, origins: str = "", heartbeat_s: float = 0.5) -> Iterator[Services]:
    """Run them; pages of ``origins`` may call."""
    for name in ("nats", "s3"):
        (folder / name).mkdir()
    port = free_port()
    told = {"SACCADE_ALLOWED_ORIGINS": origins}
    with (
        EmbeddedNats(folder / "nats") as nats,
        EmbeddedS3(folder / "s3") as s3,
        NotifierProcess(nats.settings, NOTIFIER_HEARTBEAT_S=str(heartbeat_s), **told) as notifier,
    ):
        environment = {
            "NATS_URL": nats.settings.url,
            "S3_ENDPOINT_URL": s3.settings.endpoint_url,
            "S3_ACCESS_KEY_ID": s3.settings.access_key_id,
            "S3_SECRET_ACCESS_KEY": s3.settings.secret_access_key.get_secret_value(),
            "GATEWAY_PORT": str(port),
            "GATEWAY_DATA_DIR": str(folder / "gateway"),
            **told,
        }
        gateway = subprocess.Popen(
            [sys.executable, "-m", "services.gateway"], env=environment, stderr=subprocess.DEVNULL
        )
        try:
            wait_for_port(port, gateway)
            yield Services(nats, s3, port, notifier)
        finally:
            gateway.terminate()
            gateway.wait(10)
