"""Data folder of an embedded system: its lock, format version, secrets and subfolders."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import secrets
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from cli.failure import Failure
from contracts.limits import MIB

#: Format version, stored in the folder; a folder of a newer version is not opened.
FORMAT: Final = 1
#: The system does not start with less free space: a full disk loses work, a refused start does not.
MIN_FREE_BYTES: Final = 200 * MIB
_READ_ONLY: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


@dataclass(frozen=True)
class Secrets:
    """Credentials that only this folder's processes know."""

    nats_user: str
    nats_password: str
    s3_access_key_id: str
    s3_secret_access_key: str
    ticket_key: str
    webhook_key: str
    sender_password: str
    #: Of NATS' system account, in which the supervisor asks for the server's health.
    nats_system_password: str
    #: Of the user of NATS that sends commands.
    operator_password: str
    #: Of the user of NATS that stores replayed events in sandboxes.
    replayer_password: str

    @classmethod
    def generate(cls) -> Self:
        """Return new random secrets."""
        values = (secrets.token_hex(24), secrets.token_hex(10), *(secrets.token_hex(24) for _ in range(7)))
        return cls("saccade", *values)


def running_url(path: Path) -> str | None:
    """Return the URL of the system that uses a data folder until somebody stops it; None if there is none."""
    try:
        lock = os.open(path / "lock", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _announced(lock)
        return None if holder.get("attached") or "url" not in holder else str(holder["url"])
    finally:
        os.close(lock)
    return None


def read_running(path: Path) -> tuple[Secrets, int]:
    """Return the secrets of the system that runs on a data folder, and the port of its NATS.

    Raises:
        Failure: none runs there, or the folder cannot be read.
    """
    if running_url(path) is None:
        raise Failure(
            f"No Saccade runs on {path}.",
            code="not_running",
            hint="Start it with `saccade up`, or name its folder with --data. For NATS elsewhere: --users or --seed.",
        )
    secrets, ports = read_servers(path)
    return secrets, ports["nats-server"]


def read_servers(path: Path) -> tuple[Secrets, dict[str, int]]:
    """Return the secrets of a data folder, and the ports of its servers by name.

    Raises:
        Failure: the folder cannot be read.
    """
    try:
        secrets = Secrets(**json.loads((path / "secrets.json").read_text()))
        ports = {str(name): int(port) for name, port in json.loads((path / "ports.json").read_text()).items()}
        return secrets, {"nats-server": ports["nats-server"], "rclone": ports["rclone"]} | ports
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Failure(f"{path} cannot be read.", code="folder_unknown") from error


def _announced(lock: int) -> dict[str, Any]:
    """Return what the holder of a lock file has announced; empty before."""
    try:
        holder = json.loads(os.pread(lock, 4096, 0))
    except ValueError:
        return {}
    return holder if isinstance(holder, dict) else {}


class DataFolder:
    """Data folder that this process locks until ``release``; the lock ends with the process."""

    def __init__(self, path: Path) -> None:
        """Lock the folder; create it if it is missing.

        Raises:
            Failure: another system uses it, it cannot be written, the disk is full, or a newer version wrote it.
        """
        try:
            # Resolved, because processes that use the folder are found by its path.
            self.path = path.resolve()
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise self._cannot_write(error) from error
        try:
            self._lock_exclusively()
            self._check_space()
            self._check_version()
            self.secrets = self._load_secrets()
            for name in ("logs", "nats", "bucket", "gateway", "dispatcher", "notifier"):
                (self.path / name).mkdir(mode=0o700, exist_ok=True)
        except OSError as error:
            self.release()
            raise self._cannot_write(error) from error
        except Failure:
            self.release()
            raise

    def log(self, name: str) -> Path:
        """Return the log file of a child."""
        return self.path / "logs" / f"{name}.log"

    def announce(self, url: str, *, attached: bool = False) -> None:
        """Write our process id and URL into the lock file, for a second start; ``attached``: we end with a command."""
        text = json.dumps({"pid": os.getpid(), "url": url, "attached": attached}).encode()
        os.ftruncate(self._lock, 0)
        os.pwrite(self._lock, text, 0)

    def ports(self) -> dict[str, int]:
        """Return the ports of the last run, by server."""
        try:
            ports = json.loads((self.path / "ports.json").read_text())
            return {str(name): int(port) for name, port in ports.items()}
        except (OSError, ValueError, AttributeError, TypeError):
            return {}

    def save_ports(self, ports: dict[str, int]) -> None:
        """Store the ports, so that a worker that survives a crash finds its bus again."""
        (self.path / "ports.json").write_text(json.dumps(ports))

    def free_bytes(self) -> int:
        """Return the free space on the folder's disk."""
        return shutil.disk_usage(self.path).free

    def release(self) -> None:
        """Unlock the folder."""
        os.close(self._lock)

    def _lock_exclusively(self) -> None:
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = self._holder()
            where = f" at {holder['url']}" if "url" in holder else ""
            who = f" (process {holder['pid']})" if "pid" in holder else ""
            raise Failure(
                f"Another Saccade uses {self.path}{where}{who}.",
                code="already_running",
                hint="Use that one, stop it with Ctrl-C, or start with --data and another folder.",
            ) from error
        os.ftruncate(self._lock, 0)

    def _holder(self) -> dict[str, Any]:
        return _announced(self._lock)

    def _check_space(self) -> None:
        free = self.free_bytes()
        if free < MIN_FREE_BYTES:
            raise Failure(
                f"Only {free // MIB} MB are free on the disk of {self.path}; Saccade needs {MIN_FREE_BYTES // MIB} MB.",
                code="folder_full",
                hint="Free some space, or use --data with a folder on another disk.",
            )

    def _check_version(self) -> None:
        file = self.path / "version"
        if not file.exists():
            file.write_text(f"{FORMAT}\n")
        text = file.read_text().strip()
        if not text.isdigit():
            raise Failure(
                f"{file} contains no version: this is not a data folder of Saccade.",
                code="folder_unknown",
                hint="Use --data with another folder.",
            )
        if int(text) > FORMAT:
            raise Failure(
                f"{self.path} was written by a newer Saccade (format {text}; this one supports {FORMAT}).",
                code="folder_newer",
                hint="Upgrade saccade, or use --data with another folder.",
            )

    def _load_secrets(self) -> Secrets:
        file = self.path / "secrets.json"
        generated = asdict(Secrets.generate())
        try:
            known = json.loads(file.read_text()) if file.exists() else {}
            if generated.keys() - known.keys():  # a new folder, or one of an older version
                part = self.path / "secrets.part"
                part.unlink(missing_ok=True)
                with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
                    json.dump(generated | known, out)
                part.replace(file)
            return Secrets(**(generated | known))
        except (ValueError, TypeError, AttributeError) as error:
            raise Failure(
                f"{file} cannot be read.", code="folder_unknown", hint="Delete that file; new secrets are generated."
            ) from error

    def _cannot_write(self, error: OSError) -> Failure:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return Failure(
                f"The disk is full: {self.path} cannot be written.",
                code="folder_full",
                hint="Free some space, or use --data with a folder on another disk.",
            )
        reason = "it is read-only" if error.errno in _READ_ONLY else (error.strerror or str(error)).lower()
        return Failure(
            f"The data folder {self.path} cannot be written: {reason}.",
            code="folder_not_writable",
            hint="Use --data (or SACCADE_DATA) with a folder that you may write.",
        )
