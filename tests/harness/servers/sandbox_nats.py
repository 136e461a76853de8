"""nats-server with the users of sandboxes, in the three ways in which Saccade runs it."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pydantic import SecretStr
from saccade_events.credentials import read_credentials

from cli.embedded.data_folder import DataFolder
from cli.embedded.programs import nats_server, reload_nats, users_file
from cli.nats_users import BASE, with_service, written
from contracts.bus_grant import BusGrant
from contracts.sandbox import WRITER, WRITER_INBOX
from kit.auth.bus_token import BusTokenIssuer, inbox_prefix, new_user_key, seed_credentials
from kit.settings import NatsSettings
from tests.harness.servers.embedded import HOST, OperatorNats, free_port, wait_for_port
from tests.harness.servers.service_users import ConfiguredNats

#: Options of ``nats.connect``.
ReaderOptions = dict[str, Any]
_VALUES = {
    "NATS_OPERATOR_USER": "ops",
    "NATS_OPERATOR_PASSWORD": "o",
    "NATS_REPLAYER_USER": WRITER,
    "NATS_REPLAYER_PASSWORD": "r",
    "NATS_USER": "svc",
    "NATS_PASSWORD": "s",
}


class SandboxNats(Protocol):
    """A running server."""

    #: Whether all its users share one account, in which nobody checks reply subjects.
    one_account: bool

    @property
    def environment(self) -> dict[str, str]:
        """Variables of the operator's commands."""

    @property
    def options(self) -> list[str]:
        """Options of ``saccade key sandbox``."""

    def reload(self) -> None:
        """Have the server read its users again."""

    @property
    def services(self) -> NatsSettings:
        """How Saccade's services connect."""

    @property
    def writer(self) -> NatsSettings:
        """How the notifier stores copies."""

    def reader(self, grant: BusGrant) -> ReaderOptions:
        """Add a reader; return how it connects."""


def _user(url: str, user: str, password: str, inbox: str | None = None) -> NatsSettings:
    return NatsSettings(url=url, user=user, password=SecretStr(password), inbox_prefix=inbox)


def _reader(url: str, grant: BusGrant, credentials: str, folder: Path) -> ReaderOptions:
    file = folder / f"{grant.name}.creds"
    file.write_text(credentials)
    return {"servers": url, "inbox_prefix": inbox_prefix(grant.name).encode(), **read_credentials(file).options}


class DeployNats(ConfiguredNats):
    """The users of deploy/nats_users.conf, as in compose."""

    one_account = True

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        text = written(BASE, {})
        for name, value in _VALUES.items():
            text = text.replace(f"${name}", value)
        self.users.write_text(text)

    @property
    def settings(self) -> NatsSettings:
        return self.services

    @property
    def environment(self) -> dict[str, str]:
        return {"NATS_URL": self.url, "NATS_USER": "svc", "NATS_PASSWORD": "s"}

    @property
    def services(self) -> NatsSettings:
        return _user(self.url, "svc", "s")

    @property
    def writer(self) -> NatsSettings:
        return _user(self.url, WRITER, "r", WRITER_INBOX)

    def reader(self, grant: BusGrant) -> ReaderOptions:
        seed = self.mint(grant)["nkeys_seed_str"]
        return _reader(self.url, grant, seed_credentials(seed), self.users.parent)


class SignedSandboxNats(OperatorNats):
    """NATS in operator mode."""

    one_account = False

    @property
    def environment(self) -> dict[str, str]:
        return {"NATS_URL": self.url, "NATS_CREDENTIALS_FILE": str(self.keys / "services.creds")}

    @property
    def options(self) -> list[str]:
        return ["--seed", str(self.keys / "sandboxes.seed")]

    def reload(self) -> None:
        """Do nothing: the server trusts the account that signs."""

    @property
    def services(self) -> NatsSettings:
        return self.settings

    @property
    def writer(self) -> NatsSettings:
        return NatsSettings(url=self.url, credentials_file=str(self.keys / "replayer.creds"), inbox_prefix=WRITER_INBOX)

    def reader(self, grant: BusGrant) -> ReaderOptions:
        issuer = BusTokenIssuer(SecretStr((self.keys / "sandboxes.seed").read_text()))
        return _reader(self.url, grant, issuer.issue(grant, 600).credentials.get_secret_value(), self.keys)


@dataclass(frozen=True)
class EmbeddedUsers:
    """NATS of ``saccade up``."""

    data: DataFolder
    port: int
    one_account = True

    @property
    def environment(self) -> dict[str, str]:
        """The command finds the system by its folder."""
        return {}

    @property
    def options(self) -> list[str]:
        """The folder."""
        return ["--data", str(self.data.path)]

    def reload(self) -> None:
        """Do nothing: the command does."""

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://{HOST}:{self.port}"

    @property
    def services(self) -> NatsSettings:
        return _user(self.url, self.data.secrets.nats_user, self.data.secrets.nats_password)

    @property
    def writer(self) -> NatsSettings:
        return _user(self.url, WRITER, self.data.secrets.replayer_password, WRITER_INBOX)

    def reader(self, grant: BusGrant) -> ReaderOptions:
        public_key, seed = new_user_key()
        users = users_file(self.data.path)
        users.write_text(with_service(users.read_text(), grant, public_key, inbox_prefix(grant.name)))

        async def reload() -> None:
            await reload_nats(self.data.secrets, self.port)

        asyncio.run(reload())
        return _reader(self.url, grant, seed_credentials(seed), self.data.path)


@contextmanager
def running(kind: str, folder: Path) -> Iterator[SandboxNats]:
    """Run one of the three: ``compose``, ``operator_mode`` or ``saccade_up``."""
    if kind != "saccade_up":
        with (DeployNats if kind == "compose" else SignedSandboxNats)(folder) as server:
            yield server
        return
    data, port = DataFolder(folder), free_port()
    process = subprocess.Popen(nats_server(data, port).command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port, process)
        data.announce(f"http://{HOST}:1")
        data.save_ports({"nats-server": port, "rclone": port})
        yield EmbeddedUsers(data, port)
    finally:
        process.kill()
        process.wait(timeout=30)
        data.release()
