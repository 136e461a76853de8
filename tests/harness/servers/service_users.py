"""nats-server with a user's own service, in the two ways in which NATS checks users: by configuration, by signature."""

from __future__ import annotations

import signal
import time
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from cli.nats_users import with_service, written
from contracts.bus_grant import BusGrant
from contracts.consumers import JETSTREAM_API, USER_SERVICE_API
from kit.auth.bus_token import BusTokenIssuer, inbox_prefix, new_user_key
from kit.settings import NatsSettings
from tests.harness.servers.embedded import EmbeddedNats, OperatorNats

_USER, _PASSWORD = "operator", "op"
_RELOAD_S = 30.0


class ConfiguredNats(EmbeddedNats):
    """nats-server whose users are in an included file, as in deploy/nats.conf and in embedded mode."""

    api = JETSTREAM_API

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.users = folder / "users.conf"
        self._log = folder / "nats.log"
        self.users.write_text(written([f"{{ user: {_USER}, password: {_PASSWORD} }}"], {}))

    @property
    def settings(self) -> NatsSettings:
        return NatsSettings.model_validate({"url": self.url, "user": _USER, "password": _PASSWORD})

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command of the operator's."""
        return {"NATS_URL": self.url, "NATS_USER": _USER, "NATS_PASSWORD": _PASSWORD}

    @property
    def options(self) -> list[str]:
        """Options of ``saccade key service``."""
        return ["--users", str(self.users)]

    def mint(self, grant: BusGrant) -> dict[str, Any]:
        """Add a user; return nats-py's options."""
        public_key, seed = new_user_key()
        self.users.write_text(with_service(self.users.read_text(), grant, public_key, inbox_prefix(grant.name)))
        self.reload()
        return {"nkeys_seed_str": seed}

    def reload(self) -> None:
        """Have the server read its users again."""
        assert self._process
        before, end = self._reloads(), time.monotonic() + _RELOAD_S
        self._process.send_signal(signal.SIGHUP)
        while self._reloads() == before:
            assert time.monotonic() < end, "nats-server has not taken its users over"
            time.sleep(0.01)

    def _reloads(self) -> int:
        return self._log.read_text().count("Reloaded server configuration")

    def _more_configuration(self) -> str:
        return f'authorization {{ include users.conf }}\nmax_payload: 1MB\nlog_file: "{self._log}"\n'


class SignedNats(OperatorNats):
    """nats-server in operator mode."""

    api = USER_SERVICE_API

    @property
    def environment(self) -> dict[str, str]:
        """Variables of a command of the operator's."""
        return {"NATS_URL": self.url, "NATS_CREDENTIALS_FILE": str(self.keys / "services.creds")}

    @property
    def options(self) -> list[str]:
        """Options of ``saccade key service``."""
        return ["--seed", str(self.keys / "user_services.seed")]

    def mint(self, grant: BusGrant) -> dict[str, Any]:
        """Sign credentials; return nats-py's options."""
        from nats.aio.client import RawCredentials

        issuer = BusTokenIssuer(SecretStr((self.keys / "user_services.seed").read_text()))
        return {"user_credentials": RawCredentials(issuer.issue(grant, 60).credentials.get_secret_value())}

    def reload(self) -> None:
        """Nothing to do: the server trusts the account that signs."""
