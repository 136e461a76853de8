"""Workers on Modal for an embedded system: checks that they can reach it, and returns the services' settings."""

from __future__ import annotations

import importlib.util
import ipaddress
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn, Self
from urllib.parse import urlsplit

import nkeys
from pydantic import SecretStr, ValidationError

from cli.failure import Failure
from cli.settings import CommandSettings, ModalClientSettings
from kit.auth.bus_token import BusTokenIssuer
from kit.settings import S3Settings, as_environment

_GUIDE: Final = "see docs/modal.md"
#: Host names that exist only in a local network.
_LOCAL_NAMES: Final = ("localhost", ".localhost", ".local", ".internal", ".lan", ".home.arpa")


@dataclass(frozen=True)
class WorkersOnModal:
    """Settings of an embedded system whose workers run on Modal."""

    #: Address of the origin from Modal; empty for its local address, when Modal's server is on this machine.
    public_url: str
    #: Bucket that Modal can reach; None for that of the data folder, likewise.
    bucket: S3Settings | None

    @classmethod
    def from_environment(cls, command: CommandSettings, modal: ModalClientSettings) -> Self:
        """Return the settings of the environment after checking that workers on Modal can reach them.

        Raises:
            Failure: Modal's client is missing, or an address can be reached from this machine only.
        """
        require_modal_client()
        public_url = command.public_url.rstrip("/")
        bucket = _bucket()
        if modal.server_url and not _is_reachable(modal.server_url):
            return cls(public_url, bucket)
        if not public_url:
            _refuse("public_url_required", "Workers on Modal cannot reach this machine.", "Set SACCADE_PUBLIC_URL")
        if urlsplit(public_url).scheme != "https" or not _is_reachable(public_url):
            _refuse(
                "public_url_required",
                f"Workers on Modal cannot reach {public_url} over HTTPS.",
                "Set SACCADE_PUBLIC_URL to an https:// address that reaches this machine from the internet",
            )
        if bucket is None:
            _refuse("bucket_required", "Workers on Modal cannot reach the bucket in the data folder.", "Set S3_*")
        if not _is_reachable(bucket.endpoint_url):
            _refuse(
                "bucket_required",
                f"Workers on Modal cannot reach the bucket at {bucket.endpoint_url}.",
                "Set S3_* (or B2_*) to a bucket on the internet",
            )
        if command.api_keys_file is None:
            raise Failure(
                f"{public_url} can be reached by others, but no API keys are set.",
                code="keys_required",
                hint="Create one with `saccade key --file FILE`, and set SACCADE_API_KEYS_FILE to that file.",
            )
        return cls(public_url, bucket)

    def environment(self, data: Path, url: str, allowed_hosts: str) -> dict[str, str]:
        """Return the services' settings; the key that signs workers' tokens is generated at the first start.

        Raises:
            Failure: the key's file is invalid.
        """
        public_url = self.public_url or url
        seed = data / "workers.seed"
        environment = {
            "DISPATCHER_EXECUTOR": "modal",
            "DISPATCHER_WORKER_BUS": "ingest",
            "DISPATCHER_WORKER_BUS_URL": public_url,
            "DISPATCHER_WORKER_SEED_FILE": str(seed),
            "GATEWAY_EXECUTOR": "modal",
            "GATEWAY_WORKER_BUS": "ingest",
            "GATEWAY_WORKER_KEY": _public_key(seed),
        }
        if allowed_hosts:
            environment["SACCADE_ALLOWED_HOSTS"] = f"{allowed_hosts},{urlsplit(public_url).hostname}"
        return environment | (as_environment(None, self.bucket) if self.bucket else {})


def require_modal_client() -> None:
    """Check that Modal's client is installed.

    Raises:
        Failure: it is not.
    """
    if importlib.util.find_spec("modal") is None:
        hint = "Run: pip install -c constraints.txt -e '.[modal]'"
        raise Failure("Modal's client is not installed.", code="modal_not_installed", hint=hint)


def _bucket() -> S3Settings | None:
    try:
        return S3Settings()
    except ValidationError:
        return None


def _is_reachable(url: str) -> bool:
    """Check whether a URL can be reached from the internet, as far as its host name tells."""
    host = (urlsplit(url).hostname or "").lower()
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(_LOCAL_NAMES)


def _public_key(seed: Path) -> str:
    """Return the public key of the seed in a file; a missing file is created."""
    if not seed.exists():
        part = seed.with_suffix(".part")
        part.unlink(missing_ok=True)
        with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
            out.write(nkeys.encode_seed(os.urandom(32), nkeys.PREFIX_BYTE_ACCOUNT))
        part.replace(seed)
    try:
        return str(BusTokenIssuer(SecretStr(seed.read_text())).public_key)
    except ValueError as error:
        raise Failure(
            f"{seed} cannot be read.", code="folder_unknown", hint="Delete that file; a new key is generated."
        ) from error


def _refuse(code: str, message: str, what_to_do: str) -> NoReturn:
    raise Failure(message, code=code, hint=f"{what_to_do}; {_GUIDE}.")
