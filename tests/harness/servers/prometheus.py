"""A Prometheus that scrapes services each second and evaluates deploy/alerts.yml as often."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Self

import yaml

from tests.harness.servers.embedded import HOST, ROOT, free_port

_WAIT_S = 60.0


def is_installed() -> bool:
    """Return whether the machine has it: Debian's package prometheus."""
    return shutil.which("prometheus") is not None


class Prometheus:
    """A process of ``prometheus`` with the scrape job of docs/metrics.md."""

    def __init__(self, folder: Path, targets: Sequence[str]) -> None:
        """``targets`` are host and port of each service."""
        self._folder, self._port = folder, free_port()
        self._process: subprocess.Popen[bytes] | None = None
        configuration = {
            "global": {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"},
            "scrape_configs": [{"job_name": "saccade", "static_configs": [{"targets": list(targets)}]}],
            "rule_files": [str(ROOT / "deploy" / "alerts.yml")],
        }
        folder.mkdir()
        (folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))

    def get(self, path: str) -> Any:
        """Return the data of an answer of its API."""
        with urllib.request.urlopen(f"http://{HOST}:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.load(answer)["data"]

    def wait_until(self, holds: Callable[[], object]) -> None:
        """Wait until something is seen in it; what it does not answer yet is not seen."""
        end = time.monotonic() + _WAIT_S
        while True:
            assert self._process is not None
            assert self._process.poll() is None, (self._folder / "log").read_text()
            with contextlib.suppress(OSError):
                if holds():
                    return
            assert time.monotonic() < end, f"not seen after {_WAIT_S:.0f} s: {self.get('alerts')}"
            time.sleep(0.2)

    def states(self) -> dict[tuple[str, str], str]:
        """Return the state of each alert that is active, by its name and the labels that its rule keeps."""
        own = {"alertname", "severity"}
        return {
            (
                alert["labels"]["alertname"],
                ",".join(f"{name}={value}" for name, value in sorted(alert["labels"].items()) if name not in own),
            ): alert["state"]
            for alert in self.get("alerts")["alerts"]
        }

    def __enter__(self) -> Self:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    "prometheus",
                    f"--config.file={self._folder / 'prometheus.yml'}",
                    f"--storage.tsdb.path={self._folder / 'data'}",
                    f"--web.listen-address={HOST}:{self._port}",
                ],
                stdout=log,
                stderr=log,
            )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process
        self._process.kill()
        self._process.wait(timeout=30)
