"""NATS and S3 from the published images, behind the same protocols as the embedded binaries (embedded.py)."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import Self

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError
from pydantic import SecretStr
from testcontainers.core.container import DockerContainer

from cli.embedded.s3_options import S3_SERVER_OPTIONS
from contracts.limits import GIB
from kit.settings import NatsSettings, S3Settings
from tests.harness.servers.embedded import ACCESS_KEY_ID, HOST, SECRET_ACCESS_KEY, free_port

NATS_IMAGE = "nats:2.15-alpine"
S3_IMAGE = "rclone/rclone:1.75.2"
READY_S = 30.0


class _Container:
    """One container whose port stands on loopback and stays the same over a kill and a start."""

    def __init__(self, image: str, inner_port: int, command: list[str], files: dict[str, bytes]) -> None:
        self._port = free_port()
        transferables = [(body, path) for path, body in files.items()]
        self._container = DockerContainer(image, command=command, transferables=transferables)  # type: ignore[arg-type]
        # The Docker SDK takes a pair, an address beside the port, which with_bind_ports cannot say.
        self._container.ports[f"{inner_port}/tcp"] = (HOST, self._port)  # type: ignore[assignment]
        self._made = False

    def start(self) -> None:
        """Start the container, or start it again with its data."""
        if self._made:
            self._container.get_wrapped_container().start()
        else:
            self._container.start()
            self._made = True
        end = time.monotonic() + READY_S
        # The engine listens on the published port before the server does: a connection alone says nothing.
        while not self._answers():
            if time.monotonic() > end:
                raise TimeoutError(f"no answer within {READY_S} s: {self._container.get_logs()}")
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill -9 the server in the container."""
        self._container.get_wrapped_container().kill("SIGKILL")
        self._container.get_wrapped_container().wait(timeout=30)

    def _answers(self) -> bool:
        raise AssertionError("each server knows how it answers")

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if self._made:
            self._container.stop(force=True, delete_volume=True)
        self._container.get_docker_client().client.close()


class ContainerNats(_Container):
    """nats-server from its image."""

    def __init__(self, folder: Path, sync_always: bool = False) -> None:
        """Keep the signature of the embedded maker; the data stay in the container."""
        del folder
        sync = "sync_interval: always" if sync_always else ""
        config = f'listen: "0.0.0.0:4222"\njetstream {{ store_dir: "/data", max_file_store: {64 * GIB}, {sync} }}\n'
        super().__init__(NATS_IMAGE, 4222, ["-c", "/nats.conf"], {"/nats.conf": config.encode()})

    @property
    def settings(self) -> NatsSettings:
        """How to reach it."""
        return NatsSettings(url=f"nats://{HOST}:{self._port}")

    def _answers(self) -> bool:
        try:
            with socket.create_connection((HOST, self._port), timeout=1) as connection:
                return connection.recv(5) == b"INFO "
        except OSError:
            return False


class ContainerS3(_Container):
    """``rclone serve s3`` from its image."""

    def __init__(self, folder: Path) -> None:
        """Keep the signature of the embedded maker; the data stay in the container."""
        del folder
        command = ["serve", "s3", "--addr", ":9000", *S3_SERVER_OPTIONS]
        command += ["--auth-key", f"{ACCESS_KEY_ID},{SECRET_ACCESS_KEY}", "/data"]
        super().__init__(S3_IMAGE, 9000, command, {})

    @property
    def settings(self) -> S3Settings:
        """How to reach it."""
        return S3Settings(
            endpoint_url=f"http://{HOST}:{self._port}",
            bucket="saccade",
            access_key_id=ACCESS_KEY_ID,
            secret_access_key=SecretStr(SECRET_ACCESS_KEY),
        )

    def _answers(self) -> bool:
        """Make the bucket, which only a server that is ready can do."""
        config = Config(s3={"addressing_style": "path"}, retries={"max_attempts": 1}, connect_timeout=1, read_timeout=5)
        client = botocore.session.Session().create_client(
            "s3",
            region_name=self.settings.region,
            endpoint_url=self.settings.endpoint_url,
            aws_access_key_id=ACCESS_KEY_ID,
            aws_secret_access_key=SECRET_ACCESS_KEY,
            config=config,
        )
        try:
            client.create_bucket(Bucket="saccade")
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True
