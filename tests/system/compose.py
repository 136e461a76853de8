"""A system of containers of a test's own: random project name, ports and credentials; nothing of it stays."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import httpx

from tests.harness.servers.embedded import HOST, free_port

ROOT = Path(__file__).resolve().parents[2]
_OWN_SERVICE = ROOT / "docs" / "own-service.md"
BUILD_S, UP_S, READY_S = 900, 300, 120


def compose_command() -> list[str] | None:
    """Find Docker Compose, as a plug-in of docker or as a program."""
    if shutil.which("docker"):
        found = subprocess.run(["docker", "compose", "version"], capture_output=True, check=False, timeout=300)
        if found.returncode == 0:
            return ["docker", "compose"]
    return ["docker-compose"] if shutil.which("docker-compose") else None


class ComposedSystem:
    """docker-compose.yml, up from ``__enter__`` to ``__exit__``."""

    def __init__(self, folder: Path) -> None:
        """Invent names, ports and credentials; the keys file goes into ``folder``."""
        command = compose_command()
        assert command, "docker-compose is not installed"
        self.project = f"saccade-test-{secrets.token_hex(4)}"
        override = folder / "docker-compose.override.yml"
        self._command = [*command, "-f", str(ROOT / "docker-compose.yml"), "-f", str(override), "-p", self.project]
        port, s3_port, nats_port = free_port(), free_port(), free_port()
        # As docs/own-service.md says.
        (published,) = re.findall(r"^```yaml\n(.*?)^```$", _OWN_SERVICE.read_text(), re.MULTILINE | re.DOTALL)
        assert "127.0.0.1:4222:4222" in published
        override.write_text('version: "3.8"\n' + published.replace("127.0.0.1:4222:", f"{HOST}:{nats_port}:"))
        self.nats_users = folder / "nats_users.conf"
        shutil.copy(ROOT / "deploy" / "nats_users.conf", self.nats_users)
        self.url = f"http://{HOST}:{port}"
        self.bucket_url = f"http://{HOST}:{s3_port}"
        keys = folder / "keys.json"
        self.api_key = new_key(keys, "blue")
        self.other_key = new_key(keys, "green")
        self.operator_key = new_key(keys, "blue", "--scope", "write", "--scope", "operate")
        self.secrets = {
            name: f"s{secrets.token_hex(16)}"
            for name in (
                "NATS_PASSWORD",
                "NATS_REPLAYER_PASSWORD",
                "S3_SECRET_ACCESS_KEY",
                "NOTIFIER_SECRET_KEY",
                "NOTIFIER_TICKET_KEY",
            )
        }
        #: Of an operator's command.
        self.nats = {
            "NATS_URL": f"nats://{HOST}:{nats_port}",
            "NATS_USER": "saccade",
            "NATS_PASSWORD": self.secrets["NATS_PASSWORD"],
        }
        self._environment = {
            **os.environ,  # noqa: TID251 - PATH and where the engine is
            **self.secrets,
            "SACCADE_PORT": str(port),
            "S3_PORT": str(s3_port),
            "S3_PUBLIC_ENDPOINT_URL": self.bucket_url,
            "SACCADE_API_KEYS": str(keys),
            "SACCADE_NATS_USERS": str(self.nats_users),
        }

    def compose(self, *arguments: str, timeout_s: float = UP_S) -> str:
        """Run a compose command and give what it wrote."""
        done = subprocess.run(
            [*self._command, *arguments],
            env=self._environment,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=timeout_s,
        )
        assert done.returncode == 0, f"compose {arguments} ended with {done.returncode}:\n{done.stdout[-6000:]}"
        return done.stdout

    def healthy(self, service: str) -> dict[str, Any]:
        """Wait for a service's own health check and give what the engine knows of its container."""
        end = time.monotonic() + READY_S
        while (found := self._inspect(service))["State"]["Health"]["Status"] != "healthy":
            assert time.monotonic() < end, found["State"]["Health"]
            time.sleep(0.5)
        return found

    def _inspect(self, service: str) -> dict[str, Any]:
        container_id = self.compose("ps", "-q", service).split()[-1]
        shown = subprocess.run(["docker", "inspect", container_id], capture_output=True, check=True, timeout=300)
        found: list[dict[str, Any]] = json.loads(shown.stdout)
        return found[0]

    def client(self, key: str | None = None) -> httpx.Client:
        """Make a client of the origin."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=30)

    def saccade(self, *arguments: str, key: str | None = None, cwd: Path | None = None) -> list[dict[str, Any]]:
        """Run the command line against the origin and give its JSON lines."""
        environment = {**self._environment, "SACCADE_API_KEY": key or self.api_key, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "cli", *arguments, "--url", self.url, "--json"]
        done = subprocess.run(
            command, env=environment, cwd=cwd, capture_output=True, text=True, check=False, timeout=UP_S
        )
        assert done.returncode == 0, f"{arguments}: {done.stdout}{done.stderr}\n{self.logs()}"
        return [json.loads(line) for line in done.stdout.splitlines() if line]

    def logs(self) -> str:
        """Return the newest lines of every service."""
        return self.compose("logs", "--no-color", "--tail=40")[-8000:]

    def wait_until_ready(self) -> None:
        """Wait until every dependency of the gateway answers, seen through the origin."""
        end = time.monotonic() + READY_S
        seen: Mapping[str, Any] | str = ""
        with self.client() as client:
            while time.monotonic() < end:
                try:
                    seen = client.get("/health").json()
                except (httpx.TransportError, ValueError) as error:
                    seen = repr(error)
                if isinstance(seen, dict) and seen.get("status") == "ok":
                    return
                time.sleep(0.5)
        raise TimeoutError(f"not ready: {seen}\n{self.logs()}")

    def __enter__(self) -> Self:
        """Build, start and wait."""
        try:
            self.compose("build", timeout_s=BUILD_S)
            self.compose("up", "-d")
            self.wait_until_ready()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Take everything away, volumes included; the images stay, so that the next build is short."""
        self.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def new_key(keys: Path, tenant: str, *options: str) -> str:
    """Make an API key by the command that users have for it."""
    command = [sys.executable, "-m", "cli", "key", "--file", str(keys), "--tenant", tenant, *options]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=300)
    return done.stdout.strip()
