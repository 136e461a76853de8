"""Bus and bucket of a data folder without the services: of a system that runs, or started for one command."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from cli.embedded import leftover_processes, ports, programs
from cli.embedded.data_folder import DataFolder, Secrets, read_servers, running_url
from cli.embedded.supervisor import Supervisor
from cli.failure import Failure
from cli.settings import child_environment
from kit.settings import NatsSettings, S3Settings

#: nats-server writes to disk when it likes; at its end, and then the disk's cache, by us.
_LATER: Final = "2m"


@dataclass(frozen=True)
class Servers:
    """Addresses and credentials of the services for one system's bus and bucket."""

    nats: NatsSettings
    #: None: nobody has said where the bucket is.
    s3: S3Settings | None
    #: Data folder of an embedded system; None: the servers are those of the environment.
    folder: Path | None
    #: The system's services may run at the same time.
    running: bool


def servers_of_environment() -> Servers | None:
    """Return the servers that the variables of the services name; None without ``NATS_URL``."""
    nats = NatsSettings()
    if not nats.model_fields_set:
        return None
    try:
        s3 = S3Settings()
    except ValueError:
        s3 = None
    return Servers(nats, s3, None, running=True)


@contextlib.asynccontextmanager
async def servers_of_folder(path: Path, report: Callable[[str], None]) -> AsyncIterator[Servers]:
    """Yield the servers of a data folder: those of the system that runs there, or started until the end of the block.

    Raises:
        Failure: the folder cannot be used, or a server does not start.
    """
    if not (path / "secrets.json").exists():
        raise Failure(
            f"There is no system in {path}.",
            code="nothing_to_operate",
            hint="Name its folder with --data, or NATS by NATS_URL with the credentials of a service.",
        )
    if running_url(path) is not None:
        secrets, chosen = read_servers(path)
        yield _servers(path, secrets, chosen, running=True)
        return
    async with _started(DataFolder(path), report) as servers:
        yield servers


@contextlib.asynccontextmanager
async def servers_to_fill(path: Path, report: Callable[[str], None]) -> AsyncIterator[Servers]:
    """Yield the servers of a folder that is filled in this block, and deleted if that fails; on disk at its end.

    Raises:
        Failure: the folder cannot be used, or a server does not start.
    """
    async with _started(DataFolder(path), report, sync=_LATER) as servers:
        yield servers
    os.sync()


@contextlib.asynccontextmanager
async def _started(
    folder: DataFolder, report: Callable[[str], None], *, sync: str = "always"
) -> AsyncIterator[Servers]:
    try:
        folder.announce("", attached=True)
        leftover_processes.end_leftovers(folder.path, report)
        supervisor = Supervisor(folder, child_environment(), report)
        try:
            chosen = ports.choose_ports((*programs.SERVERS, *programs.SERVICES, programs.BUCKET_PROXY), folder.ports())
            folder.save_ports(chosen)
            servers = [
                programs.nats_server(folder, chosen["nats-server"], sync=sync),
                programs.rclone(folder, chosen["rclone"]),
            ]
            await supervisor.start(servers)
            yield _servers(folder.path, folder.secrets, chosen, running=False)
            await supervisor.stop(programs.SERVERS)
        finally:
            await supervisor.close()
    finally:
        folder.release()


def require_fresh(path: Path) -> None:
    """Check that a folder does not exist or is empty.

    Raises:
        Failure: there is something in it.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise Failure(
            f"{path} is not empty.",
            code="folder_not_empty",
            hint="Name a folder that does not exist yet with --data: nothing that exists is written over.",
        )


def _servers(path: Path, secrets: Secrets, chosen: dict[str, int], *, running: bool) -> Servers:
    nats = NatsSettings(
        url=f"nats://{ports.LOOPBACK}:{chosen['nats-server']}",
        user=secrets.nats_user,
        password=SecretStr(secrets.nats_password),
    )
    s3 = S3Settings.model_validate(
        {
            "endpoint_url": f"http://{ports.LOOPBACK}:{chosen['rclone']}",
            "bucket": programs.BUCKET,
            "access_key_id": secrets.s3_access_key_id,
            "secret_access_key": secrets.s3_secret_access_key,
        }
    )
    return Servers(nats, s3, path, running=running)
